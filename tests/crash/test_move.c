/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving a directory into a store, and out again, under interruptions: a run
 * ends at any of its system calls that change something, as a kill or a failing
 * host would end it, and is repeated. In the end everything is as it was:
 * names, bytes, modes, owners, times, attributes, hard links. With the store on
 * the simulated disk it loses power as well: no name goes from the directory
 * before what is durable of the store has the file.
 */
/* LDFLAGS: -Wl,--wrap=renameat,--wrap=renameat2,--wrap=linkat */
/* LDFLAGS: -Wl,--wrap=unlinkat,--wrap=pwrite64,--wrap=pwritev64 */
/* LDFLAGS: -Wl,--wrap=ftruncate64,--wrap=fallocate64,--wrap=fsync */
/* LDFLAGS: -Wl,--wrap=fdatasync,--wrap=syncfs,--wrap=chown,--wrap=fchown */
/* LDFLAGS: -Wl,--wrap=chmod,--wrap=fchmod,--wrap=utimensat,--wrap=setxattr */
/* LDFLAGS: -Wl,--wrap=removexattr,--wrap=mkdirat,--wrap=symlinkat */
/* LDFLAGS: -Wl,--wrap=mknodat */
#include "fs/move.h"
#include "fs/plain_internal.h"

#include "tests/lib/listing.h"
#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

/* --- the switch that ends a run --- */

static uint64_t calls_left; /* 0: no limit */
static uint64_t calls; /* since the switch was set */
static bool dead;
static struct simdev *to_kill; /* may be NULL */

static uint64_t hook_at; /* before that call hook() is called; 0: never */
static const char *hook_name; /* and before this name is removed */
static void (*hook)(void);

static bool allow(void)
{
	calls++;
	if (calls == hook_at)
		hook();
	if (!dead && calls_left && calls > calls_left) {
		dead = true;
		if (to_kill)
			simdev_fail(to_kill, SIM_ALL, 1, EIO, true);
	}
	if (dead)
		errno = EIO;
	return !dead;
}

#define WRAP(ret, name, params, args)                                          \
	ret __real_##name params;                                              \
	ret __wrap_##name params;                                              \
	ret __wrap_##name params                                               \
	{                                                                      \
		return allow() ? __real_##name args : -1;                      \
	}

WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, renameat2,
     (int a, const char *b, int c, const char *d, unsigned int e),
     (a, b, c, d, e))
WRAP(int, linkat, (int a, const char *b, int c, const char *d, int e),
     (a, b, c, d, e))

int __real_unlinkat(int dirfd, const char *name, int flags);
int __wrap_unlinkat(int dirfd, const char *name, int flags);
int __wrap_unlinkat(int dirfd, const char *name, int flags)
{
	if (hook_name && !strcmp(name, hook_name))
		hook();
	return allow() ? __real_unlinkat(dirfd, name, flags) : -1;
}

WRAP(ssize_t, pwrite64, (int a, const void *b, size_t c, off_t d), (a, b, c, d))
WRAP(ssize_t, pwritev64, (int a, const struct iovec *b, int c, off_t d),
     (a, b, c, d))
WRAP(int, ftruncate64, (int a, off_t b), (a, b))
WRAP(int, fallocate64, (int a, int b, off_t c, off_t d), (a, b, c, d))
WRAP(int, chown, (const char *a, uid_t b, gid_t c), (a, b, c))
WRAP(int, fchown, (int a, uid_t b, gid_t c), (a, b, c))
WRAP(int, chmod, (const char *a, mode_t b), (a, b))
WRAP(int, fchmod, (int a, mode_t b), (a, b))
WRAP(int, utimensat, (int a, const char *b, const struct timespec *c, int d),
     (a, b, c, d))
WRAP(int, setxattr,
     (const char *a, const char *b, const void *c, size_t d, int e),
     (a, b, c, d, e))
WRAP(int, removexattr, (const char *a, const char *b), (a, b))
WRAP(int, mkdirat, (int a, const char *b, mode_t c), (a, b, c))
WRAP(int, symlinkat, (const char *a, int b, const char *c), (a, b, c))
WRAP(int, mknodat, (int a, const char *b, mode_t c, dev_t d), (a, b, c, d))

/* Not really: the host is not what loses power here. */
#define WRAP_SYNC(name)                                                        \
	int __wrap_##name(int fd);                                             \
	int __wrap_##name(int fd)                                              \
	{                                                                      \
		return allow() ? 0 : -1;                                       \
	}

WRAP_SYNC(fsync)
WRAP_SYNC(fdatasync)
WRAP_SYNC(syncfs)

/* --- the directory --- */

