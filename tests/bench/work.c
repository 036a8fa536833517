/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * work.c FOLDER WORK: fixed work of the layers below the mount, to count the
 * instructions of (tests/bench/instructions). The store lies in FOLDER, an
 * empty one; clock and randomness are the same each time. What happens in
 * measured_NAME() is counted, in the thread that calls it.
 */
#include "fs/fs.h"

#include "tests/bench/bench.h"

enum {
	FILES = 10000,
	FILE_BYTES = 2048,
	COMMITS = 1000,
	LOOKUPS = 50000,
	LISTINGS = 20,
	LARGE_BYTES = 16 << 20,
	READS = 20000,
	OVERWRITES = 20000,
	FSYNCS = 1000,
	ABORTS = 1000,
	DIFFS = 100,
	CHANGES = 100
};

struct work {
	struct env env;
	struct dev *dev;
	struct store *store;
	struct fs *fs;
	struct fs_view *fv;
	uint64_t inos[FILES];
	struct fs_file *large;
};

static const struct fs_cred cred = { .fsetid = true };
static int64_t clock_ns = 1700000000LL * 1000000000;
static uint64_t randomness = 42;

static int64_t tick(struct env *env)
{
	return __atomic_add_fetch(&clock_ns, 1000, __ATOMIC_RELAXED);
}

static void not_random(struct env *env, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)(next_random(&randomness) >> 32);
}

static void check(int err, const char *what)
{
	if (err < 0) {
		errno = -err;
		die("%s", what);
	}
}

static void open_store(struct work *w, const char *folder)
{
	struct store_params sp = { .env = &w->env,
				   .check_item = fs_check_item };
	struct fs_params fp = { 0 };
	struct store_error text = { "" };
	int fd = open_or_die(folder, O_RDONLY | O_DIRECTORY);

	env_init_host(&w->env);
	w->env.now_ns = tick;
	w->env.random = not_random;
	check(dev_host_new(fd, false, &w->dev), "device");
	sp.dev = w->dev;
	check(store_create(&sp, &w->store, &text), "store");
	check(fs_open(w->store, &fp, &w->fs), "files");
	w->fv = fs_working(w->fs);
	close(fd);
}

static void write_and_put(struct fs_file *f, uint64_t seed)
{
	char buf[FILE_BYTES];

	memset(buf, (int)seed, sizeof(buf));
	check(fs_write(f, &cred, 0, buf, sizeof(buf), false), "write");
	fs_file_put(f);
}

static void write_ino(struct work *w, uint64_t ino, uint64_t seed)
{
	struct fs_file *f;

	check(fs_file_open(w->fv, ino, &f), "open");
	write_and_put(f, seed);
}

static size_t name_of(size_t i, char *buf, size_t size)
{
	return (size_t)snprintf(buf, size, "file-%06zu", i);
}

static void commit(struct work *w)
{
	uint64_t number;

	check(fs_commit(w->fs, 0, "", 0, &number), "commit");
}

static void fill(struct work *w)
{
	struct fs_new what = { .mode = S_IFREG | 0644 };
	struct fs_attr attr;
	struct fs_file *f;
	char name[32];

	for (size_t i = 0; i < FILES; i++) {
		check(fs_make(w->fv, &cred, FS_ROOT_INO, name,
			      name_of(i, name, sizeof(name)), &what, &attr,
			      &f),
		      "make");
		w->inos[i] = attr.ino;
		write_and_put(f, i);
	}
	commit(w);
}

static void fill_large(struct work *w)
{
	struct fs_new what = { .mode = S_IFREG | 0644 };
	static char buf[1 << 20];
	struct fs_attr attr;

	check(fs_make(w->fv, &cred, FS_ROOT_INO, "large", 5, &what, &attr,
		      &w->large),
	      "make");
	for (uint64_t off = 0; off < LARGE_BYTES; off += sizeof(buf)) {
		fill_random(buf, sizeof(buf), off);
		check(fs_write(w->large, &cred, off, buf, sizeof(buf), false),
		      "write");
	}
	commit(w);
}

/* --- what is counted --- */

__attribute__((noinline)) static void measured_create(struct work *w)
{
	fill(w);
}

__attribute__((noinline)) static void measured_commits(struct work *w)
{
	for (size_t i = 0; i < COMMITS; i++) {
		write_ino(w, w->inos[i * 7 % FILES], i);
		commit(w);
	}
}

__attribute__((noinline)) static void measured_lookup(struct work *w)
{
	struct fs_attr attr;
	char name[32];

	for (size_t i = 0; i < LOOKUPS; i++) {
		size_t len = name_of(i * 7 % FILES, name, sizeof(name));

		check(fs_lookup(w->fv, FS_ROOT_INO, name, len, &attr),
		      "lookup");
	}
}

