/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Edits of the plain files become staged changes: one kind after the other,
 * each as the next mount finds it. Under interruptions: crash/test_plain.c. */
/* LDFLAGS: -Wl,--wrap=fstat64,--wrap=fstatat64 */
#include "fs/plain_internal.h"

#include "tests/lib/plaindir.h"
#include "tests/lib/same_dir.h"
#include "tests/lib/test.h"

#include <fcntl.h>
#include <unistd.h>

/* A host that keeps no parts of a second. */
static bool has_seconds;

static int cut_times(int ret, struct stat *st)
{
	if (has_seconds)
		st->st_mtim.tv_nsec = st->st_ctim.tv_nsec = 0;
	return ret;
}

int __real_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st)
{
	return cut_times(__real_fstat64(fd, st), st);
}

int __real_fstatat64(int fd, const char *name, struct stat *st, int flags);
int __wrap_fstatat64(int fd, const char *name, struct stat *st, int flags);
int __wrap_fstatat64(int fd, const char *name, struct stat *st, int flags)
{
	return cut_times(__real_fstatat64(fd, name, st, flags), st);
}

static int setup(void **state)
{
	*state = plaindir_new();
	return 0;
}

static int teardown(void **state)
{
	has_seconds = false;
	plaindir_free(*state);
	return 0;
}

static void follow(struct plaindir *f)
{
	assert_int_equal(plaindir_follow(f), 0);
}

/* They are staged, whole, and found once; how many they are. */
static uint64_t stage(struct plaindir *f)
{
	struct plain_in_params p = { 0 };
	struct plain_in_result r, again;
	struct store_error text;

	if (plain_in(f->s.fs, f->dirfd, &p, &r, &text))
		fail_msg("%s", text.text);
	assert_int_equal(plain_in(f->s.fs, f->dirfd, &p, &again, &text), 0);
	assert_int_equal(again.edits, 0);
	return r.edits;
}

static void is_working(struct plaindir *f)
{
	same_dir_check(f->dirfd, fs_working(f->s.fs), false);
}

static uint64_t ino_of(struct plaindir *f, const char *path)
{
	struct fs_attr a;

	assert_int_equal(fs_walk(fs_working(f->s.fs), path, &a), 0);
	return a.ino;
}

static void append(struct plaindir *f, const char *path)
{
	int fd = openat(f->dirfd, path, O_WRONLY | O_APPEND);

	assert_int_equal(write(fd, "edited", 6), 6);
	close(fd);
}

/* The names of one file stay that, whatever else happens to it and to where
 * they are. */
static void test_links_that_move(void **state)
{
	struct plaindir *f = *state;
	uint64_t ino;
	struct fs_attr a;

	(void)simfs_make(&f->s, "from", S_IFDIR | 0755, NULL);
	ino = simfs_make(&f->s, "from/in", S_IFREG | 0644, NULL);
	assert_int_equal(fs_link(fs_working(f->s.fs), ino, FS_ROOT_INO, "link",
				 4, &a),
			 0);
	(void)simfs_make(&f->s, "other", S_IFREG | 0644, NULL);
	follow(f);
	assert_int_equal(renameat(f->dirfd, "from", f->dirfd, "to"), 0);
	assert_int_equal(renameat(f->dirfd, "link", f->dirfd, "a"), 0);
	assert_int_equal(renameat(f->dirfd, "other", f->dirfd, "link"), 0);
	assert_int_equal(linkat(f->dirfd, "a", f->dirfd, "z", 0), 0);
	append(f, "a");
	(void)stage(f);
	is_working(f);
	assert_int_equal(ino_of(f, "a"), ino);
}

/* Also when a directory that is new has one of the names, while what the file
 * is known by was moved, or edited in one that was. */
/* Also when the last commit has a file that was open and had no name: gone
 * since then, it is nothing that is staged. */
static void test_links_after_an_open_file(void **state)
{
	struct plaindir *f = *state;
	struct fs_file *file;
	uint64_t ino;
	struct fs_attr a;

	ino = simfs_make(&f->s, "file", S_IFREG | 0644, NULL);
	assert_int_equal(fs_link(fs_working(f->s.fs), ino, FS_ROOT_INO, "link",
				 4, &a),
			 0);
	(void)simfs_make(&f->s, "open", S_IFREG | 0644, NULL);
	file = simfs_open_file(&f->s, "open");
	assert_int_equal(fs_unlink(fs_working(f->s.fs), FS_ROOT_INO, "open", 4,
				   NULL),
			 0);
	follow(f);
	fs_file_put(file);
	append(f, "file");
	assert_int_equal(stage(f), 2);
	is_working(f);
	assert_int_equal(ino_of(f, "file"), ino);
	assert_int_equal(ino_of(f, "link"), ino);
}

