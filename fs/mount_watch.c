/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_watch.c - when the daemon is killed its connections end, whatever its
 * threads wait for.
 *
 * The kernel ends a connection when its last descriptor is closed, and a killed
 * process closes its own when its last thread is gone. One that recalls a name
 * waits for the lock of the directory, and a signal does not wake it; who has
 * that lock waits for the answer to a request that another thread of ours had
 * read. Both, and everybody else who uses the mount, would wait for ever. So
 * the process that pushes hears when our main thread is gone, and aborts them.
 */
#include "fs/mount_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { GONE_SIGNAL = SIGUSR2, CONNECTIONS_MAX = 2 /* work, side */ };

struct watch {
	pid_t daemon;
	/* Open from the start: a number may be another mount's one day, such a
	 * descriptor is of this connection or of none. */
	int aborts[CONNECTIONS_MAX];
	unsigned int n; /* atomic */
};

static int open_abort(int dir, uint64_t connection)
{
	char path[40];

	(void)snprintf(path, sizeof(path), "%" PRIu64 "/abort", connection);
	return openat(dir, path, O_WRONLY | O_CLOEXEC);
}

/* The files of fusectl without a mount that others see; for root. */
static int make_fusectl(void)
{
	int ctx = fsopen("fusectl", FSOPEN_CLOEXEC), fd = -1;

	if (ctx < 0)
		return -1;
	if (!fsconfig(ctx, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = fsmount(ctx, FSMOUNT_CLOEXEC, 0);
	close(ctx);
	return fd;
}

static int open_in(int dir, uint64_t connection)
{
	int fd = dir < 0 ? -1 : open_abort(dir, connection);

	if (dir >= 0)
		close(dir);
	return fd;
}

static void *watch_main(void *arg)
{
	const struct watch *w = arg;
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, GONE_SIGNAL);
	for (;;) {
		/* The kernel sends it in the name of who ends. */
		if (sigwaitinfo(&set, &info) != GONE_SIGNAL ||
		    info.si_pid != w->daemon)
			continue;
		for (unsigned int i = 0;
		     i < __atomic_load_n(&w->n, __ATOMIC_ACQUIRE); i++)
			(void)!write(w->aborts[i], "1", 1);
	}
	return NULL;
}

struct watch *watch_new(pid_t daemon)
{
	struct watch *w = calloc(1, sizeof(*w));
	sigset_t set;
	pthread_t t;

	if (!w)
		return NULL;
	w->daemon = daemon;
	sigemptyset(&set);
	sigaddset(&set, GONE_SIGNAL);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) ||
	    prctl(PR_SET_PDEATHSIG, GONE_SIGNAL) ||
	    pthread_create(&t, NULL, watch_main, w)) {
		free(w);
		return NULL;
	}
	(void)pthread_detach(t);
	return w;
}

void watch_add(struct watch *w, uint64_t connection)
{
	int fd;

	if (!w || w->n == CONNECTIONS_MAX)
		return;
	fd = open_in(make_fusectl(), connection);
	if (fd < 0)
		fd = open_in(open("/sys/fs/fuse/connections",
				  O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			     connection);
	if (fd < 0)
		return;
	w->aborts[w->n] = fd;
	__atomic_store_n(&w->n, w->n + 1, __ATOMIC_RELEASE);
}
