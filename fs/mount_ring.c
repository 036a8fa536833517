/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_ring.c - see mount_ring.h.
 *
 * The kernel has a queue for each core, with places for requests that were made
 * there. A place is a command on an io_uring: it ends when there is a request
 * in its memory, and is given again with the answer. The kernel hands a request
 * over in the thread that gave the command, so each place has a thread and a
 * ring of its own, which is bound to the core: caller and handler take turns
 * there, and nobody wakes another core.
 *
 * A request's header and the structure of its operation come apart from the
 * rest; they are put in front of it, and libfuse gets it as if it had been
 * read.
 */
#define FUSE_USE_VERSION 312
#include "fs/mount_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* include/uapi/linux/fuse.h of Linux 6.14: older headers lack it. */
enum { CMD_REGISTER = 1, CMD_COMMIT_AND_FETCH = 2, OP_IN_BYTES = 128 };
/* Of flags2 in INIT. */
#define OVER_IO_URING (1U << 9)

struct shared { /* struct fuse_uring_req_header */
	char in_out[128]; /* the header of the request, or of the answer */
	char op_in[OP_IN_BYTES];
	uint64_t flags;
	uint64_t commit_id;
	uint32_t payload_bytes;
	uint32_t padding;
	uint64_t reserved;
};
_Static_assert(sizeof(struct shared) == 288, "as the kernel has it");

struct command { /* struct fuse_uring_cmd_req */
	uint64_t flags;
	uint64_t commit_id;
	uint16_t qid;
	uint8_t padding[6];
};
_Static_assert(sizeof(struct command) == 24, "as the kernel has it");

enum {
	PAGE = 4096, /* before the payload: what is put in front of it */
	PLACES = 256, /* of all cores, if each has at least the least */
	DEPTH_MIN = 4,
	DEPTH_MAX = 32,
	PAYLOAD_MIN = 8192,
	PAGES_DEFAULT = 32, /* of a request, if INIT does not say */
	STOP_TICK_MS = 2
};

enum state {
	WAITS, /* for a request */
	HANDLED, /* not answered yet */
	ANSWERED, /* the answer lies here */
	SENT
};

/* Its thread's, but for unique and state, which are atomic; who answers in
 * another thread changes it under the lock, while it is HANDLED. */
struct place {
	struct ring *r;
	unsigned int core;
	struct io_uring uring;
	bool opened;
	struct iovec memory[2]; /* shared, payload */
	struct shared *shared;
	char *payload;
	pthread_t thread;
	bool has_thread; /* of who starts and stops */
	uint64_t unique; /* of the request that is HANDLED; 0: none */
	int state; /* enum state */
	bool listens; /* atomic: a signal does not disturb a handler */
	pthread_mutex_t lock;
	pthread_cond_t cond;
};

struct ring {
	struct ring_params p;
	struct fuse_session *se;
	struct place *places;
	unsigned int ncores, depth, nplaces;
	size_t payload_bytes; /* from INIT on; 0: it was not agreed to */
	bool stop; /* atomic */
	pthread_t after_thread;
	bool has_after_thread; /* set before there are others */
	bool after; /* atomic: it is asked for */
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t cond, after_cond;
	bool after_stop;
	unsigned int ready; /* threads that have given their first command */
	int err; /* of the first that could not */
};

static _Thread_local struct place *here;

/* --- may it be had? --- */

/* As many as the kernel may ever have: each needs a place before any request
 * goes through. 0: unknown. */
static unsigned int count_cores(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned int last = 0, n;
	int c = '-';

	/* 0-3, or 0-1,4-7 */
	while (f && (c == '-' || c == ',') && fscanf(f, "%u", &n) == 1) {
		last = n + 1;
		c = fgetc(f);
	}
	if (f)
		fclose(f);
	return last;
}

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

/* Not IORING_SETUP_DEFER_TASKRUN: Linux 6.18 keeps who waits for a request that
 * was on its way to a thread that is killed waiting for ever, also when the
 * connection is aborted. */
static int open_uring(struct io_uring *u)
{
	return io_uring_queue_init(2, u,
				   IORING_SETUP_SQE128 |
					   IORING_SETUP_SINGLE_ISSUER |
					   IORING_SETUP_COOP_TASKRUN);
}

int ring_check(char *why, size_t size)
{
	struct io_uring u;
	int err;

	if (!kernel_offers()) {
		snprintf(why, size,
			 "the kernel does not offer transport=io_uring: as "
			 "root, echo Y > "
			 "/sys/module/fuse/parameters/enable_uring (Linux 6.14 "
			 "or later), or leave the option out");
		return -EOPNOTSUPP;
	}
	err = open_uring(&u);
	if (err) {
		snprintf(why, size,
			 "transport=io_uring: io_uring_setup: %s (see "
			 "/proc/sys/kernel/io_uring_disabled, and what runs "
			 "this in a container); leave the option out",
			 strerror(-err));
		return -EOPNOTSUPP;
	}
	io_uring_queue_exit(&u);
	return 0;
}

