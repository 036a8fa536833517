/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plain files follow a commit while somebody edits them at a certain call
 * of the run, or where it may not do all: each edit is staged by the next
 * mount. At any call, and interrupted: crash/test_plain.c. */
/* LDFLAGS: -Wl,--wrap=renameat2,--wrap=utimensat */
#include "fs/plain_internal.h"

#include "tests/lib/plaindir.h"
#include "tests/lib/same_dir.h"
#include "tests/lib/test.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Somebody else's turn, before a run sets times: what he does is done once. */
static void (*others_turn)(struct plaindir *f);
static struct plaindir *others;
/* What nobody may move. */
static const char *fixed_name;

int __real_renameat2(int a, const char *b, int c, const char *d,
		     unsigned int e);
int __wrap_renameat2(int a, const char *b, int c, const char *d,
		     unsigned int e);
int __wrap_renameat2(int a, const char *b, int c, const char *d, unsigned int e)
{
	if (!fixed_name || strcmp(b, fixed_name) != 0)
		return __real_renameat2(a, b, c, d, e);
	errno = EPERM;
	return -1;
}

int __real_utimensat(int a, const char *b, const struct timespec *c, int d);
int __wrap_utimensat(int a, const char *b, const struct timespec *c, int d);
int __wrap_utimensat(int a, const char *b, const struct timespec *c, int d)
{
	void (*fn)(struct plaindir *f) = others_turn;

	others_turn = NULL;
	if (fn)
		fn(others);
	return __real_utimensat(a, b, c, d);
}

static int setup(void **state)
{
	*state = others = plaindir_new();
	return 0;
}

static int teardown(void **state)
{
	fixed_name = NULL;
	others_turn = NULL;
	plaindir_free(*state);
	return 0;
}

/* And somebody has his turn beside. */
static void follow_beside(struct plaindir *f, void (*fn)(struct plaindir *f))
{
	others_turn = fn;
	(void)plaindir_follow(f);
	assert_null(others_turn);
}

/* How many edits there were. */
static uint64_t stage_all(struct plaindir *f)
{
	struct plain_in_params p = { 0 };
	struct plain_in_result r;
	struct store_error text;

	if (plain_in(f->s.fs, f->dirfd, &p, &r, &text))
		fail_msg("%s", text.text);
	return r.edits;
}

/* There are some, and the working view has all that the files show. */
static void stage(struct plaindir *f)
{
	assert_true(stage_all(f) > 0);
	same_dir_check(f->dirfd, fs_working(f->s.fs), false);
}

static void set_mode(struct plaindir *f, uint64_t ino, uint32_t mode)
{
	struct fs_attr a = { .mode = mode };

	assert_int_equal(fs_setattr(fs_working(f->s.fs), ino, FS_SET_MODE, &a,
				    NULL),
			 0);
}

static uint64_t make(struct plaindir *f, const char *path, const char *text)
{
	struct fs_file *file = simfs_make_file(&f->s, path);
	uint64_t ino = fs_file_ino(file);

	simfs_write(file, 0, text, strlen(text));
	fs_file_put(file);
	return ino;
}

static void put(struct plaindir *f, const char *path, const char *text)
{
	int fd = openat(f->dirfd, path, O_WRONLY | O_CREAT, 0644);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void has(struct plaindir *f, const char *path, const char *text)
{
	struct fs_file *file = simfs_open_file(&f->s, path);
	char buf[64];
	size_t n = 0;

	assert_int_equal(fs_read(file, 0, buf, sizeof(buf), &n), 0);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, n);
	fs_file_put(file);
}

/* What somebody made is in the way, and cannot be moved: it is his, not what
 * could not be replaced. */
static void test_edit_that_cannot_be_moved(void **state)
{
	struct plaindir *f = *state;

	(void)make(f, "new", "committed");
	put(f, "new", "somebody's");
	fixed_name = "new";
	(void)plaindir_follow(f);
	fixed_name = NULL;
	stage(f);
	has(f, "new", "somebody's");
}

