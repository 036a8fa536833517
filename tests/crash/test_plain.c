/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plain directory under interruptions: a real directory beside a store on
 * the simulated disk. A run that lets the files follow ends at any of its
 * system calls, the store loses power with what was not synced dropped,
 * reordered or torn, and the next run goes on: in the end the files are head,
 * and nothing of it is taken for an edit. The same where the store refuses what
 * a run notes in it, or fails, and the run is tried again before the cut. Edits
 * are staged whole, whenever the store fails in it.
 */
/* LDFLAGS: -Wl,--wrap=renameat,--wrap=renameat2,--wrap=linkat */
/* LDFLAGS: -Wl,--wrap=unlinkat,--wrap=pwrite64,--wrap=ftruncate64 */
/* LDFLAGS: -Wl,--wrap=fallocate64,--wrap=fsync,--wrap=syncfs,--wrap=chown */
/* LDFLAGS: -Wl,--wrap=chmod,--wrap=utimensat,--wrap=setxattr */
/* LDFLAGS: -Wl,--wrap=removexattr,--wrap=mkdirat,--wrap=symlinkat */
/* LDFLAGS: -Wl,--wrap=store_checkpoint */
#include "fs/plain_internal.h"

#include "tests/lib/same_dir.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NAMES = 6, BLOCK = 4096, BIG_BLOCKS = 600 };

/* --- the switch that ends a run --- */

static uint64_t calls_left; /* 0: no limit */
static uint64_t calls; /* since the switch was set */
static bool dead;
static struct simdev *to_kill;

static bool allow(void)
{
	calls++;
	if (!dead && calls_left && calls > calls_left) {
		dead = true;
		simdev_fail(to_kill, SIM_ALL, 1, EIO, true);
	}
	if (dead)
		errno = EIO;
	return !dead;
}

/* Somebody else's turn, while what waits for the host waits. */
static void (*others_turn)(void);

static bool allow_long(void)
{
	if (!dead && others_turn)
		others_turn();
	return allow();
}

#define WRAP_IF(allowed, ret, name, params, args)                              \
	ret __real_##name params;                                              \
	ret __wrap_##name params;                                              \
	ret __wrap_##name params                                               \
	{                                                                      \
		return allowed ? __real_##name args : -1;                      \
	}
#define WRAP(ret, name, params, args) WRAP_IF(allow(), ret, name, params, args)
#define WRAP_LONG(ret, name, params, args)                                     \
	WRAP_IF(allow_long(), ret, name, params, args)

WRAP_LONG(int, renameat, (int a, const char *b, int c, const char *d),
	  (a, b, c, d))
WRAP_LONG(int, renameat2,
	  (int a, const char *b, int c, const char *d, unsigned int e),
	  (a, b, c, d, e))
WRAP_LONG(int, linkat, (int a, const char *b, int c, const char *d, int e),
	  (a, b, c, d, e))
WRAP(int, unlinkat, (int a, const char *b, int c), (a, b, c))
WRAP_LONG(ssize_t, pwrite64, (int a, const void *b, size_t c, off_t d),
	  (a, b, c, d))
WRAP_LONG(int, fsync, (int a), (a))
WRAP(int, ftruncate64, (int a, off_t b), (a, b))
WRAP(int, fallocate64, (int a, int b, off_t c, off_t d), (a, b, c, d))
WRAP(int, chown, (const char *a, uid_t b, gid_t c), (a, b, c))
WRAP(int, chmod, (const char *a, mode_t b), (a, b))
WRAP_LONG(int, utimensat,
	  (int a, const char *b, const struct timespec *c, int d), (a, b, c, d))
/* More than the host can keep with one object, if its name says so. */
int __real_setxattr(const char *a, const char *b, const void *c, size_t d,
		    int e);
int __wrap_setxattr(const char *a, const char *b, const void *c, size_t d,
		    int e);
int __wrap_setxattr(const char *a, const char *b, const void *c, size_t d,
		    int e)
{
	if (!allow())
		return -1;
	if (strcmp(b, "user.large") != 0 || d < 10)
		return __real_setxattr(a, b, c, d, e);
	errno = ENOSPC;
	return -1;
}

WRAP(int, removexattr, (const char *a, const char *b), (a, b))
WRAP(int, mkdirat, (int a, const char *b, mode_t c), (a, b, c))
WRAP(int, symlinkat, (const char *a, int b, const char *c), (a, b, c))

/* Not really: all of the host's files would be flushed each time. */
int __wrap_syncfs(int fd);
int __wrap_syncfs(int fd)
{
	return allow_long() ? 0 : -1;
}

/* As on a full host: refused, and the store goes on. */
static uint64_t refuse_from; /* the first checkpoint that is; 0: none */
static uint64_t checkpoints; /* since it was set */

int __real_store_checkpoint(struct store *store, struct view *v);
int __wrap_store_checkpoint(struct store *store, struct view *v);
int __wrap_store_checkpoint(struct store *store, struct view *v)
{
	checkpoints++;
	return refuse_from && checkpoints >= refuse_from
		       ? -ENOSPC
		       : __real_store_checkpoint(store, v);
}

