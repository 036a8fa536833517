/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nullfs.c MOUNTPOINT [-f] [-o transport=io_uring]: a filesystem that keeps
 * everything in memory and nothing at the end: what FUSE itself costs on this
 * machine. It answers as txnfs does: low-level API, a day of belief in names
 * (also those that are not there) and attributes, pages kept on open, no
 * write-back cache, 1 MiB requests, extended attributes (none is ever set), as
 * many threads.
 *
 * One lock for all. An inode lives until the end or until it has neither names
 * nor lookups. Contents are chunks of 64 KiB, the first of which grows. Set-id
 * bits are cleared by nobody where libfuse has killpriv v2.
 */
#define FUSE_USE_VERSION 312

#include "fs/mount_ring.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	KNOWN_SECONDS = 86400,
	CHUNK_BYTES = 1 << 16,
	MAX_THREADS = 256,
	IDLE_THREADS = 8
};

struct inode;

struct entry {
	char *name;
	const struct inode *dir;
	struct inode *ino;
	uint64_t hash;
	struct entry *hash_next;
	size_t slot; /* in its directory's list */
};

struct inode {
	struct stat st;
	uint64_t nlookup;
	struct inode *parent; /* of directories */
	char *target; /* of symlinks */
	/* Directories: every entry has a place for life, its cookie. */
	struct entry **list;
	size_t nlist, cap, live;
	/* Regular files: */
	char **chunks;
	size_t nchunks;
	size_t first_bytes; /* allocated of the first */
};

static struct {
	pthread_rwlock_t lock;
	struct inode root;
	struct entry **buckets;
	size_t nbuckets, nentries;
	uint64_t next_ino;
} g = { .lock = PTHREAD_RWLOCK_INITIALIZER, .next_ino = 2 };

static struct inode *inode_of(fuse_ino_t id)
{
	return id == FUSE_ROOT_ID ? &g.root : (struct inode *)(uintptr_t)id;
}

static fuse_ino_t id_of(struct inode *i)
{
	return i == &g.root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)i;
}

/* Memory is all that there is: without it there is nothing to measure. */
static void *need(void *p)
{
	if (!p) {
		fprintf(stderr, "nullfs: no memory\n");
		abort();
	}
	return p;
}

/* --- names --- */

static uint64_t name_hash(const struct inode *dir, const char *name)
{
	uint64_t h = (uint64_t)(uintptr_t)dir * 0x9e3779b97f4a7c15ULL;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3ULL;
	return h ^ h >> 29;
}

static struct entry **find(const struct inode *dir, const char *name)
{
	uint64_t h = name_hash(dir, name);
	struct entry **e = &g.buckets[h & (g.nbuckets - 1)];

	while (*e && ((*e)->hash != h || (*e)->dir != dir ||
		      strcmp((*e)->name, name) != 0))
		e = &(*e)->hash_next;
	return e;
}

static void grow_table(void)
{
	size_t n = g.nbuckets ? 2 * g.nbuckets : 1024;
	struct entry **b = need(calloc(n, sizeof(struct entry *)));

	for (size_t i = 0; i < g.nbuckets; i++)
		for (struct entry *e = g.buckets[i], *next; e; e = next) {
			next = e->hash_next;
			e->hash_next = b[e->hash & (n - 1)];
			b[e->hash & (n - 1)] = e;
		}
	free(g.buckets);
	g.buckets = b;
	g.nbuckets = n;
}

static void touch(struct inode *i)
{
	clock_gettime(CLOCK_REALTIME, &i->st.st_mtim);
	i->st.st_ctim = i->st.st_mtim;
}

static void add_entry(struct inode *dir, const char *name, struct inode *i)
{
	struct entry *e = need(calloc(1, sizeof(*e)));

	if (g.nentries >= g.nbuckets)
		grow_table();
	if (dir->nlist == dir->cap) {
		dir->cap = dir->cap ? 2 * dir->cap : 16;
		dir->list = need(realloc(dir->list,
					 dir->cap * sizeof(struct entry *)));
	}
	e->name = need(strdup(name));
	e->dir = dir;
	e->ino = i;
	e->hash = name_hash(dir, name);
	e->slot = dir->nlist;
	e->hash_next = g.buckets[e->hash & (g.nbuckets - 1)];
	g.buckets[e->hash & (g.nbuckets - 1)] = e;
	dir->list[dir->nlist++] = e;
	dir->live++;
	g.nentries++;
	if (S_ISDIR(i->st.st_mode)) {
		i->parent = dir;
		dir->st.st_nlink++;
	}
	touch(dir);
}

