/* SPDX-License-Identifier: GPL-2.0-or-later */
/* adopt.c - see adopt.h. */
#include "fs/adopt.h"

#include "fs/holder.h"
#include "fs/plain.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NEW_NAME ".txn.new"

enum {
	READ_BYTES = 1 << 20,
	REREADS_MAX = 5,
	LIST_BYTES = FS_XATTR_LIST_MAX,
	LINKS_FIRST = 1024
};

/* A file with several names, by what it is on the host. */
struct linked {
	uint64_t dev, host_ino, ino; /* ino 0: a free place */
};

struct adopter {
	const struct adopt_params *params;
	struct adopt_progress p;
	struct store_error *err;
	struct store *store;
	struct fs *fs;
	uint8_t *buf; /* READ_BYTES */
	struct plain_hash *hash;
	char *list; /* LIST_BYTES */
	char *path;
	size_t len, cap;
	struct linked *links; /* a hash table */
	size_t nlinks, links_cap;
};

__attribute__((format(printf, 3, 4))) static int
failed(struct adopter *a, int err, const char *fmt, ...)
{
	char shown[256];
	va_list ap;
	int n;

	if (a->err->text[0])
		return err; /* the first reason is the reason */
	va_start(ap, fmt);
	vsnprintf(a->err->text, sizeof(a->err->text), fmt, ap);
	va_end(ap);
	n = (int)strlen(a->err->text);
	(void)fs_quote_path(a->path && a->len ? a->path : ".", shown,
			    sizeof(shown));
	snprintf(a->err->text + n, sizeof(a->err->text) - (size_t)n, ": %s: %s",
		 shown, strerror(-err));
	return err;
}

/* --- paths, for messages --- */

static int path_push(struct adopter *a, const char *name, size_t *mark)
{
	size_t n = strlen(name);

	*mark = a->len;
	if (a->len + n + 2 > a->cap) {
		size_t cap = (a->len + n + 2) * 2;
		char *p = realloc(a->path, cap);

		if (!p)
			return -ENOMEM;
		a->path = p;
		a->cap = cap;
	}
	if (a->len)
		a->path[a->len++] = '/';
	memcpy(a->path + a->len, name, n + 1);
	a->len += n;
	return 0;
}

