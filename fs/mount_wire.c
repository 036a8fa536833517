/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_wire.c - the messages themselves, where libfuse reads and writes them:
 * answers to what came over io_uring (mount_ring.c), and what a libfuse before
 * 3.18.3 does not tell or say.
 *
 * Killpriv v2: without it the kernel asks for security.capability before each
 * write(2), which is half the messages of small writes. All that is missing is
 * a flag in the answer to INIT, and the flag by which WRITE, OPEN, CREATE and
 * SETATTR say that the caller may not keep set-id bits. A thread reads a
 * request and then handles it: what the request says of the bits is kept for
 * the thread until it reads the next one.
 *
 * Such a libfuse may also forget to say, in that answer, that lookups in one
 * directory may go on at once (FUSE_CAP_PARALLEL_DIROPS, 3.14 does).
 */
#include "fs/mount_internal.h"

#include "fs/mount_ring.h"
#include "fs/slice.h"

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#if !HAVE_KILLPRIV

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

/* In the thread that handles it next. */
static void look_at(struct mount *m, const struct fuse_in_header *in,
		    size_t got)
{
	void *kill = NULL;
	int err;

	if (in->opcode == FUSE_INIT)
		look_at_init(m, in, got);
	if (is_told_to_kill(in, got))
		kill = m;
	if (pthread_getspecific(m->kill_key) != kill) {
		err = pthread_setspecific(m->kill_key, kill);
		ASSERT(!err); /* the first keys of a process have a place */
	}
}

/* The answer to INIT gets the flags. */
static void change_answer(struct mount *m, struct iovec *v, int count)
{
	const struct fuse_out_header *out = v[0].iov_base;
	uint64_t init = __atomic_load_n(&m->init_unique, __ATOMIC_ACQUIRE);
	struct fuse_init_out *answer = v[1].iov_base;

	if (!init || out->unique != init || count != 2 ||
	    v[1].iov_len < offsetof(struct fuse_init_out, max_background))
		return;
	answer->flags |= m->init_flags;
	__atomic_store_n(&m->init_unique, 0, __ATOMIC_RELAXED);
}

bool killpriv_is_asked(const struct mount *m)
{
	return pthread_getspecific(m->kill_key);
}

static int look_begin(struct mount *m)
{
	int err = pthread_key_create(&m->kill_key, NULL);

	m->has_kill_key = !err;
	return -err;
}

static void look_end(struct mount *m)
{
	if (m->has_kill_key)
		(void)pthread_key_delete(m->kill_key);
}

#else

static void look_at(struct mount *m, const struct fuse_in_header *in,
		    size_t got)
{
}

static void change_answer(struct mount *m, struct iovec *v, int count)
{
}

static int look_begin(struct mount *m)
{
	return 0;
}

static void look_end(struct mount *m)
{
}

#endif

static ssize_t read_request(int fd, void *buf, size_t len, void *userdata)
{
	ssize_t got = read(fd, buf, len);

	if (got >= (ssize_t)sizeof(struct fuse_in_header))
		look_at(((struct conn *)userdata)->m, buf, (size_t)got);
	return got;
}

static ssize_t write_answer(int fd, struct iovec *v, int count, void *userdata)
{
	struct mount *m = ((struct conn *)userdata)->m;
	ssize_t n;

	change_answer(m, v, count);
	n = m->ring ? ring_answer(m->ring, v, count) : 0;
	return n ? n : writev(fd, v, count);
}

/* --- io_uring --- */

static void begin_thread(void *arg)
{
	slice_set(SLICE_DEFAULT); /* it answers */
}

static void ring_message(void *arg, const void *message, size_t len)
{
	look_at(arg, message, len);
}

static void lost_place(void *arg, int err)
{
	env_logf(&((struct mount *)arg)->env, ENV_ERROR,
		 "io_uring: the kernel refuses an answer or a request: %s; "
		 "fewer can be under way now",
		 strerror(-err));
}

static void write_behind(void *arg)
{
	fs_write_behind(((struct mount *)arg)->fs);
}

int wire_start(struct mount *m)
{
	const struct fuse_custom_io io = { .read = read_request,
					   .writev = write_answer };
	const struct ring_params p = { .begin = begin_thread,
				       .message = ring_message,
				       .after = write_behind,
				       .lost = lost_place,
				       .arg = m };
	int err = 0;

	if (m->opt.transport && !strcmp(m->opt.transport, "io_uring")) {
		m->ring = ring_new(&p);
		err = m->ring ? 0 : -ENOMEM;
	}
	if (!err)
		err = look_begin(m);
	if (err)
		return complain(EXIT_FAILURE, "%s", strerror(-err));
	if (HAVE_KILLPRIV && !m->ring)
		return 0;
	err = fuse_session_custom_io(m->work.se, &io,
				     fuse_session_fd(m->work.se));
	/* One that can do without says nothing that we would tell. */
	if (!err || !m->ring)
		return 0;
	return complain(EXIT_REFUSED,
			"transport=io_uring needs a libfuse with custom I/O, "
			"which this one (%s) was built without (meson "
			"-Denable-custom-io=true): leave the option out",
			fuse_pkgversion());
}

/* The first message is INIT, whose answer makes the kernel wait for the ring.
 */
int wire_start_ring(struct mount *m)
{
	struct fuse_session *se = m->work.se;
	struct fuse_buf buf = { 0 };
	int res;

	if (!m->ring)
		return 0;
	do {
		res = fuse_session_receive_buf(se, &buf);
	} while (res == -EINTR);
	if (res > 0)
		fuse_session_process_buf(se, &buf);
	free(buf.mem);
	res = res > 0 ? ring_start(m->ring, se) : res < 0 ? res : -ENOTCONN;
	return res ? complain(EXIT_REFUSED,
			      "transport=io_uring could not be started: %s; "
			      "leave the option out",
			      strerror(-res))
		   : 0;
}

void wire_stop_ring(struct mount *m)
{
	if (m->ring)
		ring_stop(m->ring);
}

void wire_free(struct mount *m)
{
	ring_free(m->ring);
	look_end(m);
}
