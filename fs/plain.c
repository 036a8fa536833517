/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain.c - see plain.h. */
#include "fs/plain.h"

#include "fs/fs_internal.h"

#include <dirent.h>
#include <xxhash.h>
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

/* --- hashes --- */

struct plain_hash {
	XXH3_state_t *x;
};

struct plain_hash *plain_hash_new(void)
{
	struct plain_hash *h = malloc(sizeof(*h));

	if (!h)
		return NULL;
	h->x = XXH3_createState();
	if (!h->x) {
		free(h);
		return NULL;
	}
	plain_hash_reset(h);
	return h;
}

void plain_hash_free(struct plain_hash *h)
{
	if (!h)
		return;
	XXH3_freeState(h->x);
	free(h);
}

void plain_hash_reset(struct plain_hash *h)
{
	XXH3_64bits_reset(h->x);
}

void plain_hash_feed(struct plain_hash *h, uint64_t off, const uint8_t *buf,
		     size_t len)
{
	static const uint8_t zeros[FS_BLOCK_BYTES];

	for (size_t at = 0; at < len; at += FS_BLOCK_BYTES) {
		size_t n = min_u64(len - at, FS_BLOCK_BYTES);
		uint8_t number[8];

		if (!memcmp(buf + at, zeros, n))
			continue;
		put_le64(number, (off + at) / FS_BLOCK_BYTES);
		XXH3_64bits_update(h->x, number, sizeof(number));
		XXH3_64bits_update(h->x, buf + at, n);
		XXH3_64bits_update(h->x, zeros, FS_BLOCK_BYTES - n);
	}
}

uint64_t plain_hash_get(const struct plain_hash *h)
{
	return XXH3_64bits_digest(h->x);
}

uint64_t plain_hash_target(const char *target, size_t len)
{
	return XXH3_64bits(target, len);
}

/* --- items --- */

struct plain_stat {
	uint64_t host_ino, size, hash;
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

int plain_record(struct fs *fs, uint64_t ino, const struct stat *st,
		 uint64_t hash)
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
	put_le64(r.buf + PLAIN_OFF_HASH, hash);
	return view_update(store_plain(fs->store), 0, record_fn, NULL, &r);
}

struct name_op {
	const struct fs *fs;
	uint64_t dir, ino;
	uint32_t type;
	const char *name;
	size_t len;
};

static int record_name_fn(struct vtx *tx, void *arg)
{
	const struct name_op *n = arg;
	struct dir_slot slot;
	int err;

	err = tx_find(tx, n->fs, n->dir, n->name, n->len, &slot);
	if (!err && !slot.cookie)
		err = -ENOSPC;
	return err ? err
		   : tx_put_entry(tx, n->dir, slot.cookie, n->ino, n->type,
				  n->name, n->len);
}

int plain_record_name(struct fs *fs, uint64_t dir, const char *name, size_t len,
		      uint64_t ino, uint32_t type)
{
	struct name_op n = { fs, dir, ino, type, name, len };

	return view_update(store_plain(fs->store), 0, record_name_fn, NULL, &n);
}

static int find_name_fn(struct vtx *tx, void *arg)
{
	struct name_op *n = arg;
	struct dir_slot slot;
	int err;

	err = tx_find(tx, n->fs, n->dir, n->name, n->len, &slot);
	n->ino = slot.ino;
	n->type = slot.type;
	return err;
}

