/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain_read.c - plain objects into a view: all of a directory for init, edits
 * later. */
#include "fs/hostdir.h"
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20, REREADS_MAX = 5, LINKS_FIRST = 1024 };

/* A host inode with several names that was read already. */
struct linked {
	uint64_t dev, host_ino, ino; /* ino 0: a free place */
};

int plain_reader_init(struct plain_reader *r, struct fs *fs, struct fs_view *to)
{
	int err = looker_init(&r->look, fs);

	r->to = to;
	r->began_ns = fs_now(fs);
	r->buf = malloc(READ_BYTES);
	return err ? err : r->buf ? 0 : -ENOMEM;
}

void plain_reader_release(struct plain_reader *r)
{
	looker_release(&r->look);
	free(r->buf);
	free(r->path.s);
	free(r->links);
	free(r->recent);
}

int plain_reader_failed(struct plain_reader *r, int err, const char *fmt, ...)
{
	struct store_error *e = r->err;
	char shown[256];
	va_list ap;
	int n;

	if (e->text[0])
		return err; /* the first reason is the reason */
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	n = (int)strlen(e->text);
	(void)fs_quote_path(r->path.len ? r->path.s : ".", shown,
			    sizeof(shown));
	snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s: %s", shown,
		 strerror(-err));
	return err;
}

int plain_reader_tell(struct plain_reader *r)
{
	return r->progress && r->progress(r->arg, &r->p) ? -ECANCELED : 0;
}

/* --- hard links --- */

static struct linked *link_place(struct linked *t, size_t cap, uint64_t dev,
				 uint64_t host_ino)
{
	size_t i = (host_ino * 0x9e3779b97f4a7c15ull ^ dev) & (cap - 1);

	while (t[i].ino && (t[i].dev != dev || t[i].host_ino != host_ino))
		i = (i + 1) & (cap - 1);
	return &t[i];
}

int plain_reader_knows(struct plain_reader *r, const struct stat *st,
		       uint64_t ino)
{
	struct linked *place;

	if (r->nlinks * 2 >= r->links_cap) {
		size_t cap = r->links_cap ? r->links_cap * 2 : LINKS_FIRST;
		struct linked *t = calloc(cap, sizeof(*t));

		if (!t)
			return -ENOMEM;
		for (size_t i = 0; i < r->links_cap; i++)
			if (r->links[i].ino)
				*link_place(t, cap, r->links[i].dev,
					    r->links[i].host_ino) = r->links[i];
		free(r->links);
		r->links = t;
		r->links_cap = cap;
	}
	place = link_place(r->links, r->links_cap, st->st_dev, st->st_ino);
	if (!place->ino)
		r->nlinks++;
	*place = (struct linked){ st->st_dev, st->st_ino, ino };
	return 0;
}

/* What the table has, when the first file with several names is met. */
static int learn_links(struct plain_reader *r, const struct stat *at)
{
	struct stat st = *at;
	struct plain_stat p = { 0 };
	struct fs_attr a;
	uint64_t ino = 0;
	int err = 0;

	r->learned = true;
	while (!err) {
		err = plain_next_stat(r->look.fs, &ino, &p);
		st.st_ino = p.host_ino;
		if (!err && !S_ISDIR(p.mode) && p.mode &&
		    !fs_getattr(r->to, ino, &a))
			err = plain_reader_knows(r, &st, ino);
		ino++;
	}
	return err == 1 ? 0 : err;
}

/* *ino_out 0: not known. What the table has must still be so: the host gives
 * numbers again to other files. Or it is that file, edited, and the table is
 * not up to date yet (*doubtful). */
static int link_find(struct plain_reader *r, const struct stat *st,
		     uint64_t *ino_out, bool *doubtful)
{
	struct plain_stat was, now = plain_of_stat(st);
	int err = 0;

	*ino_out = 0;
	*doubtful = false;
	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return 0;
	if (r->from_table && !r->learned)
		err = learn_links(r, st);
	if (err || !r->links_cap)
		return err;
	*ino_out =
		link_place(r->links, r->links_cap, st->st_dev, st->st_ino)->ino;
	if (!*ino_out || !r->from_table)
		return 0;
	err = plain_get(r->look.fs, *ino_out, &was);
	if (err || was.mode != now.mode || was.size != now.size ||
	    was.mtime_ns != now.mtime_ns || was.ctime_ns != now.ctime_ns) {
		*ino_out = 0;
		*doubtful = !err;
	}
	return err < 0 ? err : 0;
}