/* --- INIT --- */

static void agree(struct ring *r, struct iovec *v)
{
	struct fuse_init_out *init = v->iov_base;
	size_t pages = PAGES_DEFAULT;

	if (v->iov_len < sizeof(*init))
		return;
	init->flags |= FUSE_INIT_EXT;
	init->flags2 |= OVER_IO_URING;
	if (init->flags & FUSE_MAX_PAGES)
		pages = init->max_pages;
	r->payload_bytes = pages * PAGE;
	if (r->payload_bytes < init->max_write)
		r->payload_bytes = init->max_write;
	if (r->payload_bytes < PAYLOAD_MIN)
		r->payload_bytes = PAYLOAD_MIN;
	r->payload_bytes = (r->payload_bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
}

/* --- answers --- */

static ssize_t put_answer(struct place *p, const struct iovec *v, int count)
{
	size_t room = p->r->payload_bytes, at = 0;
	struct fuse_out_header *out = (struct fuse_out_header *)(void *)
					      p->shared->in_out;

	memcpy(out, v[0].iov_base, sizeof(*out));
	for (int i = 1; i < count; i++) {
		if (v[i].iov_len > room - at) {
			/* The kernel asks for no more than that. */
			out->error = -EIO;
			out->len = sizeof(*out);
			at = 0;
			break;
		}
		if (v[i].iov_base != p->payload + at)
			memmove(p->payload + at, v[i].iov_base, v[i].iov_len);
		at += v[i].iov_len;
	}
	p->shared->payload_bytes = (uint32_t)at;
	return (ssize_t)(sizeof(*out) + at);
}

static ssize_t answer_here(struct place *p, const struct iovec *v, int count)
{
	ssize_t n = put_answer(p, v, count);

	__atomic_store_n(&p->unique, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&p->state, ANSWERED, __ATOMIC_RELAXED);
	return n;
}

/* Its thread waits for that, or does when its handler returns. */
static ssize_t answer_there(struct place *p, uint64_t unique,
			    const struct iovec *v, int count)
{
	ssize_t n = 0;

	pthread_mutex_lock(&p->lock);
	if (p->unique == unique) {
		n = put_answer(p, v, count);
		__atomic_store_n(&p->unique, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&p->state, ANSWERED, __ATOMIC_RELEASE);
		pthread_cond_signal(&p->cond);
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

ssize_t ring_answer(struct ring *r, struct iovec *v, int count)
{
	const struct fuse_out_header *out = v[0].iov_base;
	ssize_t n = 0;

	if (!r->se && !out->error && count == 2)
		agree(r, &v[1]); /* no other request is before INIT */
	if (!r->se || !out->unique)
		return 0;
	if (here && here->r == r && here->unique == out->unique)
		return answer_here(here, v, count);
	for (unsigned int i = 0; i < r->nplaces && !n; i++)
		if (__atomic_load_n(&r->places[i].unique, __ATOMIC_ACQUIRE) ==
		    out->unique)
			n = answer_there(&r->places[i], out->unique, v, count);
	return n;
}

/* --- commands --- */

static void give_command(struct place *p, unsigned int what,
			 uint64_t commit_id)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&p->uring);
	struct command *c;

	if (!sqe)
		abort(); /* there is one command at a time, and room for two */
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fuse_session_fd(p->r->se),
			 p->memory, 2, 0);
	sqe->cmd_op = what;
	c = (struct command *)(void *)sqe->cmd;
	memset(c, 0, sizeof(*c));
	c->qid = (uint16_t)p->core;
	c->commit_id = commit_id;
}

/* Sent with the next system call on the ring. */
static void give_answer(struct place *p)
{
	give_command(p, CMD_COMMIT_AND_FETCH, p->shared->commit_id);
}

void ring_send(void)
{
	struct place *p = here;
	int err;

	if (!p || __atomic_load_n(&p->state, __ATOMIC_RELAXED) != ANSWERED)
		return;
	p->state = SENT;
	give_answer(p);
	/* Who calls this relies on it. */
	do {
		err = io_uring_submit(&p->uring);
	} while (err == -EINTR || err == -EAGAIN || err == -EBUSY);
	/* Any other error is the end of the place: the next wait tells. */
}

/* --- what comes after answers --- */

bool ring_after(void)
{
	struct ring *r = here ? here->r : NULL;

	if (!r || !r->has_after_thread)
		return false;
	if (__atomic_exchange_n(&r->after, true, __ATOMIC_ACQ_REL))
		return true;
	pthread_mutex_lock(&r->lock);
	pthread_cond_signal(&r->after_cond);
	pthread_mutex_unlock(&r->lock);
	return true;
}