static void path_pop(struct adopter *a, size_t mark)
{
	a->len = mark;
	if (a->path)
		a->path[mark] = '\0';
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

static int link_add(struct adopter *a, const struct stat *st, uint64_t ino)
{
	if (a->nlinks * 2 >= a->links_cap) {
		size_t cap = a->links_cap ? a->links_cap * 2 : LINKS_FIRST;
		struct linked *t = calloc(cap, sizeof(*t));

		if (!t)
			return -ENOMEM;
		for (size_t i = 0; i < a->links_cap; i++)
			if (a->links[i].ino)
				*link_place(t, cap, a->links[i].dev,
					    a->links[i].host_ino) = a->links[i];
		free(a->links);
		a->links = t;
		a->links_cap = cap;
	}
	*link_place(a->links, a->links_cap, st->st_dev, st->st_ino) =
		(struct linked){ st->st_dev, st->st_ino, ino };
	a->nlinks++;
	return 0;
}

static uint64_t link_find(struct adopter *a, const struct stat *st)
{
	if (S_ISDIR(st->st_mode) || st->st_nlink < 2 || !a->links_cap)
		return 0;
	return link_place(a->links, a->links_cap, st->st_dev, st->st_ino)->ino;
}

/* --- attributes --- */

static int64_t ns_of(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static int set_attr(struct adopter *a, uint64_t ino, const struct stat *st)
{
	struct fs_attr attr = { .mode = st->st_mode,
				.uid = st->st_uid,
				.gid = st->st_gid,
				.atime_ns = ns_of(&st->st_atim),
				.mtime_ns = ns_of(&st->st_mtim),
				.ctime_ns = ns_of(&st->st_ctim) };

	return fs_setattr(fs_working(a->fs), ino,
			  FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_ATIME |
				  FS_SET_MTIME | FS_SET_CTIME,
			  &attr, NULL);
}

/* Of the object that procpath leads to, symlinks included. */
static int copy_xattr(struct adopter *a, const char *procpath, const char *name,
		      uint64_t ino)
{
	ssize_t n = getxattr(procpath, name, a->buf, FS_XATTR_VALUE_MAX);

	if (n < 0)
		return errno == ENODATA ? 0 : -errno;
	return fs_setxattr(fs_working(a->fs), ino, name, a->buf, (size_t)n, 0);
}

static int copy_xattrs(struct adopter *a, int fd, uint64_t ino)
{
	char procpath[64];
	ssize_t n;
	int err = 0;

	snprintf(procpath, sizeof(procpath), "/proc/self/fd/%d", fd);
	n = listxattr(procpath, a->list, LIST_BYTES);
	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (const char *s = a->list; !err && s < a->list + n;
	     s += strlen(s) + 1)
		err = copy_xattr(a, procpath, s, ino);
	return err;
}

/* --- contents --- */

static int copy_range(struct adopter *a, int fd, struct fs_file *f, off_t off,
		      off_t end)
{
	while (off < end) {
		size_t want = min_u64((uint64_t)(end - off), READ_BYTES);
		ssize_t n = pread(fd, a->buf, want, off);
		int err;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return 0; /* it became shorter: seen afterwards */
		err = fs_write(f, NULL, (uint64_t)off, a->buf, (size_t)n,
			       false);
		if (err)
			return err;
		plain_hash_feed(a->hash, (uint64_t)off, a->buf, (size_t)n);
		a->p.bytes += (uint64_t)n;
		off += n;
		if (a->params->progress &&
		    a->params->progress(a->params->arg, &a->p))
			return -ECANCELED;
	}
	return 0;
}

/* Holes stay holes. */
static int copy_contents(struct adopter *a, int fd, struct fs_file *f,
			 off_t size)
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
		err = copy_range(a, fd, f, data, hole);
		off = hole;
	}
	return err ? err : fs_truncate(f, (uint64_t)size);
}

static bool same_state(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size &&
	       ns_of(&a->st_mtim) == ns_of(&b->st_mtim) &&
	       ns_of(&a->st_ctim) == ns_of(&b->st_ctim);
}

static int adopt_contents(struct adopter *a, int fd, uint64_t ino,
			  struct stat *st)
{
	struct stat after;
	struct fs_file *f;
	int err;

	err = fs_file_open(fs_working(a->fs), ino, &f);
	if (err)
		return err;
	for (unsigned int i = 0;; i++) {
		plain_hash_reset(a->hash);
		err = copy_contents(a, fd, f, st->st_size);
		if (!err && fstat(fd, &after))
			err = -errno;
		if (err || same_state(st, &after))
			break;
		if (i == REREADS_MAX) {
			err = failed(a, -EBUSY,
				     "keeps changing while it is read; stop "
				     "what writes it");
			break;
		}
		a->p.reread++;
		*st = after;
		err = fs_truncate(f, 0);
		if (err)
			break;
	}
	fs_file_put(f);
	return err;
}

/* --- the walk --- */

static int adopt_dir(struct adopter *a, int fd, uint64_t dir);

static int make_object(struct adopter *a, uint64_t dir, int dirfd,
		       const char *name, const struct stat *st,
		       uint64_t *ino_out, uint64_t *hash)
{
	struct fs_cred cred = { .uid = st->st_uid, .gid = st->st_gid };
	char target[FS_SYMLINK_MAX + 1];
	struct fs_new w = { .mode = st->st_mode, .rdev = st->st_rdev };
	struct fs_attr attr;
	int err;

	if (S_ISLNK(st->st_mode)) {
		ssize_t n = readlinkat(dirfd, name, target, sizeof(target));

		if (n < 0)
			return -errno;
		w.target = target;
		w.target_len = (size_t)n;
		*hash = plain_hash_target(target, (size_t)n);
	}
	err = fs_make(fs_working(a->fs), &cred, dir, name, strlen(name), &w,
		      &attr, NULL);
	if (!err)
		err = plain_record_name(a->fs, dir, name, strlen(name),
					attr.ino, attr.mode);
	if (!err)
		*ino_out = attr.ino;
	return err;
}