/* --- the store and the directory --- */

struct fixture {
	struct simfs s;
	struct rng rng;
	char dir[64], store_dir[96];
	int dirfd, storefd;
	bool clones; /* between the store and the files */
	bool verbose; /* VERBOSE=1: tell edits; the directory stays */
	bool store_fails; /* a run may end with an error */
	bool edited; /* something may be kept beside */
	uint64_t states; /* interruptions that were recovered from */
};

/* The power goes; the store is there again. */
static void lose_power(struct fixture *f)
{
	enum sim_mode mode = (enum sim_mode)rng_below(&f->rng, SIM_MODES);

	simfs_lose_power(&f->s, mode, rng_next(&f->rng));
	f->states++;
	simdev_set_clones(f->s.sim, f->clones);
	simfs_open(&f->s);
}

static int setup_at(void **state, const char *where)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	struct plain_state none = { 0 };

	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "%s/test-plain.XXXXXX",
		 tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->store_dir, sizeof(f->store_dir), "%s%s", f->dir, where);
	assert_int_equal(mkdir(f->store_dir, 0700), 0);
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	f->storefd = open(f->store_dir, O_RDONLY | O_DIRECTORY);
	f->verbose = getenv("VERBOSE") != NULL;
	f->rng.s = test_seed(20261128);
	simfs_init(&f->s, 1 << 20);
	f->s.params.bulk_segment_bytes = 8 << 20;
	simfs_create(&f->s);
	assert_int_equal(plain_put_state(f->s.fs, PLAIN_STATE_SHOWN, &none), 0);
	assert_int_equal(
		store_checkpoint(f->s.store, store_working(f->s.store)), 0);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_at(state, "/.txn");
}

/* What is on its way then lies in DIR; and the two share blocks. */
static int setup_elsewhere(void **state)
{
	int err = setup_at(state, ".store");
	struct fixture *f = *state;

	f->clones = true;
	simdev_set_clones(f->s.sim, true);
	return err;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	simfs_release(&f->s);
	if (!f->verbose) {
		assert_int_equal(plain_remove_tree(AT_FDCWD, f->store_dir), 0);
		assert_int_equal(plain_remove_tree(AT_FDCWD, f->dir), 0);
	}
	close(f->dirfd);
	close(f->storefd);
	free(f);
	return 0;
}

/* A directory in which names came and went again has a new time, and that
 * alone is no edit. */
static void is_shown(struct fixture *f, struct fs_view *fv, bool dir_times)
{
	same_dir_check(f->dirfd, fv, dir_times);
}

static void is_head(struct fixture *f)
{
	struct fs_view *fv = simfs_head_view(&f->s);

	is_shown(f, fv, true);
	fs_view_put(fv);
}

/* --- changes of the view --- */

/* A directory, by random steps from the root. */
static uint64_t some_dir(struct fixture *f)
{
	struct fs_view *fv = fs_working(f->s.fs);
	uint64_t dir = FS_ROOT_INO;
	struct fs_attr a;

	while (rng_below(&f->rng, 3)) {
		char name[8];

		snprintf(name, sizeof(name), "n%d",
			 (int)rng_below(&f->rng, NAMES));
		if (fs_lookup(fv, dir, name, strlen(name), &a) ||
		    !S_ISDIR(a.mode))
			break;
		dir = a.ino;
	}
	return dir;
}

static void write_some(struct fixture *f, uint64_t ino)
{
	enum { RUN = 40 }; /* enough to be shared */
	static uint8_t run[RUN * BLOCK], *const buf = run;
	const size_t small = 3 * BLOCK;
	struct fs_file *file;
	uint64_t size = rng_below(&f->rng, 4);

	if (fs_file_open(fs_working(f->s.fs), ino, &file))
		return;
	for (size_t i = 0; i < (size ? small : sizeof(run)); i += 8)
		put_le64(buf + i, rng_next(&f->rng));
	if (!size) /* large, with holes */
		assert_int_equal(fs_truncate(file, BIG_BLOCKS * BLOCK), 0);
	else if (size == 1)
		assert_int_equal(fs_truncate(file, rng_below(&f->rng, 5000)),
				 0);
	if (!size)
		assert_int_equal(
			fs_write(file, &simfs_cred,
				 rng_below(&f->rng, BIG_BLOCKS - RUN) * BLOCK,
				 run, sizeof(run), false),
			0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			fs_write(file, &simfs_cred,
				 size ? rng_below(&f->rng, 3 * BLOCK)
				      : rng_below(&f->rng, BIG_BLOCKS - 3) *
						 BLOCK,
				 buf, rng_below(&f->rng, small), false),
			0);
	fs_file_put(file);
}