static void drop_inode(struct inode *i)
{
	if (i->st.st_nlink || i->nlookup || i == &g.root)
		return;
	for (size_t c = 0; c < i->nchunks; c++)
		free(i->chunks[c]);
	free(i->chunks);
	free(i->list);
	free(i->target);
	free(i);
}

static void remove_entry(struct inode *dir, struct entry **at)
{
	struct entry *e = *at;

	*at = e->hash_next;
	dir->list[e->slot] = NULL;
	if (!--dir->live)
		dir->nlist = 0;
	g.nentries--;
	if (S_ISDIR(e->ino->st.st_mode)) {
		dir->st.st_nlink--;
		e->ino->st.st_nlink = 0;
	} else {
		e->ino->st.st_nlink--;
	}
	touch(dir);
	drop_inode(e->ino);
	free(e->name);
	free(e);
}

static struct inode *new_inode(fuse_req_t req, mode_t mode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct inode *i = need(calloc(1, sizeof(*i)));

	i->st.st_ino = g.next_ino++;
	i->st.st_mode = S_ISLNK(mode) ? mode : mode & ~ctx->umask;
	i->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	i->st.st_uid = ctx->uid;
	i->st.st_gid = ctx->gid;
	i->st.st_blksize = 4096;
	touch(i);
	i->st.st_atim = i->st.st_mtim;
	return i;
}

/* --- contents --- */

/* The chunk, with at least the first `want` bytes of it there. */
static char *chunk(struct inode *i, size_t n, size_t want)
{
	if (n >= i->nchunks) {
		i->chunks = need(realloc(i->chunks,
					 (n + 1) * 2 * sizeof(char *)));
		memset(i->chunks + i->nchunks, 0,
		       ((n + 1) * 2 - i->nchunks) * sizeof(char *));
		i->nchunks = (n + 1) * 2;
	}
	if (n)
		return i->chunks[n] ? i->chunks[n]
				    : (i->chunks[n] =
					       need(calloc(1, CHUNK_BYTES)));
	if (want > i->first_bytes) {
		size_t bytes = i->first_bytes ? i->first_bytes : 512;

		while (bytes < want)
			bytes *= 2;
		i->chunks[0] = need(realloc(i->chunks[0], bytes));
		memset(i->chunks[0] + i->first_bytes, 0,
		       bytes - i->first_bytes);
		i->first_bytes = bytes;
	}
	return i->chunks[0];
}

static void put_bytes(struct inode *i, uint64_t off, const char *buf,
		      size_t size)
{
	while (size) {
		size_t at = off % CHUNK_BYTES, n = CHUNK_BYTES - at;

		n = n < size ? n : size;
		memcpy(chunk(i, off / CHUNK_BYTES, at + n) + at, buf, n);
		off += n;
		buf += n;
		size -= n;
	}
}

static void get_bytes(const struct inode *i, uint64_t off, char *buf,
		      size_t size)
{
	while (size) {
		size_t c = off / CHUNK_BYTES, at = off % CHUNK_BYTES;
		size_t n = CHUNK_BYTES - at, have = 0;

		n = n < size ? n : size;
		if (c < i->nchunks && i->chunks[c])
			have = c ? CHUNK_BYTES : i->first_bytes;
		have = have > at ? have - at : 0;
		have = have < n ? have : n;
		if (have)
			memcpy(buf, i->chunks[c] + at, have);
		memset(buf + have, 0, n - have);
		off += n;
		buf += n;
		size -= n;
	}
}