static void *after_main(void *arg)
{
	struct ring *r = arg;

	(void)pthread_setname_np(pthread_self(), "txnfs-behind");
	if (r->p.begin)
		r->p.begin(r->p.arg);
	for (;;) {
		pthread_mutex_lock(&r->lock);
		while (!__atomic_load_n(&r->after, __ATOMIC_RELAXED) &&
		       !r->after_stop)
			pthread_cond_wait(&r->after_cond, &r->lock);
		pthread_mutex_unlock(&r->lock);
		if (!__atomic_exchange_n(&r->after, false, __ATOMIC_ACQ_REL))
			break;
		r->p.after(r->p.arg);
	}
	return NULL;
}

static void stop_after(struct ring *r)
{
	if (!r->has_after_thread)
		return;
	pthread_mutex_lock(&r->lock);
	r->after_stop = true;
	pthread_cond_signal(&r->after_cond);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->after_thread, NULL);
	r->has_after_thread = false;
}

bool ring_is_here(void)
{
	return here;
}

void *ring_room(size_t bytes)
{
	return here && bytes <= here->r->payload_bytes ? here->payload : NULL;
}

unsigned int ring_depth(const struct ring *r)
{
	return r->depth;
}

/* --- a place's thread --- */

/* 0: there is a request. Else the place is not served any more. */
static int wait_for_request(struct place *p)
{
	struct io_uring_cqe *cqe;
	int err;

	__atomic_store_n(&p->listens, true, __ATOMIC_SEQ_CST);
	do {
		err = io_uring_submit_and_wait(&p->uring, 1);
		if (__atomic_load_n(&p->r->stop, __ATOMIC_SEQ_CST) &&
		    io_uring_peek_cqe(&p->uring, &cqe))
			err = -ECANCELED;
	} while (err == -EINTR || err == -EAGAIN || err == -EBUSY);
	__atomic_store_n(&p->listens, false, __ATOMIC_SEQ_CST);
	if (err < 0)
		return err;
	err = io_uring_peek_cqe(&p->uring, &cqe);
	if (err)
		return err == -EAGAIN ? -EINTR : err;
	err = cqe->res;
	io_uring_cqe_seen(&p->uring, cqe);
	return err < 0 ? err : 0;
}

