/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_look.c - is a plain object what a state says? Bytes of files are
 * compared by the state's sums of blocks: nothing is read from the store.
 */
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

int looker_init(struct looker *l, struct fs *fs)
{
	*l = (struct looker){ .fs = fs,
			      .buf = malloc(PLAIN_BUF_BYTES),
			      .list = malloc(FS_XATTR_LIST_MAX),
			      .value = malloc(FS_XATTR_VALUE_MAX),
			      .value2 = malloc(FS_XATTR_VALUE_MAX) };
	if (l->buf && l->list && l->value && l->value2)
		return 0;
	looker_release(l);
	return -ENOMEM;
}

void looker_release(struct looker *l)
{
	free(l->buf);
	free(l->list);
	free(l->value);
	free(l->value2);
	*l = (struct looker){ 0 };
}

/* --- bytes --- */

struct window_op {
	struct fs_op op;
	uint64_t widx;
	struct item_window *out;
};

static int window_fn(struct vtx *tx, void *arg)
{
	struct window_op *w = arg;

	return fmap_load(tx, w->op.ino, w->widx, w->out);
}

int look_window(struct fs_view *state, uint64_t ino, uint64_t widx,
		struct item_window *out)
{
	struct window_op w = { .op = { .fn = window_fn, .ino = ino },
			       .widx = widx,
			       .out = out };

	return fv_read(state, &w.op);
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

/* Whole blocks of 4 KiB in l->buf, from the window's start. */
static bool blocks_match(const struct looker *l, const struct item_window *w,
			 size_t nblocks)
{
	for (size_t i = 0; i < nblocks; i++) {
		const uint8_t *b = l->buf + i * FS_BLOCK_BYTES;

		if (w->mask >> i & 1
			    ? !item_block_matches(w, (unsigned int)i, b)
			    : !is_zero(b, FS_BLOCK_BYTES))
			return false;
	}
	return true;
}

static int read_at(int fd, uint8_t *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			pread(fd, buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break; /* shorter than it was: zeros, as compared */
		done += (size_t)n;
	}
	memset(buf + done, 0, len - done);
	return 0;
}

/* A file that may lie between two states: sector by sector. */
static int sectors_match(struct looker *l, struct fs_file *f[2], uint64_t off,
			 size_t len, bool *same)
{
	enum { SECTOR = 512 };
	uint8_t *b[2] = { NULL, NULL };
	int err = 0;

	*same = true;
	for (int k = 0; k < 2 && !err; k++) {
		size_t got = 0;

		b[k] = calloc(1, PLAIN_BUF_BYTES);
		err = b[k] ? fs_read(f[k], off, b[k], len, &got) : -ENOMEM;
	}
	for (size_t at = 0; at < len && !err && *same; at += SECTOR) {
		size_t n = min_u64(SECTOR, len - at);

		*same = !memcmp(l->buf + at, b[0] + at, n) ||
			!memcmp(l->buf + at, b[1] + at, n);
	}
	free(b[0]);
	free(b[1]);
	return err;
}

/* Through the fs layer: small files, and those between two states. */
static int look_slowly(struct looker *l, int fd, uint64_t size,
		       struct fs_view *state, struct fs_view *other,
		       uint64_t ino, bool *same)
{
	struct fs_file *f[2] = { NULL, NULL };
	int err;

	*same = true;
	err = fs_file_open(state, ino, &f[0]);
	if (!err && other) {
		err = fs_file_open(other, ino, &f[1]);
		if (err == -ENOENT)
			err = 0;
	}
	if (!err && !f[1])
		f[1] = fs_file_get(f[0]);
	for (uint64_t off = 0; off < size && !err && *same;
	     off += PLAIN_BUF_BYTES) {
		size_t n = min_u64(PLAIN_BUF_BYTES, size - off);

		err = read_at(fd, l->buf, n, off);
		if (!err)
			err = sectors_match(l, f, off, n, same);
	}
	fs_file_put(f[0]);
	fs_file_put(f[1]);
	return err;
}

int look_bytes(struct looker *l, int fd, uint64_t size, struct fs_view *state,
	       struct fs_view *other, uint64_t ino, bool *same)
{
	struct item_window w;