/* Nor is what somebody wrote into one that a commit changes or removes. */
static void test_edited_and_cannot_be_moved(void **state)
{
	struct plaindir *f = *state;
	struct fs_file *file;
	struct stat st;

	(void)make(f, "file", "committed");
	(void)make(f, "other", "committed");
	(void)plaindir_follow(f);
	put(f, "file", "somebody's");
	file = simfs_open_file(&f->s, "file");
	simfs_write(file, 0, "different", 9);
	fs_file_put(file);
	(void)make(f, "more", "committed");
	fixed_name = "file";
	(void)plaindir_follow(f);
	assert_int_equal(fstatat(f->dirfd, "more", &st, 0), 0);
	fixed_name = NULL;
	stage(f);
	has(f, "file", "somebody's");
	(void)plaindir_follow(f);
	put(f, "other", "somebody's");
	assert_int_equal(fs_unlink(fs_working(f->s.fs), FS_ROOT_INO, "other", 5,
				   NULL),
			 0);
	fixed_name = "other";
	(void)plaindir_follow(f);
	fixed_name = NULL;
	stage(f);
	has(f, "other", "somebody's");
}

static void test_directory_that_cannot_be_moved(void **state)
{
	struct plaindir *f = *state;

	(void)make(f, "new", "committed");
	assert_int_equal(mkdirat(f->dirfd, "new", 0755), 0);
	put(f, "new/in", "somebody's");
	fixed_name = "new";
	(void)plaindir_follow(f);
	fixed_name = NULL;
	stage(f);
	has(f, "new/in", "somebody's");
}

static bool is_there(struct plaindir *f, const char *path)
{
	struct stat st;

	return !fstatat(f->dirfd, path, &st, 0);
}

/* What could not be put below it is not removed by that. */
static void test_below_what_cannot_be_moved(void **state)
{
	struct plaindir *f = *state;
	bool any;

	(void)simfs_make(&f->s, "new", S_IFDIR | 0755, NULL);
	(void)simfs_make(&f->s, "new/sub", S_IFDIR | 0755, NULL);
	(void)make(f, "new/sub/file", "committed");
	(void)make(f, "new/other", "committed");
	assert_int_equal(mkdirat(f->dirfd, "new", 0755), 0);
	put(f, "new/other", "somebody's");
	fixed_name = "new";
	(void)plaindir_follow(f);
	fixed_name = NULL;
	assert_true(stage_all(f) > 0);
	has(f, "new/sub/file", "committed");
	has(f, "new/other", "somebody's");
	assert_int_equal(plain_retry(f->s.fs, &any), 0);
	(void)plaindir_follow(f);
	same_dir_check(f->dirfd, fs_working(f->s.fs), false);
}

/* A directory that moves below it has what somebody put there. */
static void test_moved_below_what_cannot_be_moved(void **state)
{
	struct plaindir *f = *state;
	struct plain_out_params p = { .dirfd = f->dirfd,
				      .storefd = f->storefd };
	struct plain_out_result r;
	struct store_error text;
	struct fs_attr a;

	(void)simfs_make(&f->s, "dir", S_IFDIR | 0755, NULL);
	(void)plaindir_follow(f);
	(void)simfs_make(&f->s, "new", S_IFDIR | 0755, NULL);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "new", &a), 0);
	assert_int_equal(fs_rename(fs_working(f->s.fs), NULL, FS_ROOT_INO,
				   "dir", 3, a.ino, "dir", 3, 0, NULL),
			 0);
	(void)simfs_commit(&f->s);
	put(f, "new", "somebody's");
	put(f, "dir/in", "somebody's");
	fixed_name = "new";
	assert_int_equal(plain_sync(f->s.fs, &p, &r, &text), -EPERM);
	assert_int_equal(plain_sync(f->s.fs, &p, &r, &text), -EPERM);
	fixed_name = NULL;
	assert_true(plain_sync(f->s.fs, &p, &r, &text) >= 0);
	assert_true(is_there(f, "new@offline-1"));
	assert_true(is_there(f, "new/dir/in"));
	stage(f);
}

/* A store is opened at an older commit than that which a run was interrupted
 * with: what was on its way is not removed. */
