/* SPDX-License-Identifier: GPL-2.0-or-later */
/* copy.c: who waits for whom beside a copy. */
#include "fs/fs_internal.h"

#include "tests/lib/beside.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <unistd.h>

enum { FILE_BLOCKS = 3, DEADLINE = 60 };

struct fixture {
	struct simfs s;
	struct fs_file *from, *to;
};

static int setup(void **state)
{
	static const uint8_t data[FILE_BLOCKS * FS_BLOCK_BYTES] = "copied";
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	simfs_init(&f->s, 0);
	simfs_create(&f->s);
	f->from = simfs_make_file(&f->s, "from");
	f->to = simfs_make_file(&f->s, "to");
	simfs_write(f->from, 0, data, sizeof(data));
	(void)simfs_commit(&f->s);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_file_put(f->from);
	fs_file_put(f->to);
	simfs_release(&f->s);
	free(f);
	return 0;
}

static void copy(void *arg)
{
	const size_t len = FILE_BLOCKS * FS_BLOCK_BYTES;
	struct fixture *f = arg;
	size_t got;

	assert_int_equal(fs_copy_range(f->from, 0, f->to, 0, len, &got), 0);
	assert_int_equal(got, len);
}

static void sweep(void *arg)
{
	struct fixture *f = arg;

	assert_int_equal(fs_gc(f->s.fs, NULL), 0);
}

/* A switch holds writers back and grafts, as a sweep takes its state and
 * somebody copies: none waits for another that waits. */
static void test_a_copy_beside_a_sweep_and_a_flip(void **state)
{
	struct fixture *f = *state;
	struct root head = ROOT_EMPTY, now = ROOT_EMPTY, to = ROOT_EMPTY;
	const struct tree *tree = store_tree(f->s.store);
	struct beside copier, sweeper;

	store_head(f->s.store, &head, NULL);
	assert_int_equal(fs_freeze(f->s.fs, &now), 0);
	(void)alarm(DEADLINE);
	fs_park_writes(f->s.fs);
	beside_start(&copier, copy, f);
	assert_false(beside_is_done(&copier));
	beside_start(&sweeper, sweep, f);
	assert_int_equal(fs_graft(f->s.fs, &now, &head, "from", &to), 0);
	fs_unpark_writes(f->s.fs);
	beside_join(&copier);
	beside_join(&sweeper);
	(void)alarm(0);
	root_put(tree, &to);
	root_put(tree, &now);
	root_put(tree, &head);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_copy_beside_a_sweep_and_a_flip, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