/* An object for the descriptor (O_PATH for what is not a file or directory). */
static int fill_object(struct adopter *a, int fd, uint64_t ino, struct stat *st,
		       uint64_t *hash)
{
	int err = 0;

	if (S_ISREG(st->st_mode)) {
		err = adopt_contents(a, fd, ino, st);
		*hash = plain_hash_get(a->hash);
	} else if (S_ISDIR(st->st_mode))
		err = adopt_dir(a, fd, ino);
	if (!err)
		err = copy_xattrs(a, fd, ino);
	if (!err)
		err = set_attr(a, ino, st);
	if (!err)
		err = plain_record(a->fs, ino, st, *hash);
	return err;
}

static int open_object(int dirfd, const char *name, const struct stat *st)
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
static int adopt_mount_point(struct adopter *a, uint64_t dir, int dirfd,
			     const char *name, const struct stat *st)
{
	struct stat as = *st;
	uint64_t ino, hash = 0;
	int err;

	a->p.mounts++;
	if (!S_ISDIR(as.st_mode))
		as.st_mode = S_IFREG | (as.st_mode & 07777);
	err = make_object(a, dir, dirfd, name, &as, &ino, &hash);
	return err ? err : plain_record(a->fs, ino, &as, 0);
}

static int adopt_name(struct adopter *a, uint64_t dir, int dirfd,
		      const char *name)
{
	struct stat st;
	uint64_t ino, hash = 0;
	int err, fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno; /* it went meanwhile */
	ino = link_find(a, &st);
	if (ino) {
		err = fs_link(fs_working(a->fs), ino, dir, name, strlen(name),
			      NULL);
		return err ? err
			   : plain_record_name(a->fs, dir, name, strlen(name),
					       ino, st.st_mode);
	}
	fd = open_object(dirfd, name, &st);
	if (fd == -EXDEV)
		return adopt_mount_point(a, dir, dirfd, name, &st);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st)) {
		err = -errno;
		goto out;
	}
	err = make_object(a, dir, dirfd, name, &st, &ino, &hash);
	if (!err)
		err = fill_object(a, fd, ino, &st, &hash);
	if (!err && !S_ISDIR(st.st_mode) && st.st_nlink > 1)
		err = link_add(a, &st, ino);
out:
	close(fd);
	return err;
}

static int adopt_dir(struct adopter *a, int fd, uint64_t dir)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *de;
	int err = 0;

	if (!d) {
		err = -errno;
		if (copy >= 0)
			close(copy);
		return err;
	}
	while (!err && (errno = 0, de = readdir(d))) {
		size_t mark;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..") ||
		    (dir == FS_ROOT_INO && plain_is_own(de->d_name)))
			continue;
		err = path_push(a, de->d_name, &mark);
		if (err)
			break;
		err = adopt_name(a, dir, fd, de->d_name);
		if (err && err != -ECANCELED)
			err = failed(a, err, "cannot read into the store");
		path_pop(a, mark);
		a->p.objects++;
		if (!err && a->params->progress &&
		    a->params->progress(a->params->arg, &a->p))
			err = -ECANCELED;
	}
	if (!err && errno)
		err = failed(a, -errno, "cannot list");
	closedir(d);
	return err;
}

/* --- the store --- */

