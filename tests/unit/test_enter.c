/* SPDX-License-Identifier: GPL-2.0-or-later */
/* enter.c: what a writer meets while much is entered. */
#include "fs/fs_internal.h"

#include "tests/lib/beside.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 40, FILE_BLOCKS = WINDOW_BLOCKS - 1, DEADLINE = 60 };

struct fixture {
	struct simfs s;
	struct fs_file *other;
	uint64_t most_unwritten;
	unsigned int writes;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	simfs_init(&f->s, 0);
	simfs_create(&f->s);
	f->other = simfs_make_file(&f->s, "other");
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_file_put(f->other);
	simfs_release(&f->s);
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
		file = simfs_make_file(&f->s, name);
		memset(data, i, sizeof(data));
		simfs_write(file, 0, data, sizeof(data));
		fs_file_put(file);
	}
}

/* The device has begun to write. */
static void write_beside(void *arg)
{
	struct fixture *f = arg;
	uint64_t bytes = log_unwritten_bytes(f->s.fs->log, LOG_BULK);

	if (bytes > f->most_unwritten)
		f->most_unwritten = bytes;
	if (bytes)
		f->writes++;
	simfs_write(f->other, 0, "x", 1);
	simdev_interrupt(f->s.sim, SIM_WRITE, 1, write_beside, f);
}

/* Whoever commits hands over what that appends: nothing is left to those who
 * write meanwhile, and they do not wait for it. */
static void test_a_writer_does_not_write_out_a_commit(void **state)
{
	struct fixture *f = *state;

	fill(f);
	(void)alarm(DEADLINE);
	simdev_interrupt(f->s.sim, SIM_WRITE, 1, write_beside, f);
	(void)simfs_commit(&f->s);
	simdev_interrupt(f->s.sim, SIM_WRITE, 0, NULL, NULL);
	(void)alarm(0);
	assert_true(f->writes > 2);
	assert_true(f->most_unwritten >= WRITE_BEHIND_BYTES);
	assert_true(f->most_unwritten <=
		    WRITE_BEHIND_BYTES + 2 * FILE_BLOCKS * FS_BLOCK_BYTES);
}

/* --- beside one file that is entered --- */

#define CAPS "security.capability"

static int get_caps(struct fixture *f, uint64_t ino)
{
	char value[16];
	size_t len;

	return fs_getxattr(fs_working(f->s.fs), ino, CAPS, value, sizeof(value),
			   &len);
}

static void enter_it(void *arg)
{
	assert_int_equal(file_enter(arg), 0);
}

/* With what the kernel asks for before. */
static void write_other(void *arg)
{
	struct fixture *f = arg;

	assert_int_equal(get_caps(f, fs_file_ino(f->other)), -ENODATA);
	assert_int_equal(fs_write(f->other, NULL, 0, "x", 1, false), 0);
}

static void test_a_writer_does_not_wait_for_another_file(void **state)
{
	struct fixture *f = *state;
	struct fs_file *entered = simfs_make_file(&f->s, "entered");
	struct beside enterer, writer;

	/* The first time it is looked up. */
	assert_int_equal(get_caps(f, fs_file_ino(f->other)), -ENODATA);
	simfs_write(entered, 0, "x", 1);
	/* It has the view's lock exclusive, and waits for the file's. */
	pthread_mutex_lock(&entered->lock);
	beside_start(&enterer, enter_it, entered);
	assert_false(beside_is_done(&enterer));
	(void)alarm(DEADLINE);
	beside_start(&writer, write_other, f);
	beside_join(&writer);
	(void)alarm(0);
	assert_false(beside_is_done(&enterer));
	pthread_mutex_unlock(&entered->lock);
	beside_join(&enterer);
	assert_false(entered->dirty);
	fs_file_put(entered);
}