static void set_size(struct inode *i, uint64_t size)
{
	if (size < (uint64_t)i->st.st_size) {
		size_t keep = (size + CHUNK_BYTES - 1) / CHUNK_BYTES;
		size_t at = size % CHUNK_BYTES;

		for (size_t c = keep; c < i->nchunks; c++) {
			free(i->chunks[c]);
			i->chunks[c] = NULL;
		}
		if (!keep)
			i->first_bytes = 0;
		else if (at && keep - 1 < i->nchunks && i->chunks[keep - 1]) {
			size_t have = keep > 1 ? CHUNK_BYTES : i->first_bytes;

			if (have > at)
				memset(i->chunks[keep - 1] + at, 0, have - at);
		}
	}
	i->st.st_size = (off_t)size;
	i->st.st_blocks = (blkcnt_t)((size + 4095) / 4096 * 8);
}

/* --- requests --- */

static void fill(struct inode *i, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){ .ino = id_of(i),
					.attr = i->st,
					.attr_timeout = KNOWN_SECONDS,
					.entry_timeout = KNOWN_SECONDS };
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param p = { .entry_timeout = KNOWN_SECONDS };
	struct entry *e;

	pthread_rwlock_wrlock(&g.lock);
	e = *find(inode_of(parent), name);
	if (e) {
		e->ino->nlookup++;
		fill(e->ino, &p);
	}
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_entry(req, &p);
}

static void forget(fuse_ino_t ino, uint64_t n)
{
	struct inode *i = inode_of(ino);

	i->nlookup -= n;
	drop_inode(i);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	pthread_rwlock_wrlock(&g.lock);
	forget(ino, nlookup);
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	pthread_rwlock_wrlock(&g.lock);
	for (size_t i = 0; i < count; i++)
		forget(forgets[i].ino, forgets[i].nlookup);
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct stat st;

	pthread_rwlock_rdlock(&g.lock);
	st = inode_of(ino)->st;
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_attr(req, &st, KNOWN_SECONDS);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
		       int set, struct fuse_file_info *fi)
{
	struct inode *i = inode_of(ino);
	struct stat out;

	pthread_rwlock_wrlock(&g.lock);
	if (set & FUSE_SET_ATTR_SIZE) {
		set_size(i, (uint64_t)st->st_size);
		touch(i);
	}
	if (set & FUSE_SET_ATTR_MODE)
		i->st.st_mode = (i->st.st_mode & S_IFMT) |
				(st->st_mode & 07777);
	if (set & FUSE_SET_ATTR_UID)
		i->st.st_uid = st->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		i->st.st_gid = st->st_gid;
	if (set & FUSE_SET_ATTR_ATIME)
		i->st.st_atim = st->st_atim;
	if (set & FUSE_SET_ATTR_MTIME)
		i->st.st_mtim = st->st_mtim;
	out = i->st;
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_attr(req, &out, KNOWN_SECONDS);
}

/* Make what a name is not there for; 0, or an errno. */
static int make(fuse_req_t req, fuse_ino_t parent, const char *name,
		mode_t mode, const char *target, struct fuse_entry_param *out)
{
	struct inode *dir = inode_of(parent), *i;
	int err = 0;

	pthread_rwlock_wrlock(&g.lock);
	if (*find(dir, name)) {
		err = EEXIST;
	} else {
		i = new_inode(req, mode);
		i->target = target ? need(strdup(target)) : NULL;
		i->st.st_size = target ? (off_t)strlen(target) : 0;
		i->nlookup = 1;
		add_entry(dir, name, i);
		fill(i, out);
	}
	pthread_rwlock_unlock(&g.lock);
	return err;
}