static void test_links_in_new_directory(void **state)
{
	struct plaindir *f = *state;
	uint64_t file = simfs_make(&f->s, "file", S_IFREG | 0644, NULL), in;

	(void)simfs_make(&f->s, "from", S_IFDIR | 0755, NULL);
	in = simfs_make(&f->s, "from/in", S_IFREG | 0644, NULL);
	follow(f);
	assert_int_equal(mkdirat(f->dirfd, "new", 0755), 0);
	assert_int_equal(linkat(f->dirfd, "file", f->dirfd, "new/a", 0), 0);
	assert_int_equal(linkat(f->dirfd, "from/in", f->dirfd, "new/b", 0), 0);
	assert_int_equal(renameat(f->dirfd, "file", f->dirfd, "moved"), 0);
	assert_int_equal(renameat(f->dirfd, "from", f->dirfd, "to"), 0);
	append(f, "to/in");
	(void)stage(f);
	is_working(f);
	assert_int_equal(ino_of(f, "new/a"), file);
	assert_int_equal(ino_of(f, "new/b"), in);
}

/* A directory of more names than are looked at at once, with directories among
 * them: every edit is found, and nothing else. As many names are added as are
 * removed. */
static void test_many_names(void **state)
{
	enum { MANY = 3 * PLAIN_PART_NAMES };
	struct plaindir *f = *state;
	char path[64];

	for (int i = 0; i < MANY; i++) {
		snprintf(path, sizeof(path), "%d", i);
		(void)simfs_make(&f->s, path,
				 i % 100 ? S_IFREG | 0644 : S_IFDIR | 0755,
				 NULL);
		if (i % 100)
			continue;
		snprintf(path, sizeof(path), "%d/in", i);
		(void)simfs_make(&f->s, path, S_IFREG | 0644, NULL);
	}
	follow(f);
	assert_int_equal(stage(f), 0);
	for (int i = 1; i < MANY; i += MANY / 8) {
		snprintf(path, sizeof(path), "%d", i + !(i % 100));
		assert_int_equal(fchmodat(f->dirfd, path, 0600, 0), 0);
		snprintf(path, sizeof(path), "%d/in", i - i % 100);
		assert_int_equal(fchmodat(f->dirfd, path, 0600, 0), 0);
	}
	assert_int_equal(unlinkat(f->dirfd, "99", 0), 0);
	assert_int_equal(mkdirat(f->dirfd, "new", 0700), 0);
	assert_int_equal(stage(f), 2 * 8 + 2);
}

/* Somebody edits while edits are staged, and is found by the second comparison.
 */
static bool edited;

static int edit_once(void *arg)
{
	struct plaindir *f = arg;

	if (edited)
		return 0;
	edited = true;
	assert_int_equal(fchmodat(f->dirfd, "b", 0600, 0), 0);
	return mkdirat(f->dirfd, "new", 0700);
}

static void test_edit_while_staging(void **state)
{
	struct plaindir *f = *state;
	struct plain_in_params p = { .staging = edit_once, .arg = f };
	struct plain_in_result r;
	struct store_error text;
	struct fs_attr a;

	(void)simfs_make(&f->s, "b", S_IFREG | 0644, NULL);
	(void)simfs_make(&f->s, "dir", S_IFDIR | 0755, NULL);
	follow(f);
	(void)simfs_make(&f->s, "staged", S_IFREG | 0644, NULL);
	assert_int_equal(renameat(f->dirfd, "dir", f->dirfd, "renamed"), 0);
	assert_int_equal(plain_in(f->s.fs, f->dirfd, &p, &r, &text), 0);
	assert_true(edited);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "b", &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0600);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "new", &a), 0);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "staged", &a), 0);
	follow(f);
	is_working(f);
}

/* A file of which somebody has a copy by a link is made anew, not written over,
 * whatever has its new name now. */
