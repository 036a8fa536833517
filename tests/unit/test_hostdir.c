/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/hostdir.h"

#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 3 };

struct fixture {
	char path[64];
	int fd;
};

static const char *name_of(int i)
{
	static char name[16];

	snprintf(name, sizeof(name), "..f%d", i);
	return name;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	snprintf(f->path, sizeof(f->path), "/tmp/txnfs-hostdir.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY);
	assert_true(f->fd >= 0);
	for (int i = 0; i < FILES; i++)
		assert_int_equal(mknodat(f->fd, name_of(i), S_IFREG | 0600, 0),
				 0);
	assert_int_equal(symlinkat(".", f->fd, "link"), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < FILES; i++)
		(void)unlinkat(f->fd, name_of(i), 0);
	(void)unlinkat(f->fd, "link", 0);
	close(f->fd);
	(void)rmdir(f->path);
	free(f);
	return 0;
}

static int count(DIR *d)
{
	const char *name;
	int n = 0;

	assert_non_null(d);
	for (;;) {
		assert_int_equal(hostdir_next(d, &name), 0);
		if (!name)
			break;
		assert_true(strcmp(name, ".") && strcmp(name, ".."));
		n++;
	}
	closedir(d);
	return n;
}

/* Also those that begin with two points; and again, of one descriptor. */
static void test_all_names_each_time(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(count(hostdir_open(f->fd, ".")), FILES + 1);
	assert_int_equal(count(hostdir_open(f->fd, ".")), FILES + 1);
	assert_int_equal(count(hostdir_open(AT_FDCWD, f->path)), FILES + 1);
}

static void test_what_is_no_directory(void **state)
{
	struct fixture *f = *state;

	assert_null(hostdir_open(f->fd, name_of(0)));
	assert_int_equal(errno, ENOTDIR);
	assert_null(hostdir_open(f->fd, "none"));
	assert_int_equal(errno, ENOENT);
	assert_null(hostdir_open(f->fd, "link"));
	assert_true(errno == ELOOP || errno == ENOTDIR);
}

static void test_a_listing_that_fails_says_so(void **state)
{
	struct fixture *f = *state;
	DIR *d = hostdir_open(f->fd, ".");
	int null = open("/dev/null", O_RDONLY);
	const char *name = "";

	assert_non_null(d);
	assert_int_equal(dup2(null, dirfd(d)), dirfd(d));
	close(null);
	errno = 0;
	assert_int_equal(hostdir_next(d, &name), -ENOTDIR);
	assert_null(name);
	closedir(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_names_each_time, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_is_no_directory,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_listing_that_fails_says_so, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
