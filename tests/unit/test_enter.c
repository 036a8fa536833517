/* SPDX-License-Identifier: GPL-2.0-or-later */
/* enter.c: what a writer meets while much is entered. */
#include "fs/fs_internal.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

#include <unistd.h>

enum { FILES = 40, FILE_BLOCKS = WINDOW_BLOCKS - 1, DEADLINE = 60 };

struct fixture {
	struct simdev *sim;
	struct env env;
	struct store *store;
	struct fs *fs;
	struct fs_file *other;
	uint64_t most_unwritten;
	unsigned int writes;
};

static const struct fs_cred cred = { .fsetid = true };

static void quiet(struct env *env, enum env_level level, const char *text)
{
}

static struct fs_file *make(struct fixture *f, const char *name)
{
	struct fs_new w = { .mode = S_IFREG | 0644 };
	struct fs_attr attr;
	struct fs_file *file;

	assert_int_equal(fs_make(fs_working(f->fs), &cred, FS_ROOT_INO, name,
				 strlen(name), &w, &attr, NULL),
			 0);
	assert_int_equal(fs_file_open(fs_working(f->fs), attr.ino, &file), 0);
	return file;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_params p = { .env = &f->env };
	struct store_error err = { "" };

	assert_non_null(f);
	*state = f;
	f->sim = simdev_new();
	env_init_host(&f->env);
	f->env.log = quiet;
	p.dev = simdev_dev(f->sim);
	if (store_create(&p, &f->store, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fs_open(f->store, NULL, &f->fs), 0);
	f->other = make(f, "other");
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_file_put(f->other);
	fs_abandon(f->fs);
	store_abandon(f->store);
	simdev_free(f->sim);
	free(f);
	return 0;
}

/* Not so much that it goes to the log at once. */
static void fill(struct fixture *f)
{
	static uint8_t data[FILE_BLOCKS * FS_BLOCK_BYTES];

	for (int i = 0; i < FILES; i++) {
		struct fs_file *file;
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		file = make(f, name);
		memset(data, i, sizeof(data));
		assert_int_equal(
			fs_write(file, &cred, 0, data, sizeof(data), false), 0);
		fs_file_put(file);
	}
}

/* The device has begun to write. */
static void write_beside(void *arg)
{
	struct fixture *f = arg;
	uint64_t bytes = log_unwritten_bytes(f->fs->log, LOG_BULK);

	if (bytes > f->most_unwritten)
		f->most_unwritten = bytes;
	if (bytes)
		f->writes++;
	assert_int_equal(fs_write(f->other, &cred, 0, "x", 1, false), 0);
	simdev_interrupt(f->sim, SIM_WRITE, 1, write_beside, f);
}

/* Whoever commits hands over what that appends: nothing is left to those who
 * write meanwhile, and they do not wait for it. */
static void test_a_writer_does_not_write_out_a_commit(void **state)
{
	struct fixture *f = *state;
	uint64_t number;

	fill(f);
	(void)alarm(DEADLINE);
	simdev_interrupt(f->sim, SIM_WRITE, 1, write_beside, f);
	assert_int_equal(fs_commit(f->fs, 0, NULL, 0, &number), 0);
	simdev_interrupt(f->sim, SIM_WRITE, 0, NULL, NULL);
	(void)alarm(0);
	assert_true(f->writes > 2);
	assert_true(f->most_unwritten >= WRITE_OUT_BYTES);
	assert_true(f->most_unwritten <=
		    WRITE_OUT_BYTES + 2 * FILE_BLOCKS * FS_BLOCK_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_writer_does_not_write_out_a_commit, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
