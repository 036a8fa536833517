/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole store, forged (tests/lib/forge.h): 1 byte what to do, 1 byte seed of
 * the operations, then edits. It is opened read-only or for writing; everything
 * in every state is looked at; it is verified, swept, changed, committed,
 * closed. Errors are fine. Not so: a crash, memory that is overrun or lost,
 * a listing without an end, an assertion.
 */
#include "fs/fs.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/lib/forge.h"
#include "txn/format.h"
#include "txn/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const unsigned int fuzz_variants_max;

/* Opening a store takes a thousand times longer than decoding a node. */
const unsigned int fuzz_variants_max = 12;

enum {
	DO_WRITE = 1, /* else: read only */
	DO_VERIFY = 2,
	DO_GC = 4,
	DO_HISTORY = 8, /* look at every state */
	DO_ABORT = 16,
	DO_GRAFT = 32,
	DO_DELTA = 64,
	DO_TIDY = 128, /* close; else as after kill -9 */

	EDITS_MAX = 40,
	INOS_MAX = 256,
	NAMES_MAX = 64,
	LISTED_MAX = 1 << 16, /* more than the store can hold */
	OPS = 16,
	HANDLES = 3
};

struct entry {
	uint64_t dir, ino;
	uint32_t type;
	size_t len;
	char name[FS_NAME_MAX];
};

struct world {
	struct forge *forge;
	struct simdev *base;
	struct env env;
	uint64_t clock, random;
	/* of one run */
	struct simdev *sim;
	struct store *store;
	struct fs *fs;
	uint64_t ino[INOS_MAX];
	size_t nino, listed;
	struct entry entry[NAMES_MAX];
	size_t nentries;
	struct fs_file *file[HANDLES];
	uint8_t buf[1 << 14];
};

static const struct fs_cred root_cred = { .fsetid = true };

/* --- the same world each time --- */

static int64_t world_now(struct env *env)
{
	struct world *w = env->priv;

	return (int64_t)(1700000000000000000ULL +
			 1000 * __atomic_add_fetch(&w->clock, 1,
						   __ATOMIC_RELAXED));
}

static void world_random(struct env *env, void *buf, size_t len)
{
	struct world *w = env->priv;
	uint8_t *p = buf;

	while (len--) {
		w->random = w->random * 6364136223846793005ULL + 1;
		*p++ = (uint8_t)(w->random >> 33);
	}
}

static void world_log(struct env *env, enum env_level level, const char *msg)
{
}

static struct store_params params_of(struct world *w, struct simdev *sim)
{
	return (struct store_params){ .dev = simdev_dev(sim),
				      .env = &w->env,
				      .cache_bytes = 1 << 20,
				      .check_item = fs_check_item,
				      .small_segment_bytes = 1 << 20,
				      .bulk_segment_bytes = 1 << 20,
				      .reserve_bytes = 1 << 20 };
}

/* --- the store that is forged --- */

static uint64_t make(struct fs *fs, uint64_t dir, const char *name,
		     uint32_t mode, const char *target)
{
	struct fs_new n = { .mode = mode,
			    .target = target,
			    .target_len = target ? strlen(target) : 0 };
	struct fs_attr attr;

	ASSERT(!fs_make(fs_working(fs), &root_cred, dir, name, strlen(name), &n,
			&attr, NULL));
	return attr.ino;
}

static void put_data(struct fs *fs, uint64_t ino, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);
	struct fs_file *f;

	ASSERT(buf);
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 31 + ino + off);
	ASSERT(!fs_file_open(fs_working(fs), ino, &f));
	ASSERT(!fs_write(f, &root_cred, off, buf, len, false));
	fs_file_put(f);
	free(buf);
}

static void set_xattr(struct fs *fs, uint64_t ino, const char *name, size_t len)
{
	uint8_t value[5000];

	memset(value, 'x', sizeof(value));
	ASSERT(len <= sizeof(value));
	ASSERT(!fs_setxattr(fs_working(fs), ino, name, value, len, 0));
}

