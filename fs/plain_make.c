/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain_make.c - objects of a state as plain ones. */
#include "fs/plain_internal.h"
#include "txn/pace.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* --- contents --- */

static int write_all(int fd, const uint8_t *buf, size_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO;
		buf += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

static int copy_range(struct plain_out *o, struct fs_file *f, int fd,
		      uint64_t off, uint64_t end)
{
	int err = 0;

	while (off < end && !err) {
		size_t want = min_u64(end - off, PLAIN_BUF_BYTES), got = 0;

		err = fs_read(f, off, o->look.buf, want, &got);
		if (!err && got != want)
			err = -EFSCORRUPTED;
		if (!err)
			err = write_all(fd, o->look.buf, got, off);
		off += got;
	}
	return err;
}

/* --- sharing --- */

/* Blocks of the window from off on that lie one behind the other in the log, in
 * pages of their own. */
static uint64_t run_of(const struct item_window *w, uint64_t off, uint64_t end)
{
	uint64_t from = off % WINDOW_BYTES / FS_BLOCK_BYTES, n = 0;
	uint64_t most =
		min_u64(WINDOW_BLOCKS - from, (end - off) / FS_BLOCK_BYTES);

	while (n < most && w->mask >> (from + n) & 1 &&
	       !item_is_packed(w, (unsigned int)(from + n)) &&
	       w->pos[from + n] == w->pos[from] + n * FS_BLOCK_BYTES)
		n++;
	return n * FS_BLOCK_BYTES;
}

/* Are they what they should be? Read where they are now: damage is not spread.
 */
static int verify_shared(struct plain_out *o, int fd,
			 const struct item_window *w, uint64_t off,
			 uint64_t len, bool *good)
{
	uint64_t from = off % WINDOW_BYTES / FS_BLOCK_BYTES;
	ssize_t n = pread(fd, o->look.buf, len, (off_t)off);

	*good = n == (ssize_t)len;
	for (uint64_t i = 0; i < len / FS_BLOCK_BYTES && *good; i++)
		*good = item_block_sum(o->look.buf + i * FS_BLOCK_BYTES) ==
			w->sum[from + i];
	return n < 0 ? -errno : 0;
}

/* *n_out: so much from off on is shared with the store. 0: it is to be copied,
 * which also tells what is damaged. */
static int share_range(struct plain_out *o, uint64_t ino, int fd, uint64_t off,
		       uint64_t end, uint64_t *n_out)
{
	struct item_window w;
	bool good = false;
	uint64_t len;
	int err;

	*n_out = 0;
	if (o->no_clone || off % FS_BLOCK_BYTES ||
	    end - off < PLAIN_CLONE_MIN_BYTES)
		return 0;
	err = look_window(o->hv, ino, off / WINDOW_BYTES, &w);
	len = err ? 0 : run_of(&w, off, end);
	if (err || len < PLAIN_CLONE_MIN_BYTES)
		return err;
	err = log_clone_out(o->fs->log,
			    w.pos[off % WINDOW_BYTES / FS_BLOCK_BYTES], len, fd,
			    off);
	o->no_clone = err == -EOPNOTSUPP || err == -EXDEV || err == -ENOTTY;
	if (!err)
		err = verify_shared(o, fd, &w, off, len, &good);
	else if (err != -ENOSPC && err != -EDQUOT)
		err = 0; /* copying does, or tells */
	if (!err && good)
		*n_out = len;
	return err;
}

/* To the end of the window, or of what is shared. */
static int share_or_copy(struct plain_out *o, struct fs_file *f, int fd,
			 uint64_t off, uint64_t end)
{
	int err = 0;

	while (off < end && !err) {
		uint64_t n, stop;

		err = share_range(o, fs_file_ino(f), fd, off, end, &n);
		stop = n ? off + n
			 : min_u64(end,
				   off - off % WINDOW_BYTES + WINDOW_BYTES);
		if (!err && !n)
			err = copy_range(o, f, fd, off, stop);
		off = stop;
	}
	return err;
}

/* Holes stay holes. */
static int copy_contents(struct plain_out *o, struct fs_file *f, int fd,
			 uint64_t size)
{
	uint64_t off = 0, data, hole;
	int err = 0;

	while (!err && off < size) {
		err = fs_seek(f, off, SEEK_DATA, &data);
		if (err == -ENXIO) {
			err = 0;
			break;
		}
		if (!err)
			err = fs_seek(f, data, SEEK_HOLE, &hole);
		if (!err)
			err = share_or_copy(o, f, fd, data,
					    min_u64(hole, size));
		off = hole;
	}
	if (!err && ftruncate(fd, (off_t)size))
		err = -errno;
	return err;
}

/* --- patching --- */

static int patch_hole(struct plain_out *o, struct fs_file *f, int fd,
		      uint64_t off, uint64_t end)
{
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)off, (off_t)(end - off)))
		return 0;
	return errno == EOPNOTSUPP ? copy_range(o, f, fd, off, end) : -errno;
}