static void test_link_elsewhere(void **state)
{
	enum { BYTES = 600 * FS_BLOCK_BYTES, AT = 7 * FS_BLOCK_BYTES };
	static uint8_t data[BYTES], got[BYTES];
	struct plaindir *f = *state;
	struct fs_file *file = simfs_make_file(&f->s, "large");
	int fd;

	memset(data, 'a', BYTES);
	simfs_write(file, 0, data, BYTES);
	(void)simfs_make(&f->s, "other", S_IFREG | 0644, NULL);
	follow(f);
	assert_int_equal(linkat(f->dirfd, "large", f->storefd, "copy", 0), 0);
	simfs_write(file, AT, "b", 1);
	fs_file_put(file);
	assert_int_equal(fs_rename(fs_working(f->s.fs), NULL, FS_ROOT_INO,
				   "large", 5, FS_ROOT_INO, "other", 5,
				   FS_RENAME_EXCHANGE, NULL),
			 0);
	follow(f);
	is_working(f);
	fd = openat(f->storefd, "copy", O_RDONLY);
	assert_int_equal(read(fd, got, BYTES), BYTES);
	close(fd);
	assert_memory_equal(got, data, BYTES);
}

static void reopen(struct plaindir *f)
{
	simfs_lose_power(&f->s, SIM_DROP, 1);
	simfs_open(&f->s);
}

static uint64_t disk_bytes(struct plaindir *f)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < simdev_file_count(f->s.sim); i++)
		bytes += simdev_file_bytes(f->s.sim, i);
	return bytes;
}

/* What edits brought into the store is not given back to make room for more of
 * them, and no record says that they are there before they are. */
static void test_in_on_a_full_disk(void **state)
{
	enum { FILES = 120, BYTES = 200 << 10, SEGMENT = 8 << 20 };
	static uint8_t data[BYTES];
	struct plaindir *f = *state;
	struct plain_in_params p = { 0 };
	struct plain_in_result r;
	struct store_error text;
	uint64_t before;
	char name[16];
	int fd;

	follow(f);
	reopen(f);
	before = disk_bytes(f);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "new%d", i);
		memset(data, i + 1, BYTES);
		fd = openat(f->dirfd, name, O_WRONLY | O_CREAT, 0644);
		assert_int_equal(write(fd, data, BYTES), BYTES);
		close(fd);
	}
	f->s.fs->buffer_bytes = 1 << 20; /* the rest is flushed */
	simdev_set_capacity(f->s.sim, before + 3 * SEGMENT);
	assert_int_equal(plain_in(f->s.fs, f->dirfd, &p, &r, &text), -ENOSPC);
	/* The one that is appended to stays. */
	assert_true(disk_bytes(f) < before + 2 * SEGMENT);
	reopen(f);
	simdev_set_capacity(f->s.sim, 0);
	(void)stage(f);
	is_working(f);
}

/* What was moved into a directory has the access that it had, not that which
 * the directory's default ACL gives to what is made there. */