struct fixture {
	struct env env;
	struct rng rng;
	char dir[64], path[96], outside[96];
	int dirfd; /* of path */
	struct simdev *sim;
	uint64_t interruptions, moved;
	size_t copied; /* large files that may be */
};

static void write_file(struct fixture *f, int dirfd, const char *name,
		       uint64_t size, bool holes)
{
	uint64_t block[512];
	int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0644);

	assert_true(fd >= 0);
	for (uint64_t off = 0; off < size; off += sizeof(block)) {
		if (holes && off / sizeof(block) % 7 < 3)
			continue;
		for (size_t i = 0; i < 512; i++)
			block[i] = rng_next(&f->rng);
		assert_true(pwrite(fd, block,
				   min_u64(sizeof(block), size - off),
				   (off_t)off) > 0);
	}
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (!rng_below(&f->rng, 3))
		(void)fsetxattr(fd, "user.note", name, strlen(name), 0);
	assert_int_equal(fchmod(fd, rng_below(&f->rng, 2) ? 0640 : 04755), 0);
	if (!geteuid() && !rng_below(&f->rng, 3))
		assert_int_equal(fchown(fd, 1234, 4321), 0);
	close(fd);
}

static void fill_dir(struct fixture *f, int dirfd, unsigned int depth)
{
	static const uint64_t sizes[] = { 0,	  17,	      900,    5000,
					  140000, 262144 + 9, 400000, 131072 };
	char name[16];

	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		write_file(f, dirfd, name,
			   sizes[rng_below(&f->rng, ARRAY_LEN(sizes))],
			   !rng_below(&f->rng, 3));
	}
	assert_int_equal(symlinkat("f1", dirfd, "link"), 0);
	assert_int_equal(mkfifoat(dirfd, "fifo", 0600), 0);
	for (int i = 0; i < 2 && depth; i++) {
		int fd;

		snprintf(name, sizeof(name), "d%d", i);
		assert_int_equal(mkdirat(dirfd, name, 0750), 0);
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY);
		assert_true(fd >= 0);
		fill_dir(f, fd, depth - 1);
		close(fd);
	}
}

static void set_times(int dirfd, const char *path, int64_t s)
{
	const struct timespec ts[2] = { { s, 1000 + s }, { s, 123456789 } };

	assert_int_equal(utimensat(dirfd, path, ts, AT_SYMLINK_NOFOLLOW), 0);
}

static void new_tree(struct fixture *f)
{
	static const char *const dirs[] = { "d0/d0", "d0/d1", "d1", "d0" };

	assert_int_equal(plain_remove_tree(AT_FDCWD, f->path), 0);
	assert_int_equal(plain_remove_tree(AT_FDCWD, f->outside), 0);
	assert_int_equal(mkdir(f->path, 0755), 0);
	assert_int_equal(mkdir(f->outside, 0755), 0);
	if (f->dirfd >= 0)
		close(f->dirfd);
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY);
	assert_true(f->dirfd >= 0);
	fill_dir(f, f->dirfd, 2);
	write_file(f, f->dirfd, "set", 200000, true);
	write_file(f, f->dirfd, "small-set", 2000, false);
	write_file(f, f->dirfd, "elsewhere", 300000, false);
	assert_int_equal(linkat(f->dirfd, "set", f->dirfd, "d0/d1/set", 0), 0);
	assert_int_equal(linkat(f->dirfd, "set", f->dirfd, "d1/again", 0), 0);
	assert_int_equal(linkat(f->dirfd, "small-set", f->dirfd, "d0/small", 0),
			 0);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		set_times(f->dirfd, dirs[i], 1000000 + (int64_t)i);
	set_times(f->dirfd, "set", 77);
	set_times(f->dirfd, "link", 78);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	struct rlimit rl;

	assert_non_null(f);
	/* Small batches. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = 80;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	snprintf(f->dir, sizeof(f->dir), "%s/test-move.XXXXXX",
		 tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/dir", f->dir);
	snprintf(f->outside, sizeof(f->outside), "%s/outside", f->dir);
	f->rng.s = test_seed(20261128);
	f->dirfd = -1;
	test_env_init(&f->env);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plain_remove_tree(AT_FDCWD, f->dir), 0);
	if (f->dirfd >= 0)
		close(f->dirfd);
	simdev_free(f->sim);
	free(f);
	return 0;
}

/* --- runs --- */

static uint64_t host_ino_of(struct fixture *f, const char *name)
{
	struct stat st;

	return fstatat(f->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) ? 0
								 : st.st_ino;
}

static void on_note(void *arg, const char *path, const char *why)
{
	if (!dead)
		fail_msg("%s %s", path, why);
}

