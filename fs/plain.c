/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain.c - see plain.h. */
#include "fs/plain.h"

#include "fs/fs_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { READ_BYTES = 256 << 10 };

bool plain_is_own(const char *name)
{
	return !strcmp(name, ".txn") || !strcmp(name, ".txn.new");
}

int plain_open(int dirfd, const char *name, int flags)
{
	struct open_how how = { .flags = (uint64_t)flags | O_NOFOLLOW |
					 O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV |
					   RESOLVE_NO_MAGICLINKS };
	long fd;

	do {
		fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : (int)fd;
}

/* --- items --- */

struct plain_stat {
	uint64_t host_ino, size;
	int64_t mtime_ns, ctime_ns;
	uint32_t mode, uid, gid, nlink;
};

static int64_t ns_of(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static struct plain_stat from_stat(const struct stat *st)
{
	return (struct plain_stat){ .host_ino = st->st_ino,
				    .size = S_ISDIR(st->st_mode)
						    ? 0
						    : (uint64_t)st->st_size,
				    .mtime_ns = ns_of(&st->st_mtim),
				    .ctime_ns = ns_of(&st->st_ctim),
				    .mode = st->st_mode,
				    .uid = st->st_uid,
				    .gid = st->st_gid,
				    .nlink = (uint32_t)st->st_nlink };
}

struct record_op {
	struct key key;
	uint8_t buf[PLAIN_STAT_BYTES];
	size_t len;
};

static int record_fn(struct vtx *tx, void *arg)
{
	struct record_op *r = arg;

	return vtx_put(tx, &r->key, r->buf, r->len);
}

int plain_record(struct fs *fs, uint64_t ino, const struct stat *st)
{
	struct plain_stat p = from_stat(st);
	struct record_op r = { .key = KEY(ino, PLAIN_KIND_STAT, 0),
			       .len = PLAIN_STAT_BYTES };

	put_le64(r.buf + PLAIN_OFF_HOST_INO, p.host_ino);
	put_le64(r.buf + PLAIN_OFF_SIZE, p.size);
	put_le64(r.buf + PLAIN_OFF_MTIME, (uint64_t)p.mtime_ns);
	put_le64(r.buf + PLAIN_OFF_CTIME, (uint64_t)p.ctime_ns);
	put_le32(r.buf + PLAIN_OFF_MODE, p.mode);
	put_le32(r.buf + PLAIN_OFF_UID, p.uid);
	put_le32(r.buf + PLAIN_OFF_GID, p.gid);
	put_le32(r.buf + PLAIN_OFF_NLINK, p.nlink);
	return view_update(store_plain(fs->store), 0, record_fn, NULL, &r);
}

struct get_op {
	struct key key;
	uint8_t buf[PLAIN_STAT_BYTES];
	size_t len;
};

static int get_fn(struct vtx *tx, void *arg)
{
	struct get_op *g = arg;
	struct val val;
	int err;

	err = vtx_get(tx, &g->key, &val);
	if (!err && val.len != g->len)
		err = -EFSCORRUPTED;
	if (!err)
		memcpy(g->buf, val.p, val.len);
	return err;
}

static int get_stat(struct fs *fs, uint64_t ino, struct plain_stat *out)
{
	struct get_op g = { .key = KEY(ino, PLAIN_KIND_STAT, 0),
			    .len = PLAIN_STAT_BYTES };
	int err;

	err = view_read(store_plain(fs->store), get_fn, &g);
	if (err)
		return err;
	*out = (struct plain_stat){
		.host_ino = get_le64(g.buf + PLAIN_OFF_HOST_INO),
		.size = get_le64(g.buf + PLAIN_OFF_SIZE),
		.mtime_ns = (int64_t)get_le64(g.buf + PLAIN_OFF_MTIME),
		.ctime_ns = (int64_t)get_le64(g.buf + PLAIN_OFF_CTIME),
		.mode = get_le32(g.buf + PLAIN_OFF_MODE),
		.uid = get_le32(g.buf + PLAIN_OFF_UID),
		.gid = get_le32(g.buf + PLAIN_OFF_GID),
		.nlink = get_le32(g.buf + PLAIN_OFF_NLINK)
	};
	return 0;
}

/* --- comparing --- */

struct compare {
	struct fs *fs;
	struct fs_view *v; /* the commit that the plain files show */
	plain_fn fn;
	void *arg;
	char *path; /* of the directory, with a '/' unless empty */
	size_t len, cap;
	uint8_t *a, *b; /* READ_BYTES each */
};

static int path_push(struct compare *c, const char *name, size_t *mark)
{
	size_t n = strlen(name);

	*mark = c->len;
	if (c->len + n + 2 > c->cap) {
		size_t cap = (c->len + n + 2) * 2;
		char *p = realloc(c->path, cap);

		if (!p)
			return -ENOMEM;
		c->path = p;
		c->cap = cap;
	}
	if (c->len)
		c->path[c->len++] = '/';
	memcpy(c->path + c->len, name, n + 1);
	c->len += n;
	return 0;
}

static void path_pop(struct compare *c, size_t mark)
{
	c->len = mark;
	c->path[mark] = '\0';
}

static int same_bytes(struct compare *c, struct fs_file *f, int fd, bool *same)
{
	uint64_t off = 0;

	for (;;) {
		size_t got;
		ssize_t n = pread(fd, c->a, READ_BYTES, (off_t)off);
		int err;

		if (n < 0)
			return -errno;
		err = fs_read(f, off, c->b,
			      (size_t)n + 1 > READ_BYTES ? READ_BYTES
							 : (size_t)n + 1,
			      &got);
		if (err)
			return err;
		*same = got == (size_t)n && (!n || !memcmp(c->a, c->b, got));
		if (!n || !*same)
			return 0;
		off += (uint64_t)n;
	}
}

static int same_file(struct compare *c, int dirfd, const char *name,
		     uint64_t ino, bool *same)
{
	struct fs_file *f;
	int err, fd;

	*same = false;
	fd = plain_open(dirfd, name, O_RDONLY);
	if (fd < 0)
		return fd;
	err = fs_file_open(c->v, ino, &f);
	if (!err) {
		err = same_bytes(c, f, fd, same);
		fs_file_put(f);
	}
	close(fd);
	/* Damage in the store was told. Size and time say that it is the
	 * same, and the plain file may be the only good copy. */
	if (err == -EFSBADCRC || err == -EFSCORRUPTED) {
		*same = true;
		err = 0;
	}
	return err;
}

static int same_link(struct compare *c, int dirfd, const char *name,
		     uint64_t ino, bool *same)
{
	char buf[FS_SYMLINK_MAX + 1], *target;
	size_t len;
	ssize_t n = readlinkat(dirfd, name, buf, sizeof(buf));
	int err;

	if (n < 0)
		return -errno;
	err = fs_readlink(c->v, ino, &target, &len);
	if (err)
		return err;
	*same = len == (size_t)n && !memcmp(target, buf, len);
	free(target);
	return 0;
}

static int same_object(struct compare *c, int dirfd, const char *name,
		       uint64_t ino, const struct stat *st, bool *same)
{
	struct plain_stat now = from_stat(st), was;
	int err;

	err = get_stat(c->fs, ino, &was);
	*same = false;
	if (err)
		return err == 1 ? 0 : err;
	if (now.mode != was.mode || now.uid != was.uid || now.gid != was.gid)
		return 0;
	if (S_ISDIR(now.mode)) {
		*same = true;
		return 0;
	}
	if (now.size != was.size || now.mtime_ns != was.mtime_ns)
		return 0;
	*same = now.host_ino == was.host_ino && now.ctime_ns == was.ctime_ns;
	if (*same)
		return 0;
	if (S_ISREG(now.mode))
		return same_file(c, dirfd, name, ino, same);
	if (S_ISLNK(now.mode))
		return same_link(c, dirfd, name, ino, same);
	*same = true;
	return 0;
}

static int compare_dir(struct compare *c, int fd, uint64_t dir);

/* A name that is in both. */
static int compare_name(struct compare *c, int dirfd, const char *name,
			const struct fs_attr *attr)
{
	struct stat st;
	bool same;
	int err, fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (S_ISDIR(st.st_mode) && S_ISDIR(attr->mode)) {
		fd = plain_open(dirfd, name, O_RDONLY | O_DIRECTORY);
		if (fd == -EXDEV)
			return 0; /* another mount: left out by init too */
		if (fd < 0)
			return fd;
		err = same_object(c, dirfd, name, attr->ino, &st, &same);
		if (!err && !same)
			err = c->fn(c->arg, PLAIN_CHANGED, c->path);
		if (!err)
			err = compare_dir(c, fd, attr->ino);
		close(fd);
		return err;
	}
	err = same_object(c, dirfd, name, attr->ino, &st, &same);
	if (!err && !same)
		err = c->fn(c->arg, PLAIN_CHANGED, c->path);
	return err;
}

/* What is there and was not. */
static int find_added(struct compare *c, int dirfd, uint64_t dir)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *de;
	DIR *d;
	int err = 0;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (errno = 0, de = readdir(d))) {
		const char *name = de->d_name;
		struct fs_attr attr;
		size_t mark;

		if (!strcmp(name, ".") || !strcmp(name, "..") ||
		    (dir == FS_ROOT_INO && plain_is_own(name)))
			continue;
		err = fs_lookup(c->v, dir, name, strlen(name), &attr);
		if (err && err != -ENOENT)
			break;
		if (path_push(c, name, &mark))
			err = -ENOMEM;
		else if (err)
			err = c->fn(c->arg, PLAIN_ADDED, c->path);
		else
			err = compare_name(c, dirfd, name, &attr);
		path_pop(c, mark);
	}
	if (!err && errno)
		err = -errno;
	closedir(d);
	return err;
}

