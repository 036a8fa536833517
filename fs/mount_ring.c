/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_ring.c - requests over io_uring (transport=io_uring): who does them,
 * who answers, beginning and end.
 *
 * libfuse has one thread for each core, which takes the requests that were made
 * there and answers them; while it is in a handler, none of the others of that
 * core goes on. So it never waits: it does a request itself if what is asked
 * for is in memory (view_never_wait()), and hands it to a worker else.
 *
 * The kernel hands a request over in the thread that gave the answer before it
 * in the same place of the ring: if that one has ended, the request fails
 * (ECANCELED), if it waits for a disk, so does the request. So a worker does
 * not send what it answers: one thread does it for all that are not a ring's,
 * it never waits for anything else, and ends after the rings.
 */
#define RING_REPLIES_THEMSELVES
#include "fs/mount_internal.h"
#include "fs/mount_ring.h"

#if HAVE_RING

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum {
	WORKERS_MAX = 256, /* a worker may wait for the device; others go on */
	WORKERS_IDLE = 8,
	/* Of all rings; each request has room for the largest. */
	RING_MEMORY_MAX = 128 << 20,
	MESSAGE_MAX = 256 << 10,
	MESSAGE_MIN = 64 << 10,
	CORES_MAX = RING_MEMORY_MAX / MESSAGE_MIN / RING_DEPTH
};

/* An answer on its way. */
struct answer {
	struct answer *next;
	void (*send)(struct answer *a);
	fuse_req_t req;
	struct fuse_entry_param e;
	struct fuse_file_info fi;
	struct stat st;
	struct statvfs sv;
	struct statx sx;
	double seconds;
	size_t size;
	off_t off;
	int err, flags;
	const void *bytes; /* in the ring */
	bool waits; /* it lies on the stack of a thread that waits */
	bool sent;
};

struct ring {
	struct mount *m;
	struct fuse_lowlevel_ops ops; /* those that do the work */
	const struct fuse_conn_info *conn;
	unsigned int message; /* bytes of the largest */
	cpu_set_t cpus; /* for workers: their makers are bound to a core */
	pthread_t reader; /* of /dev/fuse: what is forgotten comes there */
	struct fuse_buf buf; /* the reader's */
	int end_fd; /* an event: it has ended */
	int err; /* why */
	pthread_t sender;
	pthread_mutex_t send_lock; /* guards the next six */
	pthread_cond_t send_cond;
	struct answer *answers, **answers_end;
	bool has_sender, sending, sender_stop;
	/* Only threads of libfuse's are left to answer. */
	bool ends;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t cond;
	struct work *first, **last;
	/* nidle: workers that wait for one, some of which were just told of
	 * what is in line. */
	unsigned int nwork, nworkers, nidle;
	/* Requests come from the mount on; before the start they wait, after
	 * the end nobody does them. */
	bool started, stopped; /* atomic */
};

/* This is a thread of libfuse's. */
static _Thread_local bool is_ring_thread;
/* The request that this thread tries to do without waiting. */
static _Thread_local struct work *tried;

bool ring_is_tried(fuse_req_t req, int err)
{
	if (err != VIEW_WOULD_WAIT || !tried || tried->req != req)
		return false;
	tried = NULL;
	return true;
}

/* --- answers from other threads --- */

static void *sender_main(void *arg)
{
	struct ring *r = arg;
	struct answer *a;
	bool waits;

	pthread_mutex_lock(&r->send_lock);
	for (;;) {
		while (!r->answers && !r->sender_stop)
			pthread_cond_wait(&r->send_cond, &r->send_lock);
		a = r->answers;
		if (!a)
			break;
		r->answers = a->next;
		if (!r->answers)
			r->answers_end = &r->answers;
		r->sending = true;
		pthread_mutex_unlock(&r->send_lock);
		a->send(a);
		waits = a->waits;
		if (!waits)
			free(a);
		pthread_mutex_lock(&r->send_lock);
		r->sending = false;
		if (waits)
			a->sent = true;
		if (waits || r->ends)
			pthread_cond_broadcast(&r->send_cond);
	}
	pthread_mutex_unlock(&r->send_lock);
	return NULL;
}

