/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_killpriv.c - killpriv v2 with a libfuse that does not tell (before
 * 3.18.3): without it the kernel asks for security.capability before each
 * write(2), which is half the messages of small writes.
 *
 * All that is missing is a flag in the answer to INIT, and the flag by which
 * WRITE, OPEN, CREATE and SETATTR say that the caller may not keep set-id
 * bits. So the messages are looked at where libfuse reads and writes them. A
 * thread reads a request and then handles it: what the request says of the
 * bits is kept for the thread until it reads the next one.
 *
 * Such a libfuse may also forget to say, in that answer, that lookups in one
 * directory may go on at once (FUSE_CAP_PARALLEL_DIROPS, 3.14 does).
 */
#include "fs/mount_internal.h"

#if !HAVE_KILLPRIV

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

/* What follows the header; NULL: less than the opcode promises. */
static const void *body(const struct fuse_in_header *in, size_t got,
			size_t bytes)
{
	return got - sizeof(*in) >= bytes ? in + 1 : NULL;
}

/* May the caller not keep set-id bits? */
static bool is_told_to_kill(const struct fuse_in_header *in, size_t got)
{
	const struct fuse_write_in *w;
	const struct fuse_open_in *o;
	const struct fuse_create_in *c;
	const struct fuse_setattr_in *s;

	switch (in->opcode) {
	case FUSE_WRITE:
		w = body(in, got, sizeof(*w));
		return w && w->write_flags & FUSE_WRITE_KILL_SUIDGID;
	case FUSE_OPEN:
		o = body(in, got, sizeof(*o));
		return o && o->open_flags & FUSE_OPEN_KILL_SUIDGID;
	case FUSE_CREATE:
		c = body(in, got, sizeof(*c));
		return c && c->open_flags & FUSE_OPEN_KILL_SUIDGID;
	case FUSE_SETATTR:
		s = body(in, got, sizeof(*s));
		return s && s->valid & FATTR_KILL_SUIDGID;
	default:
		return false;
	}
}

/* The first request there is: nothing else is under way. */
static void look_at_init(struct mount *m, const struct fuse_in_header *in,
			 size_t got)
{
	const size_t bytes = offsetof(struct fuse_init_in, flags) +
			     sizeof(((struct fuse_init_in *)0)->flags);
	const struct fuse_init_in *init = body(in, got, bytes);

	if (!init)
		return;
	m->init_flags =
		init->flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_PARALLEL_DIROPS);
	m->has_killpriv = m->init_flags & FUSE_HANDLE_KILLPRIV_V2;
	__atomic_store_n(&m->init_unique, in->unique, __ATOMIC_RELEASE);
}

static ssize_t read_request(int fd, void *buf, size_t len, void *userdata)
{
	const struct fuse_in_header *in = buf;
	struct mount *m = ((struct conn *)userdata)->m;
	ssize_t got = read(fd, buf, len);
	void *kill = NULL;
	int err;

	if (got < (ssize_t)sizeof(*in))
		return got;
	if (in->opcode == FUSE_INIT)
		look_at_init(m, in, (size_t)got);
	if (is_told_to_kill(in, (size_t)got))
		kill = m;
	if (pthread_getspecific(m->kill_key) != kill) {
		err = pthread_setspecific(m->kill_key, kill);
		ASSERT(!err); /* the first keys of a process have a place */
	}
	return got;
}

/* The answer to INIT, with the flags. */
static ssize_t write_init(int fd, const struct iovec iov[2], struct mount *m)
{
	struct fuse_init_out init = { 0 };
	struct iovec v[2] = { iov[0], { &init, iov[1].iov_len } };

	memcpy(&init, iov[1].iov_base, iov[1].iov_len);
	init.flags |= m->init_flags;
	__atomic_store_n(&m->init_unique, 0, __ATOMIC_RELAXED);
	return writev(fd, v, 2);
}

static ssize_t write_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct mount *m = ((struct conn *)userdata)->m;
	uint64_t init = __atomic_load_n(&m->init_unique, __ATOMIC_ACQUIRE);

	if (init && out->unique == init && count == 2 &&
	    iov[1].iov_len <= sizeof(struct fuse_init_out))
		return write_init(fd, iov, m);
	return writev(fd, iov, count);
}

bool killpriv_is_asked(const struct mount *m)
{
	return pthread_getspecific(m->kill_key);
}

int killpriv_start(struct mount *m)
{
	const struct fuse_custom_io io = { .read = read_request,
					   .writev = write_reply };
	int err = pthread_key_create(&m->kill_key, NULL);

	if (err)
		return -err;
	m->has_kill_key = true;
	return fuse_session_custom_io(m->work.se, &io,
				      fuse_session_fd(m->work.se));
}

void killpriv_stop(struct mount *m)
{
	if (m->has_kill_key)
		(void)pthread_key_delete(m->kill_key);
}

#endif
