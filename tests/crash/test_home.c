/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A store that lies elsewhere, under interruptions: making it ends at any of
 * its system calls, and making it once more finishes; so does removing it. What
 * is left in between is no store, or the whole one.
 */
/* LDFLAGS: -Wl,--wrap=renameat,--wrap=unlinkat,--wrap=symlinkat,--wrap=fsync */
/* LDFLAGS: -Wl,--wrap=mkdir,--wrap=mkdirat,--wrap=rmdir,--wrap=fdatasync */
/* LDFLAGS: -Wl,--wrap=fchmod */
#include "fs/adopt.h"
#include "fs/home.h"
#include "fs/plain.h"

#include "tests/lib/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t calls_left; /* 0: no limit */
static uint64_t calls;

static bool allow(void)
{
	calls++;
	if (!calls_left || calls <= calls_left)
		return true;
	errno = EIO;
	return false;
}

#define WRAP(name, params, args)                                               \
	int __real_##name params;                                              \
	int __wrap_##name params;                                              \
	int __wrap_##name params                                               \
	{                                                                      \
		return allow() ? __real_##name args : -1;                      \
	}

WRAP(renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(unlinkat, (int a, const char *b, int c), (a, b, c))
WRAP(symlinkat, (const char *a, int b, const char *c), (a, b, c))
WRAP(mkdir, (const char *a, mode_t b), (a, b))
WRAP(mkdirat, (int a, const char *b, mode_t c), (a, b, c))
WRAP(rmdir, (const char *a), (a))
WRAP(fchmod, (int a, mode_t b), (a, b))

/* Not really: it is about the order of names. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return allow() ? 0 : -1;
}
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	return allow() ? 0 : -1;
}

struct fixture {
	char top[64], dir[80], store[80];
	int dirfd;
	struct env env;
	struct store_error text;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	int fd;

	assert_non_null(f);
	snprintf(f->top, sizeof(f->top), "%s/test-home.XXXXXX",
		 tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->top));
	snprintf(f->dir, sizeof(f->dir), "%s/dir", f->top);
	snprintf(f->store, sizeof(f->store), "%s/store", f->top);
	assert_int_equal(mkdir(f->dir, 0755), 0);
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	assert_true(f->dirfd >= 0);
	fd = openat(f->dirfd, "file", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(write(fd, "x\n", 2), 2);
	close(fd);
	test_env_init(&f->env);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	calls_left = 0;
	close(f->dirfd);
	assert_int_equal(plain_remove_tree(AT_FDCWD, f->top), 0);
	free(f);
	return 0;
}

static int make(struct fixture *f, uint64_t limit)
{
	struct adopt_params p = { .dir = f->dir,
				  .store = f->store,
				  .env = &f->env,
				  .no_thread = true };
	struct adopt_progress got;
	int err;

	calls = 0;
	calls_left = limit;
	err = adopt(&p, &got, &f->text);
	calls_left = 0;
	return err;
}

/* The link leads to a store that opens and has commit 1, or there is none. */
static bool is_there(struct fixture *f)
{
	struct store_params sp = { .env = &f->env,
				   .read_only = true,
				   .check_item = fs_check_item };
	struct commit_info *info = malloc(sizeof(*info));
	struct store *store;
	struct root head;
	int fd, err;

	err = home_open(f->dirfd, f->dir, &fd, &f->text);
	if (err == -ENOENT && !f->text.text[0]) {
		free(info);
		return false;
	}
	if (err)
		fail_msg("open: %s", f->text.text);
	assert_int_equal(dev_host_new(fd, true, &sp.dev), 0);
	close(fd);
	if (store_open(&sp, &store, &f->text))
		fail_msg("open: %s", f->text.text);
	store_head(store, &head, info);
	assert_int_equal(info->number, 1);
	root_put(store_tree(store), &head);
	free(info);
	assert_int_equal(store_close(store), 0);
	sp.dev->ops->release(sp.dev);
	return true;
}

static int remove_it(struct fixture *f, uint64_t limit)
{
	int err;

	calls = 0;
	calls_left = limit;
	err = home_remove(f->dirfd, f->dir, &f->text);
	calls_left = 0;
	return err;
}

static void nothing_is_left(struct fixture *f)
{
	static const char *const names[] = { HOME_NAME, HOME_NEW_NAME,
					     HOME_GONE_NAME };
	struct stat st;

	assert_int_equal(lstat(f->store, &st), -1);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(fstatat(f->dirfd, names[i], &st,
					 AT_SYMLINK_NOFOLLOW),
				 -1);
}

static void begin_to_remove(struct fixture *f)
{
	assert_int_equal(
		renameat(f->dirfd, HOME_NAME, f->dirfd, HOME_GONE_NAME), 0);
}

static void test_make(void **state)
{
	struct fixture *f = *state;
	uint64_t cut, linked = 0, finished = 0;
	int err = -1;

	for (cut = 1; err < 0; cut++) {
		err = make(f, cut);
		if (is_there(f)) {
			linked += err < 0;
		} else {
			int again = make(f, 0);

			assert_true(err < 0);
			if (again < 0)
				fail_msg("cut %d: %s", (int)cut, f->text.text);
			finished += again == 1;
			assert_true(is_there(f));
		}
		begin_to_remove(f);
		if (remove_it(f, 0))
			fail_msg("cut %d: %s", (int)cut, f->text.text);
		nothing_is_left(f);
	}
	/* It was interrupted beyond each of the steps. */
	assert_true(cut > 30 && finished && linked);
}

static void test_remove(void **state)
{
	struct fixture *f = *state;
	uint64_t cut;
	int err = -1;

	for (cut = 1; err < 0; cut++) {
		assert_int_equal(make(f, 0), 0);
		begin_to_remove(f);
		err = remove_it(f, cut);
		if (err && remove_it(f, 0))
			fail_msg("cut %d: %s", (int)cut, f->text.text);
		nothing_is_left(f);
	}
	assert_true(cut > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_make, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