static void change(struct fixture *f)
{
	struct fs_view *fv = fs_working(f->s.fs);
	uint64_t dir = some_dir(f), to = some_dir(f);
	char name[8], other[8];
	struct fs_new new_ = { .mode = S_IFREG | 0644 };
	struct fs_renamed moved;
	struct fs_attr a, set = { .mode = 0600 };

	snprintf(name, sizeof(name), "n%d", (int)rng_below(&f->rng, NAMES));
	snprintf(other, sizeof(other), "n%d", (int)rng_below(&f->rng, NAMES));
	if (fs_lookup(fv, dir, name, strlen(name), &a))
		a.ino = 0;
	switch (rng_below(&f->rng, 9)) {
	case 0:
		new_.mode = S_IFDIR | 0755;
		/* fall through */
	case 1:
		if (!fs_make(fv, &simfs_cred, dir, name, strlen(name), &new_,
			     &a, NULL))
			write_some(f, a.ino);
		break;
	case 2:
		new_.mode = S_IFLNK | 0777;
		new_.target = other;
		new_.target_len = strlen(other);
		(void)fs_make(fv, &simfs_cred, dir, name, strlen(name), &new_,
			      &a, NULL);
		break;
	case 3:
		if (a.ino && !S_ISDIR(a.mode))
			(void)fs_link(fv, a.ino, to, other, strlen(other), &a);
		break;
	case 4:
		if (a.ino && S_ISDIR(a.mode) && !rng_below(&f->rng, 3))
			(void)fv_remove_tree(fv, dir, name, strlen(name),
					     a.mode, a.ino);
		else if (a.ino && !S_ISDIR(a.mode))
			(void)fs_unlink(fv, dir, name, strlen(name), NULL);
		break;
	case 5:
		if (a.ino && !S_ISLNK(a.mode)) {
			set.mode = S_ISDIR(a.mode) ? 0700 : 0600;
			(void)fs_setattr(fv, a.ino, FS_SET_MODE, &set, NULL);
			(void)fs_setxattr(fv, a.ino, "user.note", name, 2, 0);
		}
		break;
	case 6:
		if (a.ino && S_ISREG(a.mode))
			write_some(f, a.ino);
		break;
	default:
		(void)fs_rename(fv, &simfs_cred, dir, name, strlen(name), to,
				other, strlen(other),
				rng_below(&f->rng, 3) ? 0 : FS_RENAME_EXCHANGE,
				&moved);
	}
}

static void commit(struct fixture *f)
{
	uint64_t number;

	assert_true(fs_commit(f->s.fs, 0, NULL, 0, &number) >= 0);
}

/* --- runs --- */

/* There are no edits but one, maybe, and we may do everything. */
static void on_note(void *arg, const char *path, const char *why)
{
	const struct fixture *f = arg;

	if (!dead && !f->edited)
		fail_msg("%s %s", path, why);
}

static int sync_files(struct fixture *f, uint64_t limit,
		      struct plain_out_result *r)
{
	struct plain_out_params p = { .dirfd = f->dirfd,
				      .storefd = f->storefd,
				      .note = on_note,
				      .arg = f };
	struct store_error text;
	int err;

	to_kill = f->s.sim;
	calls = 0;
	calls_left = limit;
	err = plain_sync(f->s.fs, &p, r, &text);
	calls_left = 0;
	if (err < 0 && !dead && !f->store_fails)
		fail_msg("sync: %s", text.text);
	return err;
}

static void no_edits(struct fixture *f)
{
	struct plain_in_params p = { 0 };
	struct plain_in_result r;
	struct store_error text;

	assert_int_equal(plain_in(f->s.fs, f->dirfd, &p, &r, &text), 0);
	assert_int_equal(r.edits, 0);
}

/* After a cut: DIR is as the store says, or the store knows that it is between
 * two states. done: a run had ended, so that it is in step. */
static void is_known(struct fixture *f, bool done)
{
	bool behind, half;
	uint64_t number;

	assert_int_equal(plain_is_behind(f->s.fs, &behind, &number, &half), 0);
	assert_false(done && behind);
	if (!half)
		no_edits(f);
}

/* Nothing hinders it any more. */
static void ends_as_head(struct fixture *f)
{
	struct plain_out_result r;

	assert_true(sync_files(f, 0, &r) >= 0);
	assert_int_equal(r.kept, 0);
	assert_int_equal(r.unlike, 0);
	is_head(f);
	no_edits(f);
	simdev_settle(f->s.sim);
}

/* Interrupted up to a few times; then it is head, and nothing was an edit. */
static void test_out(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("PLAIN_ROUNDS", 400);
	struct plain_out_result r;

	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t usual = 30;

		for (uint64_t n = 1 + rng_below(&f->rng, 12); n; n--)
			change(f);
		commit(f);
		while (rng_below(&f->rng, 4)) {
			dead = false;
			if (sync_files(f, 1 + rng_below(&f->rng, usual), &r) >=
			    0)
				break;
			usual = usual / 2 + 2;
			dead = false;
			lose_power(f);
			is_known(f, false);
		}
		dead = false;
		ends_as_head(f);
	}
	fprintf(stderr, "%" PRIu64 " interruptions\n", f->states);
}

