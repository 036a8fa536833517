/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random operations on files against a trivial model in memory: names,
 * contents, attributes, ranges, commits, aborts, checkpoints followed by a
 * crash, clean reopenings. SEED and ROUNDS may be given.
 */
#include "fs/fs.h"

#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	NODES = 400, /* made between two commits or aborts, at most */
	REMOVALS = 600, /* tried when that is reached */
	NAMES = 7, /* in a directory */
	WINDOW_BYTES = 256 << 10, /* written whole, it is appended whole */
	SIZE_MAX_BYTES = 700 << 10,
	HANDLES = 4,
	XATTRS = 3
};

struct mnode {
	bool used;
	uint32_t mode;
	uint64_t ino;
	unsigned int nlink; /* names */
	uint8_t *data;
	size_t size;
	char *xattr[XATTRS];
	int child[NAMES]; /* -1: none */
	int parent; /* of a directory */
};

struct model {
	struct mnode n[NODES];
	int count;
};

struct fixture {
	struct simfs s;
	bool small; /* all files, most of them packed */
	struct rng rng;
	struct model now, head;
	struct {
		struct fs_file *f;
		int node;
	} h[HANDLES];
	uint64_t commits;
};

static const char *name_of(int i)
{
	static const char *const names[NAMES] = { "a",	      "bb",   "c c",
						  "d\n",      "\xff", "f.txt",
						  "long-name" };
	return names[i];
}

/* --- the model --- */

static void model_release(struct model *m)
{
	for (int i = 0; i < m->count; i++) {
		free(m->n[i].data);
		for (int k = 0; k < XATTRS; k++)
			free(m->n[i].xattr[k]);
	}
	m->count = 0;
}

static void model_copy(struct model *to, const struct model *from)
{
	model_release(to);
	memcpy(to, from, sizeof(*to));
	for (int i = 0; i < to->count; i++) {
		struct mnode *n = &to->n[i];

		if (n->data) {
			n->data = malloc(n->size + 1);
			assert_non_null(n->data);
			memcpy(n->data, from->n[i].data, n->size);
		}
		for (int k = 0; k < XATTRS; k++)
			if (n->xattr[k])
				n->xattr[k] = strdup(n->xattr[k]);
	}
}

static int model_new(struct model *m, uint32_t mode, uint64_t ino)
{
	struct mnode *n = &m->n[m->count];

	assert_true(m->count < NODES);
	memset(n, 0, sizeof(*n));
	n->used = true;
	n->mode = mode;
	n->ino = ino;
	for (int i = 0; i < NAMES; i++)
		n->child[i] = -1;
	return m->count++;
}

static void model_resize(struct mnode *n, size_t size)
{
	n->data = realloc(n->data, size + 1);
	assert_non_null(n->data);
	if (size > n->size)
		memset(n->data + n->size, 0, size - n->size);
	n->size = size;
}

static bool is_dir(const struct mnode *n)
{
	return S_ISDIR(n->mode);
}

static bool is_empty(const struct mnode *n)
{
	for (int i = 0; i < NAMES; i++)
		if (n->child[i] >= 0)
			return false;
	return true;
}

static int any_dir(struct fixture *f)
{
	int i;

	do {
		i = (int)rng_below(&f->rng, (uint64_t)f->now.count);
	} while (!is_dir(&f->now.n[i]) || !f->now.n[i].used);
	return i;
}

/* A regular file that has a name; -1: there is none. */
static int any_file(struct fixture *f)
{
	int start = (int)rng_below(&f->rng, (uint64_t)f->now.count);

	for (int k = 0; k < f->now.count; k++) {
		int i = (start + k) % f->now.count;
		struct mnode *n = &f->now.n[i];

		if (n->used && S_ISREG(n->mode) && n->nlink)
			return i;
	}
	return -1;
}

static bool is_below(struct model *m, int dir, int top)
{
	for (; dir; dir = m->n[dir].parent)
		if (dir == top)
			return true;
	return top == 0;
}

/* --- comparing --- */