static bool is_for_sender(fuse_req_t req)
{
	return fuse_req_is_uring(req) && !is_ring_thread;
}

static int give(struct answer *a, fuse_req_t req, void (*send)(struct answer *))
{
	struct ring *r = req_mount(req)->ring;
	struct answer *copy = malloc(sizeof(*copy));

	a->req = req;
	a->send = send;
	a->waits = !copy;
	if (copy) {
		*copy = *a;
		a = copy;
	}
	pthread_mutex_lock(&r->send_lock);
	if (r->ends) {
		pthread_mutex_unlock(&r->send_lock);
		send(a);
		free(copy);
		return 0;
	}
	*r->answers_end = a;
	r->answers_end = &a->next;
	pthread_cond_broadcast(&r->send_cond);
	while (!copy && !a->sent)
		pthread_cond_wait(&r->send_cond, &r->send_lock);
	pthread_mutex_unlock(&r->send_lock);
	return 0;
}

static void send_err(struct answer *a)
{
	fuse_reply_err(a->req, a->err);
}

int ring_reply_err(fuse_req_t req, int err)
{
	struct answer a = { .err = err };

	return is_for_sender(req) ? give(&a, req, send_err)
				  : fuse_reply_err(req, err);
}

static void send_entry(struct answer *a)
{
	fuse_reply_entry(a->req, &a->e);
}

int ring_reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	struct answer a = { .e = *e };

	return is_for_sender(req) ? give(&a, req, send_entry)
				  : fuse_reply_entry(req, e);
}

static void send_attr(struct answer *a)
{
	fuse_reply_attr(a->req, &a->st, a->seconds);
}

int ring_reply_attr(fuse_req_t req, const struct stat *st, double seconds)
{
	struct answer a = { .st = *st, .seconds = seconds };

	return is_for_sender(req) ? give(&a, req, send_attr)
				  : fuse_reply_attr(req, st, seconds);
}

static void send_open(struct answer *a)
{
	fuse_reply_open(a->req, &a->fi);
}

int ring_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	struct answer a = { .fi = *fi };

	return is_for_sender(req) ? give(&a, req, send_open)
				  : fuse_reply_open(req, fi);
}

static void send_create(struct answer *a)
{
	fuse_reply_create(a->req, &a->e, &a->fi);
}

int ring_reply_create(fuse_req_t req, const struct fuse_entry_param *e,
		      const struct fuse_file_info *fi)
{
	struct answer a = { .e = *e, .fi = *fi };

	return is_for_sender(req) ? give(&a, req, send_create)
				  : fuse_reply_create(req, e, fi);
}

static void send_write(struct answer *a)
{
	fuse_reply_write(a->req, a->size);
}

int ring_reply_write(fuse_req_t req, size_t size)
{
	struct answer a = { .size = size };

	return is_for_sender(req) ? give(&a, req, send_write)
				  : fuse_reply_write(req, size);
}

static void send_xattr(struct answer *a)
{
	fuse_reply_xattr(a->req, a->size);
}

int ring_reply_xattr(fuse_req_t req, size_t size)
{
	struct answer a = { .size = size };

	return is_for_sender(req) ? give(&a, req, send_xattr)
				  : fuse_reply_xattr(req, size);
}

static void send_statfs(struct answer *a)
{
	fuse_reply_statfs(a->req, &a->sv);
}

int ring_reply_statfs(fuse_req_t req, const struct statvfs *sv)
{
	struct answer a = { .sv = *sv };

	return is_for_sender(req) ? give(&a, req, send_statfs)
				  : fuse_reply_statfs(req, sv);
}

static void send_lseek(struct answer *a)
{
	fuse_reply_lseek(a->req, a->off);
}

int ring_reply_lseek(fuse_req_t req, off_t off)
{
	struct answer a = { .off = off };

	return is_for_sender(req) ? give(&a, req, send_lseek)
				  : fuse_reply_lseek(req, off);
}

static void send_statx(struct answer *a)
{
	fuse_reply_statx(a->req, a->flags, &a->sx, a->seconds);
}