static int remove_tree(int dirfd, const char *name)
{
	int fd = openat(dirfd, name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	int err = 0;

	if (!d) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err == -ENOENT ? 0 : err;
	}
	while (!err && (errno = 0, de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if (!unlinkat(fd, de->d_name, 0))
			continue;
		if (errno != EISDIR && errno != EPERM)
			err = -errno;
		else
			err = remove_tree(fd, de->d_name);
	}
	if (!err && errno)
		err = -errno;
	closedir(d);
	if (!err && unlinkat(dirfd, name, AT_REMOVEDIR))
		err = -errno;
	return err;
}

static int fill_store(struct adopter *a, struct dev *dev, int dirfd)
{
	struct store_params sp = { .dev = dev,
				   .env = a->params->env,
				   .check_item = fs_check_item };
	static const char message[] = "init";
	struct stat st;
	uint64_t number, hash = 0;
	int err;

	err = store_create(&sp, &a->store, a->err);
	if (err)
		return err;
	err = fs_open(a->store, NULL, &a->fs);
	if (!err && fstat(dirfd, &st))
		err = -errno;
	if (!err)
		err = fill_object(a, dirfd, FS_ROOT_INO, &st, &hash);
	if (!err)
		err = fs_commit(a->fs, getuid(), message, strlen(message),
				&number);
	if (err) {
		const char *why = NULL;

		if (store_failed(a->store, &why) && why && !a->err->text[0])
			snprintf(a->err->text, sizeof(a->err->text), "%s", why);
		fs_abandon(a->fs);
		store_abandon(a->store);
		return err;
	}
	err = fs_close(a->fs);
	if (err)
		store_abandon(a->store);
	else
		err = store_close(a->store);
	return err;
}

/* The folder of the store to be, with its lock. */
static int make_folder(struct adopter *a, int dirfd, struct holder **holder_out,
		       int *fd_out)
{
	struct holder_info info;
	int fd, err;

	if (!faccessat(dirfd, ".txn", F_OK, AT_SYMLINK_NOFOLLOW))
		return failed(a, -EEXIST, "there is a .txn already");
	fd = openat(dirfd, NEW_NAME,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		/* Of an adoption that was interrupted, or is under way. */
		err = holder_take(fd, false, "", 0, holder_out, &info);
		close(fd);
		if (err)
			return failed(a, err,
				      "another init (process %ld) is at work",
				      info.pid);
		holder_release(*holder_out);
		*holder_out = NULL;
		err = remove_tree(dirfd, NEW_NAME);
		if (err)
			return failed(a, err, "cannot remove " NEW_NAME);
	}
	if (mkdirat(dirfd, NEW_NAME, 0700))
		return failed(a, -errno, "cannot make " NEW_NAME);
	fd = openat(dirfd, NEW_NAME,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed(a, -errno, "cannot open " NEW_NAME);
	err = holder_take(fd, false, "", 0, holder_out, &info);
	if (err) {
		close(fd);
		return failed(a, err, "cannot lock the new store");
	}
	*fd_out = fd;
	return 0;
}

static int adopt_locked(struct adopter *a, int dirfd, int storefd)
{
	struct dev *dev = NULL;
	int err;

	err = dev_host_new(storefd, false, &dev);
	if (!err)
		err = fill_store(a, dev, dirfd);
	if (dev)
		dev->ops->release(dev);
	/*
	 * The plain files before the name: they may be in the host's cache
	 * only, and a store whose plain files a power cut took back cannot be
	 * mounted. One call, not one for each file: most are long durable.
	 */
	if (!err && syncfs(dirfd))
		err = failed(a, -errno, "cannot flush the plain files");
	/* Everything in it is durable: the name makes it the store. */
	if (!err && renameat(dirfd, NEW_NAME, dirfd, ".txn"))
		err = -errno;
	if (!err && fsync(dirfd))
		err = -errno;
	return err;
}

int adopt(const struct adopt_params *params, struct adopt_progress *out,
	  struct store_error *err_out)
{
	struct adopter a = { .params = params, .err = err_out };
	struct holder *holder = NULL;
	int dirfd, storefd = -1, err;

	err_out->text[0] = '\0';
	dirfd = open(params->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return failed(&a, -errno, "cannot open %s", params->dir);
	a.buf = malloc(READ_BYTES);
	a.list = malloc(LIST_BYTES);
	a.hash = plain_hash_new();
	err = a.buf && a.list && a.hash
		      ? make_folder(&a, dirfd, &holder, &storefd)
		      : -ENOMEM;
	if (!err) {
		err = adopt_locked(&a, dirfd, storefd);
		if (err) {
			(void)failed(&a, err, "cannot make the store");
			(void)remove_tree(dirfd, NEW_NAME);
		}
	}
	holder_release(holder);
	if (storefd >= 0)
		close(storefd);
	close(dirfd);
	free(a.buf);
	free(a.list);
	plain_hash_free(a.hash);
	free(a.path);
	free(a.links);
	*out = a.p;
	return err;
}