static void compare_data(struct fixture *f, struct fs_view *v,
			 const struct mnode *n)
{
	struct fs_file *file;
	uint8_t *buf = malloc(n->size + 10);
	size_t got;

	assert_non_null(buf);
	assert_int_equal(fs_file_open(v, n->ino, &file), 0);
	assert_int_equal(fs_read(file, 0, buf, n->size + 10, &got), 0);
	assert_int_equal(got, n->size);
	if (n->size)
		assert_memory_equal(buf, n->data, n->size);
	for (int i = 0; i < 3 && n->size; i++) {
		size_t off = rng_below(&f->rng, n->size);
		size_t len = rng_below(&f->rng, n->size - off) + 1;

		assert_int_equal(fs_read(file, off, buf, len, &got), 0);
		assert_int_equal(got, len);
		assert_memory_equal(buf, n->data + off, len);
	}
	fs_file_put(file);
	free(buf);
}

static void compare_xattrs(struct fs_view *v, const struct mnode *n)
{
	char name[16], buf[3000];
	size_t len;

	for (int k = 0; k < XATTRS; k++) {
		int err;

		snprintf(name, sizeof(name), "user.x%d", k);
		err = fs_getxattr(v, n->ino, name, buf, sizeof(buf), &len);
		if (!n->xattr[k]) {
			assert_int_equal(err, -ENODATA);
			continue;
		}
		assert_int_equal(err, 0);
		assert_int_equal(len, strlen(n->xattr[k]));
		assert_memory_equal(buf, n->xattr[k], len);
	}
}

struct list_arg {
	struct fixture *f;
	struct model *m;
	struct mnode *dir;
	int seen;
};

static int list_one(void *arg, const struct fs_dirent *e)
{
	struct list_arg *l = arg;

	for (int i = 0; i < NAMES; i++) {
		if (strlen(name_of(i)) != e->len ||
		    memcmp(name_of(i), e->name, e->len))
			continue;
		assert_true(l->dir->child[i] >= 0);
		assert_int_equal(e->ino, l->m->n[l->dir->child[i]].ino);
		assert_int_equal(e->attr->ino, e->ino);
		l->seen++;
		return 0;
	}
	fail_msg("a name that nobody made");
	return 0;
}

static void compare_node(struct fixture *f, struct fs_view *v, struct model *m,
			 struct mnode *n)
{
	struct fs_attr attr;

	assert_int_equal(fs_getattr(v, n->ino, &attr), 0);
	assert_int_equal(attr.mode, n->mode);
	if (!is_dir(n))
		assert_int_equal(attr.nlink, n->nlink);
	compare_xattrs(v, n);
	if (S_ISREG(n->mode)) {
		assert_int_equal(attr.size, n->size);
		compare_data(f, v, n);
	} else if (S_ISLNK(n->mode)) {
		char *target;
		size_t len;

		assert_int_equal(fs_readlink(v, n->ino, &target, &len), 0);
		assert_int_equal(len, n->size);
		assert_memory_equal(target, n->data, len);
		free(target);
	} else if (is_dir(n)) {
		struct list_arg l = { .f = f, .m = m, .dir = n };
		int want = 0;

		assert_int_equal(fs_readdir(v, n->ino, 0, true, list_one, &l),
				 0);
		for (int i = 0; i < NAMES; i++)
			want += n->child[i] >= 0;
		assert_int_equal(l.seen, want);
	}
}

static void compare(struct fixture *f, struct fs_view *v, struct model *m)
{
	char why[300];

	for (int i = 0; i < m->count; i++) {
		struct mnode *n = &m->n[i];

		if (n->used && (n->nlink || is_dir(n)))
			compare_node(f, v, m, n);
	}
	if (fs_check(v, true, why, sizeof(why)))
		fail_msg("%s", why);
}

static void compare_head(struct fixture *f)
{
	struct fs_view *v = simfs_head_view(&f->s);

	compare(f, v, &f->head);
	fs_view_put(v);
}

/* --- opening --- */

static int setup_version(void **state, unsigned int version)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	simfs_init(&f->s, 1 << 20);
	f->s.params.cache_bytes = 256 << 10;
	f->s.params.format_version = version; /* 0: the newest */
	f->s.fs_params.buffer_bytes = 2 << 20;
	simfs_create(&f->s);
	return 0;
}

static int setup(void **state)
{
	return setup_version(state, 0);
}