/*
 * The store refuses a checkpoint of the run and all later ones (full), or fails
 * in one; the run is tried again beside it, perhaps killed in that. Then there
 * is space again, or the power goes.
 */
static void fail_and_try(struct fixture *f)
{
	bool full = rng_below(&f->rng, 2), done = false;
	struct plain_out_result r;

	checkpoints = 0;
	if (full)
		refuse_from = 1 + rng_below(&f->rng, 4);
	else
		simdev_fail(f->s.sim, SIM_WRITE | SIM_SYNC | SIM_CREATE,
			    1 + rng_below(&f->rng, 16), EIO, true);
	f->store_fails = true;
	for (uint64_t n = 1 + rng_below(&f->rng, 3); n && !dead; n--) {
		uint64_t limit = rng_below(&f->rng, 4) ? 0 : 30;

		if (limit)
			limit = 1 + rng_below(&f->rng, limit);
		done = sync_files(f, limit, &r) >= 0;
		assert_int_equal(r.kept, 0);
	}
	f->store_fails = false;
	refuse_from = 0;
	if (full && !dead && rng_below(&f->rng, 3))
		return;
	dead = false;
	lose_power(f);
	is_known(f, done);
}

/* What only memory knows of a run counts for nothing. */
static void test_out_store_fails(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("PLAIN_ROUNDS", 400);

	for (uint64_t i = 0; i < rounds; i++) {
		for (uint64_t n = 1 + rng_below(&f->rng, 12); n; n--)
			change(f);
		commit(f);
		while (rng_below(&f->rng, 4))
			fail_and_try(f);
		ends_as_head(f);
	}
	fprintf(stderr, "%" PRIu64 " interruptions\n", f->states);
}

/* --- what somebody else does beside --- */

static void put_block(struct fixture *f, uint64_t ino, uint64_t block, char c)
{
	uint8_t buf[BLOCK];
	struct fs_file *file;

	memset(buf, c, sizeof(buf));
	assert_int_equal(fs_file_open(fs_working(f->s.fs), ino, &file), 0);
	assert_int_equal(fs_write(file, &simfs_cred, block * BLOCK, buf,
				  sizeof(buf), false),
			 0);
	fs_file_put(file);
}

static void rename_in_root(struct fixture *f, const char *a, const char *b,
			   unsigned int flags)
{
	struct fs_renamed moved;

	assert_int_equal(fs_rename(fs_working(f->s.fs), &simfs_cred,
				   FS_ROOT_INO, a, strlen(a), FS_ROOT_INO, b,
				   strlen(b), flags, &moved),
			 0);
}

static void sync_all(struct fixture *f)
{
	struct plain_out_result r;

	commit(f);
	assert_true(sync_files(f, 0, &r) >= 0);
}

/* Anyone may see that a directory has gone from its old place in a run that is
 * interrupted, and make one there: that is kept, and the next run ends. */
static void test_dir_made_anew(void **state)
{
	struct fixture *f = *state;
	char from[8] = "a", to[8] = "b", aside[24];
	struct plain_out_result r;
	uint64_t limit = 0, kept = 0;
	bool died;

	(void)simfs_make(&f->s, from, S_IFDIR | 0755, NULL);
	(void)simfs_make(&f->s, "a/f", S_IFREG | 0644, NULL);
	sync_all(f);
	do {
		rename_in_root(f, from, to, 0);
		commit(f);
		limit++;
		died = sync_files(f, limit, &r) < 0;
		dead = false;
		if (died)
			lose_power(f);
		f->edited = died && !mkdirat(f->dirfd, from, 0700);
		assert_true(sync_files(f, 0, &r) >= 0);
		snprintf(aside, sizeof(aside), "%s%s", from,
			 r.kept ? "@offline-1" : "");
		if (f->edited)
			assert_int_equal(
				unlinkat(f->dirfd, aside, AT_REMOVEDIR), 0);
		kept += r.kept;
		is_shown(f, fs_working(f->s.fs), false);
		from[0] ^= 'a' ^ 'b';
		to[0] ^= 'a' ^ 'b';
	} while (died);
	assert_true(kept > 0);
}

/* A file that was to be moved and is not there any more is made anew; what an
 * interruption left of that is not taken for it. */
static void test_taken_is_gone(void **state)
{
	struct fixture *f = *state;
	uint64_t ino = simfs_make(&f->s, "a", S_IFREG | 0640, NULL);
	char from[8] = "a", to[8] = "b";
	struct plain_out_result r;
	uint64_t limit = 0;
	bool died;

	for (uint64_t i = 0; i < BIG_BLOCKS; i++)
		put_block(f, ino, 2 * i, 'a');
	sync_all(f);
	do {
		rename_in_root(f, from, to, 0);
		commit(f);
		assert_int_equal(unlinkat(f->dirfd, from, 0), 0);
		died = sync_files(f, ++limit, &r) < 0;
		dead = false;
		if (died)
			lose_power(f);
		assert_true(sync_files(f, 0, &r) >= 0);
		is_shown(f, fs_working(f->s.fs), false);
		from[0] ^= 'a' ^ 'b';
		to[0] ^= 'a' ^ 'b';
	} while (died);
	assert_in_range(limit, 8, 1000);
}