/* The blocks of a window that are not the same in both states. */
static int patch_window(struct plain_out *o, struct fs_file *f, int fd,
			uint64_t widx, uint64_t size)
{
	uint64_t ino = fs_file_ino(f), start = widx * WINDOW_BYTES;
	struct item_window a, b;
	int err;

	err = look_window(o->sv, ino, widx, &a);
	if (!err)
		err = look_window(o->hv, ino, widx, &b);
	for (unsigned int i = 0; i < WINDOW_BLOCKS && !err; i++) {
		uint64_t off = start + i * (uint64_t)FS_BLOCK_BYTES;
		bool had = a.mask >> i & 1, has = b.mask >> i & 1;

		if (off >= size)
			break;
		if (!has && had)
			err = patch_hole(o, f, fd, off,
					 min_u64(off + FS_BLOCK_BYTES, size));
		else if (has && (!had || a.pos[i] != b.pos[i] ||
				 a.sum[i] != b.sum[i] || o->again))
			err = copy_range(o, f, fd, off,
					 min_u64(off + FS_BLOCK_BYTES, size));
	}
	return err;
}

int out_patch(struct plain_out *o, uint64_t ino, int fd)
{
	struct fs_file *f = NULL;
	struct fs_attr attr;
	size_t i = 0;
	int err;

	err = fs_getattr(o->hv, ino, &attr);
	if (!err)
		err = fs_file_open(o->hv, ino, &f);
	if (!err && ftruncate(fd, (off_t)attr.size))
		err = -errno;
	while (i < o->nwin && o->win[i].ino < ino)
		i++;
	for (; i < o->nwin && o->win[i].ino == ino && !err; i++)
		err = patch_window(o, f, fd, o->win[i].widx, attr.size);
	fs_file_put(f);
	return err;
}

/* --- attributes --- */

struct attr_job {
	struct plain_out *o;
	uint64_t ino;
	char proc[64]; /* leads to the object, symlinks included */
	uint32_t flags;
};

/* What the caller may not do is noted, and not an error. */
static int refused(struct attr_job *j, int err)
{
	if (!out_is_refused(err))
		return err;
	j->flags |= PLAIN_UNLIKE;
	return 0;
}

static int apply_owner(struct attr_job *j, const struct fs_attr *a,
		       const struct stat *st)
{
	if (a->uid == st->st_uid && a->gid == st->st_gid)
		return 0;
	if (!chown(j->proc, a->uid, a->gid))
		return 0;
	if (errno != EPERM)
		return refused(j, -errno);
	/* One of one's own groups may be allowed. */
	if (a->gid != st->st_gid)
		(void)!chown(j->proc, (uid_t)-1, a->gid);
	j->flags |= PLAIN_UNLIKE;
	return 0;
}