static void test_moved_below_a_default_acl(void **state)
{
	static const uint8_t acl[] = { 2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255,
				       255, 2, 0, 5, 0, 232, 3, 0, 0, 4, 0,
				       5, 0, 255, 255, 255, 255, 16, 0, 7, 0,
				       255, 255, 255, 255, 32, 0, 0, 0, 255,
				       255, 255, 255 };
	struct plaindir *f = *state;
	uint8_t value[FS_XATTR_VALUE_MAX];
	struct fs_view *fv = fs_working(f->s.fs);
	uint64_t dir = simfs_make(&f->s, "dir", S_IFDIR | 0755, NULL);
	size_t len;
	int fd;

	assert_int_equal(fs_setxattr(fv, dir, "system.posix_acl_default", acl,
				     sizeof(acl), 0),
			 0);
	follow(f);
	assert_int_equal(mkdirat(f->dirfd, "new", 0700), 0);
	fd = openat(f->dirfd, "new/file", O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(renameat(f->dirfd, "new", f->dirfd, "dir/new"), 0);
	(void)stage(f);
	fv = fs_working(f->s.fs);
	assert_int_equal(fs_getxattr(fv, ino_of(f, "dir/new"),
				     "system.posix_acl_default", value,
				     sizeof(value), &len),
			 -ENODATA);
	assert_int_equal(fs_getxattr(fv, ino_of(f, "dir/new/file"),
				     "system.posix_acl_access", value,
				     sizeof(value), &len),
			 -ENODATA);
}

/* A directory in the place of a file that has staged changes. */
static void test_directory_for_a_staged_file(void **state)
{
	struct plaindir *f = *state;
	struct fs_attr a = { .mode = 0600 };
	uint64_t ino = simfs_make(&f->s, "file", S_IFREG | 0644, NULL);
	int fd;

	follow(f);
	assert_int_equal(fs_setattr(fs_working(f->s.fs), ino, FS_SET_MODE, &a,
				    NULL),
			 0);
	assert_int_equal(unlinkat(f->dirfd, "file", 0), 0);
	assert_int_equal(mkdirat(f->dirfd, "file", 0755), 0);
	fd = openat(f->dirfd, "file/in", O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	(void)stage(f);
	assert_int_equal(ino_of(f, "file"), ino);
	(void)ino_of(f, "file@offline-1/in");
}

static void rename_in_root(struct plaindir *f, const char *from, const char *to)
{
	assert_int_equal(fs_rename(fs_working(f->s.fs), NULL, FS_ROOT_INO, from,
				   strlen(from), FS_ROOT_INO, to, strlen(to), 0,
				   NULL),
			 0);
}

/* A directory in the place of a file that a commit moves: it is not that. */
static void test_directory_for_a_file_that_moves(void **state)
{
	struct plaindir *f = *state;
	struct stat st;
	int fd;

	(void)simfs_make(&f->s, "f", S_IFREG | 0644, NULL);
	(void)simfs_make(&f->s, "A", S_IFREG | 0644, NULL);
	(void)simfs_make(&f->s, "S", S_IFREG | 0644, NULL);
	follow(f);
	assert_int_equal(unlinkat(f->dirfd, "S", 0), 0);
	assert_int_equal(mkdirat(f->dirfd, "S", 0755), 0);
	fd = openat(f->dirfd, "S/in", O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	rename_in_root(f, "f", "t");
	rename_in_root(f, "A", "f");
	rename_in_root(f, "S", "A");
	rename_in_root(f, "t", "S");
	assert_int_equal(plaindir_follow(f), 1);
	assert_int_equal(fstatat(f->dirfd, "S@offline-1/in", &st, 0), 0);
	assert_int_equal(fstatat(f->dirfd, "A", &st, 0), 0);
	assert_true(S_ISREG(st.st_mode));
}

static void put(struct plaindir *f, const char *path, const char *text)
{
	int fd = openat(f->dirfd, path, O_WRONLY | O_CREAT, 0644);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* Within one second, of the same size: every edit is found. */
static void test_edits_of_one_second(void **state)
{
	struct plaindir *f = *state;
	struct fs_file *file;
	char text[8];
	size_t len = 0;

	(void)simfs_make(&f->s, "other", S_IFREG | 0644, NULL);
	has_seconds = true;
	follow(f);
	put(f, "file", "one");
	put(f, "linked", "one");
	assert_int_equal(linkat(f->dirfd, "linked", f->dirfd, "link", 0), 0);
	assert_int_equal(stage(f), 3);
	assert_int_equal(ino_of(f, "linked"), ino_of(f, "link"));
	put(f, "file", "two");
	assert_int_equal(stage(f), 1);
	put(f, "file", "six");
	assert_int_equal(stage(f), 1);
	file = simfs_open_file(&f->s, "file");
	assert_int_equal(fs_read(file, 0, text, sizeof(text), &len), 0);
	fs_file_put(file);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "six", 3);
}

/* Where no plain files are kept, edits are staged one mount after the other. */
static void test_edits_without_plain_files(void **state)
{
	struct plaindir *f = *state;

	(void)simfs_make(&f->s, "file", S_IFREG | 0644, NULL);
	follow(f);
	simfs_set(&f->s, STORE_PLAIN, 0);
	(void)simfs_make(&f->s, "other", S_IFREG | 0644, NULL);
	follow(f);
	assert_int_equal(mkdirat(f->dirfd, "one", 0755), 0);
	assert_int_equal(stage(f), 1);
	assert_int_equal(mkdirat(f->dirfd, "two", 0755), 0);
	assert_int_equal(stage(f), 1);
	simfs_set(&f->s, STORE_PLAIN, 1);
	follow(f);
	is_working(f);
	(void)ino_of(f, "file");
	(void)ino_of(f, "one");
	(void)ino_of(f, "two");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_moved_below_a_default_acl,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_directory_for_a_staged_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_directory_for_a_file_that_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_that_move, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_links_after_an_open_file,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_in_new_directory,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_edits_of_one_second, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_edits_without_plain_files,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_names, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_edit_while_staging, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_link_elsewhere, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_in_on_a_full_disk, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