static void make_and_reply(fuse_req_t req, fuse_ino_t parent, const char *name,
			   mode_t mode, const char *target)
{
	struct fuse_entry_param e;
	int err = make(req, parent, name, mode, target, &e);

	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_entry(req, &e);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t rdev)
{
	make_and_reply(req, parent, name, mode, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode)
{
	make_and_reply(req, parent, name, S_IFDIR | (mode & 07777), NULL);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name)
{
	make_and_reply(req, parent, name, S_IFLNK | 0777, target);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		      mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	int err = make(req, parent, name, S_IFREG | (mode & 07777), NULL, &e);

	fi->keep_cache = 1;
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_create(req, &e, fi);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
		    const char *name)
{
	struct inode *dir = inode_of(parent), *i = inode_of(ino);
	struct fuse_entry_param e;
	int err = 0;

	pthread_rwlock_wrlock(&g.lock);
	if (*find(dir, name)) {
		err = EEXIST;
	} else {
		i->st.st_nlink++;
		i->nlookup++;
		add_entry(dir, name, i);
		fill(i, &e);
	}
	pthread_rwlock_unlock(&g.lock);
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_entry(req, &e);
}

static int unlink_name(fuse_ino_t parent, const char *name, bool is_dir)
{
	struct inode *dir = inode_of(parent);
	struct entry **e;
	int err = 0;

	pthread_rwlock_wrlock(&g.lock);
	e = find(dir, name);
	if (!*e)
		err = ENOENT;
	else if (is_dir && (*e)->ino->live)
		err = ENOTEMPTY;
	else
		remove_entry(dir, e);
	pthread_rwlock_unlock(&g.lock);
	return err;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, unlink_name(parent, name, false));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, unlink_name(parent, name, true));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t newparent, const char *newname,
		      unsigned int flags)
{
	struct inode *from = inode_of(parent), *to = inode_of(newparent), *i;
	struct entry **e, **old;
	int err = 0;

	pthread_rwlock_wrlock(&g.lock);
	e = find(from, name);
	old = find(to, newname);
	if (flags)
		err = EINVAL;
	else if (!*e)
		err = ENOENT;
	else if (*old && (*old)->ino->live)
		err = ENOTEMPTY;
	if (!err && (!*old || (*old)->ino != (*e)->ino)) {
		i = (*e)->ino;
		if (*old)
			remove_entry(to, old);
		i->nlookup++; /* stays while it has no name */
		remove_entry(from, find(from, name));
		i->nlookup--;
		i->st.st_nlink = S_ISDIR(i->st.st_mode) ? 2
							: i->st.st_nlink + 1;
		add_entry(to, newname, i);
	}
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_err(req, err);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	fuse_reply_readlink(req, inode_of(ino)->target);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *i = inode_of(ino);

	pthread_rwlock_wrlock(&g.lock);
	if (fi->flags & O_TRUNC) {
		set_size(i, 0);
		touch(i);
	}
	pthread_rwlock_unlock(&g.lock);
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct inode *i = inode_of(ino);
	char *buf = need(malloc(size));

	pthread_rwlock_rdlock(&g.lock);
	if (off >= i->st.st_size)
		size = 0;
	else if (size > (size_t)(i->st.st_size - off))
		size = (size_t)(i->st.st_size - off);
	get_bytes(i, (uint64_t)off, buf, size);
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_buf(req, buf, size);
	free(buf);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		     size_t size, off_t off, struct fuse_file_info *fi)
{
	struct inode *i = inode_of(ino);

	pthread_rwlock_wrlock(&g.lock);
	put_bytes(i, (uint64_t)off, buf, size);
	if (off + (off_t)size > i->st.st_size)
		set_size(i, (uint64_t)off + size);
	touch(i);
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

/* --- listings --- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	fi->cache_readdir = fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static size_t put_name(fuse_req_t req, char *at, size_t room, bool plus,
		       const char *name, struct inode *i, size_t cookie,
		       bool link)
{
	struct fuse_entry_param e;

	fill(i, &e);
	if (!link)
		e.ino = 0;
	return plus ? fuse_add_direntry_plus(req, at, room, name, &e,
					     (off_t)cookie)
		    : fuse_add_direntry(req, at, room, name, &e.attr,
					(off_t)cookie);
}

/* Cookies: 1 and 2 after . and .., 3 + its place after an entry. */
static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 bool plus)
{
	struct inode *dir = inode_of(ino), *i;
	char *buf = need(malloc(size));
	size_t used = 0, n;

	pthread_rwlock_wrlock(&g.lock);
	for (size_t c = (size_t)off; c < dir->nlist + 2; c++) {
		const char *name = c ? ".." : ".";

		i = c && dir->parent ? dir->parent : dir;
		if (c >= 2) {
			if (!dir->list[c - 2])
				continue;
			name = dir->list[c - 2]->name;
			i = dir->list[c - 2]->ino;
		}
		n = put_name(req, buf + used, size - used, plus, name, i,
			     c + 1, c >= 2);
		if (n > size - used)
			break;
		used += n;
		if (plus && c >= 2)
			i->nlookup++;
	}
	pthread_rwlock_unlock(&g.lock);
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	list(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, true);
}