/* Ends after so many calls; 0: does not. */
static int move(struct fixture *f, uint64_t limit)
{
	struct move_params p = { .dir = f->path,
				 .env = &f->env,
				 .note = on_note,
				 .no_thread = true };
	struct store_error text;
	struct move_result r;
	struct dev_file *file;
	struct dev *dev = f->sim ? simdev_dev(f->sim) : NULL;
	bool resume = false, done;
	char *have;
	int err;

	if (f->sim && !dev->ops->open(dev, "format", false, &file)) {
		dev->ops->close(file);
		resume = true;
	}
	to_kill = f->sim;
	calls = 0;
	calls_left = limit;
	dead = false;
	err = f->sim ? move_into(&p, dev, resume, &r, &text)
		     : move_in(&p, &r, &text);
	calls_left = 0;
	/* The last record was there, though its flush failed; or the device has
	 * a store that was not to be shown yet. */
	if (err == -EEXIST && r.resumed && !dead) {
		have = listing_of_dir(f->dirfd);
		done = !*have;
		free(have);
		assert_true(done || f->sim);
		if (done)
			return 0;
		simdev_free(f->sim);
		f->sim = simdev_new();
		return move(f, limit);
	}
	if (err && !dead)
		fail_msg("move: %s", text.text);
	f->moved += r.moved;
	f->interruptions += dead;
	if (!err) /* what tidies up at the end may fail */
		assert_int_equal(r.left, 0);
	dead = false;
	return err;
}

/* Where the two differ first. */
static void same_listing(const char *have, const char *want, const char *what)
{
	while (*have && *want) {
		size_t a = strcspn(have, "\n"), b = strcspn(want, "\n");

		if (a != b || memcmp(have, want, a) != 0)
			break;
		have += a + 1;
		want += b + 1;
	}
	if (*have || (*want && strcmp(what, "outside") != 0))
		fail_msg("%s: %.*s\nwanted: %.*s", what,
			 (int)strcspn(have, "\n"), have,
			 (int)strcspn(want, "\n"), want);
}