static int setup_1(void **state)
{
	return setup_version(state, 1);
}

static void put_handle(struct fixture *f, int i)
{
	struct mnode *n;

	if (!f->h[i].f)
		return;
	fs_file_put(f->h[i].f);
	f->h[i].f = NULL;
	if (f->h[i].node < 0)
		return;
	n = &f->now.n[f->h[i].node];
	for (int k = 0; k < HANDLES; k++)
		if (f->h[k].f && f->h[k].node == f->h[i].node)
			return;
	if (!n->nlink)
		n->used = false;
}

static void put_handles(struct fixture *f)
{
	for (int i = 0; i < HANDLES; i++)
		put_handle(f, i);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < HANDLES; i++)
		if (f->h[i].f)
			fs_file_put(f->h[i].f);
	model_release(&f->now);
	model_release(&f->head);
	simfs_release(&f->s);
	free(f);
	return 0;
}

/* --- operations --- */

static void op_make(struct fixture *f)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFDIR,
					  S_IFDIR, S_IFLNK, S_IFIFO };
	int dir = any_dir(f), name = (int)rng_below(&f->rng, NAMES);
	struct fs_new w = { .mode = types[rng_below(&f->rng, 7)] | 0640 };
	struct fs_attr attr;
	char target[3000];
	int err, node;

	if (f->now.count > NODES - 2)
		return;
	w.target_len = 1 + rng_below(&f->rng, sizeof(target) - 1);
	memset(target, 'a' + (int)rng_below(&f->rng, 26), w.target_len);
	w.target = target;
	err = fs_make(fs_working(f->s.fs), &simfs_cred, f->now.n[dir].ino,
		      name_of(name), strlen(name_of(name)), &w, &attr, NULL);
	if (f->now.n[dir].child[name] >= 0) {
		assert_int_equal(err, -EEXIST);
		return;
	}
	assert_int_equal(err, 0);
	node = model_new(&f->now, w.mode, attr.ino);
	f->now.n[node].nlink = 1;
	f->now.n[node].parent = dir;
	f->now.n[dir].child[name] = node;
	if (S_ISLNK(w.mode)) {
		model_resize(&f->now.n[node], w.target_len);
		memcpy(f->now.n[node].data, target, w.target_len);
	}
}

static void model_unlink(struct fixture *f, int dir, int name)
{
	int node = f->now.n[dir].child[name];
	struct mnode *n = &f->now.n[node];

	f->now.n[dir].child[name] = -1;
	if (--n->nlink)
		return;
	for (int k = 0; k < HANDLES; k++)
		if (f->h[k].f && f->h[k].node == node)
			return;
	n->used = false;
}

static void op_remove(struct fixture *f)
{
	int dir = any_dir(f), name = (int)rng_below(&f->rng, NAMES);
	int node = f->now.n[dir].child[name], want = 0, err;
	bool as_dir = node >= 0 && is_dir(&f->now.n[node]);

	if (!rng_below(&f->rng, 8))
		as_dir = !as_dir;
	err = as_dir ? fs_rmdir(fs_working(f->s.fs), f->now.n[dir].ino,
				name_of(name), strlen(name_of(name)), NULL)
		     : fs_unlink(fs_working(f->s.fs), f->now.n[dir].ino,
				 name_of(name), strlen(name_of(name)), NULL);
	if (node < 0)
		want = -ENOENT;
	else if (as_dir && !is_dir(&f->now.n[node]))
		want = -ENOTDIR;
	else if (!as_dir && is_dir(&f->now.n[node]))
		want = -EISDIR;
	else if (as_dir && !is_empty(&f->now.n[node]))
		want = -ENOTEMPTY;
	assert_int_equal(err, want);
	if (!want)
		model_unlink(f, dir, name);
}

