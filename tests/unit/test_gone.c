/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is told of an object when its last name goes: also what has to be read
 * for that. */
#include "fs/fs_internal.h"
#include "txn/store_internal.h"

#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

enum { LINKS = 300, TARGET_BYTES = 3900 };

static char *told; /* the target of the symlink that went */

static void on_gone(void *arg, const struct fs_gone *what)
{
	free(told);
	told = what->target ? strdup(what->target) : NULL;
}

static void target_of(unsigned int i, char target[TARGET_BYTES + 1])
{
	memset(target, 'a' + (int)(i % 26), TARGET_BYTES);
	target[TARGET_BYTES] = '\0';
}

/* Its number and its target are in different nodes, some of the time. */
static void test_target_that_is_not_in_memory(void **state)
{
	struct simfs s = { 0 };
	char target[TARGET_BYTES + 1], name[8];

	simfs_init(&s, 1 << 20);
	s.params.no_thread = true;
	s.fs_params.gone = on_gone;
	simfs_create(&s);
	for (unsigned int i = 0; i < LINKS; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		target_of(i, target);
		(void)simfs_make(&s, name, S_IFLNK | 0777, target);
	}
	(void)simfs_commit(&s);
	for (unsigned int i = 0; i < LINKS; i++) {
		struct fs_view *fv = fs_working(s.fs);

		assert_int_equal(fs_checkpoint(s.fs), 0);
		cache_drop(s.store->cache);
		snprintf(name, sizeof(name), "l%u", i);
		target_of(i, target);
		assert_int_equal(fs_unlink(fv, FS_ROOT_INO, name, strlen(name),
					   NULL),
				 0);
		assert_non_null(told);
		assert_string_equal(told, target);
	}
	free(told);
	told = NULL;
	simfs_release(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_target_that_is_not_in_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
