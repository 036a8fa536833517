/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_serve.c - requests are read until the mount ends.
 *
 * Who is asked to end (SIGTERM) must not stop reading while somebody waits for
 * a request: a command pushes mappings through the mount, and recalls names,
 * which waits for lookups. So a signal is only noted; commands come to their
 * end while requests are served, and then reading stops. libfuse's own handlers
 * stop it at once.
 */
#include "fs/mount_internal.h"

#include "fs/slice.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256, IDLE_THREADS = 8, STOP_TICK_MS = 2 };

/* --- what ends us --- */

/* A byte for each: a signal's number, or 0 when the kernel let go of us. */
static int ends[2] = { -1, -1 };

static void note_end(int sig)
{
	unsigned char byte = (unsigned char)sig;
	int err = errno;

	/* When it is full there is enough to read. */
	if (write(ends[1], &byte, 1) != 1)
		(void)0;
	errno = err;
}

/* Interrupts the wait of libfuse's loop. */
static void on_stop(int sig)
{
}

static const int signals[] = { SIGHUP, SIGINT, SIGTERM };

int serve_prepare(void)
{
	/* The kernel prefers the main thread, which waits for nothing else. */
	struct sigaction note = { .sa_handler = note_end };
	struct sigaction stop = { .sa_handler = on_stop };
	int err;

	sigemptyset(&note.sa_mask);
	sigemptyset(&stop.sa_mask);
	if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETFL, O_NONBLOCK))
		return -errno;
	err = sigaction(SIGUSR1, &stop, NULL);
	for (size_t i = 0; i < ARRAY_LEN(signals) && !err; i++)
		err = sigaction(signals[i], &note, NULL);
	if (err || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	return 0;
}

static int wait_for_end(void)
{
	unsigned char byte;
	ssize_t n;

	do {
		n = read(ends[0], &byte, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? byte : 0;
}

/* A second signal must not cut short what brings staged changes to safety. */
static void ignore_signals(void)
{
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		(void)signal(signals[i], SIG_IGN);
}

/* --- a connection's requests, in threads of libfuse --- */

static int loop(struct fuse_session *se)
{
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();
	int err;

	if (!cfg)
		return -ENOMEM;
	/* A thread may wait for the device; others go on. */
	fuse_loop_cfg_set_max_threads(cfg, MAX_THREADS);
	fuse_loop_cfg_set_idle_threads(cfg, IDLE_THREADS);
	slice_set(SLICE_DEFAULT); /* these answer */
	err = fuse_session_loop_mt(se, cfg);
	fuse_loop_cfg_destroy(cfg);
	return err;
}

static void *conn_main(void *arg)
{
	struct conn *c = arg;

	c->err = loop(c->se);
	if (!__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE))
		c->on_lost(c);
	return NULL;
}

int conn_start(struct conn *c, void (*on_lost)(struct conn *c))
{
	sigset_t most, old;
	int err;

	c->on_lost = on_lost;
	/* The others are for the main thread. */
	sigfillset(&most);
	sigdelset(&most, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &most, &old);
	err = pthread_create(&c->thread, NULL, conn_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	c->has_thread = !err;
	return -err;
}

void conn_stop(struct conn *c)
{
	const struct timespec tick = { .tv_nsec = STOP_TICK_MS * 1000000 };

	__atomic_store_n(&c->stop, true, __ATOMIC_RELEASE);
	while (c->has_thread && pthread_tryjoin_np(c->thread, NULL) == EBUSY) {
		fuse_session_exit(c->se);
		(void)pthread_kill(c->thread, SIGUSR1);
		nanosleep(&tick, NULL);
	}
	c->has_thread = false;
}

/* --- the mount's --- */

/* Told: a signal (its number), a failure, or the kernel let go of us. */
static int why_ended(struct mount *m, int sig, int err)
{
	if (sig > 0) {
		env_logf(&m->env, ENV_NOTICE, "unmounting: signal %d (%s)", sig,
			 strsignal(sig));
		return 0;
	}
	if (!err && !place_is_mounted(m)) {
		env_logf(&m->env, ENV_NOTICE, "%s was unmounted",
			 m->mountpoint);
		return 0;
	}
	env_logf(&m->env, ENV_ERROR,
		 "the mount is lost: %s; what is staged is saved, mount it "
		 "again",
		 err && err != -ECONNABORTED ? strerror(-err)
					     : "its connection was aborted");
	return EXIT_LOST;
}

static void on_lost(struct conn *c)
{
	note_end(0);
}

static bool is_gone(const struct conn *c)
{
	struct pollfd fd = { .fd = fuse_session_fd(c->se) };

	return poll(&fd, 1, 0) == 1 && fd.revents & POLLERR;
}

int serve(struct mount *m)
{
	int err, sig;

	err = conn_start(&m->work, on_lost);
	if (err)
		return why_ended(m, 0, err);
	sig = wait_for_end();
	ignore_signals();
	edits_cancel(m);
	/* A command may wait for requests: they are served until it is done.
	 * When the kernel let go of us it waits for none. Else nobody reads
	 * them any more (no memory for it): then the unmount helps. */
	if (sig || is_gone(&m->work)) {
		ctl_stop(m);
		snaps_stop(m);
	}
	wire_stop_ring(m);
	conn_stop(&m->work);
	return why_ended(m, sig, m->work.err);
}