static void commit(struct fs *fs, const char *message)
{
	uint64_t number;

	ASSERT(!fs_commit(fs, 0, message, strlen(message), &number));
}

static void populate(struct fs *fs)
{
	uint64_t a, b, c, f, big;
	struct fs_attr attr;
	char name[200], target[1500];

	memset(target, 't', sizeof(target));
	target[sizeof(target) - 1] = '\0';
	a = make(fs, FS_ROOT_INO, "a", S_IFDIR | 0755, NULL);
	b = make(fs, a, "b", S_IFDIR | 0700, NULL);
	c = make(fs, b, "c", S_IFDIR | 02755, NULL);
	f = make(fs, a, "inline", S_IFREG | 0644, NULL);
	put_data(fs, f, 0, 500);
	set_xattr(fs, f, "user.short", 10);
	set_xattr(fs, f, "user.long", 5000);
	ASSERT(!fs_link(fs_working(fs), f, b, "second", 6, &attr));
	ASSERT(!fs_link(fs_working(fs), f, c, "third", 5, &attr));
	big = make(fs, c, "big", S_IFREG | 04755, NULL);
	put_data(fs, big, 0, 72 << 10);
	f = make(fs, b, "sparse", S_IFREG | 0600, NULL);
	put_data(fs, f, 100, 5000);
	put_data(fs, f, 1 << 20, 9000);
	put_data(fs, f, 5 << 20, 4096);
	(void)make(fs, a, "link", S_IFLNK | 0777, "b/c/big");
	(void)make(fs, a, "longlink", S_IFLNK | 0777, target);
	(void)make(fs, b, "fifo", S_IFIFO | 0600, NULL);
	commit(fs, "one");
	for (int i = 0; i < 24; i++) {
		(void)snprintf(name, sizeof(name), "file-%d-%0*d", i,
			       i % 5 * 30, i);
		f = make(fs, i % 4 ? a : FS_ROOT_INO, name, S_IFREG | 0644,
			 NULL);
		if (i % 3)
			put_data(fs, f, 0, (size_t)i * 200);
	}
	commit(fs, "two");
	ASSERT(!fs_snapshot(fs, "snap", 0, "kept", 4));
	put_data(fs, big, 40 << 10, 8192);
	(void)make(fs, c, "d", S_IFDIR | 0755, NULL);
	ASSERT(!fs_abort(fs));
}

/* Staged work, and an object without a name: as kill -9 leaves a store. */
static void stage(struct fs *fs, struct fs_file **orphan_out)
{
	struct fs_new n = { .mode = S_IFREG | 0600 };
	struct fs_attr attr;
	uint64_t ino, dir;

	ASSERT(!fs_walk(fs_working(fs), "a/b/c/big", &attr));
	put_data(fs, attr.ino, 4096, 20000);
	ASSERT(!fs_make(fs_working(fs), &root_cred, FS_ROOT_INO, "gone", 4, &n,
			&attr, orphan_out));
	ASSERT(!fs_unlink(fs_working(fs), FS_ROOT_INO, "gone", 4, &ino));
	dir = make(fs, FS_ROOT_INO, "new", S_IFDIR | 0755, NULL);
	put_data(fs, make(fs, dir, "file", S_IFREG | 0644, NULL), 0, 6000);
	ASSERT(!fs_checkpoint(fs));
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));
	struct fs_params fp = { .buffer_bytes = 2 << 20 };
	struct store_error err = { "" };
	struct fs_file *orphan;
	struct store_params p;
	struct store *store;
	uint8_t uuid[16];
	struct fs *fs;

	ASSERT(w);
	w->random = 1;
	w->env = (struct env){ .now_ns = world_now,
			       .random = world_random,
			       .log = world_log,
			       .priv = w };
	w->base = simdev_new();
	p = params_of(w, w->base);
	ASSERT(!store_create(&p, &store, &err));
	ASSERT(!fs_open(store, &fp, &fs));
	populate(fs);
	stage(fs, &orphan);
	fs_file_put(orphan); /* not durable any more */
	fs_abandon(fs);
	memcpy(uuid, store->uuid, sizeof(uuid));
	store_abandon(store);
	simdev_settle(w->base);
	w->forge = forge_new(w->base, uuid);
	return w;
}

