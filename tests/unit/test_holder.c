/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/holder.h"

#include "tests/lib/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
	char dir[64];
	int fd;
	struct holder *a, *b;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	snprintf(f->dir, sizeof(f->dir), "/tmp/txnfs-holder.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY);
	assert_true(f->fd >= 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	holder_release(f->a);
	holder_release(f->b);
	(void)unlinkat(f->fd, "lock", 0);
	close(f->fd);
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

static void test_one_holder_who_is_named(void **state)
{
	struct fixture *f = *state;
	struct holder_info info;

	assert_int_equal(holder_probe(f->fd, &info), 1);
	assert_int_equal(holder_take(f->fd, false, "/some where\n/x", 0, &f->a,
				     &info),
			 0);
	assert_int_equal(holder_take(f->fd, false, "/y", 0, &f->b, &info),
			 -EBUSY);
	assert_int_equal(info.pid, getpid());
	assert_string_equal(info.mountpoint, "/some where\n/x");
	assert_int_equal(holder_probe(f->fd, &info), 0);
	assert_int_equal(info.pid, getpid());
	holder_release(f->a);
	f->a = NULL;
	assert_int_equal(holder_probe(f->fd, &info), 1);
	assert_int_equal(holder_take(f->fd, false, "/y", 0, &f->b, &info), 0);
}

/* Something else in its place is not waited for. */
static void test_no_file(void **state)
{
	struct fixture *f = *state;
	struct holder_info info;

	assert_int_equal(mkfifoat(f->fd, "lock", 0600), 0);
	assert_int_equal(holder_probe(f->fd, &info), -EFSCORRUPTED);
	assert_int_equal(holder_take(f->fd, false, "/x", 0, &f->a, &info),
			 -EFSCORRUPTED);
	assert_int_equal(holder_take(f->fd, true, "/x", 0, &f->a, &info),
			 -EFSCORRUPTED);
}

static void test_who_died_is_named(void **state)
{
	struct fixture *f = *state;
	struct holder_info info;
	struct holder *h;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (!pid)
		_exit(holder_take(f->fd, false, "/place", 0, &h, &info) != 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(holder_take(f->fd, false, "/y", 0, &f->a, &info), 0);
	assert_int_equal(info.pid, pid);
	assert_string_equal(info.mountpoint, "/place");
	holder_release(f->a);
	f->a = NULL;
	assert_int_equal(holder_take(f->fd, false, "/y", 0, &f->b, &info), 0);
	assert_int_equal(info.pid, 0);
}

static void test_readers_share(void **state)
{
	struct fixture *f = *state;
	struct holder_info info;
	struct holder *w;

	assert_int_equal(holder_take(f->fd, true, "", 0, &f->a, &info),
			 -ENOENT);
	assert_int_equal(holder_take(f->fd, false, "", 0, &w, &info), 0);
	holder_release(w);
	assert_int_equal(holder_take(f->fd, true, "", 0, &f->a, &info), 0);
	assert_int_equal(holder_take(f->fd, true, "", 0, &f->b, &info), 0);
	assert_int_equal(holder_take(f->fd, false, "", 0, &w, &info), -EBUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_holder_who_is_named,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_died_is_named, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_readers_share, setup,
						teardown)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