/* No file is held twice, or copied where it need not be. */
static void is_moved(struct fixture *f, int storefd, const char *want)
{
	DIR *d = fdopendir(
		openat(storefd, "log", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t large = 0, moved = 0;

	assert_non_null(d);
	for (const char *s = want, *p; *s; s = strchr(s, '\n') + 1) {
		size_t n = strcspn(s, " ");

		p = strstr(s, " size ");
		/* the first name of a large file, but for the one outside */
		large += strtoull(p + 6, NULL, 10) >= MOVE_MIN_BYTES &&
			 !strncmp(strstr(s, " first ") + 7, s, n) &&
			 strstr(s, " first ")[7 + n] == '\n';
	}
	for (const struct dirent *de; (de = readdir(d));)
		moved += strstr(de->d_name, ".m") != NULL;
	closedir(d);
	if (moved > large - 1 || moved < large - 1 - f->copied)
		fail_msg("%zu moved files of %zu", moved, large - 1);
}

static void is_in_store(struct fixture *f, const char *want)
{
	struct store_params p = { .env = &f->env, .read_only = true };
	struct store_error text;
	struct fs_verify_params vp = { 0 };
	struct fs_verify_stats st;
	struct store *store;
	struct dev *dev = f->sim ? simdev_dev(f->sim) : NULL;
	struct fs_view *fv;
	struct root head;
	struct fs *fs;
	char *have;
	int fd = -1;

	if (!f->sim) {
		fd = openat(f->dirfd, ".txn", O_RDONLY | O_DIRECTORY);
		assert_true(fd >= 0);
		assert_int_equal(dev_host_new(fd, true, &dev), 0);
	}
	p.dev = dev;
	if (store_open(&p, &store, &text))
		fail_msg("open: %s", text.text);
	assert_int_equal(fs_open(store, NULL, &fs), 0);
	store_head(store, &head, NULL);
	assert_int_equal(fs_view_new(fs, &head, &fv), 0);
	root_put(store_tree(store), &head);
	have = listing_of_view(fv);
	same_listing(have, want, "the store has");
	free(have);
	fs_view_put(fv);
	assert_int_equal(fs_verify(fs, &vp, &st), 0);
	assert_int_equal(st.damaged, 0);
	fs_abandon(fs);
	store_abandon(store);
	if (fd >= 0) {
		is_moved(f, fd, want);
		dev->ops->release(dev);
		close(fd);
	}
}

/* The store alone is in the directory. */
static void is_empty(struct fixture *f)
{
	char *have = listing_of_dir(f->dirfd);

	assert_string_equal(have, "");
	free(have);
}

static void lose_power(struct fixture *f)
{
	struct simdev *img =
		simdev_image(f->sim, simdev_ops(f->sim),
			     (enum sim_mode)rng_below(&f->rng, SIM_MODES),
			     rng_next(&f->rng));

	assert_non_null(img);
	simdev_free(f->sim);
	f->sim = img;
}

/* A name outside, after the directory was listed without it. */
static void link_outside(struct fixture *f)
{
	char name[128];

	snprintf(name, sizeof(name), "%s/elsewhere", f->outside);
	assert_int_equal(linkat(f->dirfd, "elsewhere", AT_FDCWD, name, 0), 0);
}

/* It is what it was, and nobody else's. */
static void is_alone_outside(struct fixture *f, const char *want)
{
	int fd = open(f->outside, O_RDONLY | O_DIRECTORY);
	char *have = listing_of_dir(fd);

	same_listing(have, strstr(want, "/elsewhere "), "outside");
	free(have);
	close(fd);
}

/* One tree: ended after n calls, and after fewer and fewer more, as long as
 * that goes on. false: it was done before. */
static bool one_move(struct fixture *f, uint64_t n)
{
	char *want;
	bool was_ended = false;

	new_tree(f);
	want = listing_of_dir(f->dirfd);
	link_outside(f);
	if (f->sim) {
		simdev_free(f->sim);
		f->sim = simdev_new();
	}
	for (uint64_t limit = n; limit && move(f, limit);
	     limit = rng_below(&f->rng, limit)) {
		was_ended = true;
		if (f->sim)
			lose_power(f);
	}
	if (was_ended)
		assert_int_equal(move(f, 0), 0);
	is_in_store(f, want);
	is_empty(f);
	is_alone_outside(f, want);
	free(want);
	return was_ended;
}

static void every_call(struct fixture *f)
{
	uint64_t rounds = test_param("MOVE_ROUNDS", 16), most = 0, n = 0;

	/* How many there are; then so many of them, from any first one on. */
	new_tree(f);
	if (f->sim) {
		simdev_free(f->sim);
		f->sim = simdev_new();
	}
	assert_int_equal(move(f, 0), 0);
	most = calls;
	assert_true(most > 50);
	n = 1 + rng_below(&f->rng, most / rounds + 1);
	for (; n < most; n += most / rounds + 1)
		(void)one_move(f, n);
	assert_true(f->moved > rounds);
	fprintf(stderr, "%" PRIu64 " calls, %" PRIu64 " interruptions\n", most,
		f->interruptions);
}

static void test_in(void **state)
{
	every_call(*state);
}

static void test_in_with_power_cuts(void **state)
{
	struct fixture *f = *state;

	f->sim = simdev_new();
	every_call(f);
}

/* --- writers --- */

static const char *wanted; /* a file that somebody wants to write to */
static int held_fd = -1; /* O_PATH, from then */
static bool breaks; /* that was refused for now: there was a lease */

static void want_to_write(void)
{
	int fd = open(wanted, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	else if (errno == EWOULDBLOCK)
		breaks = true;
	else
		return;
	if (held_fd < 0)
		held_fd = open(wanted, O_PATH | O_CLOEXEC);
}

static bool is_moved_file(struct fixture *f, uint64_t host_ino)
{
	DIR *d =
		fdopendir(openat(f->dirfd, ".txn/log", O_RDONLY | O_DIRECTORY));
	bool found = false;

	assert_non_null(d);
	for (const struct dirent *de; (de = readdir(d));)
		found |= strstr(de->d_name, ".m") && de->d_ino == host_ino;
	closedir(d);
	return found;
}

/* One tree; at: the call at which somebody comes, or 0: when the name goes. */
static void one_writer(struct fixture *f, uint64_t at)
{
	static char path[128];
	char proc[64], *listing;
	uint64_t ino;
	int fd;

	new_tree(f);
	write_file(f, f->dirfd, "wanted", 300000, false);
	ino = host_ino_of(f, "wanted");
	listing = listing_of_dir(f->dirfd);
	link_outside(f);
	snprintf(path, sizeof(path), "%s/wanted", f->path);
	wanted = path;
	breaks = false;
	hook = want_to_write;
	hook_at = at;
	hook_name = at ? NULL : "wanted";
	assert_int_equal(move(f, 0), 0);
	hook_at = 0;
	hook_name = NULL;
	is_in_store(f, listing);
	if (!at) {
		/* Too late for the name: it is not the store's file. */
		assert_true(breaks);
		assert_false(is_moved_file(f, ino));
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", held_fd);
		fd = open(proc, O_WRONLY);
		assert_true(fd >= 0);
		assert_int_equal(pwrite(fd, "written", 7, 70000), 7);
		close(fd);
		is_in_store(f, listing);
	}
	if (held_fd >= 0)
		close(held_fd);
	held_fd = -1;
	free(listing);
}

static void test_writers(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("MOVE_ROUNDS", 16), n, met = 0;

	f->copied = 1; /* at most: the one that is written to */
	one_writer(f, 0);
	for (n = 1 + rng_below(&f->rng, 9); n < 320; n += 320 / rounds + 1) {
		one_writer(f, n);
		met += breaks;
	}
	fprintf(stderr, "%" PRIu64 " met a lease\n", met);
}

/* --- out --- */

static int move_back(struct fixture *f, uint64_t limit)
{
	struct move_params p = { .dir = f->path,
				 .env = &f->env,
				 .note = on_note,
				 .no_thread = true };
	struct store_error text;
	int err;

	calls = 0;
	calls_left = limit;
	err = move_out(&p, &text);
	calls_left = 0;
	if (err && !dead)
		fail_msg("eject: %s", text.text);
	f->interruptions += dead;
	dead = false;
	return err;
}

static void test_out(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("MOVE_ROUNDS", 16), most, n;

	new_tree(f);
	assert_int_equal(move(f, 0), 0);
	assert_int_equal(move_back(f, 0), 0);
	most = calls;
	n = 1 + rng_below(&f->rng, most / rounds + 1);
	for (; n < most; n += most / rounds + 1) {
		uint64_t set, limit = n;
		char *want, *have;

		new_tree(f);
		want = listing_of_dir(f->dirfd);
		set = host_ino_of(f, "set");
		assert_int_equal(move(f, 0), 0);
		while (limit && move_back(f, limit))
			limit = rng_below(&f->rng, limit);
		assert_int_equal(move_back(f, 0), 0);
		/* Again, for nothing. */
		assert_int_equal(move_back(f, 0), 0);
		assert_int_equal(plain_remove_tree(f->dirfd, ".txn"), 0);
		have = listing_of_dir(f->dirfd);
		same_listing(have, want, "the directory has");
		assert_int_equal(host_ino_of(f, "set"), set);
		free(have);
		free(want);
	}
	fprintf(stderr, "%" PRIu64 " calls, %" PRIu64 " interruptions\n", most,
		f->interruptions);
}

/* What was given may be written into at once; that stays, whenever the rest is
 * gone on with. */
static void test_out_and_edits(void **state)
{
	static const char *const names[] = { "wanted", "set" };
	struct fixture *f = *state;
	unsigned int edited = 0;

	for (uint64_t limit = 20; edited < 8; limit += 7) {
		const char *name = names[limit % 2];
		char buf[8] = "";
		int fd;

		new_tree(f);
		write_file(f, f->dirfd, "wanted", 300000, false);
		assert_int_equal(move(f, 0), 0);
		assert_true(limit < 2000);
		if (!move_back(f, limit))
			continue;
		fd = openat(f->dirfd, name, O_RDWR);
		if (fd < 0)
			continue;
		assert_int_equal(pwrite(fd, "edited", 6, 100000), 6);
		close(fd);
		assert_int_equal(move_back(f, 0), 0);
		fd = openat(f->dirfd, name, O_RDWR);
		assert_int_equal(pread(fd, buf, 6, 100000), 6);
		close(fd);
		assert_string_equal(buf, "edited");
		assert_int_equal(host_ino_of(f, "set"),
				 host_ino_of(f, "d1/again"));
		edited++;
	}
}

/* A sum that does not match: nothing is given, and it is told. */
static void test_out_of_a_damaged_store(void **state)
{
	struct fixture *f = *state;
	struct move_params p = { .dir = f->path,
				 .env = &f->env,
				 .no_thread = true };
	struct store_error text;
	const struct dirent *de;
	DIR *d;
	int fd;

	new_tree(f);
	assert_int_equal(move(f, 0), 0);
	d = fdopendir(openat(f->dirfd, ".txn/log", O_RDONLY | O_DIRECTORY));
	assert_non_null(d);
	do {
		de = readdir(d);
		assert_non_null(de);
	} while (!strstr(de->d_name, ".m"));
	fd = openat(dirfd(d), de->d_name, O_RDWR);
	closedir(d);
	assert_int_equal(pwrite(fd, "damage", 6, 100000), 6);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(move_out(&p, &text), -EFSBADCRC);
		assert_non_null(strstr(text.text, "cannot be read"));
		is_empty(f);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_with_power_cuts, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_writers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_and_edits, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_out_of_a_damaged_store,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