/* --- looking --- */

static void note_ino(struct world *w, uint64_t ino)
{
	for (size_t i = 0; i < w->nino; i++)
		if (w->ino[i] == ino)
			return;
	if (w->nino < INOS_MAX)
		w->ino[w->nino++] = ino;
}

static int list_one(void *arg, const struct fs_dirent *e)
{
	struct world *w = arg;
	struct entry *to = &w->entry[w->nentries];

	ASSERT(++w->listed < LISTED_MAX);
	ASSERT(e->len && e->len <= FS_NAME_MAX);
	note_ino(w, e->ino);
	if (w->nentries == NAMES_MAX)
		return 0;
	*to = (struct entry){ .ino = e->ino, .type = e->type, .len = e->len };
	memcpy(to->name, e->name, e->len);
	w->nentries++;
	return 0;
}

static void look_at_xattrs(struct world *w, struct fs_view *fv, uint64_t ino)
{
	char list[4096];
	size_t len, at = 0, got;

	if (fs_listxattr(fv, ino, list, sizeof(list), &len) ||
	    len > sizeof(list))
		return;
	while (at < len) {
		(void)fs_getxattr(fv, ino, list + at, w->buf, sizeof(w->buf),
				  &got);
		at += strnlen(list + at, len - at) + 1;
	}
}

static void look_at_data(struct world *w, struct fs_view *fv,
			 const struct fs_attr *attr)
{
	const uint64_t at[] = { 0,
				4000,
				1 << 18,
				1 << 20,
				attr->size / 2,
				attr->size - 100,
				attr->size + 5,
				UINT64_MAX - 10 };
	struct fs_file *f;
	uint64_t off = 0;
	size_t got;

	if (fs_file_open(fv, attr->ino, &f))
		return;
	for (size_t i = 0; i < ARRAY_LEN(at); i++)
		if (!fs_read(f, at[i], w->buf, sizeof(w->buf), &got))
			ASSERT(got <= sizeof(w->buf));
	for (int i = 0; i < 64; i++) {
		uint64_t was = off;

		if (fs_seek(f, off, i % 2 ? SEEK_HOLE : SEEK_DATA, &off))
			break;
		ASSERT(off >= was);
	}
	fs_file_put(f);
}

static void look_at_object(struct world *w, struct fs_view *fv, uint64_t ino)
{
	size_t len, first = w->nentries;
	struct fs_attr attr;
	char *text;

	if (!fs_path(fv, ino, &text))
		free(text);
	look_at_xattrs(w, fv, ino);
	if (!fs_readlink(fv, ino, &text, &len))
		free(text);
	w->listed = 0;
	(void)fs_readdir(fv, ino, 0, ino & 1, list_one, w);
	for (size_t i = first; i < w->nentries; i++) {
		w->entry[i].dir = ino;
		(void)fs_lookup(fv, ino, w->entry[i].name, w->entry[i].len,
				&attr);
	}
	if (!fs_getattr(fv, ino, &attr))
		look_at_data(w, fv, &attr);
}

/* Everything that a state leads to; its names are noted. */
static void look_at_state(struct world *w, struct fs_view *fv)
{
	struct fs_attr attr;
	char why[256];

	w->nino = w->nentries = 0;
	note_ino(w, FS_ROOT_INO);
	for (size_t i = 0; i < w->nino; i++)
		look_at_object(w, fv, w->ino[i]);
	(void)fs_walk(fv, "a/b/c/big", &attr);
	(void)fs_walk(fv, "a/b/second", &attr);
	(void)fs_check(fv, true, why, sizeof(why));
}

static void look_at_root(struct world *w, const struct root *root)
{
	struct fs_view *fv;

	if (fs_view_new(w->fs, root, &fv))
		return;
	look_at_state(w, fv);
	fs_view_put(fv);
}