/* An answer that is remembered is not given when it is not true any more. */
static void test_capabilities_that_come_and_go(void **state)
{
	struct fixture *f = *state;
	uint64_t ino = fs_file_ino(f->other);
	struct fs_view *fv = fs_working(f->s.fs);

	assert_int_equal(get_caps(f, ino), -ENODATA);
	(void)simfs_commit(&f->s);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fs_setxattr(fv, ino, CAPS, "c", 1, 0), 0);
		assert_int_equal(get_caps(f, ino), 0);
		assert_int_equal(fs_removexattr(fv, ino, CAPS), 0);
		assert_int_equal(get_caps(f, ino), -ENODATA);
	}
	assert_int_equal(fs_setxattr(fv, ino, CAPS, "c", 1, 0), 0);
	(void)simfs_commit(&f->s);
	assert_int_equal(fs_removexattr(fv, ino, CAPS), 0);
	assert_int_equal(get_caps(f, ino), -ENODATA);
	/* The file stays the one that is open: its bytes are the same. */
	assert_int_equal(fs_abort(f->s.fs), 0);
	assert_false(fs_file_is_stale(f->other));
	assert_int_equal(get_caps(f, ino), 0);
}

/* --- files that are given up in a flip --- */

enum { GIVEN_UP = 64, FLIPS = 2000 };

struct giver {
	struct fs_file *files[GIVEN_UP];
	bool begun; /* atomic */
};

static void *give_up(void *arg)
{
	struct giver *g = arg;

	__atomic_store_n(&g->begun, true, __ATOMIC_RELEASE);
	for (int i = 0; i < GIVEN_UP; i++) {
		while (!fs_file_is_stale(g->files[i]))
			; /* at once: what counts is the moment after it */
		fs_file_put(g->files[i]);
	}
	return NULL;
}

/* A file that the flip just took to the state before is in that one's table,
 * for whoever gives it up then. */
static void test_files_given_up_in_a_flip(void **state)
{
	struct fixture *f = *state;
	uint64_t inos[GIVEN_UP];

	for (int i = 0; i < GIVEN_UP; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "g%d", i);
		inos[i] = simfs_make(&f->s, name, S_IFREG | 0644, NULL);
	}
	(void)simfs_commit(&f->s);
	for (int i = 0; i < FLIPS; i++) {
		struct giver g = { .begun = false };
		pthread_t t;

		for (int k = 0; k < GIVEN_UP; k++) {
			assert_int_equal(fs_file_open(fs_working(f->s.fs),
						      inos[k], &g.files[k]),
					 0);
			simfs_write(g.files[k], 0, "x", 1);
		}
		assert_int_equal(pthread_create(&t, NULL, give_up, &g), 0);
		while (!__atomic_load_n(&g.begun, __ATOMIC_ACQUIRE))
			sched_yield();
		assert_int_equal(fs_abort(f->s.fs), 0);
		pthread_join(t, NULL);
	}
}

enum { RACES = 200 };

struct changer {
	struct fs_file *file;
	unsigned int done; /* atomic */
	int err;
};

/* In use all the time: at its end it says that the file is stale. */
static void *change_mode(void *arg)
{
	const struct fs_attr mode = { .mode = 0604 };
	struct changer *c = arg;

	while (!c->err) {
		c->err = fs_file_setattr(c->file, FS_SET_MODE, &mode, NULL);
		__atomic_add_fetch(&c->done, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Whoever has the file of the state before changes nothing of the new one. */
static void test_attributes_set_in_a_flip(void **state)
{
	struct fixture *f = *state;
	uint64_t ino = fs_file_ino(f->other);
	struct fs_view *fv = fs_working(f->s.fs);
	struct fs_attr attr;

	(void)simfs_commit(&f->s);
	for (int i = 0; i < RACES; i++) {
		struct changer c = { .err = 0 };
		pthread_t t;

		assert_int_equal(fs_file_open(fv, ino, &c.file), 0);
		simfs_write(c.file, 0, "x", 1);
		assert_int_equal(pthread_create(&t, NULL, change_mode, &c), 0);
		while (!__atomic_load_n(&c.done, __ATOMIC_ACQUIRE))
			sched_yield();
		assert_int_equal(fs_abort(f->s.fs), 0);
		pthread_join(t, NULL);
		assert_int_equal(c.err, -ESTALE);
		assert_int_equal(fs_getattr(fv, ino, &attr), 0);
		assert_int_equal(attr.mode, S_IFREG | 0644);
		attr.size = 0;
		assert_int_equal(fs_file_setattr(c.file, FS_SET_SIZE, &attr,
						 NULL),
				 -ESTALE);
		assert_int_equal(fs_drop_priv(c.file, false), 0);
		fs_file_put(c.file);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_writer_does_not_write_out_a_commit, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_writer_does_not_wait_for_another_file, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_capabilities_that_come_and_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_given_up_in_a_flip,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_attributes_set_in_a_flip,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