static void handle(struct place *p)
{
	const struct fuse_in_header *in = (const struct fuse_in_header *)
		(const void *)p->shared->in_out;
	size_t payload = p->shared->payload_bytes;
	size_t op = in->len - sizeof(*in) - payload;
	struct fuse_buf buf = { .size = in->len };
	char *message;

	if (in->len < sizeof(*in) + payload || op > OP_IN_BYTES ||
	    payload > p->r->payload_bytes)
		abort(); /* the kernel says so */
	message = p->payload - op - sizeof(*in);
	memcpy(message, in, sizeof(*in));
	memcpy(message + sizeof(*in), p->shared->op_in, op);
	buf.mem = message;
	p->state = HANDLED;
	__atomic_store_n(&p->unique, in->unique, __ATOMIC_RELEASE);
	if (p->r->p.message)
		p->r->p.message(p->r->p.arg, message, in->len);
	fuse_session_process_buf(p->r->se, &buf);
	if (__atomic_load_n(&p->state, __ATOMIC_ACQUIRE) != HANDLED)
		return;
	pthread_mutex_lock(&p->lock);
	while (p->state == HANDLED &&
	       !__atomic_load_n(&p->r->stop, __ATOMIC_ACQUIRE))
		pthread_cond_wait(&p->cond, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static int begin(struct place *p)
{
	struct ring *r = p->r;
	cpu_set_t core;
	int err;

	CPU_ZERO(&core);
	CPU_SET(p->core, &core);
	/* It may be one that is not there. */
	(void)pthread_setaffinity_np(pthread_self(), sizeof(core), &core);
	(void)pthread_setname_np(pthread_self(), "txnfs-ring");
	if (r->p.begin)
		r->p.begin(r->p.arg);
	err = open_uring(&p->uring);
	p->opened = !err;
	if (err)
		return err;
	(void)io_uring_register_ring_fd(&p->uring);
	give_command(p, CMD_REGISTER, 0);
	err = io_uring_submit(&p->uring);
	return err < 0 ? err : 0;
}

/* What ring_start() waits for. */
static void tell_ready(struct ring *r, int err)
{
	pthread_mutex_lock(&r->lock);
	r->ready++;
	if (err && !r->err)
		r->err = err;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

/* Not the end of the connection. */
static bool is_lost(const struct ring *r, int err)
{
	return r->p.lost && err != -ENOTCONN && err != -ECANCELED &&
	       err != -ECONNABORTED &&
	       !__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE);
}

static void *place_main(void *arg)
{
	struct place *p = arg;
	struct io_uring_cqe *cqe;
	int err = begin(p);

	/* It ends at once when it is refused. */
	if (!err && !io_uring_peek_cqe(&p->uring, &cqe) && cqe->res < 0)
		err = cqe->res;
	tell_ready(p->r, err);
	here = err ? NULL : p;
	while (here) {
		err = wait_for_request(p);
		if (err == -EINTR)
			continue;
		if (err)
			break;
		handle(p);
		if (p->state == HANDLED)
			break; /* the end */
		if (p->state == ANSWERED)
			give_answer(p);
		p->state = WAITS;
	}
	if (here && is_lost(p->r, err))
		p->r->p.lost(p->r->p.arg, err);
	here = NULL;
	if (p->opened)
		io_uring_queue_exit(&p->uring);
	return NULL;
}

/* --- beginning and end --- */

struct ring *ring_new(const struct ring_params *params)
{
	struct ring *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->p = *params;
	r->ncores = count_cores();
	r->depth = r->ncores ? PLACES / r->ncores : 0;
	if (r->depth > DEPTH_MAX)
		r->depth = DEPTH_MAX;
	if (r->depth < DEPTH_MIN)
		r->depth = DEPTH_MIN;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	pthread_cond_init(&r->after_cond, NULL);
	return r;
}

/* Only what requests use of it takes memory. */
static int make_place(struct ring *r, struct place *p, unsigned int core)
{
	size_t bytes = 2 * PAGE + r->payload_bytes;
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mem == MAP_FAILED)
		return -errno;
	p->r = r;
	p->core = core;
	p->shared = (struct shared *)(void *)mem;
	p->payload = mem + 2 * PAGE;
	p->memory[0] = (struct iovec){ p->shared, sizeof(*p->shared) };
	p->memory[1] = (struct iovec){ p->payload, r->payload_bytes };
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	return 0;
}

static int make_places(struct ring *r)
{
	unsigned int n = r->ncores * r->depth;
	int err = 0;

	r->places = calloc(n, sizeof(*r->places));
	if (!r->places)
		return -ENOMEM;
	while (r->nplaces < n && !err) {
		err = make_place(r, &r->places[r->nplaces],
				 r->nplaces / r->depth);
		r->nplaces += !err;
	}
	return err;
}

static int start_threads(struct ring *r)
{
	unsigned int n = 0;
	sigset_t most, old;
	int err = 0;

	/* Other signals are for the main thread. */
	sigfillset(&most);
	sigdelset(&most, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &most, &old);
	if (r->p.after) {
		err = -pthread_create(&r->after_thread, NULL, after_main, r);
		r->has_after_thread = !err;
	}
	while (n < r->nplaces && !err) {
		struct place *p = &r->places[n];

		err = -pthread_create(&p->thread, NULL, place_main, p);
		p->has_thread = !err;
		n += !err;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_mutex_lock(&r->lock);
	while (r->ready < n)
		pthread_cond_wait(&r->cond, &r->lock);
	err = err ? err : r->err;
	pthread_mutex_unlock(&r->lock);
	return err;
}

int ring_start(struct ring *r, struct fuse_session *se)
{
	int err = r->payload_bytes && r->ncores ? 0 : -ENOTCONN;

	if (!err)
		err = make_places(r);
	if (err)
		return err;
	r->se = se;
	return start_threads(r);
}

static void stop_place(struct place *p)
{
	const struct timespec tick = { .tv_nsec = STOP_TICK_MS * 1000000 };

	pthread_mutex_lock(&p->lock);
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
	while (pthread_tryjoin_np(p->thread, NULL) == EBUSY) {
		if (__atomic_load_n(&p->listens, __ATOMIC_SEQ_CST))
			(void)pthread_kill(p->thread, SIGUSR1);
		nanosleep(&tick, NULL);
	}
	p->has_thread = false;
}

void ring_stop(struct ring *r)
{
	__atomic_store_n(&r->stop, true, __ATOMIC_SEQ_CST);
	/* All at once; those that are not waiting yet get another. */
	for (unsigned int i = 0; i < r->nplaces; i++)
		if (r->places[i].has_thread &&
		    __atomic_load_n(&r->places[i].listens, __ATOMIC_SEQ_CST))
			(void)pthread_kill(r->places[i].thread, SIGUSR1);
	for (unsigned int i = 0; i < r->nplaces; i++)
		if (r->places[i].has_thread)
			stop_place(&r->places[i]);
	stop_after(r);
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	ring_stop(r);
	for (unsigned int i = 0; i < r->nplaces; i++) {
		struct place *p = &r->places[i];

		(void)munmap(p->shared, 2 * PAGE + r->payload_bytes);
		pthread_cond_destroy(&p->cond);
		pthread_mutex_destroy(&p->lock);
	}
	free(r->places);
	pthread_cond_destroy(&r->after_cond);
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