static int count_entry(void *arg, const struct fs_dirent *ent)
{
	++*(size_t *)arg;
	return 0;
}

__attribute__((noinline)) static void measured_readdir(struct work *w)
{
	size_t n = 0;

	for (size_t i = 0; i < LISTINGS; i++)
		check(fs_readdir(w->fv, FS_ROOT_INO, 0, true, count_entry, &n),
		      "readdir");
	if (n != (size_t)LISTINGS * FILES)
		check(-EPROTO, "readdir");
}

static uint64_t block(size_t i)
{
	return i * 7919 % (LARGE_BYTES / FS_BLOCK_BYTES) * FS_BLOCK_BYTES;
}

__attribute__((noinline)) static void measured_read(struct work *w)
{
	char buf[FS_BLOCK_BYTES];
	size_t got;

	for (size_t i = 0; i < READS; i++)
		check(fs_read(w->large, block(i), buf, sizeof(buf), &got),
		      "read");
}

__attribute__((noinline)) static void measured_overwrite(struct work *w)
{
	char buf[FS_BLOCK_BYTES] = { 0 };

	for (size_t i = 0; i < OVERWRITES; i++)
		check(fs_write(w->large, &cred, block(i), buf, sizeof(buf),
			       false),
		      "write");
	commit(w);
}

/* What a database does: each block durable before the next. */
__attribute__((noinline)) static void measured_fsync(struct work *w)
{
	char buf[FS_BLOCK_BYTES] = { 0 };

	for (size_t i = 0; i < FSYNCS; i++) {
		check(fs_write(w->large, &cred, block(i), buf, sizeof(buf),
			       false),
		      "write");
		check(fs_fsync(w->fv, fs_file_ino(w->large)), "fsync");
	}
}

__attribute__((noinline)) static void measured_aborts(struct work *w)
{
	for (size_t i = 0; i < ABORTS; i++) {
		write_ino(w, w->inos[i * 7 % FILES], i);
		check(fs_abort(w->fs), "abort");
	}
}

__attribute__((noinline)) static void measured_remove(struct work *w)
{
	char name[32];

	for (size_t i = 0; i < FILES; i++) {
		size_t len = name_of(i, name, sizeof(name));

		check(fs_unlink(w->fv, FS_ROOT_INO, name, len, NULL), "unlink");
	}
	commit(w);
}

static int count_change(void *arg, const struct fs_change *change)
{
	++*(size_t *)arg;
	return 0;
}

__attribute__((noinline)) static void measured_diff(struct work *w)
{
	struct root a, b;
	size_t n = 0;

	check(fs_resolve(w->fs, "head~1", &a), "head~1");
	check(fs_resolve(w->fs, "head", &b), "head");
	for (size_t i = 0; i < DIFFS; i++)
		check(fs_changes(w->fs, &a, &b, count_change, &n), "diff");
	root_put(store_tree(w->store), &a);
	root_put(store_tree(w->store), &b);
	if (n != (size_t)DIFFS * CHANGES)
		check(-EPROTO, "diff");
}

static void change_some(struct work *w)
{
	for (size_t i = 0; i < CHANGES; i++)
		write_ino(w, w->inos[i * 97 % FILES], i + 1);
	commit(w);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*setup[2])(struct work *w);
		void (*fn)(struct work *w);
	} works[] = {
		{ "create", { NULL }, measured_create },
		{ "commits", { fill }, measured_commits },
		{ "lookup", { fill }, measured_lookup },
		{ "readdir", { fill }, measured_readdir },
		{ "read", { fill_large }, measured_read },
		{ "overwrite", { fill_large }, measured_overwrite },
		{ "fsync", { fill_large }, measured_fsync },
		{ "aborts", { fill }, measured_aborts },
		{ "remove", { fill }, measured_remove },
		{ "diff", { fill, change_some }, measured_diff },
	};
	static struct work w;

	for (size_t i = 0; i < sizeof(works) / sizeof(*works); i++) {
		if (argc == 2 && !strcmp(argv[1], "list"))
			puts(works[i].name);
		if (argc != 3 || strcmp(argv[2], works[i].name) != 0)
			continue;
		open_store(&w, argv[1]);
		for (int s = 0; s < 2; s++)
			if (works[i].setup[s])
				works[i].setup[s](&w);
		works[i].fn(&w);
		fs_file_put(w.large);
		check(fs_close(w.fs), "close");
		check(store_close(w.store), "close");
		w.dev->ops->release(w.dev);
		return 0;
	}
	return argc == 2 ? 0 : 2;
}