struct removed {
	struct compare *c;
	int dirfd;
};

static int find_removed(void *arg, const struct fs_dirent *ent)
{
	struct removed *r = arg;
	char name[FS_NAME_MAX + 1];
	struct stat st;
	size_t mark;
	int err;

	memcpy(name, ent->name, ent->len);
	name[ent->len] = '\0';
	if (!fstatat(r->dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return 0;
	if (errno != ENOENT)
		return -errno;
	err = path_push(r->c, name, &mark);
	if (!err)
		err = r->c->fn(r->c->arg, PLAIN_REMOVED, r->c->path);
	path_pop(r->c, mark);
	return err;
}

static int compare_dir(struct compare *c, int fd, uint64_t dir)
{
	struct removed r = { c, fd };
	int err;

	err = find_added(c, fd, dir);
	return err ? err : fs_readdir(c->v, dir, 0, false, find_removed, &r);
}

static int shown_view(struct fs *fs, struct fs_view **out)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct root root = ROOT_EMPTY;
	int err;

	if (!info)
		return -ENOMEM;
	err = store_get_commit(fs->store,
			       store_get_setting(fs->store, STORE_PLAIN_SHOWN),
			       info);
	if (err == 1)
		err = -EFSCORRUPTED;
	if (!err) {
		root.ptr = info->root;
		err = fs_view_new(fs, &root, out);
	}
	free(info);
	return err;
}

int plain_compare(struct fs *fs, int dirfd, plain_fn fn, void *arg)
{
	struct compare c = { .fs = fs, .fn = fn, .arg = arg };
	struct stat st;
	bool same;
	int err;

	err = shown_view(fs, &c.v);
	c.a = malloc(READ_BYTES);
	c.b = malloc(READ_BYTES);
	c.path = calloc(1, 256);
	c.cap = 256;
	if (!err && (!c.a || !c.b || !c.path))
		err = -ENOMEM;
	if (!err && fstat(dirfd, &st))
		err = -errno;
	if (!err)
		err = same_object(&c, dirfd, ".", FS_ROOT_INO, &st, &same);
	if (!err && !same)
		err = fn(arg, PLAIN_CHANGED, ".");
	if (!err)
		err = compare_dir(&c, dirfd, FS_ROOT_INO);
	free(c.a);
	free(c.b);
	free(c.path);
	fs_view_put(c.v);
	return err;
}