int ring_reply_statx(fuse_req_t req, int flags, const struct statx *sx,
		     double seconds)
{
	struct answer a = { .flags = flags, .sx = *sx, .seconds = seconds };

	return is_for_sender(req) ? give(&a, req, send_statx)
				  : fuse_reply_statx(req, flags, sx, seconds);
}

static void send_buf(struct answer *a)
{
	fuse_reply_buf(a->req, a->bytes, a->size);
}

int ring_reply_buf(fuse_req_t req, const char *buf, size_t size)
{
	struct answer a = { .size = size };
	size_t most;
	char *room;

	if (!is_for_sender(req))
		return fuse_reply_buf(req, buf, size);
	if (fuse_req_get_payload(req, &room, &most, NULL) || size > most)
		return ring_reply_err(req, EIO);
	memcpy(room, buf, size);
	a.bytes = room;
	return give(&a, req, send_buf);
}

int ring_reply_readlink(fuse_req_t req, const char *target)
{
	return ring_reply_buf(req, target, strlen(target));
}

/* --- workers --- */

static void *worker_main(void *arg)
{
	struct ring *r = arg;
	struct work *w;

	(void)pthread_setname_np(pthread_self(), "txnfs-worker");
	pthread_mutex_lock(&r->lock);
	for (;;) {
		r->nidle++;
		while (!r->first && !r->stopped && r->nidle <= WORKERS_IDLE)
			pthread_cond_wait(&r->cond, &r->lock);
		r->nidle--;
		w = r->first;
		if (!w)
			break;
		r->first = w->next;
		if (!r->first)
			r->last = &r->first;
		r->nwork--;
		pthread_mutex_unlock(&r->lock);
		w->run(w);
		free(w);
		pthread_mutex_lock(&r->lock);
	}
	r->nworkers--;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* Under r->lock. */
static void start_worker(struct ring *r)
{
	pthread_attr_t attr;
	pthread_t t;

	if (pthread_attr_init(&attr))
		return;
	if (!pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) &&
	    !pthread_attr_setaffinity_np(&attr, sizeof(r->cpus), &r->cpus) &&
	    !pthread_create(&t, &attr, worker_main, r))
		r->nworkers++;
	pthread_attr_destroy(&attr);
}

/* False: nobody can do it; no memory, no thread, the end. */
static bool hand_over(struct ring *r, const struct work *w)
{
	struct work *copy = malloc(sizeof(*copy));
	bool done;

	if (!copy)
		return false;
	*copy = *w;
	copy->next = NULL;
	if (w->fip)
		copy->fip = &copy->fi;
	pthread_mutex_lock(&r->lock);
	if (r->started && r->nidle <= r->nwork && r->nworkers < WORKERS_MAX)
		start_worker(r);
	done = !r->stopped && (r->nworkers || !r->started);
	if (done) {
		*r->last = copy;
		r->last = &copy->next;
		r->nwork++;
		pthread_cond_signal(&r->cond);
	}
	pthread_mutex_unlock(&r->lock);
	if (!done)
		free(copy);
	return done;
}

/* False: it has to wait. */
static bool try_it(const struct work *w)
{
	struct work copy = *w; /* handlers write to what they are given */
	bool done;

	if (copy.fip)
		copy.fip = &copy.fi;
	tried = &copy;
	view_never_wait(true);
	copy.run(&copy);
	view_never_wait(false);
	done = tried;
	tried = NULL;
	return done;
}

