/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_ring.h - a session's requests over io_uring instead of /dev/fuse. Of
 * libfuse it needs fuse_session_process_buf() and fuse_session_custom_io()
 * (3.14); of the kernel Linux 6.14 with fuse.enable_uring. Read fs/DESIGN.md 4,
 * io_uring.
 *
 *	ring_check()	may be had?
 *	ring_new()
 *	custom writev:	ring_answer() of each answer, else writev(2)
 *	ring_start()	when INIT was answered; /dev/fuse is read on by libfuse:
 *			what is forgotten and interrupted comes there
 *	ring_stop()	before the session is unmounted
 *	ring_free()
 *
 * A handler may wait and may leave its answer to another thread. libfuse's
 * functions that answer are called as ever; but an answer is sent only when the
 * handler has returned, or calls ring_send().
 */
#ifndef FS_MOUNT_RING_H
#define FS_MOUNT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct fuse_session;
struct ring;

struct ring_params {
	/* In each thread that handles requests, before the first. */
	void (*begin)(void *arg);
	/* A message, before it is handled, in that thread; NULL: nobody asks.
	 */
	void (*message)(void *arg, const void *message, size_t len);
	/* What ring_after() asks for; NULL: it is never called. */
	void (*after)(void *arg);
	/* A place is not served any more, though nobody ended that (-errno); in
	 * its thread. May be NULL. */
	void (*lost)(void *arg, int err);
	void *arg;
};

/* 0, or -EOPNOTSUPP: why it cannot be had, and what to do. */
int ring_check(char *why, size_t size);
/* NULL: no memory. Nothing is asked of the kernel yet. */
struct ring *ring_new(const struct ring_params *params);
/* An answer that libfuse gives: 0, it is not to a request of the ring (other
 * than INIT, which is changed in *v). Else what writev(2) would return. Any
 * thread. */
ssize_t ring_answer(struct ring *r, struct iovec *v, int count);
/* Threads read requests from here on: each with its own io_uring. SIGUSR1 must
 * have a handler that does nothing, without SA_RESTART. -errno: the mount
 * answers nothing. -ENOTCONN: INIT was not answered, or the kernel did not
 * offer it. */
int ring_start(struct ring *r, struct fuse_session *se);
/* No thread is in a handler any more. All requests whose answers were left to
 * others have been answered. May be called again. */
void ring_stop(struct ring *r);
/* r may be NULL. */
void ring_free(struct ring *r);

/* In a handler. Does the request come from a ring? */
bool ring_is_here(void);
/* What was answered is sent at once, if it is of a ring. The next request may
 * overwrite the names and contents of this one. */
void ring_send(void);
/* What is to be done beside the next request is: that comes to the same thread.
 * Once for all who ask meanwhile. False: the request is not of a ring. */
bool ring_after(void);
/* Where the contents of the answer may be made, so that nobody copies them:
 * NULL, none, or not for so many bytes. The request's own contents lie there.
 */
void *ring_room(size_t bytes);
/* How many requests made on one core can be under way; others wait. */
unsigned int ring_depth(const struct ring *r);

#endif