/* Nor is another file with the same bytes, which is still at its name. */
static void test_taken_is_gone_beside_same_bytes(void **state)
{
	struct fixture *f = *state;
	struct plain_out_result r;
	uint64_t limit = 0;
	bool died;

	(void)simfs_make(&f->s, "a", S_IFREG | 0644, NULL);
	(void)simfs_make(&f->s, "b", S_IFREG | 0600, NULL);
	do {
		sync_all(f);
		rename_in_root(f, "a", "c", 0);
		rename_in_root(f, "b", "a", 0);
		commit(f);
		assert_int_equal(unlinkat(f->dirfd, "b", 0), 0);
		died = sync_files(f, ++limit, &r) < 0;
		dead = false;
		if (died)
			lose_power(f);
		assert_true(sync_files(f, 0, &r) >= 0);
		is_shown(f, fs_working(f->s.fs), false);
		rename_in_root(f, "a", "b", 0);
		rename_in_root(f, "c", "a", 0);
	} while (died);
}

static void set_note(struct fixture *f, uint64_t ino, const char *value)
{
	assert_int_equal(fs_setxattr(fs_working(f->s.fs), ino, "user.large",
				     value, strlen(value), 0),
			 0);
}

static void has_note(struct fixture *f, uint64_t ino, const char *want)
{
	char value[64];
	size_t len = 0;

	assert_int_equal(fs_getxattr(fs_working(f->s.fs), ino, "user.large",
				     value, sizeof(value), &len),
			 0);
	assert_int_equal(len, strlen(want));
	assert_memory_equal(value, want, len);
}

/* ctime is another one: the object is looked at. */
static void touch_ctime(struct fixture *f, const char *name)
{
	assert_int_equal(linkat(f->dirfd, name, f->storefd, "l", 0), 0);
	assert_int_equal(unlinkat(f->storefd, "l", 0), 0);
}

/* Attributes that the host cannot keep are no edit, whatever happens to the
 * file that has them, and no edit takes them away. */
static void test_attributes_left_out(void **state)
{
	static const char more[] = "more than it can keep";
	struct fixture *f = *state;
	uint64_t ino = simfs_make(&f->s, "a", S_IFREG | 0644, NULL);
	struct plain_in_params p = { 0 };
	struct plain_in_result r;
	struct store_error text;
	struct fs_attr a;

	set_note(f, ino, "few");
	sync_all(f);
	set_note(f, ino, more);
	sync_all(f);
	touch_ctime(f, "a");
	no_edits(f);
	rename_in_root(f, "a", "b", 0);
	assert_int_equal(
		fs_link(fs_working(f->s.fs), ino, FS_ROOT_INO, "c", 1, &a), 0);
	sync_all(f);
	touch_ctime(f, "b");
	no_edits(f);
	assert_int_equal(fchmodat(f->dirfd, "b", 0600, 0), 0);
	assert_int_equal(plain_in(f->s.fs, f->dirfd, &p, &r, &text), 0);
	assert_true(r.edits > 0);
	has_note(f, ino, more);
}

/* --- edits --- */

static int some_plain_dir(struct fixture *f)
{
	int fd = dup(f->dirfd);

	while (rng_below(&f->rng, 3)) {
		char name[8];
		int next;

		snprintf(name, sizeof(name), "n%d",
			 (int)rng_below(&f->rng, NAMES));
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (next < 0)
			break;
		close(fd);
		fd = next;
	}
	return fd;
}

static void edit(struct fixture *f)
{
	int dir = some_plain_dir(f), to = some_plain_dir(f), fd;
	char name[8], other[8];

	snprintf(name, sizeof(name), "n%d", (int)rng_below(&f->rng, NAMES));
	snprintf(other, sizeof(other), "n%d", (int)rng_below(&f->rng, NAMES));
	switch (rng_below(&f->rng, 8)) {
	case 0:
		(void)!mkdirat(dir, name, 0700);
		break;
	case 1:
		(void)!symlinkat(other, dir, name);
		break;
	case 2:
		(void)!linkat(dir, name, to, other, 0);
		break;
	case 3:
		(void)!unlinkat(dir, name, 0);
		break;
	case 4:
		(void)plain_remove_tree(dir, name);
		break;
	case 5:
		(void)!fchmodat(dir, name, 0640, 0);
		break;
	case 6:
		(void)!renameat(dir, name, to, other);
		break;
	default:
		fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
		if (fd < 0)
			break;
		if (!rng_below(&f->rng, 2))
			(void)!ftruncate(fd, (off_t)rng_below(&f->rng, 5000));
		(void)!pwrite(fd, &f->rng, sizeof(f->rng),
			      (off_t)rng_below(&f->rng, 100000));
		close(fd);
	}
	close(dir);
	close(to);
}