static int rename_want(struct fixture *f, int from, int to, int to_dir,
		       int from_dir, unsigned int flags)
{
	struct mnode *n = f->now.n;

	if (from < 0 || (flags & FS_RENAME_EXCHANGE && to < 0))
		return -ENOENT;
	if (flags & FS_RENAME_NOREPLACE && to >= 0)
		return -EEXIST;
	if (from == to)
		return 1;
	if (is_dir(&n[from]) && is_below(&f->now, to_dir, from))
		return -EINVAL;
	if (flags & FS_RENAME_EXCHANGE) {
		if (is_dir(&n[to]) && is_below(&f->now, from_dir, to))
			return -EINVAL;
		return 0;
	}
	if (to < 0)
		return 0;
	if (is_dir(&n[from]) && !is_dir(&n[to]))
		return -ENOTDIR;
	if (!is_dir(&n[from]) && is_dir(&n[to]))
		return -EISDIR;
	return is_dir(&n[to]) && !is_empty(&n[to]) ? -ENOTEMPTY : 0;
}

static void op_rename(struct fixture *f)
{
	static const unsigned int all[] = { 0, 0, FS_RENAME_NOREPLACE,
					    FS_RENAME_EXCHANGE };
	int fd = any_dir(f), td = any_dir(f);
	int fn = (int)rng_below(&f->rng, NAMES);
	int tn = (int)rng_below(&f->rng, NAMES);
	unsigned int flags = all[rng_below(&f->rng, 4)];
	struct mnode *n = f->now.n;
	int from = n[fd].child[fn], to = n[td].child[tn];
	int want = rename_want(f, from, to, td, fd, flags);
	int err;

	err = fs_rename(fs_working(f->s.fs), NULL, n[fd].ino, name_of(fn),
			strlen(name_of(fn)), n[td].ino, name_of(tn),
			strlen(name_of(tn)), flags, NULL);
	assert_int_equal(err, want == 1 ? 0 : want);
	if (want)
		return;
	if (flags & FS_RENAME_EXCHANGE) {
		n[fd].child[fn] = to;
		n[td].child[tn] = from;
		n[to].parent = fd;
		n[from].parent = td;
		return;
	}
	if (to >= 0)
		model_unlink(f, td, tn);
	n[fd].child[fn] = -1;
	n[td].child[tn] = from;
	n[from].parent = td;
}

static void op_link(struct fixture *f)
{
	int file = any_file(f), dir = any_dir(f);
	int name = (int)rng_below(&f->rng, NAMES), err;

	if (file < 0)
		return;
	err = fs_link(fs_working(f->s.fs), f->now.n[file].ino,
		      f->now.n[dir].ino, name_of(name), strlen(name_of(name)),
		      NULL);
	if (f->now.n[dir].child[name] >= 0) {
		assert_int_equal(err, -EEXIST);
		return;
	}
	assert_int_equal(err, 0);
	f->now.n[dir].child[name] = file;
	f->now.n[file].nlink++;
}

/* A file, by a handle that is held or opened for the purpose. */
static struct fs_file *file_for(struct fixture *f, int *node)
{
	int i = (int)rng_below(&f->rng, HANDLES);
	struct fs_file *file;

	if (f->h[i].f && f->h[i].node >= 0) {
		*node = f->h[i].node;
		return fs_file_get(f->h[i].f);
	}
	*node = any_file(f);
	if (*node < 0)
		return NULL;
	assert_int_equal(fs_file_open(fs_working(f->s.fs), f->now.n[*node].ino,
				      &file),
			 0);
	return file;
}

static struct mnode *node_at(struct fixture *f, int node)
{
	return node < 0 ? NULL : &f->now.n[node];
}

static size_t random_size(struct fixture *f)
{
	if (f->small)
		return rng_below(&f->rng, 70000);
	switch (rng_below(&f->rng, 5)) {
	case 0:
		return rng_below(&f->rng, 1000);
	case 1:
		return rng_below(&f->rng, 20000);
	case 2:
		return rng_below(&f->rng, 40) * 4096;
	case 3:
		return rng_below(&f->rng, 3) * WINDOW_BYTES;
	default:
		return rng_below(&f->rng, SIZE_MAX_BYTES / 2);
	}
}