	*same = true;
	if (other || size <= INLINE_FILE_MAX)
		return look_slowly(l, fd, size, state, other, ino, same);
	for (uint64_t off = 0; off < size && *same; off += WINDOW_BYTES) {
		size_t n = min_u64(WINDOW_BYTES, size - off);
		off_t data;
		int err;

		err = look_window(state, ino, off / WINDOW_BYTES, &w);
		if (err)
			return err;
		data = w.mask ? (off_t)off : lseek(fd, (off_t)off, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			data = (off_t)size;
		if (data >= (off_t)(off + WINDOW_BYTES) || data == (off_t)size)
			continue; /* a hole in both */
		err = read_at(fd, l->buf, round_up_u64(n, FS_BLOCK_BYTES), off);
		if (err)
			return err;
		*same = blocks_match(l, &w,
				     round_up_u64(n, FS_BLOCK_BYTES) /
					     FS_BLOCK_BYTES);
	}
	return 0;
}

/* --- objects --- */

static int look_target(int dirfd, const char *name, struct fs_view *state,
		       uint64_t ino, bool *same)
{
	char buf[FS_SYMLINK_MAX + 1], *target = NULL;
	size_t len = 0;
	ssize_t n;
	int err;

	n = readlinkat(dirfd, name, buf, sizeof(buf));
	if (n < 0)
		return -errno;
	err = fs_readlink(state, ino, &target, &len);
	*same = !err && len == (size_t)n && !memcmp(buf, target, len);
	free(target);
	return err;
}

int look_contents(struct looker *l, int dirfd, const char *name,
		  const struct stat *st, struct fs_view *state,
		  struct fs_view *other, uint64_t ino, bool *same)
{
	struct fs_attr a, o = { 0 };
	int err, fd;

	*same = false;
	err = fs_getattr(state, ino, &a);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (other && fs_getattr(other, ino, &o))
		other = NULL;
	if ((a.mode & S_IFMT) != (st->st_mode & S_IFMT))
		return 0;
	if (S_ISLNK(a.mode))
		return look_target(dirfd, name, state, ino, same);
	if (S_ISCHR(a.mode) || S_ISBLK(a.mode))
		*same = a.rdev == st->st_rdev;
	else
		*same = !S_ISREG(a.mode);
	if (!S_ISREG(a.mode))
		return 0;
	if (a.size != (uint64_t)st->st_size &&
	    (!other || o.size != (uint64_t)st->st_size))
		return 0;
	fd = plain_open(dirfd, name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	err = look_bytes(l, fd, (uint64_t)st->st_size, state, other, ino, same);
	close(fd);
	return err;
}

/* --- extended attributes --- */

bool look_is_privileged_xattr(const char *name)
{
	return !strncmp(name, "trusted.", 8) || !strncmp(name, "security.", 9);
}

int look_list_xattrs(struct looker *l, int fd, size_t *len_out)
{
	char proc[64];
	ssize_t n;

	*len_out = 0;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = listxattr(proc, l->list, FS_XATTR_LIST_MAX);
	if (n < 0)
		return errno == ENOTSUP || errno == EACCES ? 0 : -errno;
	*len_out = (size_t)n;
	return 0;
}

static bool counts(const char *name)
{
	return !geteuid() || !look_is_privileged_xattr(name);
}

static int look_xattr(struct looker *l, const char *proc, const char *name,
		      struct fs_view *state, uint64_t ino, bool *same)
{
	ssize_t n = getxattr(proc, name, l->value, FS_XATTR_VALUE_MAX);
	size_t len = 0;
	int err;

	*same = false;
	if (n < 0)
		return errno == ENODATA ? 0 : -errno;
	err = fs_getxattr(state, ino, name, l->value2, FS_XATTR_VALUE_MAX,
			  &len);
	if (err)
		return err == -ENODATA ? 0 : err;
	*same = len == (size_t)n && !memcmp(l->value, l->value2, len);
	return 0;
}

int look_xattrs(struct looker *l, int fd, struct fs_view *state, uint64_t ino,
		bool unlike, bool *same)
{
	size_t len, n = 0, other = 0, state_len = 0;
	char proc[64], *names;
	int err;

	*same = true;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	err = look_list_xattrs(l, fd, &len);
	for (const char *s = l->list; !err && *same && s < l->list + len;
	     s += strlen(s) + 1) {
		if (!counts(s))
			continue;
		n++;
		err = look_xattr(l, proc, s, state, ino, same);
	}
	if (err || !*same || unlike)
		return err;
	names = malloc(FS_XATTR_LIST_MAX);
	if (!names)
		return -ENOMEM;
	err = fs_listxattr(state, ino, names, FS_XATTR_LIST_MAX, &state_len);
	for (const char *s = names; !err && s < names + state_len;
	     s += strlen(s) + 1)
		other += counts(s);
	*same = n == other;
	free(names);
	return err;
}