/* *ino_out 0: no such name. */
static int find_name(struct fs *fs, uint64_t dir, const char *name,
		     uint64_t *ino_out, uint32_t *type_out)
{
	struct name_op n = {
		.fs = fs, .dir = dir, .name = name, .len = strlen(name)
	};
	int err;

	if (n.len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	err = view_read(store_plain(fs->store), find_name_fn, &n);
	*ino_out = n.ino;
	*type_out = n.type;
	return err;
}

struct next_op {
	uint64_t dir, cookie;
	char name[FS_NAME_MAX + 1];
};

static int next_name_fn(struct vtx *tx, void *arg)
{
	struct next_op *n = arg;
	struct key from = KEY(n->dir, PLAIN_KIND_ENTRY, n->cookie);
	struct key to = KEY(n->dir, PLAIN_KIND_ENTRY, UINT64_MAX), at;
	struct item_entry e;
	struct val val;
	int err;

	err = vtx_next(tx, &from, &to, &at, &val);
	if (!err)
		err = item_entry_decode(&val, &e);
	if (err)
		return err;
	memcpy(n->name, e.name, e.len);
	n->name[e.len] = '\0';
	n->cookie = at.off + 1;
	return 0;
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
		.hash = get_le64(g.buf + PLAIN_OFF_HASH),
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
	plain_fn fn;
	void *arg;
	char *path; /* of the directory, with a '/' unless empty */
	size_t len, cap;
	uint8_t *buf; /* READ_BYTES */
	struct plain_hash *hash;
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

static int hash_file(struct compare *c, int fd, uint64_t *out)
{
	off_t off = 0;

	plain_hash_reset(c->hash);
	for (;;) {
		off_t data = lseek(fd, off, SEEK_DATA);
		ssize_t n;

		if (data < 0 && errno == ENXIO)
			break;
		if (data > off)
			off = data / FS_BLOCK_BYTES * FS_BLOCK_BYTES;
		n = pread(fd, c->buf, READ_BYTES, off);
		if (n < 0)
			return -errno;
		if (!n)
			break;
		plain_hash_feed(c->hash, (uint64_t)off, c->buf, (size_t)n);
		off += n;
	}
	*out = plain_hash_get(c->hash);
	return 0;
}

static int hash_object(struct compare *c, int dirfd, const char *name,
		       uint32_t mode, uint64_t *out)
{
	char buf[FS_SYMLINK_MAX + 1];
	ssize_t n;
	int err, fd;

	*out = 0;
	if (S_ISLNK(mode)) {
		n = readlinkat(dirfd, name, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		*out = plain_hash_target(buf, (size_t)n);
		return 0;
	}
	if (!S_ISREG(mode))
		return 0;
	fd = plain_open(dirfd, name, O_RDONLY);
	if (fd < 0)
		return fd;
	err = hash_file(c, fd, out);
	close(fd);
	return err;
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
	err = hash_object(c, dirfd, name, now.mode, &now.hash);
	*same = now.hash == was.hash;
	return err;
}

static int compare_dir(struct compare *c, int fd, uint64_t dir);

/* A name that is in both. */
static int compare_name(struct compare *c, int dirfd, const char *name,
			uint64_t ino, uint32_t type)
{
	struct stat st;
	bool same;
	int err, fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (S_ISDIR(st.st_mode) && S_ISDIR(type)) {
		fd = plain_open(dirfd, name, O_RDONLY | O_DIRECTORY);
		if (fd == -EXDEV)
			return 0; /* another mount: left out by init too */
		if (fd < 0)
			return fd;
		err = same_object(c, dirfd, name, ino, &st, &same);
		if (!err && !same)
			err = c->fn(c->arg, PLAIN_CHANGED, c->path);
		if (!err)
			err = compare_dir(c, fd, ino);
		close(fd);
		return err;
	}
	err = same_object(c, dirfd, name, ino, &st, &same);
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
		uint64_t ino;
		uint32_t type;
		size_t mark;

		if (!strcmp(name, ".") || !strcmp(name, "..") ||
		    (dir == FS_ROOT_INO && plain_is_own(name)))
			continue;
		err = find_name(c->fs, dir, name, &ino, &type);
		if (!err)
			err = path_push(c, name, &mark);
		if (err)
			break;
		if (!ino)
			err = c->fn(c->arg, PLAIN_ADDED, c->path);
		else
			err = compare_name(c, dirfd, name, ino, type);
		path_pop(c, mark);
	}
	if (!err && errno)
		err = -errno;
	closedir(d);
	return err;
}

/* What was there and is not. */
static int find_removed(struct compare *c, int dirfd, uint64_t dir)
{
	struct next_op n = { .dir = dir };
	int err;

	for (;;) {
		struct stat st;
		size_t mark;

		err = view_read(store_plain(c->fs->store), next_name_fn, &n);
		if (err)
			return err == 1 ? 0 : err;
		if (!fstatat(dirfd, n.name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (errno != ENOENT)
			return -errno;
		err = path_push(c, n.name, &mark);
		if (!err)
			err = c->fn(c->arg, PLAIN_REMOVED, c->path);
		path_pop(c, mark);
		if (err)
			return err;
	}
}

static int compare_dir(struct compare *c, int fd, uint64_t dir)
{
	int err = find_added(c, fd, dir);

	return err ? err : find_removed(c, fd, dir);
}

int plain_compare(struct fs *fs, int dirfd, plain_fn fn, void *arg)
{
	struct compare c = { .fs = fs, .fn = fn, .arg = arg };
	struct stat st;
	bool same;
	int err;

	c.buf = malloc(READ_BYTES);
	c.hash = plain_hash_new();
	c.path = calloc(1, 256);
	c.cap = 256;
	err = c.buf && c.hash && c.path ? 0 : -ENOMEM;
	if (!err && fstat(dirfd, &st))
		err = -errno;
	if (!err)
		err = same_object(&c, dirfd, ".", FS_ROOT_INO, &st, &same);
	if (!err && !same)
		err = fn(arg, PLAIN_CHANGED, ".");
	if (!err)
		err = compare_dir(&c, dirfd, FS_ROOT_INO);
	free(c.buf);
	plain_hash_free(c.hash);
	free(c.path);
	return err;
}