static void op_write(struct fixture *f)
{
	int node;
	struct fs_file *file = file_for(f, &node);
	struct mnode *n = node_at(f, node);
	size_t off, len;
	bool append = !rng_below(&f->rng, 4);
	uint8_t *buf;

	if (!file)
		return;
	off = append ? n->size : random_size(f);
	len = random_size(f) + 1;
	if (off + len > SIZE_MAX_BYTES) {
		fs_file_put(file);
		return;
	}
	buf = malloc(len);
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(rng_next(&f->rng) >> 32);
	assert_int_equal(fs_write(file, &simfs_cred, append ? 7 : off, buf, len,
				  append),
			 0);
	fs_write_behind(f->s.fs);
	if (off + len > n->size)
		model_resize(n, off + len);
	memcpy(n->data + off, buf, len);
	free(buf);
	fs_file_put(file);
}

static void op_truncate(struct fixture *f)
{
	int node;
	struct fs_file *file = file_for(f, &node);
	size_t size = random_size(f);

	if (!file)
		return;
	assert_int_equal(fs_truncate(file, size), 0);
	model_resize(&f->now.n[node], size);
	fs_file_put(file);
}

static void model_zero(struct mnode *n, size_t off, size_t len)
{
	if (off < n->size)
		memset(n->data + off, 0,
		       len < n->size - off ? len : n->size - off);
}

static void op_fallocate(struct fixture *f)
{
	static const int modes[] = { 0,
				     FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_COLLAPSE_RANGE,
				     FALLOC_FL_INSERT_RANGE };
	int node, mode = modes[rng_below(&f->rng, 6)], err;
	struct fs_file *file = file_for(f, &node);
	struct mnode *n = node_at(f, node);
	size_t off = random_size(f), len = random_size(f) + 1;
	bool shift = mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);

	if (!file)
		return;
	if (shift) {
		off &= ~(size_t)4095;
		len = (len + 4095) & ~(size_t)4095;
	}
	if (n->size + len > SIZE_MAX_BYTES || off + len > SIZE_MAX_BYTES)
		goto out;
	err = fs_fallocate(file, mode, off, len);
	if ((mode & FALLOC_FL_COLLAPSE_RANGE && off + len >= n->size) ||
	    (mode & FALLOC_FL_INSERT_RANGE && off >= n->size)) {
		assert_int_equal(err, -EINVAL);
		goto out;
	}
	assert_int_equal(err, 0);
	if (mode & FALLOC_FL_COLLAPSE_RANGE) {
		memmove(n->data + off, n->data + off + len,
			n->size - off - len);
		n->size -= len;
	} else if (mode & FALLOC_FL_INSERT_RANGE) {
		size_t old = n->size;

		model_resize(n, old + len);
		memmove(n->data + off + len, n->data + off, old - off);
		memset(n->data + off, 0, len);
	} else {
		if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > n->size)
			model_resize(n, off + len);
		if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
			model_zero(n, off, len);
	}
out:
	fs_file_put(file);
}

static void op_seek(struct fixture *f)
{
	int node;
	struct fs_file *file = file_for(f, &node);
	struct mnode *n = node_at(f, node);
	uint64_t off = random_size(f), data, hole;
	int err;

	if (!file)
		return;
	err = fs_seek(file, off, SEEK_DATA, &data);
	if (off >= n->size)
		assert_int_equal(err, -ENXIO);
	if (err == -ENXIO)
		data = n->size;
	for (uint64_t i = off; i < data && i < n->size; i++)
		assert_int_equal(n->data[i], 0);
	if (off < n->size) {
		assert_int_equal(fs_seek(file, off, SEEK_HOLE, &hole), 0);
		assert_true(hole >= off && hole <= n->size);
		assert_true(hole == n->size || hole % 4096 == 0 || hole == off);
	}
	fs_file_put(file);
}

static void op_copy(struct fixture *f)
{
	int s, d;
	struct fs_file *src = file_for(f, &s), *dst = file_for(f, &d);
	size_t so = random_size(f), dof = random_size(f), len = random_size(f);
	size_t want, got;
	struct mnode *sn, *dn;

	if (!src || !dst)
		goto out;
	sn = &f->now.n[s];
	dn = &f->now.n[d];
	if (rng_below(&f->rng, 2)) {
		so &= ~(size_t)4095;
		dof &= ~(size_t)4095;
	}
	want = so >= sn->size ? 0 : len < sn->size - so ? len : sn->size - so;
	if (dof + want > SIZE_MAX_BYTES)
		goto out;
	if (s == d && so < dof + want && dof < so + want && want) {
		assert_int_equal(fs_copy_range(src, so, dst, dof, len, &got),
				 -EINVAL);
		goto out;
	}
	assert_int_equal(fs_copy_range(src, so, dst, dof, len, &got), 0);
	assert_int_equal(got, want);
	if (want) {
		uint8_t *tmp = malloc(want);

		memcpy(tmp, sn->data + so, want);
		if (dof + want > dn->size)
			model_resize(dn, dof + want);
		memcpy(dn->data + dof, tmp, want);
		free(tmp);
	}
out:
	fs_file_put(src);
	fs_file_put(dst);
}