static void on_edit(void *arg, enum plain_difference what, const char *path,
		    const char *beside)
{
	struct fixture *f = arg;

	if (f->verbose)
		fprintf(stderr, "%s %s\n",
			what == PLAIN_CHANGED ? "changed"
			: what == PLAIN_ADDED ? "added"
					      : "removed",
			path);
}

static int stage_edits(struct fixture *f)
{
	struct plain_in_params p = { .edit = on_edit, .arg = f };
	struct plain_in_result r;
	struct store_error text = { "" };
	int err = plain_in(f->s.fs, f->dirfd, &p, &r, &text);

	if (err && !simdev_has_failed(f->s.sim))
		fail_msg("edits: %d, %s", err, text.text);
	return err;
}

/* The working view has them all or none, whenever the store fails. */
static void test_in(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("PLAIN_ROUNDS", 400);
	struct plain_out_result r;

	for (uint64_t i = 0; i < rounds; i++) {
		for (uint64_t n = rng_below(&f->rng, 6); n; n--)
			change(f);
		commit(f);
		assert_true(sync_files(f, 0, &r) >= 0);
		assert_int_equal(r.kept, 0);
		for (uint64_t n = 1 + rng_below(&f->rng, 6); n; n--)
			edit(f);
		while (rng_below(&f->rng, 3)) {
			simdev_fail(f->s.sim, SIM_WRITE | SIM_SYNC | SIM_CREATE,
				    1 + rng_below(&f->rng, 12), EIO, true);
			(void)stage_edits(f);
			lose_power(f);
		}
		assert_int_equal(stage_edits(f), 0);
		is_shown(f, fs_working(f->s.fs), false);
		assert_int_equal(fs_checkpoint(f->s.fs), 0);
		lose_power(f);
		is_shown(f, fs_working(f->s.fs), false);
		no_edits(f);
		/* Dropped, they go from the files, too. */
		if (!rng_below(&f->rng, 3))
			(void)fs_abort(f->s.fs);
		simdev_settle(f->s.sim);
	}
	fprintf(stderr, "%" PRIu64 " interruptions\n", f->states);
}

/* --- edits beside a run --- */

enum { TAGS_MAX = 32, TAG_BYTES = 16 };

static struct tags {
	struct fixture *f;
	uint8_t v[TAGS_MAX][TAG_BYTES];
	bool found[TAGS_MAX];
	size_t n;
} tags;

/* A file of DIR gets a few bytes more, or is made. */
static void append_tag(void)
{
	struct rng *rng = &tags.f->rng;
	uint8_t *tag = tags.v[tags.n];
	int dir = some_plain_dir(tags.f), fd;
	char name[8];

	snprintf(name, sizeof(name), "n%d", (int)rng_below(rng, NAMES));
	fd = openat(dir, name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW,
		    0644);
	close(dir);
	if (fd < 0)
		return;
	put_le64(tag, rng_next(rng));
	put_le64(tag + 8, rng_next(rng));
	assert_int_equal(write(fd, tag, TAG_BYTES), TAG_BYTES);
	close(fd);
	tags.found[tags.n++] = false;
}

/* Something moves away, and a file takes its place. */
static void move_away(void)
{
	struct rng *rng = &tags.f->rng;
	int dir = some_plain_dir(tags.f);
	char name[8], to[24];

	snprintf(name, sizeof(name), "n%d", (int)rng_below(rng, NAMES));
	snprintf(to, sizeof(to), "away%x", (unsigned int)rng_next(rng));
	(void)!__real_renameat(dir, name, dir, to);
	close(dir);
	append_tag();
}

static void maybe_append_tag(void)
{
	if (tags.n < TAGS_MAX && !rng_below(&tags.f->rng, 8))
		append_tag();
	else if (tags.n < TAGS_MAX && !rng_below(&tags.f->rng, 20))
		move_away();
}

static void find_tags(struct fixture *f)
{
	same_dir_find(openat(f->dirfd, ".", O_RDONLY), tags.v[0], TAG_BYTES,
		      tags.n, tags.found);
	for (size_t i = 0; i < tags.n; i++)
		assert_true(tags.found[i]);
}

static int remove_one(void *arg, const struct fs_dirent *e)
{
	return fv_remove_tree(arg, FS_ROOT_INO, e->name, e->len, e->type,
			      e->ino);
}

static void remove_all(struct fixture *f)
{
	struct fs_view *fv = fs_working(f->s.fs);

	assert_int_equal(fs_readdir(fv, FS_ROOT_INO, 0, false, remove_one, fv),
			 0);
}

/* Whatever a run was doing, an edit that it meets is in DIR when it is done,
 * and the next mount stages all that the files show else; what is done next
 * with what was staged has it, too. */