static int set_xattr(struct attr_job *j, const char *name)
{
	struct looker *l = &j->o->look;
	size_t len = 0;
	ssize_t n;
	int err;

	err = fs_getxattr(j->o->hv, j->ino, name, l->value2, FS_XATTR_VALUE_MAX,
			  &len);
	if (err)
		return err;
	n = getxattr(j->proc, name, l->value, FS_XATTR_VALUE_MAX);
	if (n >= 0 && (size_t)n == len && !memcmp(l->value, l->value2, len))
		return 0;
	if (!setxattr(j->proc, name, l->value2, len, 0))
		return 0;
	if (errno == ENOSPC || errno == E2BIG || errno == ERANGE) {
		j->flags |= PLAIN_UNLIKE; /* more than this host can keep */
		/* An older value would look like an edit. */
		return n < 0 || !removexattr(j->proc, name)
			       ? 0
			       : refused(j, -errno);
	}
	return refused(j, -errno);
}

static bool is_in(const char *names, size_t len, const char *name)
{
	for (const char *s = names; s < names + len; s += strlen(s) + 1)
		if (!strcmp(s, name))
			return true;
	return false;
}

static int apply_xattrs(struct attr_job *j, int fd)
{
	struct looker *l = &j->o->look;
	char *names = malloc(FS_XATTR_LIST_MAX);
	size_t len = 0, have = 0;
	int err = names ? 0 : -ENOMEM;

	if (!err)
		err = fs_listxattr(j->o->hv, j->ino, names, FS_XATTR_LIST_MAX,
				   &len);
	if (!err)
		err = look_list_xattrs(l, fd, &have);
	for (const char *s = l->list; !err && s < l->list + have;
	     s += strlen(s) + 1)
		if (!is_in(names, len, s) && removexattr(j->proc, s) &&
		    errno != ENODATA)
			err = refused(j, -errno);
	for (const char *s = names; !err && s < names + len; s += strlen(s) + 1)
		err = set_xattr(j, s);
	free(names);
	return err;
}