static void op_attr(struct fixture *f)
{
	int node = rng_below(&f->rng, 2) ? any_file(f) : any_dir(f);
	int k = (int)rng_below(&f->rng, XATTRS), err;
	struct fs_attr attr = { 0 };
	struct mnode *n;
	char name[16], value[2500];
	size_t len = rng_below(&f->rng, sizeof(value));

	if (node < 0)
		return;
	n = &f->now.n[node];
	snprintf(name, sizeof(name), "user.x%d", k);
	if (rng_below(&f->rng, 3) == 0) {
		attr.mode = (uint32_t)rng_below(&f->rng, 512);
		assert_int_equal(fs_setattr(fs_working(f->s.fs), n->ino,
					    FS_SET_MODE, &attr, &attr),
				 0);
		n->mode = (n->mode & S_IFMT) | (attr.mode & 07777);
		return;
	}
	if (rng_below(&f->rng, 3) == 0) {
		err = fs_removexattr(fs_working(f->s.fs), n->ino, name);
		assert_int_equal(err, n->xattr[k] ? 0 : -ENODATA);
		free(n->xattr[k]);
		n->xattr[k] = NULL;
		return;
	}
	memset(value, 'A' + (int)rng_below(&f->rng, 26), len);
	assert_int_equal(fs_setxattr(fs_working(f->s.fs), n->ino, name, value,
				     len, 0),
			 0);
	free(n->xattr[k]);
	n->xattr[k] = strndup(value, len);
}

static void op_handle(struct fixture *f)
{
	int i = (int)rng_below(&f->rng, HANDLES), node;

	if (f->h[i].f) {
		put_handle(f, i);
		return;
	}
	node = any_file(f);
	if (node < 0)
		return;
	assert_int_equal(fs_file_open(fs_working(f->s.fs), f->now.n[node].ino,
				      &f->h[i].f),
			 0);
	f->h[i].node = node;
}

static void op_fsync(struct fixture *f)
{
	int node = any_file(f);

	if (node >= 0)
		assert_int_equal(
			fs_fsync(fs_working(f->s.fs), f->now.n[node].ino), 0);
}

static void op_commit(struct fixture *f)
{
	uint64_t number;
	int err;

	put_handles(f);
	err = fs_commit(f->s.fs, 0, "m", 1, &number);
	assert_in_range(err, 0, 1);
	f->commits = number;
	model_copy(&f->head, &f->now);
	compare_head(f);
}

/* A handle across an abort reads what it read before, and writes or says
 * that it cannot. */
static void check_stale(struct fixture *f, struct model *before)
{
	for (int i = 0; i < HANDLES; i++) {
		struct mnode *n;
		uint8_t *buf;
		size_t got;
		int err;

		if (!f->h[i].f)
			continue;
		n = &before->n[f->h[i].node];
		buf = malloc(n->size + 1);
		assert_int_equal(fs_read(f->h[i].f, 0, buf, n->size + 1, &got),
				 0);
		assert_int_equal(got, n->size);
		if (n->size)
			assert_memory_equal(buf, n->data, n->size);
		free(buf);
		if (fs_file_is_stale(f->h[i].f)) {
			err = fs_write(f->h[i].f, NULL, 0, "x", 1, false);
			assert_int_equal(err, -ESTALE);
			err = fs_truncate(f->h[i].f, 3);
			assert_int_equal(err, -ESTALE);
		}
		f->h[i].node = -1;
		put_handle(f, i);
	}
}