static void test_edits_beside(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("PLAIN_ROUNDS", 400);
	struct plain_out_result r;
	bool any;

	f->edited = true;
	tags.f = f;
	for (uint64_t i = 0; i < rounds; i++) {
		tags.n = 0;
		if (!(i % 32))
			remove_all(f); /* or what was kept fills it */
		for (uint64_t n = 1 + rng_below(&f->rng, 8); n; n--)
			change(f);
		commit(f);
		do {
			for (uint64_t n = rng_below(&f->rng, 4); n; n--)
				append_tag();
			dead = false;
			others_turn = maybe_append_tag;
			if (sync_files(f, rng_below(&f->rng, 3) * 8, &r) >= 0)
				break;
			dead = false;
			others_turn = NULL;
			lose_power(f);
		} while (tags.n + 4 < TAGS_MAX);
		assert_true(sync_files(f, 0, &r) >= 0);
		others_turn = NULL;
		find_tags(f);
		assert_int_equal(stage_edits(f), 0);
		commit(f);
		assert_int_equal(plain_retry(f->s.fs, &any), 0);
		assert_true(sync_files(f, 0, &r) >= 0);
		assert_int_equal(stage_edits(f), 0);
		is_shown(f, fs_working(f->s.fs), false);
		find_tags(f);
		simdev_settle(f->s.sim);
	}
}

/* Whatever is staged, what was written into plain files meanwhile comes in, and
 * out again with the next commit. */
static void test_in_beside_staged(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("PLAIN_ROUNDS", 400);
	struct plain_out_result r;

	f->edited = true;
	tags.f = f;
	for (uint64_t i = 0; i < rounds; i++) {
		tags.n = 0;
		if (!(i % 8))
			remove_all(f);
		for (uint64_t n = 1 + rng_below(&f->rng, 8); n; n--)
			change(f);
		if (rng_below(&f->rng, 3)) {
			commit(f);
			assert_true(sync_files(f, 0, &r) >= 0);
		}
		for (uint64_t n = 1 + rng_below(&f->rng, 6); n; n--) {
			if (rng_below(&f->rng, 4))
				append_tag();
			else
				move_away();
			change(f);
		}
		if (!rng_below(&f->rng, 3))
			commit(f);
		assert_int_equal(stage_edits(f), 0);
		commit(f);
		assert_true(sync_files(f, 0, &r) >= 0);
		is_head(f);
		find_tags(f);
		no_edits(f);
		simdev_settle(f->s.sim);
	}
}

/* When the first file has what changed. */
static void move_from(void)
{
	struct stat st;
	int fd;

	assert_int_equal(fstatat(tags.f->dirfd, "first", &st, 0), 0);
	if (st.st_mode != (S_IFREG | 0600))
		return;
	others_turn = NULL;
	fd = openat(tags.f->dirfd, "written", O_WRONLY);
	assert_int_equal(write(fd, "b", 1), 1);
	close(fd);
	assert_int_equal(
		__real_renameat(tags.f->dirfd, "from", tags.f->dirfd, "to"), 0);
	assert_int_equal(fchmodat(tags.f->dirfd, "first", 0640, 0), 0);
}

static void set_mode(struct fixture *f, uint64_t ino, uint32_t mode)
{
	struct fs_attr a = { .mode = mode };

	assert_int_equal(
		fs_setattr(fs_working(f->s.fs), ino, FS_SET_MODE, &a, NULL), 0);
}

/* A run does not find what somebody moves, and gives what somebody writes into
 * nothing that changed: it has that in the end all the same, and what was
 * written is staged. What somebody changes after it stays. */
static void test_moved_before_it_is_given_attributes(void **state)
{
	struct fixture *f = *state;
	uint64_t first, sub, file, written;
	struct plain_out_result r;
	struct fs_file *in;
	struct fs_attr a;
	size_t got = 0;
	char c = 0;
	bool any;

	(void)simfs_make(&f->s, "from", S_IFDIR | 0755, NULL);
	first = simfs_make(&f->s, "first", S_IFREG | 0644, NULL);
	written = simfs_make(&f->s, "written", S_IFREG | 0644, NULL);
	put_block(f, written, 0, 'a');
	sub = simfs_make(&f->s, "from/sub", S_IFDIR | 0755, NULL);
	file = simfs_make(&f->s, "from/file", S_IFREG | 0644, NULL);
	sync_all(f);
	set_mode(f, first, 0600);
	set_mode(f, sub, 0700);
	set_mode(f, file, 0600);
	set_mode(f, written, 0600);
	commit(f);
	tags.f = f;
	others_turn = move_from;
	assert_true(sync_files(f, 0, &r) >= 0);
	assert_null(others_turn);
	assert_int_equal(stage_edits(f), 0);
	in = simfs_open_file(&f->s, "written");
	assert_int_equal(fs_read(in, 0, &c, 1, &got), 0);
	assert_int_equal(c, 'b');
	fs_file_put(in);
	commit(f);
	assert_int_equal(plain_retry(f->s.fs, &any), 0);
	assert_true(sync_files(f, 0, &r) >= 0);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "to/sub", &a), 0);
	assert_int_equal(a.ino, sub);
	assert_int_equal(a.mode, S_IFDIR | 0700);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "first", &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0640);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "to/file", &a), 0);
	assert_int_equal(a.ino, file);
	assert_int_equal(a.mode, S_IFREG | 0600);
	is_head(f);
	no_edits(f);
}