static int look_at_commit(void *arg, const struct commit_info *info)
{
	struct root root = { .ptr = info->root };

	look_at_root(arg, &root);
	return 0;
}

static int look_at_name(void *arg, const struct name_info *info)
{
	struct root root = { .ptr = info->root };

	look_at_root(arg, &root);
	return 0;
}

static int ignore_change(void *arg, const struct fs_change *change)
{
	struct world *w = arg;

	ASSERT(++w->listed < LISTED_MAX);
	return 0;
}

static void ignore_damage(void *arg, const char *state, const char *path,
			  const char *what)
{
}

static void look_at_delta(struct world *w)
{
	struct root now = ROOT_EMPTY, then = ROOT_EMPTY, to = ROOT_EMPTY;
	const struct tree *tree = store_tree(w->store);
	struct fs_delta *d;

	if (fs_freeze(w->fs, &now))
		return;
	if (!fs_resolve(w->fs, w->random & 1 ? "snap" : "head", &then)) {
		w->listed = 0;
		(void)fs_changes(w->fs, &then, &now, ignore_change, w);
		if (!fs_delta_new(w->fs, &now, &then, &d))
			fs_delta_free(d);
		if (!fs_graft(w->fs, &now, &then, "a/b", &to))
			look_at_root(w, &to);
	}
	root_put(tree, &to);
	root_put(tree, &then);
	root_put(tree, &now);
}

static void look_at_all(struct world *w, unsigned int what)
{
	struct fs_verify_params vp = { .damaged = ignore_damage };
	struct fs_verify_stats vs;
	char why[256];

	if (what & DO_HISTORY) {
		(void)store_each_commit(w->store, UINT64_MAX, look_at_commit,
					w);
		(void)store_each_name(w->store, look_at_name, w);
	}
	if (what & DO_DELTA)
		look_at_delta(w);
	if (what & DO_VERIFY) {
		(void)fs_verify(w->fs, &vp, &vs);
		(void)store_check(w->store, why, sizeof(why));
	}
	look_at_state(w, fs_working(w->fs));
}

/* --- changing --- */

static uint64_t roll(struct world *w, uint64_t n)
{
	w->random = w->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return n ? (w->random >> 33) % n : 0;
}

static uint64_t any_ino(struct world *w)
{
	return w->ino[roll(w, w->nino)];
}

static void change_name(struct world *w, struct fs_view *fv, unsigned int op)
{
	struct entry *e = &w->entry[roll(w, w->nentries)];
	struct entry *o = &w->entry[roll(w, w->nentries)];
	struct fs_renamed renamed;
	struct fs_attr attr;
	uint64_t ino;

	if (!w->nentries)
		return;
	switch (op % 5) {
	case 0:
		(void)fs_unlink(fv, e->dir, e->name, e->len, &ino);
		break;
	case 1:
		(void)fs_rmdir(fv, e->dir, e->name, e->len, &ino);
		break;
	case 2:
		(void)fs_rename(fv, &root_cred, e->dir, e->name, e->len,
				any_ino(w), o->name, o->len,
				(unsigned int)roll(w, 8), &renamed);
		break;
	case 3:
		(void)fs_rename(fv, &root_cred, e->dir, e->name, e->len, o->dir,
				o->name, o->len, 0, &renamed);
		break;
	default:
		(void)fs_link(fv, e->ino, any_ino(w), "linked", 6, &attr);
	}
}

static void change_file(struct world *w, unsigned int op)
{
	unsigned int h = op % HANDLES;
	struct fs_file *f = w->file[h];
	const uint64_t at[] = { 0,	  100, 4096, 1 << 18, (uint64_t)3 << 20,
				300 << 10 };
	uint64_t off = at[roll(w, ARRAY_LEN(at))];
	size_t copied;

	if (!f) {
		if (fs_file_open(fs_working(w->fs), any_ino(w), &w->file[h]))
			w->file[h] = NULL;
		return;
	}
	switch (op / HANDLES % 6) {
	case 0:
	case 1:
		(void)fs_write(f, NULL, off, w->buf, 1 + roll(w, 16000),
			       roll(w, 4) == 0);
		break;
	case 2:
		(void)fs_truncate(f, off);
		break;
	case 3:
		(void)fs_fallocate(f, (int)roll(w, 32), off,
				   1 + roll(w, 100000));
		break;
	case 4:
		if (w->file[(h + 1) % HANDLES])
			(void)fs_copy_range(w->file[(h + 1) % HANDLES], off, f,
					    at[roll(w, ARRAY_LEN(at))], 200000,
					    &copied);
		break;
	default:
		fs_file_put(f);
		w->file[h] = NULL;
	}
}

