/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_compare.c - all of the plain directory against its table.
 *
 * The names of a directory are counted and summed up; then what the table has
 * of it is read in parts and looked at by stat. Names are looked up one by one
 * only when some were not found so. (The listing comes first: in a tmpfs it
 * brings into the processor's cache what stat looks for.)
 */
#include "fs/home.h"
#include "fs/plain_internal.h"

#include "txn/sum.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LIST_BYTES = 32 << 10 };

struct compare {
	struct fs *fs;
	const struct plain_compare_params *p;
	struct fs_view *shown; /* what the plain files were */
	struct looker look;
	struct plain_path path;
	uint64_t objects; /* looked at */
	int64_t began_ns;
	struct plain_part *part; /* of the table */
	char *list; /* LIST_BYTES, of a directory's names */
	/* In what could not be removed, which the state shown does not have:
	 * all of it is one edit, or none. */
	bool in_left, left_differs;
};

/* One that is being compared. */
struct compared_dir {
	int fd;
	uint64_t ino;
	bool exact; /* so far */
	/* Names that were not found in the table yet, and the sum of their
	 * hashes, which is the same in any order. */
	uint64_t names, sum;
};

bool plain_is_own(const char *name)
{
	return !strcmp(name, HOME_NAME) || !strcmp(name, HOME_NEW_NAME) ||
	       !strcmp(name, HOME_GONE_NAME) || !strcmp(name, PLAIN_TMP_NAME);
}

int plain_open(int dirfd, const char *name, int flags)
{
	struct open_how how = { .flags = (uint64_t)flags | O_NOFOLLOW |
					 O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV |
					   RESOLVE_NO_SYMLINKS };
	long fd;

	do {
		fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : (int)fd;
}

static int differs(struct compare *c, enum plain_difference what)
{
	if (c->in_left) {
		c->left_differs = true;
		return 0;
	}
	return c->p->fn(c->p->arg, what, c->path.s ? c->path.s : "");
}

/* name NULL: the directory itself. Returns err. */
static int cannot(struct compare *c, const char *name, int err)
{
	size_t mark = c->path.len;

	if (!c->p->failed || err >= 0 || err == -ECANCELED)
		return err;
	if (!name || !path_push(&c->path, name, &mark))
		c->p->failed(c->p->arg, c->path.s ? c->path.s : "", err);
	path_pop(&c->path, mark);
	return err;
}

static int name_differs(struct compare *c, enum plain_difference what,
			const char *name)
{
	size_t mark;
	int err;

	err = path_push(&c->path, name, &mark);
	if (err)
		return err;
	err = differs(c, what);
	path_pop(&c->path, mark);
	return err;
}

/* What stat says is not all: bytes and extended attributes decide. */
static int look_closely(struct compare *c, int dirfd, const char *name,
			uint64_t ino, const struct stat *st, bool unlike,
			bool *same)
{
	int err = 0, fd;

	if (!c->look.buf)
		err = looker_init(&c->look, c->fs);
	if (!err)
		err = look_contents(&c->look, dirfd, name, st, c->shown, NULL,
				    ino, same);
	fd = err || !*same ? err : plain_open(dirfd, name, O_PATH);
	if (fd == -ENOENT) {
		*same = false; /* it went meanwhile */
		return 0;
	}
	if (fd < 0 || !*same)
		return fd;
	err = look_xattrs(&c->look, fd, c->shown, ino, unlike, same);
	close(fd);
	return err;
}

/* Another inode with more or fewer links than the state shown has: files that
 * were one are no more, or the other way round. */
static int same_links(struct compare *c, uint64_t ino, const struct stat *st,
		      const struct plain_stat *was, bool *same)
{
	struct fs_attr a;
	int err;

	*same = S_ISDIR(st->st_mode) || st->st_ino == was->host_ino;
	if (*same)
		return 0;
	err = fs_getattr(c->shown, ino, &a);
	*same = !err && a.nlink == st->st_nlink;
	return err == -ENOENT ? 0 : err;
}

static bool may_be_same(const struct plain_stat *now,
			const struct plain_stat *was)
{
	return now->mode == was->mode && now->uid == was->uid &&
	       now->gid == was->gid &&
	       (S_ISDIR(now->mode) ||
		(now->size == was->size && now->mtime_ns == was->mtime_ns));
}

/* Nothing was done to it, not even a link to it was made or removed. */
static bool is_exact(const struct plain_stat *now, const struct plain_stat *was)
{
	return may_be_same(now, was) && now->host_ino == was->host_ino &&
	       now->ctime_ns == was->ctime_ns;
}

/*
 * The host's inode number and ctime tell that nothing changed. They differ
 * too for a copy of the whole directory, after an extra hard link or a rename:
 * then the object is looked at, and what stat says noted for the next time.
 * What could not be removed or replaced is not what the state shown says, and
 * is no edit as long as it stays what it was.
 */
static int same_object(struct compare *c, int dirfd, const char *name,
		       uint64_t ino, const struct stat *st,
		       const struct plain_stat *was, bool *same, bool *exact)
{
	struct plain_stat now = plain_of_stat(st);
	bool apart = was->flags & (PLAIN_LEFT | PLAIN_ABSENT), look;
	int err = 0;

	c->objects++;
	*exact = *same = false;
	if (c->p->progress && c->p->progress(c->p->arg, c->objects))
		return -ECANCELED;
	if (!may_be_same(&now, was))
		return 0;
	*exact = is_exact(&now, was);
	look = !apart && (!*exact || (c->p->checksum && S_ISREG(now.mode)));
	*same = !apart || now.host_ino == was->host_ino;
	if (look)
		err = same_links(c, ino, st, was, same);
	if (look && !err && *same)
		err = look_closely(c, dirfd, name, ino, st,
				   was->flags & PLAIN_UNLIKE, same);
	if (err || !*same || *exact || store_is_read_only(c->fs->store))
		return err;
	/* It stays in doubt as long as it may change without another time. */
	if (!was->ctime_ns && S_ISREG(now.mode) &&
	    plain_is_recent(&now, c->began_ns)) {
		if (!c->p->recent)
			return 0;
		err = c->p->recent(c->p->arg, ino);
		if (err)
			return err;
	}
	now.flags = was->flags;
	return plain_put(c->fs, ino, &now);
}

static uint64_t sum_of(const struct compare *c, const char *name)
{
	return XXH3_64bits_withSeed(name, strlen(name), c->fs->name_seed);
}

static int compare_dir(struct compare *c, struct compared_dir *d);

/* The table has it, too. */
static void found(const struct compare *c, struct compared_dir *d,
		  const char *name)
{
	d->names--;
	d->sum -= sum_of(c, name);
}

static int not_found(struct compare *c, struct compared_dir *d,
		     const struct plain_stat *was, const char *name)
{
	if (was->flags & (PLAIN_ABSENT | PLAIN_LEFT))
		return 0;
	d->exact = false;
	return name_differs(c, PLAIN_REMOVED, name);
}

/* Something is mounted over a file: what is beneath cannot be looked at. */
static bool is_mount_point(const struct compared_dir *d, const char *name)
{
	int fd = plain_open(d->fd, name, O_PATH);

	if (fd >= 0)
		close(fd);
	return fd == -EXDEV;
}

/* Anything but a directory that is still one. */
static int compare_object(struct compare *c, struct compared_dir *d,
			  const char *name, uint64_t ino,
			  const struct plain_stat *was)
{
	bool same = false, exact = false;
	struct stat st;
	int err = 0;

	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? not_found(c, d, was, name)
				       : cannot(c, name, -errno);
	found(c, d, name);
	/* Of a name without attributes nothing can be the same. */
	if (was->mode)
		err = same_object(c, d->fd, name, ino, &st, was, &same, &exact);
	d->exact &= exact;
	if ((err || !same) && is_mount_point(d, name))
		return 0;
	if (err)
		return cannot(c, name, err);
	return same ? 0
		    : name_differs(c,
				   was->flags & PLAIN_LEFT ? PLAIN_ADDED
							   : PLAIN_CHANGED,
				   name);
}

/* A directory that could not be removed, with all in it. */
static int compare_left(struct compare *c, struct compared_dir *d)
{
	int err;

	c->in_left = true;
	c->left_differs = false;
	err = compare_dir(c, d);
	c->in_left = false;
	return err || !c->left_differs ? err : differs(c, PLAIN_ADDED);
}

/* A directory in both, or what was one. */
static int compare_subdir(struct compare *c, struct compared_dir *d,
			  const char *name, uint64_t ino,
			  const struct plain_stat *was)
{
	struct compared_dir sub = { .ino = ino };
	bool same = false;
	struct stat st;
	size_t mark;
	int err;

	sub.fd = plain_open(d->fd, name, O_RDONLY | O_DIRECTORY);
	if (sub.fd == -ENOENT || sub.fd == -ENOTDIR || sub.fd == -ELOOP)
		return compare_object(c, d, name, ino, was);
	if (sub.fd == -EXDEV) {
		found(c, d, name);
		return 0; /* another mount: left out by init too */
	}
	if (sub.fd < 0)
		return cannot(c, name, sub.fd);
	found(c, d, name);
	err = path_push(&c->path, name, &mark);
	if (err)
		goto out;
	if (fstat(sub.fd, &st))
		err = -errno;
	if (!err && was->flags & PLAIN_LEFT && !c->in_left) {
		err = compare_left(c, &sub);
		goto out_pop;
	}
	if (!err && was->mode)
		err = same_object(c, d->fd, name, ino, &st, was, &same,
				  &sub.exact);
	if (!err && !same)
		err = differs(c, PLAIN_CHANGED);
	if (!err)
		err = compare_dir(c, &sub);
out_pop:
	path_pop(&c->path, mark);
out:
	close(sub.fd);
	return err;
}

/* --- what is there --- */

typedef int (*name_fn)(struct compare *c, struct compared_dir *d,
		       const char *name);

static int each_name(struct compare *c, struct compared_dir *d, name_fn fn)
{
	if (lseek(d->fd, 0, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		ssize_t n = getdents64(d->fd, c->list, LIST_BYTES);

		/* ENOENT: it was removed meanwhile. */
		if (n <= 0)
			return n && errno != ENOENT ? -errno : 0;
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *de =
				(const struct dirent64 *)(void *)(c->list + at);
			const char *name = de->d_name;
			int err;

			at += de->d_reclen;
			if (!strcmp(name, ".") || !strcmp(name, "..") ||
			    (d->ino == FS_ROOT_INO && plain_is_own(name)))
				continue;
			err = fn(c, d, name);
			if (err)
				return err;
		}
	}
}

static int count_name(struct compare *c, struct compared_dir *d,
		      const char *name)
{
	d->names++;
	d->sum += sum_of(c, name);
	return 0;
}

static int find_added(struct compare *c, struct compared_dir *d,
		      const char *name)
{
	uint64_t ino;
	uint32_t type;
	int err;

	err = plain_find_name(c->fs, d->ino, name, &ino, &type);
	return err || ino ? err : name_differs(c, PLAIN_ADDED, name);
}

/* --- directories --- */

/* Those of a part of the table, which is used again for what is in them. */
struct subdirs {
	struct subdir {
		uint64_t ino;
		struct plain_stat was;
		size_t name; /* in names */
	} * v;
	char *names;
	size_t n, cap, names_len, names_cap;
};

static int add_subdir(struct subdirs *s, const char *name, uint64_t ino,
		      const struct plain_stat *was)
{
	size_t len = strlen(name) + 1;
	int err;

	err = array_grow((void **)&s->v, &s->cap, s->n + 1, sizeof(*s->v));
	if (!err)
		err = array_grow((void **)&s->names, &s->names_cap,
				 s->names_len + len, 1);
	if (err)
		return err;
	memcpy(s->names + s->names_len, name, len);
	s->v[s->n++] = (struct subdir){ ino, *was, s->names_len };
	s->names_len += len;
	return 0;
}

static int compare_part(struct compare *c, struct compared_dir *d)
{
	const struct plain_part *p = c->part;
	struct subdirs s = { .n = 0 };
	int err = 0;

	for (size_t i = 0; i < p->n && !err; i++) {
		const struct plain_noted *n = &p->v[i];
		const char *name = p->names + n->name;

		err = S_ISDIR(n->type)
			      ? add_subdir(&s, name, n->ino, &p->was[i])
			      : compare_object(c, d, name, n->ino, &p->was[i]);
	}
	for (size_t i = 0; i < s.n && !err; i++)
		err = compare_subdir(c, d, s.names + s.v[i].name, s.v[i].ino,
				     &s.v[i].was);
	free(s.v);
	free(s.names);
	return err;
}

static int compare_dir(struct compare *c, struct compared_dir *d)
{
	uint64_t cookie = 0;
	bool more = true;
	int err = cannot(c, NULL, each_name(c, d, count_name));

	while (!err && more) {
		err = plain_next_part(c->fs, d->ino, &cookie, c->part);
		more = c->part->n;
		if (!err)
			err = compare_part(c, d);
	}
	if (!err && (d->names || d->sum)) {
		d->exact = false;
		err = each_name(c, d, find_added);
	}
	if (!err && c->p->dir)
		c->p->dir(c->p->arg, d->ino, d->exact);
	return err;
}

int plain_view(struct fs *fs, uint64_t which, struct fs_view **out,
	       struct plain_state *state_out)
{
	struct plain_state st = { 0 };
	struct root root;
	int err;

	err = plain_get_state(fs, which, &st);
	if (err)
		return err;
	root = (struct root){ .ptr = st.root };
	if (state_out)
		*state_out = st;
	return fs_view_new(fs, &root, out);
}

/* DIR itself, which has no name. */
static int compare_root(struct compare *c, struct compared_dir *d)
{
	struct plain_stat was;
	bool same = false;
	struct stat st;
	int err;

	if (fstat(d->fd, &st))
		return -errno;
	err = plain_get(c->fs, FS_ROOT_INO, &was);
	if (!err)
		err = same_object(c, d->fd, ".", FS_ROOT_INO, &st, &was, &same,
				  &d->exact);
	if (err == 1)
		err = 0;
	return err || same ? err : differs(c, PLAIN_CHANGED);
}

static void compare_release(struct compare *c)
{
	looker_release(&c->look);
	free(c->path.s);
	free(c->part);
	free(c->list);
	fs_view_put(c->shown);
}

static int compare_init(struct compare *c, struct fs *fs,
			const struct plain_compare_params *params,
			struct plain_state *state_out)
{
	int err;

	*c = (struct compare){ .fs = fs,
			       .p = params,
			       .began_ns = fs_now(fs),
			       .part = malloc(sizeof(*c->part)),
			       .list = malloc(LIST_BYTES) };
	if (!c->part || !c->list)
		return -ENOMEM;
	err = plain_view(fs, PLAIN_STATE_SHOWN, &c->shown, state_out);
	return err == 1 ? -EFSCORRUPTED : err;
}

int plain_compare(struct fs *fs, int dirfd,
		  const struct plain_compare_params *params)
{
	struct compared_dir d = { .fd = -1, .ino = FS_ROOT_INO };
	struct plain_state state;
	struct compare c;
	int err;

	err = compare_init(&c, fs, params, &state);
	if (!err) {
		d.fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		err = d.fd < 0 ? -errno : 0;
	}
	/* The empty state has not even DIR itself. */
	if (!err && state.root.pos)
		err = compare_root(&c, &d);
	if (!err)
		err = compare_dir(&c, &d);
	if (d.fd >= 0)
		close(d.fd);
	compare_release(&c);
	return err;
}

/* --- one directory --- */

static int note_difference(void *arg, enum plain_difference what,
			   const char *path)
{
	bool *same = arg;

	*same = false;
	return 0;
}

int plain_root_is_same(struct fs *fs, int dirfd, bool *same_out)
{
	struct plain_compare_params p = { .fn = note_difference,
					  .arg = same_out };
	struct compared_dir d = { .fd = dirfd, .ino = FS_ROOT_INO };
	struct plain_state state;
	struct compare c;
	int err;

	*same_out = true;
	err = compare_init(&c, fs, &p, &state);
	if (!err && !state.root.pos)
		*same_out = false;
	else if (!err)
		err = compare_root(&c, &d);
	compare_release(&c);
	return err;
}

/* What is below is not looked at, and nothing closely. 1: not exact. */
static int look_at_part(struct compare *c, struct compared_dir *d)
{
	const struct plain_part *p = c->part;

	for (size_t i = 0; i < p->n; i++) {
		const char *name = p->names + p->v[i].name;
		struct plain_stat now;
		struct stat st;

		if (c->p->progress && c->p->progress(c->p->arg, i))
			return -ECANCELED;
		if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
			if (errno != ENOENT)
				return -errno;
			if (p->was[i].flags & (PLAIN_ABSENT | PLAIN_LEFT))
				continue;
			return 1;
		}
		now = plain_of_stat(&st);
		if (S_ISDIR(p->v[i].type) ? !S_ISDIR(st.st_mode)
					  : !is_exact(&now, &p->was[i]))
			return 1;
		found(c, d, name);
	}
	return 0;
}

static int look_at_dir(struct compare *c, struct compared_dir *d)
{
	struct plain_stat was, now;
	uint64_t cookie = 0;
	struct stat st;
	int err;

	if (fstat(d->fd, &st))
		return -errno;
	err = plain_get(c->fs, d->ino, &was);
	if (err)
		return err;
	now = plain_of_stat(&st);
	if (!is_exact(&now, &was))
		return 1;
	err = each_name(c, d, count_name);
	do {
		if (!err)
			err = plain_next_part(c->fs, d->ino, &cookie, c->part);
		if (!err)
			err = look_at_part(c, d);
	} while (!err && c->part->n);
	return err ? err : d->names || d->sum;
}

int plain_dir_is_exact(struct fs *fs, int dirfd, const char *path, uint64_t ino,
		       const struct plain_compare_params *params,
		       bool *exact_out)
{
	struct compared_dir d = { .ino = ino };
	struct compare c = { .fs = fs,
			     .p = params,
			     .part = malloc(sizeof(*c.part)),
			     .list = malloc(LIST_BYTES) };
	int err = c.part && c.list ? 0 : -ENOMEM;

	if (!err) {
		d.fd = plain_open(dirfd, *path ? path : ".",
				  O_RDONLY | O_DIRECTORY);
		err = d.fd < 0 ? d.fd : look_at_dir(&c, &d);
		if (d.fd >= 0)
			close(d.fd);
	}
	compare_release(&c);
	*exact_out = !err;
	return err == 1 ? 0 : err;
}