void ring_take(struct work *w, void (*run)(struct work *w), fuse_req_t req,
	       bool here)
{
	struct mount *m = req_mount(req);
	struct ring *r = m->ring;

	is_ring_thread = fuse_req_is_uring(req);
	/* libfuse cancels its threads at the end: not in the middle of this. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	w->run = run;
	w->req = req;
	w->ops = &r->ops;
	if (__atomic_load_n(&r->stopped, __ATOMIC_ACQUIRE))
		fuse_reply_err(req, ENOTCONN);
	else if (here && __atomic_load_n(&r->started, __ATOMIC_ACQUIRE) &&
		 try_it(w))
		return;
	else if (!hand_over(r, w))
		fuse_reply_err(req, ENOTCONN);
}

/* --- may we, and how --- */

static bool kernel_offers(void)
{
	int fd = open("/sys/module/fuse/parameters/enable_uring",
		      O_RDONLY | O_CLOEXEC);
	char c = 'N';

	if (fd >= 0 && read(fd, &c, 1) != 1)
		c = 'N';
	if (fd >= 0)
		close(fd);
	return c == 'Y' || c == '1';
}

int ring_check(char *why, size_t size)
{
	if (fuse_version() < RING_LIBFUSE)
		snprintf(
			why, size,
			"transport=io_uring needs libfuse 3.19, this is %s, in "
			"which answers from other threads get lost: update "
			"libfuse, or leave the option out",
			fuse_pkgversion());
	else if (!kernel_offers())
		snprintf(why, size,
			 "the kernel does not offer transport=io_uring: as "
			 "root, echo Y > "
			 "/sys/module/fuse/parameters/enable_uring (Linux 6.14 "
			 "or later), or leave the option out");
	else if (get_nprocs_conf() > CORES_MAX)
		snprintf(why, size,
			 "transport=io_uring is for at most %d cores (each has "
			 "memory of its own), here are %d: leave the option "
			 "out",
			 CORES_MAX, get_nprocs_conf());
	else
		return 0;
	return -EOPNOTSUPP;
}

int ring_new(struct mount *m, struct fuse_args *args,
	     struct fuse_lowlevel_ops *ops)
{
	struct ring *r = calloc(1, sizeof(*r));
	char option[64];

	if (!r)
		return -ENOMEM;
	m->ring = r;
	r->m = m;
	r->end_fd = -1;
	r->last = &r->first;
	r->answers_end = &r->answers;
	pthread_mutex_init(&r->send_lock, NULL);
	pthread_cond_init(&r->send_cond, NULL);
	r->message =
		RING_MEMORY_MAX / RING_DEPTH / (unsigned int)get_nprocs_conf();
	r->message =
		r->message > MESSAGE_MAX ? MESSAGE_MAX : r->message & ~4095U;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	r->ops = *ops;
	ring_set_ops(ops);
	if (sched_getaffinity(0, sizeof(r->cpus), &r->cpus))
		return -errno;
	snprintf(option, sizeof(option), "-oio_uring,io_uring_q_depth=%d",
		 RING_DEPTH);
	return fuse_opt_add_arg(args, option) ? -ENOMEM : 0;
}

void ring_init(struct mount *m, struct fuse_conn_info *conn)
{
	m->ring->conn = conn;
	conn->max_write = m->ring->message;
	/* libfuse does not say which request it was. */
	fuse_set_conn_flag(conn, FUSE_CONN_FLAG_NO_INTERRUPT);
}

/* Those that end us. */
static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, set, NULL);
}

void ring_block_signals(void)
{
	sigset_t set;

	block_signals(&set);
}

int ring_begin(struct mount *m)
{
	struct ring *r = m->ring;
	int res;

	res = pthread_create(&r->sender, NULL, sender_main, r);
	if (res)
		return complain(EXIT_FAILURE, "cannot start a thread: %s",
				strerror(res));
	r->has_sender = true;
	res = 1;
	/* The first message is the one that starts the rings; the library may
	 * have read it while it mounted. */
	while (!r->conn && (res > 0 || res == -EINTR)) {
		res = fuse_session_receive_buf(m->work.se, &r->buf);
		if (res > 0)
			fuse_session_process_buf(m->work.se, &r->buf);
	}
	if (!r->conn)
		return complain(EXIT_FAILURE, "%s: no first message: %s",
				m->mountpoint, strerror(res ? -res : ENOTCONN));
	if (!fuse_get_feature_flag(r->conn, FUSE_CAP_OVER_IO_URING))
		return complain(EXIT_REFUSED,
				"transport=io_uring: libfuse could not start "
				"it (built without liburing, or too little "
				"memory); leave the option out");
	return 0;
}

/* --- the loop --- */