static void change_other(struct world *w, struct fs_view *fv, unsigned int op)
{
	struct fs_new n = { .mode = op & 1 ? S_IFDIR | 0755 : S_IFREG | 0644 };
	struct fs_attr attr = { .mode = 0600, .uid = 1, .size = 5000 };
	uint64_t number;

	switch (op % 6) {
	case 0:
	case 1:
		(void)fs_make(fv, &root_cred, any_ino(w), "made", 4, &n, &attr,
			      NULL);
		break;
	case 2:
		(void)fs_setattr(fv, any_ino(w), (unsigned int)roll(w, 256),
				 &attr, &attr);
		break;
	case 3:
		(void)fs_setxattr(fv, any_ino(w),
				  roll(w, 2) ? "user.long" : "user.new", w->buf,
				  roll(w, 3000), 0);
		break;
	case 4:
		(void)fs_removexattr(fv, any_ino(w), "user.long");
		break;
	default:
		if (roll(w, 2))
			(void)fs_checkpoint(w->fs);
		else
			(void)fs_commit(w->fs, 0, "m", 1, &number);
	}
}

static void change(struct world *w, unsigned int what)
{
	struct catalog_change del = { .op = CATALOG_DELETE, .name = "snap" };
	struct fs_view *fv = fs_working(w->fs);
	uint64_t number;

	for (unsigned int i = 0; i < OPS; i++) {
		unsigned int op = (unsigned int)roll(w, 1 << 16);

		if (op % 3 == 0)
			change_name(w, fv, op / 3);
		else if (op % 3 == 1)
			change_file(w, op / 3);
		else
			change_other(w, fv, op / 3);
	}
	if (what & DO_ABORT)
		(void)fs_abort(w->fs);
	for (unsigned int i = 0; i < HANDLES; i++) {
		fs_file_put(w->file[i]);
		w->file[i] = NULL;
	}
	(void)fs_commit(w->fs, 0, "changed", 7, &number);
	if (what & DO_GRAFT)
		(void)fs_snapshot(w->fs, "another", 0, NULL, 0);
	else
		(void)store_change_catalog(w->store, store_working(w->store),
					   &del);
	if (what & DO_GC)
		(void)fs_gc(w->fs, NULL);
	look_at_state(w, fv);
}

/* --- one run --- */

static void run(struct world *w, unsigned int what, bool whole)
{
	struct fs_params fp = { .buffer_bytes = 1 << 20 };
	struct store_params p = params_of(w, w->sim);
	struct store_error err = { "" };

	p.read_only = !(what & DO_WRITE);
	if (store_open(&p, &w->store, &err)) {
		ASSERT(err.text[0] && !whole);
		return;
	}
	if (fs_open(w->store, &fp, &w->fs)) {
		store_abandon(w->store);
		return;
	}
	look_at_all(w, what);
	if (what & DO_WRITE)
		change(w, what);
	if (what & DO_TIDY) {
		(void)fs_close(w->fs);
		(void)store_close(w->store);
	} else {
		fs_abandon(w->fs);
		store_abandon(w->store);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world *w;

	if (!w)
		w = world_new();
	if (size < 2 || size > 2 + EDITS_MAX * FORGE_EDIT_BYTES)
		return 0;
	w->clock = 1 << 20;
	w->random = data[1] + 1u;
	w->sim = forge_image(w->forge, data + 2, size - 2);
	run(w, data[0], size < 2 + FORGE_EDIT_BYTES);
	simdev_free(w->sim);
	return 0;
}