static void test_interrupted_and_renewed(void **state)
{
	struct plaindir *f = *state;
	struct plain_out_params p = { .dirfd = f->dirfd,
				      .storefd = f->storefd };
	struct plain_out_result r;
	struct store_error text;
	char tmp[32], path[64];

	out_tmp_name(tmp, simfs_make(&f->s, "dir", S_IFDIR | 0755, NULL), true);
	(void)plaindir_follow(f);
	assert_int_equal(fs_rename(fs_working(f->s.fs), NULL, FS_ROOT_INO,
				   "dir", 3, FS_ROOT_INO, "moved", 5, 0, NULL),
			 0);
	(void)simfs_commit(&f->s);
	put(f, "dir/in", "somebody's");
	fixed_name = tmp;
	assert_int_equal(plain_sync(f->s.fs, &p, &r, &text), -EPERM);
	fixed_name = NULL;
	assert_false(is_there(f, "dir"));
	assert_int_equal(plain_keep_interrupted(f->dirfd, f->storefd), 0);
	assert_int_equal(plain_renew(f->s.fs), 0);
	stage(f);
	(void)plaindir_follow(f);
	snprintf(path, sizeof(path), "interrupted@offline-1/%s/in", tmp);
	has(f, path, "somebody's");
	assert_true(is_there(f, path));
	assert_int_equal(plain_keep_interrupted(f->dirfd, f->storefd), 0);
	assert_false(is_there(f, "interrupted@offline-2"));
}

static void write_over(struct plaindir *f)
{
	put(f, "file", "edited...");
}

/* Before it gets its times: they do not hide that. */
static void test_written_while_it_gets_attributes(void **state)
{
	struct plaindir *f = *state;
	uint64_t ino = make(f, "file", "committed");

	(void)plaindir_follow(f);
	set_mode(f, ino, 0600);
	follow_beside(f, write_over);
	stage(f);
	has(f, "file", "edited...");
}

static void put_directory(struct plaindir *f)
{
	struct stat st;

	if (fstatat(f->dirfd, "link", &st, AT_SYMLINK_NOFOLLOW)) {
		others_turn = put_directory; /* not yet */
		return;
	}
	assert_int_equal(unlinkat(f->dirfd, "link", 0), 0);
	assert_int_equal(mkdirat(f->dirfd, "link", 0755), 0);
	put(f, "link/in", "somebody's");
}

/* A directory for a symlink, before that is noted. */
static void test_directory_for_a_symlink(void **state)
{
	struct plaindir *f = *state;

	(void)make(f, "file", "committed");
	(void)plaindir_follow(f);
	(void)simfs_make(&f->s, "link", S_IFLNK | 0777, "nowhere");
	follow_beside(f, put_directory);
	stage(f);
	has(f, "link/in", "somebody's");
}

static void replace_new(struct plaindir *f)
{
	struct stat st;
	struct timespec ts[2];

	if (fstatat(f->dirfd, "new", &st, 0)) {
		others_turn = replace_new; /* not yet */
		return;
	}
	ts[0] = st.st_atim;
	ts[1] = st.st_mtim;
	put(f, "other", "edited...");
	assert_int_equal(__real_utimensat(f->dirfd, "other", ts, 0), 0);
	assert_int_equal(renameat(f->dirfd, "other", f->dirfd, "new"), 0);
}

/* Another file of the same size and time, before it is noted. */
static void test_replaced_before_it_is_noted(void **state)
{
	struct plaindir *f = *state;

	(void)make(f, "file", "committed");
	(void)plaindir_follow(f);
	(void)make(f, "new", "committed");
	follow_beside(f, replace_new);
	stage(f);
	has(f, "new", "edited...");
}

static void put_file(struct plaindir *f)
{
	assert_int_equal(renameat(f->dirfd, "dir", f->dirfd, "away"), 0);
	put(f, "dir", "somebody's");
	assert_int_equal(fchmodat(f->dirfd, "dir", 0640, 0), 0);
}

/* A file for a directory does not get what is that one's. */
static void test_file_for_a_directory(void **state)
{
	struct plaindir *f = *state;
	uint64_t ino = make(f, "file", "committed");
	uint64_t dir = simfs_make(&f->s, "dir", S_IFDIR | 0755, NULL);
	struct fs_attr a;

	(void)plaindir_follow(f);
	set_mode(f, ino, 0600);
	set_mode(f, dir, 0700);
	follow_beside(f, put_file);
	stage(f);
	has(f, "dir", "somebody's");
	assert_int_equal(fs_walk(fs_working(f->s.fs), "dir", &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0640);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_edit_that_cannot_be_moved,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_edited_and_cannot_be_moved,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_directory_that_cannot_be_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_below_what_cannot_be_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_moved_below_what_cannot_be_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupted_and_renewed,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_written_while_it_gets_attributes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_for_a_symlink,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_replaced_before_it_is_noted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_for_a_directory,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