/* When the other name of it is about to be given. */
static void move_large(void)
{
	if (faccessat(tags.f->storefd, "sync/x0-16", F_OK, 0))
		return;
	others_turn = NULL;
	assert_int_equal(__real_renameat(tags.f->dirfd, "large", tags.f->dirfd,
					 "away"),
			 0);
}

/* What a run made a link to, and could not write over then, is not what the
 * names get. */
static void test_moved_before_it_is_written_over(void **state)
{
	struct fixture *f = *state;
	uint64_t ino = simfs_make(&f->s, "large", S_IFREG | 0644, NULL);
	struct fs_attr a;

	assert_int_equal(ino, 16);
	for (uint64_t i = 0; i < BIG_BLOCKS; i++)
		put_block(f, ino, i, 'a');
	sync_all(f);
	put_block(f, ino, 7, 'b');
	assert_int_equal(fs_link(fs_working(f->s.fs), ino, FS_ROOT_INO, "more",
				 4, &a),
			 0);
	tags.f = f;
	f->edited = true;
	others_turn = move_large;
	sync_all(f);
	assert_null(others_turn);
	assert_int_equal(unlinkat(f->dirfd, "away", 0), 0);
	is_head(f);
}

static unsigned int turns_left;

static void move_parent(void)
{
	if (--turns_left)
		return;
	others_turn = NULL;
	assert_int_equal(__real_renameat(tags.f->dirfd, "in", tags.f->dirfd,
					 "moved"),
			 0);
}

/* A directory is to be made where something is in the way, and somebody moves
 * the one that it is made in, at any call: the run goes on. */
static void test_moved_while_something_is_kept(void **state)
{
	struct fixture *f = *state;
	struct plain_out_result r;
	unsigned int turns = 0;
	bool moved;

	f->edited = true;
	tags.f = f;
	do {
		(void)simfs_make(&f->s, "in", S_IFDIR | 0755, NULL);
		sync_all(f);
		(void)simfs_make(&f->s, "in/sub", S_IFDIR | 0755, NULL);
		commit(f);
		close(openat(f->dirfd, "in/sub", O_CREAT | O_WRONLY, 0644));
		turns_left = ++turns;
		others_turn = move_parent;
		assert_true(sync_files(f, 0, &r) >= 0);
		moved = !others_turn;
		others_turn = NULL;
		assert_int_equal(stage_edits(f), 0);
		remove_all(f);
	} while (moved);
	assert_true(turns > 3);
}

static void edit_and_remove_dir(void)
{
	int fd;

	if (turns_left && --turns_left)
		return;
	fd = openat(tags.f->dirfd, "in/file", O_WRONLY | O_APPEND);
	if (fd < 0 && !unlinkat(tags.f->dirfd, "in", AT_REMOVEDIR))
		others_turn = NULL;
	if (fd >= 0 && !tags.n) {
		assert_int_equal(write(fd, tags.v[0], TAG_BYTES), TAG_BYTES);
		tags.found[tags.n++] = false;
	}
	if (fd >= 0)
		close(fd);
}

/* An edit that was met when the file had been taken away is kept, also when
 * somebody removes the directory that is empty then. */
static void test_kept_where_the_directory_went(void **state)
{
	struct fixture *f = *state;
	struct plain_out_result r;
	unsigned int turns = 0;
	bool met;

	f->edited = true;
	tags.f = f;
	put_le64(tags.v[0], rng_next(&f->rng));
	put_le64(tags.v[0] + 8, rng_next(&f->rng));
	do {
		uint64_t in = simfs_make(&f->s, "in", S_IFDIR | 0755, NULL);

		(void)simfs_make(&f->s, "in/file", S_IFREG | 0644, NULL);
		sync_all(f);
		assert_int_equal(fs_unlink(fs_working(f->s.fs), in, "file", 4,
					   NULL),
				 0);
		commit(f);
		tags.n = 0;
		turns_left = ++turns;
		others_turn = edit_and_remove_dir;
		assert_true(sync_files(f, 0, &r) >= 0);
		others_turn = NULL;
		met = tags.n;
		find_tags(f);
		assert_int_equal(stage_edits(f), 0);
		remove_all(f);
	} while (met);
	assert_true(turns > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_store_fails, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_dir_made_anew, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_taken_is_gone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_taken_is_gone_beside_same_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out, setup_elsewhere,
						teardown),
		cmocka_unit_test_setup_teardown(test_attributes_left_out, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_edits_beside, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_in_beside_staged, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_moved_before_it_is_given_attributes, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_moved_before_it_is_written_over, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_moved_while_something_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_kept_where_the_directory_went, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