static void op_abort(struct fixture *f)
{
	struct model *before = calloc(1, sizeof(*before));

	assert_non_null(before);
	model_copy(before, &f->now);
	assert_int_equal(fs_abort(f->s.fs), 0);
	check_stale(f, before);
	model_release(before);
	free(before);
	model_copy(&f->now, &f->head);
	compare(f, fs_working(f->s.fs), &f->now);
}

static void op_reopen(struct fixture *f)
{
	bool crash = rng_below(&f->rng, 2);

	put_handles(f);
	if (crash) {
		assert_int_equal(fs_checkpoint(f->s.fs), 0);
		simfs_abandon(&f->s);
	} else {
		simfs_close(&f->s);
	}
	simfs_open(&f->s);
	compare(f, fs_working(f->s.fs), &f->now);
	compare_head(f);
}

/* Give space back, forget what is in memory, look at everything. */
static void op_gc(struct fixture *f)
{
	struct gc_stats st;

	assert_int_equal(fs_gc(f->s.fs, &st), 0);
	compare(f, fs_working(f->s.fs), &f->now);
	compare_head(f);
	op_reopen(f);
}

static void step(struct fixture *f)
{
	static void (*const often[])(struct fixture * f) = {
		op_make,     op_make,	   op_write,  op_write, op_write,
		op_truncate, op_remove,	   op_rename, op_link,	op_attr,
		op_handle,   op_fallocate, op_copy,   op_seek,	op_fsync
	};
	uint64_t dice = rng_below(&f->rng, 300);

	if (dice < 3 || f->now.count > NODES - 4)
		(rng_below(&f->rng, 2) ? op_commit : op_abort)(f);
	else if (dice < 5)
		op_reopen(f);
	else if (dice < 7)
		op_gc(f);
	else
		often[rng_below(&f->rng, 15)](f);
}

/* Free the numbers of nodes that are not used any more. */
static void compact(struct fixture *f)
{
	struct model *m;
	int map[NODES];

	if (f->now.count < NODES - 8)
		return;
	/* Thin out, or every step would be in a full model. */
	for (int i = 0; i < REMOVALS; i++)
		op_remove(f);
	op_commit(f);
	m = &f->now;
	for (int i = 0; i < NODES; i++)
		map[i] = -1;
	for (int i = 0, n = 0; i < m->count; i++)
		map[i] = m->n[i].used ? n++ : -1;
	for (int i = 0; i < m->count; i++) {
		if (map[i] < 0) {
			free(m->n[i].data);
			for (int k = 0; k < XATTRS; k++)
				free(m->n[i].xattr[k]);
			continue;
		}
		m->n[map[i]] = m->n[i];
	}
	m->count = 0;
	for (int i = 0; i < NODES; i++)
		if (map[i] >= m->count)
			m->count = map[i] + 1;
	for (int i = 0; i < m->count; i++) {
		m->n[i].parent = map[m->n[i].parent];
		for (int k = 0; k < NAMES; k++)
			if (m->n[i].child[k] >= 0)
				m->n[i].child[k] = map[m->n[i].child[k]];
	}
	model_copy(&f->head, m);
}

static void run(struct fixture *f, uint64_t seed, uint64_t rounds)
{
	int root;

	f->rng.s = seed;
	root = model_new(&f->now, S_IFDIR | 0755, FS_ROOT_INO);
	assert_int_equal(root, 0);
	op_commit(f);
	for (uint64_t i = 0; i < rounds; i++) {
		step(f);
		if (i % 100 == 0)
			compare(f, fs_working(f->s.fs), &f->now);
		compact(f);
	}
	put_handles(f);
	op_commit(f);
	op_reopen(f);
}

static void test_random(void **state)
{
	run(*state, test_seed(1), test_param("ROUNDS", 3000));
}

static void test_random_2(void **state)
{
	run(*state, test_seed(77), test_param("ROUNDS", 3000));
}

static void test_small_files(void **state)
{
	struct fixture *f = *state;

	f->small = true;
	run(f, test_seed(5), test_param("ROUNDS", 3000));
}

static void test_format_1(void **state)
{
	struct fixture *f = *state;

	f->small = true;
	run(f, test_seed(6), test_param("ROUNDS", 1000));
	assert_int_equal(store_format_version(f->s.store), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_2, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_files, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_format_1, setup_1,
						teardown)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