/* --- the whole --- */

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs sv = { .f_bsize = 4096,
			      .f_frsize = 4096,
			      .f_blocks = 1 << 28,
			      .f_bfree = 1 << 28,
			      .f_bavail = 1 << 28,
			      .f_namemax = 255 };

	fuse_reply_statfs(req, &sv);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	fuse_reply_err(req, ENODATA);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	unsigned int on = FUSE_CAP_POSIX_ACL | FUSE_CAP_READDIRPLUS |
			  FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ATOMIC_O_TRUNC |
			  FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ |
			  FUSE_CAP_EXPLICIT_INVAL_DATA;
	unsigned int off = FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_DIO |
			   FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_WRITEBACK_CACHE |
			   FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;

#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	on |= FUSE_CAP_HANDLE_KILLPRIV_V2;
#endif
	conn->want |= conn->capable & on;
	conn->want &= ~off;
	conn->max_write = 1 << 20;
	conn->max_readahead = 1 << 20;
	conn->max_background = 64;
	conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.release = op_release,
	.flush = op_flush,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_release,
	.fsyncdir = op_fsync,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
};

/* --- transport=io_uring --- */

static struct ring *ring; /* NULL: /dev/fuse */

static ssize_t write_answer(int fd, struct iovec *v, int count, void *userdata)
{
	ssize_t n = ring_answer(ring, v, count);

	return n ? n : writev(fd, v, count);
}

static ssize_t read_request(int fd, void *buf, size_t len, void *userdata)
{
	return read(fd, buf, len);
}

static void on_stop(int sig)
{
}

/* After it went to the background: threads would stay behind. */
static int start_ring(struct fuse_session *se)
{
	const struct sigaction stop = { .sa_handler = on_stop };
	const struct fuse_custom_io io = { .read = read_request,
					   .writev = write_answer };
	struct fuse_buf buf = { 0 };
	int res;

	if (sigaction(SIGUSR1, &stop, NULL) ||
	    fuse_session_custom_io(se, &io, fuse_session_fd(se)))
		return -1;
	res = fuse_session_receive_buf(se, &buf); /* INIT */
	if (res > 0)
		fuse_session_process_buf(se, &buf);
	free(buf.mem);
	return res > 0 ? ring_start(ring, se) : -1;
}

static int serve(struct fuse_session *se)
{
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();
	int err;

	if (!cfg || (ring && start_ring(se)))
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(cfg, MAX_THREADS);
	fuse_loop_cfg_set_idle_threads(cfg, IDLE_THREADS);
	err = fuse_session_loop_mt(se, cfg);
	if (ring)
		ring_stop(ring);
	fuse_loop_cfg_destroy(cfg);
	return err;
}

static int on_option(void *data, const char *arg, int key,
		     struct fuse_args *outargs)
{
	static const struct ring_params none;

	if (strcmp(arg, "transport=io_uring") != 0)
		return 1;
	ring = ring_new(&none);
	return ring ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts opts = { 0 };
	struct fuse_session *se = NULL;
	int status = EXIT_FAILURE;

	if (fuse_opt_parse(&args, NULL, NULL, on_option) ||
	    fuse_parse_cmdline(&args, &opts) || !opts.mountpoint) {
		fprintf(stderr, "usage: nullfs MOUNTPOINT [-f] [-o OPTION]\n");
		goto out;
	}
	if (fuse_opt_add_arg(&args, "-odefault_permissions,fsname=nullfs,"
				    "subtype=nullfs") ||
	    (!geteuid() && fuse_opt_add_arg(&args, "-oallow_other,suid,dev")))
		goto out;
	g.root.st = (struct stat){ .st_ino = 1,
				   .st_mode = S_IFDIR | 0755,
				   .st_nlink = 2,
				   .st_uid = getuid(),
				   .st_gid = getgid() };
	touch(&g.root);
	grow_table();
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!se || fuse_set_signal_handlers(se) ||
	    fuse_session_mount(se, opts.mountpoint))
		goto out;
	fuse_daemonize(opts.foreground);
	if (!serve(se))
		status = 0;
	fuse_session_unmount(se);
out:
	if (se)
		fuse_session_destroy(se);
	ring_free(ring);
	free(opts.mountpoint);
	fuse_opt_free_args(&args);
	return status;
}