/* --- attributes --- */

/* was: what was given to the plain object, when that was not all; else NULL. */
static int set_attr(struct plain_reader *r, uint64_t ino, const struct stat *st,
		    const struct plain_stat *was)
{
	struct fs_attr attr = { .mode = st->st_mode,
				.uid = st->st_uid,
				.gid = st->st_gid,
				.atime_ns = plain_ns(&st->st_atim),
				.mtime_ns = plain_ns(&st->st_mtim),
				.ctime_ns = plain_ns(&st->st_ctim) };
	unsigned int set = FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME;

	if (!was || was->mode != st->st_mode)
		set |= FS_SET_MODE;
	if (!was || was->uid != st->st_uid)
		set |= FS_SET_UID;
	if (!was || was->gid != st->st_gid)
		set |= FS_SET_GID;
	return fs_setattr(r->to, ino, set, &attr, NULL);
}

static int copy_xattr(struct plain_reader *r, const char *proc,
		      const char *name, uint64_t ino)
{
	ssize_t n = getxattr(proc, name, r->look.value, FS_XATTR_VALUE_MAX);

	if (n < 0)
		return errno == ENODATA ? 0 : -errno;
	return fs_setxattr(r->to, ino, name, r->look.value, (size_t)n, 0);
}

/* Of the object that fd leads to, symlinks included. */
static int copy_xattrs(struct plain_reader *r, int fd, uint64_t ino)
{
	char proc[64];
	size_t len;
	int err;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	err = look_list_xattrs(&r->look, fd, &len);
	for (const char *s = r->look.list; !err && s < r->look.list + len;
	     s += strlen(s) + 1)
		err = copy_xattr(r, proc, s, ino);
	return err;
}

/* Those that the plain object has not any more. */
static int drop_xattrs(struct plain_reader *r, int fd, uint64_t ino)
{
	char proc[64], *names = malloc(FS_XATTR_LIST_MAX);
	size_t len = 0;
	int err;

	if (!names)
		return -ENOMEM;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	err = fs_listxattr(r->to, ino, names, FS_XATTR_LIST_MAX, &len);
	for (const char *s = names; !err && s < names + len;
	     s += strlen(s) + 1) {
		if (geteuid() && look_is_privileged_xattr(s))
			continue;
		if (getxattr(proc, s, NULL, 0) < 0 && errno == ENODATA)
			err = fs_removexattr(r->to, ino, s);
	}
	free(names);
	return err;
}

/* --- contents --- */

/* What differs of blocks of a window, which are in r->buf. */
static int write_changed(struct plain_reader *r, struct fs_file *f,
			 uint64_t off, size_t len)
{
	uint64_t ino = fs_file_ino(f);
	struct item_window w;
	size_t at = 0, first = off % WINDOW_BYTES / FS_BLOCK_BYTES;
	int err;

	err = look_window(r->to, ino, off / WINDOW_BYTES, &w);
	while (at < len && !err) {
		size_t i = first + at / FS_BLOCK_BYTES, end = at;

		/* the run of blocks that differ */
		while (end < len) {
			size_t n = min_u64(FS_BLOCK_BYTES, len - end);

			if (n < FS_BLOCK_BYTES)
				memset(r->buf + end + n, 0, FS_BLOCK_BYTES - n);
			if (w.mask >> i & 1 &&
			    item_block_matches(&w, (unsigned int)i,
					       r->buf + end))
				break;
			end += n;
			i++;
		}
		if (end > at)
			err = fs_write(f, NULL, off + at, r->buf + at, end - at,
				       false);
		at = end + FS_BLOCK_BYTES;
	}
	return err;
}

/* What the host can share from off on, in whole blocks of one window; *n_out 0:
 * nothing, it is copied. Small pieces are not worth the host's work. */
