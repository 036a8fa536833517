/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space.c: when a sweep is worth it. */
#include "fs/fs_internal.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

#include <sys/stat.h>

enum { BYTES = 4 << 20 };

struct fixture {
	struct simdev *sim;
	struct env env;
	struct store *store;
	struct fs *fs;
	struct fs_file *file;
	bool moved;
};

static const struct fs_cred cred = { .fsetid = true };

static void quiet(struct env *env, enum env_level level, const char *text)
{
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_params p = { .env = &f->env };
	struct fs_new w = { .mode = S_IFREG | 0644 };
	struct store_error err = { "" };
	struct fs_attr attr;

	assert_non_null(f);
	*state = f;
	f->sim = simdev_new();
	env_init_host(&f->env);
	f->env.log = quiet;
	p.dev = simdev_dev(f->sim);
	if (store_create(&p, &f->store, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fs_open(f->store, NULL, &f->fs), 0);
	assert_int_equal(fs_make(fs_working(f->fs), &cred, FS_ROOT_INO, "f", 1,
				 &w, &attr, &f->file),
			 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_file_put(f->file);
	fs_abandon(f->fs);
	store_abandon(f->store);
	simdev_free(f->sim);
	free(f);
	return 0;
}

/* All of the file is replaced, durably. */
static void replace(struct fixture *f)
{
	static uint8_t data[BYTES];

	memset(data, data[0] + 1, sizeof(data));
	assert_int_equal(
		fs_write(f->file, &cred, 0, data, sizeof(data), false), 0);
	assert_int_equal(fs_checkpoint(f->fs), 0);
}

/* Nothing happens meanwhile. */
static bool wants_when_idle(struct fixture *f)
{
	(void)fs_wants_sweep(f->fs);
	return fs_wants_sweep(f->fs);
}

static void move_beside(void *arg)
{
	struct fixture *f = arg;

	fs_shown_moved(f->fs);
	f->moved = true;
}

/* What the plain files showed when a sweep began was kept by it, also when they
 * show another state before it ends. */
static void test_plain_files_move_on_in_a_sweep(void **state)
{
	struct fixture *f = *state;

	replace(f);
	fs_shown_moved(f->fs);
	assert_true(wants_when_idle(f));
	assert_int_equal(fs_sweep(f->fs), 0);
	assert_false(wants_when_idle(f));

	replace(f);
	simdev_interrupt(f->sim, SIM_ALL, 1, move_beside, f);
	assert_int_equal(fs_sweep(f->fs), 0);
	assert_true(f->moved);
	assert_true(wants_when_idle(f));
	assert_int_equal(fs_sweep(f->fs), 0);
	assert_false(wants_when_idle(f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_plain_files_move_on_in_a_sweep, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