static void *reader_main(void *arg)
{
	struct ring *r = arg;
	struct fuse_session *se = r->m->work.se;
	const uint64_t one = 1;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	while (!fuse_session_exited(se)) {
		int res;

		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		res = fuse_session_receive_buf(se, &r->buf);
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		if (res > 0) {
			fuse_session_process_buf(se, &r->buf);
		} else if (res != -EINTR) {
			r->err = res;
			break;
		}
	}
	if (write(r->end_fd, &one, sizeof(one)) < 0)
		abort(); /* the first of 2^64 */
	return NULL;
}

static void start(struct ring *r)
{
	pthread_mutex_lock(&r->lock);
	__atomic_store_n(&r->started, true, __ATOMIC_RELEASE);
	for (const struct work *w = r->first; w && r->nworkers < WORKERS_MAX;
	     w = w->next)
		start_worker(r);
	pthread_mutex_unlock(&r->lock);
}

/* A signal's number; 0: the reader has ended. */
static int wait_for_end(const struct ring *r, int signals)
{
	struct pollfd fds[2] = { { .fd = signals, .events = POLLIN },
				 { .fd = r->end_fd, .events = POLLIN } };
	struct signalfd_siginfo info;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			return 0;
		if (fds[0].revents &&
		    read(signals, &info, sizeof(info)) == sizeof(info))
			return (int)info.ssi_signo;
	}
}

static void stop_workers(struct ring *r)
{
	pthread_mutex_lock(&r->lock);
	__atomic_store_n(&r->stopped, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&r->cond);
	while (r->nworkers)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* What was answered is sent. */
static void finish_sending(struct ring *r)
{
	pthread_mutex_lock(&r->send_lock);
	r->ends = true;
	while (r->answers || r->sending)
		pthread_cond_wait(&r->send_cond, &r->send_lock);
	pthread_mutex_unlock(&r->send_lock);
}

static void stop_sender(struct ring *r)
{
	pthread_mutex_lock(&r->send_lock);
	r->sender_stop = true;
	pthread_cond_broadcast(&r->send_cond);
	pthread_mutex_unlock(&r->send_lock);
	pthread_join(r->sender, NULL);
	r->has_sender = false;
}

void ring_stop(struct mount *m)
{
	struct ring *r = m->ring;

	if (!r || !r->has_sender)
		return;
	fuse_session_exit(m->work.se);
	stop_workers(r);
	finish_sending(r);
	/* Of a session that has ended this takes the rings down. */
	(void)fuse_session_loop(m->work.se);
	stop_sender(r);
}

int ring_serve(struct mount *m)
{
	struct ring *r = m->ring;
	int signals, err;
	sigset_t set;

	block_signals(&set);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	r->end_fd = eventfd(0, EFD_CLOEXEC);
	if (signals < 0 || r->end_fd < 0)
		return -errno;
	err = -pthread_create(&r->reader, NULL, reader_main, r);
	if (err)
		return err;
	start(r);
	err = wait_for_end(r, signals);
	edits_cancel(m);
	/* A command may wait for requests: they are answered until it is done.
	 */
	ctl_stop(m);
	snaps_stop(m);
	fuse_session_exit(m->work.se);
	pthread_cancel(r->reader);
	pthread_join(r->reader, NULL);
	ring_stop(m);
	if (!err)
		err = r->err;
	close(signals);
	return err;
}

void ring_free(struct ring *r)
{
	struct work *next;

	if (!r)
		return;
	for (struct work *w = r->first; w; w = next) {
		next = w->next;
		free(w);
	}
	if (r->end_fd >= 0)
		close(r->end_fd);
	free(r->buf.mem);
	pthread_cond_destroy(&r->send_cond);
	pthread_mutex_destroy(&r->send_lock);
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

#else

int ring_check(char *why, size_t size)
{
	snprintf(why, size,
		 "transport=io_uring needs a txnfs built with libfuse 3.19 or "
		 "later, this one was with %d.%d: build it with that, or leave "
		 "the option out",
		 FUSE_MAJOR_VERSION, FUSE_MINOR_VERSION);
	return -EOPNOTSUPP;
}

#endif