static int clone_range(struct plain_reader *r, int fd, struct fs_file *f,
		       off_t off, off_t end, size_t *n_out)
{
	uint64_t len = min_u64((uint64_t)(end - off),
			       WINDOW_BYTES - (uint64_t)off % WINDOW_BYTES);
	int err;

	*n_out = 0;
	len -= len % FS_BLOCK_BYTES;
	if (r->no_clone || len < PLAIN_CLONE_MIN_BYTES || off % FS_BLOCK_BYTES)
		return 0;
	err = fs_clone_in(f, (uint64_t)off, fd, len);
	r->no_clone = err == -EOPNOTSUPP || err == -EXDEV || err == -ENOTTY;
	/* A file shorter by now, one used for swapping, a disk that is full:
	 * reading it tells, or does. */
	if (err == -EINVAL || err == -ETXTBSY || err == -EPERM || r->no_clone)
		return 0;
	if (!err)
		*n_out = len;
	return err;
}

/* From off to end. update: the file has an older version of it. */
static int copy_range(struct plain_reader *r, int fd, struct fs_file *f,
		      off_t off, off_t end, bool update)
{
	size_t step = update || !r->no_clone ? WINDOW_BYTES : READ_BYTES;

	while (off < end) {
		size_t want = min_u64((uint64_t)(end - off),
				      step - (uint64_t)off % step);
		size_t shared = 0;
		ssize_t n;
		int err;

		err = update ? 0 : clone_range(r, fd, f, off, end, &shared);
		if (!err && shared) {
			r->p.bytes += shared;
			off += (off_t)shared;
			err = plain_reader_tell(r);
			if (!err)
				continue;
		}
		if (err)
			return err;
		n = pread(fd, r->buf, want, off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return 0; /* it became shorter: seen afterwards */
		err = update ? write_changed(r, f, (uint64_t)off, (size_t)n)
			     : fs_write(f, NULL, (uint64_t)off, r->buf,
					(size_t)n, false);
		r->p.bytes += (uint64_t)n;
		off += n;
		if (!err)
			err = plain_reader_tell(r);
		if (err)
			return err;
	}
	return 0;
}

static int copy_hole(struct fs_file *f, off_t from, off_t to)
{
	return from >= to ? 0
			  : fs_fallocate(f,
					 FALLOC_FL_PUNCH_HOLE |
						 FALLOC_FL_KEEP_SIZE,
					 (uint64_t)from, (uint64_t)(to - from));
}

/* Holes stay holes. */
static int copy_contents(struct plain_reader *r, int fd, struct fs_file *f,
			 off_t size, bool update)
{
	off_t off = 0;
	int err = 0;

	while (!err && off < size) {
		off_t data = lseek(fd, off, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			data = off; /* it cannot tell */
		hole = lseek(fd, data, SEEK_HOLE);
		/* Whole blocks, whatever the host's are. */
		data -= data % FS_BLOCK_BYTES;
		if (hole >= 0)
			hole = (off_t)round_up_u64((uint64_t)hole,
						   FS_BLOCK_BYTES);
		if (hole < 0 || hole > size)
			hole = size;
		if (update)
			err = copy_hole(f, off, data);
		if (!err)
			err = copy_range(r, fd, f, data, hole, update);
		off = hole;
	}
	/* Of its last block nothing stays, not even zeros. */
	if (!err && update)
		err = copy_hole(f, off,
				(off_t)round_up_u64((uint64_t)size,
						    FS_BLOCK_BYTES));
	return err ? err : fs_truncate(f, (uint64_t)size);
}

static bool same_state(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size &&
	       plain_ns(&a->st_mtim) == plain_ns(&b->st_mtim) &&
	       plain_ns(&a->st_ctim) == plain_ns(&b->st_ctim);
}

static int read_contents(struct plain_reader *r, int fd, uint64_t ino,
			 struct stat *st, bool update)
{
	struct fs_attr a = { 0 };
	struct stat after;
	struct fs_file *f;
	int err;

	err = fs_file_open(r->to, ino, &f);
	if (err)
		return err;
	if (update)
		err = fs_file_getattr(f, &a);
	/* What is inline is not in windows. */
	if (!err && update && a.size <= INLINE_FILE_MAX) {
		update = false;
		err = fs_truncate(f, 0);
	} else if (!err && update && (uint64_t)st->st_size < a.size) {
		err = fs_truncate(f, (uint64_t)st->st_size);
	}
	for (unsigned int i = 0; !err; i++) {
		err = copy_contents(r, fd, f, st->st_size, update);
		if (!err && fstat(fd, &after))
			err = -errno;
		if (err || same_state(st, &after))
			break;
		if (i == REREADS_MAX) {
			err = plain_reader_failed(
				r, -EBUSY,
				"keeps changing while it is read; "
				"stop what writes it");
			break;
		}
		r->p.reread++;
		*st = after;
		update = false;
		err = fs_truncate(f, 0);
	}
	fs_file_put(f);
	return err;
}

/* A file that got another name, owner or mode is no other file by that: what it
 * holds stays as the view has it, and is no change of contents. */
static int has_contents(struct plain_reader *r, int fd, uint64_t ino,
			const struct stat *st, const struct plain_stat *was,
			bool *same)
{
	struct plain_stat now = plain_of_stat(st);
	struct fs_attr a = { 0 };
	struct stat after;
	struct fs_file *f;
	int err;

	*same = false;
	if (now.size != was->size || now.mtime_ns != was->mtime_ns)
		return 0;
	err = fs_file_open(r->to, ino, &f);
	if (err)
		return err;
	/* What is buffered would not be seen. */
	err = file_enter(f);
	if (!err)
		err = fs_file_getattr(f, &a);
	if (!err && a.size == now.size)
		err = look_bytes(&r->look, fd, now.size, r->to, NULL, ino,
				 same);
	fs_file_put(f);
	if (err || !*same)
		return err;
	if (fstat(fd, &after))
		return -errno;
	*same = same_state(st, &after);
	return 0;
}

/* --- objects --- */

static int read_dir(struct plain_reader *r, int fd, uint64_t dir);

int plain_reader_make(struct plain_reader *r, uint64_t dir, int dirfd,
		      const char *name, const char *as, const struct stat *st,
		      uint64_t *ino_out)
{
	struct fs_cred cred = { .uid = st->st_uid, .gid = st->st_gid };
	struct fs_new w = { .mode = st->st_mode, .rdev = st->st_rdev };
	char target[FS_SYMLINK_MAX + 1];
	struct fs_attr attr;
	int err;

	if (S_ISLNK(st->st_mode)) {
		ssize_t n = readlinkat(dirfd, name, target, sizeof(target));

		if (n < 0)
			return -errno;
		w.target = target;
		w.target_len = (size_t)n;
	}
	err = fs_make(r->to, &cred, dir, as, strlen(as), &w, &attr, NULL);
	if (!err && !r->untracked)
		err = plain_put_name(r->look.fs, dir, name, strlen(name),
				     attr.ino, attr.mode);
	if (!err)
		*ino_out = attr.ino;
	return err;
}

int plain_reader_add_recent(struct plain_reader *r, uint64_t ino)
{
	int err = array_grow((void **)&r->recent, &r->recent_cap,
			     r->nrecent + 1, sizeof(*r->recent));

	if (!err)
		r->recent[r->nrecent++] = ino;
	return err;
}

static int note(struct plain_reader *r, uint64_t ino, const struct stat *st,
		uint32_t flags)
{
	struct plain_stat p = plain_of_stat(st);
	int err = 0;

	p.flags = flags;
	if (S_ISREG(p.mode) && plain_is_recent(&p, r->began_ns))
		err = plain_reader_add_recent(r, ino);
	return err ? err : plain_put(r->look.fs, ino, &p);
}

/* Not before: links are known by their times. */
int plain_reader_doubt_recent(struct plain_reader *r)
{
	struct plain_stat p;
	int err = 0;

	for (size_t i = 0; i < r->nrecent && err >= 0; i++) {
		err = plain_get(r->look.fs, r->recent[i], &p);
		p.ctime_ns = 0;
		if (!err)
			err = plain_put(r->look.fs, r->recent[i], &p);
	}
	r->nrecent = 0;
	return err < 0 ? err : 0;
}

int plain_reader_contents(struct plain_reader *r, int fd, uint64_t ino,
			  struct stat *st)
{
	return read_contents(r, fd, ino, st, false);
}

int plain_reader_attr(struct plain_reader *r, int fd, uint64_t ino,
		      const struct stat *st)
{
	/* A directory's default ACL may have given it some. */
	int err = drop_xattrs(r, fd, ino);

	if (!err)
		err = copy_xattrs(r, fd, ino);
	return err ? err : set_attr(r, ino, st, NULL);
}

int plain_reader_fill(struct plain_reader *r, int fd, uint64_t ino,
		      struct stat *st)
{
	int err = 0;

	if (S_ISREG(st->st_mode))
		err = read_contents(r, fd, ino, st, false);
	else if (S_ISDIR(st->st_mode))
		err = read_dir(r, fd, ino);
	if (!err)
		err = plain_reader_attr(r, fd, ino, st);
	if (!err)
		err = note(r, ino, st, 0);
	return err;
}

int plain_reader_update(struct plain_reader *r, int fd, uint64_t ino,
			struct stat *st, const struct plain_stat *was)
{
	bool unlike = was->flags & PLAIN_UNLIKE, same = true;
	int err = 0;

	if (S_ISREG(st->st_mode))
		err = has_contents(r, fd, ino, st, was, &same);
	if (!err && !same)
		err = read_contents(r, fd, ino, st, true);
	/* What is missing may be what could not be given. */
	if (!err && !unlike)
		err = drop_xattrs(r, fd, ino);
	if (!err)
		err = copy_xattrs(r, fd, ino);
	if (!err)
		err = set_attr(r, ino, st, unlike ? was : NULL);
	if (!err)
		err = note(r, ino, st, was->flags & PLAIN_UNLIKE);
	return err;
}

int plain_reader_open(int dirfd, const char *name, const struct stat *st)
{
	int flags = O_PATH, fd;

	if (S_ISREG(st->st_mode))
		flags = O_RDONLY | O_NOATIME | O_NONBLOCK;
	else if (S_ISDIR(st->st_mode))
		flags = O_RDONLY | O_DIRECTORY;
	fd = plain_open(dirfd, name, flags);
	if (fd == -EPERM && flags & O_NOATIME)
		fd = plain_open(dirfd, name, flags & ~O_NOATIME);
	return fd;
}

/* Another mount: an empty directory (or file) in its place. */
static int read_mount_point(struct plain_reader *r, uint64_t dir, int dirfd,
			    const char *name, const struct stat *st)
{
	struct stat as = *st;
	uint64_t ino;
	int err;

	r->p.mounts++;
	if (!S_ISDIR(as.st_mode))
		as.st_mode = S_IFREG | (as.st_mode & 07777);
	err = plain_reader_make(r, dir, dirfd, name, name, &as, &ino);
	return err ? err : note(r, ino, &as, 0);
}

static int read_name(struct plain_reader *r, uint64_t dir, int dirfd,
		     const char *name)
{
	bool doubtful;
	struct stat st;
	uint64_t ino;
	int err, fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno; /* it went meanwhile */
	err = link_find(r, &st, &ino, &doubtful);
	if (err)
		return err;
	if (doubtful && r->may_wait) {
		r->waiting = true;
		return 0;
	}
	if (ino) {
		err = fs_link(r->to, ino, dir, name, strlen(name), NULL);
		return err ? err
			   : plain_put_name(r->look.fs, dir, name, strlen(name),
					    ino, st.st_mode);
	}
	fd = plain_reader_open(dirfd, name, &st);
	if (fd == -EXDEV)
		return read_mount_point(r, dir, dirfd, name, &st);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st)) {
		err = -errno;
		goto out;
	}
	err = plain_reader_make(r, dir, dirfd, name, name, &st, &ino);
	if (err == -ENOENT && S_ISLNK(st.st_mode)) {
		err = 0; /* it went meanwhile */
		goto out;
	}
	if (!err)
		err = plain_reader_fill(r, fd, ino, &st);
	if (!err && !S_ISDIR(st.st_mode) && st.st_nlink > 1)
		err = plain_reader_knows(r, &st, ino);
out:
	close(fd);
	return err;
}

int plain_reader_add(struct plain_reader *r, uint64_t dir, int dirfd,
		     const char *name)
{
	size_t mark;
	int err = path_push(&r->path, name, &mark);

	if (err)
		return err;
	err = read_name(r, dir, dirfd, name);
	if (err && err != -ECANCELED)
		err = plain_reader_failed(r, err, "cannot read into the store");
	path_pop(&r->path, mark);
	r->p.objects++;
	return err ? err : plain_reader_tell(r);
}

static int read_dir(struct plain_reader *r, int fd, uint64_t dir)
{
	DIR *d = hostdir_open(fd, ".");
	const char *name;
	int err = 0, list = 0;

	if (!d)
		return -errno;
	while (!err && !(list = hostdir_next(d, &name)) && name)
		if (dir != FS_ROOT_INO || !plain_is_own(name))
			err = plain_reader_add(r, dir, fd, name);
	if (list)
		err = plain_reader_failed(r, list, "cannot list");
	closedir(d);
	return err;
}