/* Set-id bits are for the owner that they were given with, and no other. */
static uint32_t mode_for(const struct fs_attr *a, const struct stat *st)
{
	uint32_t mode = a->mode & 07777;

	if (S_ISDIR(a->mode))
		return mode;
	if (st->st_uid != a->uid)
		mode &= ~(uint32_t)S_ISUID;
	if (st->st_gid != a->gid)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

static int apply_mode(struct attr_job *j, const struct fs_attr *a)
{
	struct stat st;
	uint32_t mode;

	if (S_ISLNK(a->mode))
		return 0;
	if (stat(j->proc, &st))
		return -errno;
	if (st.st_uid != a->uid || st.st_gid != a->gid)
		j->flags |= PLAIN_UNLIKE; /* the host only said that it did */
	mode = mode_for(a, &st);
	if ((st.st_mode & 07777) == mode)
		return 0;
	if (chmod(j->proc, mode))
		return refused(j, -errno);
	/* Without the right to, set-id bits are left out silently. */
	if (stat(j->proc, &st))
		return -errno;
	if ((st.st_mode & 07777) != mode)
		j->flags |= PLAIN_UNLIKE;
	return 0;
}

/* Last: the time tells who wrote into it meanwhile, and is left alone then, or
 * where it is right. */
static int apply_times(struct attr_job *j, const struct fs_attr *a, int fd,
		       const struct stat *was)
{
	struct timespec ts[2] = { plain_time(a->atime_ns),
				  plain_time(a->mtime_ns) };
	struct stat st;
	int64_t now;

	if (fstat(fd, &st))
		return -errno;
	now = plain_ns(&st.st_mtim);
	if (now == a->mtime_ns ||
	    (!S_ISDIR(st.st_mode) && now != plain_ns(&was->st_mtim)))
		ts[1].tv_nsec = UTIME_OMIT;
	return utimensat(AT_FDCWD, j->proc, ts, 0) ? refused(j, -errno) : 0;
}

int out_apply_attr(struct plain_out *o, uint64_t ino, int fd,
		   const struct stat *st, uint32_t *flags)
{
	struct attr_job j = { .o = o, .ino = ino };
	struct fs_attr a;
	int err;

	snprintf(j.proc, sizeof(j.proc), "/proc/self/fd/%d", fd);
	err = fs_getattr(o->hv, ino, &a);
	if (!err)
		err = apply_owner(&j, &a, st);
	if (!err)
		err = apply_xattrs(&j, fd);
	if (!err)
		err = apply_mode(&j, &a);
	if (!err)
		err = apply_times(&j, &a, fd, st);
	if (!err)
		*flags = j.flags;
	return err;
}

/* --- objects --- */

static int make_file(struct plain_out *o, const struct fs_attr *a,
		     const char *tmp)
{
	struct fs_file *f = NULL;
	int err, fd;

	err = out_give(o, a, tmp);
	if (err <= 0)
		return err;
	fd = openat(o->tmpfd, tmp,
		    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = fs_file_open(o->hv, a->ino, &f);
	if (!err)
		err = copy_contents(o, f, fd, a->size);
	fs_file_put(f);
	if (close(fd) && !err)
		err = -errno;
	return err;
}

static int make_symlink(struct plain_out *o, const struct fs_attr *a,
			const char *tmp)
{
	char *target = NULL;
	size_t len;
	int err;

	err = fs_readlink(o->hv, a->ino, &target, &len);
	if (!err && symlinkat(target, o->tmpfd, tmp))
		err = -errno;
	free(target);
	return err;
}

static int make(struct plain_out *o, const struct fs_attr *a, const char *tmp)
{
	switch (a->mode & S_IFMT) {
	case S_IFREG:
		return make_file(o, a, tmp);
	case S_IFDIR:
		return mkdirat(o->tmpfd, tmp, 0700) ? -errno : 0;
	case S_IFLNK:
		return make_symlink(o, a, tmp);
	default:
		return mknodat(o->tmpfd, tmp, (a->mode & S_IFMT) | 0600,
			       (dev_t)a->rdev)
			       ? -errno
			       : 0;
	}
}

/* While names are given (flush_each) what has its own name in the folder is
 * taken for whole: it gets that name when it is. */
int out_build(struct plain_out *o, uint64_t ino)
{
	struct out_inode *x;
	struct fs_attr a;
	struct stat st;
	const char *as;
	char tmp[32];
	bool is_dir;
	int err, fd;

	pace();
	(void)out_find(o, ino, &x);
	err = fs_getattr(o->hv, ino, &a);
	if (err)
		return err;
	is_dir = S_ISDIR(a.mode);
	out_tmp_name(tmp, ino, is_dir);
	as = o->flush_each && !is_dir ? "build" : tmp;
	if (unlinkat(o->tmpfd, as, 0) && errno != ENOENT && !is_dir)
		return -errno;
	err = make(o, &a, as);
	if (err == -EEXIST && is_dir)
		err = 0;
	if (out_is_refused(err)) {
		x->flags |= PLAIN_ABSENT;
		return 1;
	}
	if (err)
		return err;
	fd = plain_open(o->tmpfd, as,
			S_ISREG(a.mode) && o->flush_each ? O_RDONLY : O_PATH);
	if (fd < 0)
		return fd;
	/* A directory's mode and times come when all is in it. */
	if (!is_dir)
		err = fstat(fd, &st) ? -errno
				     : out_apply_attr(o, ino, fd, &st,
						      &x->flags);
	if (!err && S_ISREG(a.mode) && o->flush_each && fsync(fd))
		err = -errno;
	close(fd);
	if (!err && as != tmp && renameat(o->tmpfd, as, o->tmpfd, tmp))
		err = -errno;
	return err;
}
