/* SPDX-License-Identifier: GPL-2.0-or-later */
/* copy.c: who waits for whom beside a copy. */
#include "fs/fs_internal.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FILE_BLOCKS = 3, DEADLINE = 60 };

struct fixture {
	struct simdev *sim;
	struct env env;
	struct store *store;
	struct fs *fs;
	struct fs_file *from, *to;
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
	static const uint8_t data[FILE_BLOCKS * FS_BLOCK_BYTES] = "copied";
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_params p = { .env = &f->env };
	struct store_error err = { "" };
	uint64_t number;

	assert_non_null(f);
	*state = f;
	f->sim = simdev_new();
	env_init_host(&f->env);
	f->env.log = quiet;
	p.dev = simdev_dev(f->sim);
	if (store_create(&p, &f->store, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fs_open(f->store, NULL, &f->fs), 0);
	f->from = make(f, "from");
	f->to = make(f, "to");
	assert_int_equal(fs_write(f->from, &cred, 0, data, sizeof(data), false),
			 0);
	assert_int_equal(fs_commit(f->fs, 0, NULL, 0, &number), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_file_put(f->from);
	fs_file_put(f->to);
	fs_abandon(f->fs);
	store_abandon(f->store);
	simdev_free(f->sim);
	free(f);
	return 0;
}

/* A thread that does one thing, which may have to wait. */
struct worker {
	struct fixture *f;
	void (*fn)(struct fixture *f);
	pthread_t thread;
	long tid; /* atomic */
	bool done; /* atomic */
};

static void *work(void *arg)
{
	struct worker *w = arg;

	__atomic_store_n(&w->tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	w->fn(w->f);
	__atomic_store_n(&w->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Until it is done or waits. */
static void start(struct worker *w, struct fixture *f,
		  void (*fn)(struct fixture *f))
{
	time_t end = time(NULL) + DEADLINE;

	*w = (struct worker){ .f = f, .fn = fn };
	assert_int_equal(pthread_create(&w->thread, NULL, work, w), 0);
	while (!__atomic_load_n(&w->done, __ATOMIC_SEQ_CST) &&
	       !thread_is_asleep(__atomic_load_n(&w->tid, __ATOMIC_SEQ_CST))) {
		assert_true(time(NULL) < end);
		sched_yield();
	}
}

static void copy(struct fixture *f)
{
	const size_t len = FILE_BLOCKS * FS_BLOCK_BYTES;
	size_t got;

	assert_int_equal(fs_copy_range(f->from, 0, f->to, 0, len, &got), 0);
	assert_int_equal(got, len);
}

static void sweep(struct fixture *f)
{
	assert_int_equal(fs_gc(f->fs, NULL), 0);
}

/* A switch holds writers back and grafts, as a sweep takes its state and
 * somebody copies: none waits for another that waits. */
static void test_a_copy_beside_a_sweep_and_a_flip(void **state)
{
	struct fixture *f = *state;
	struct root head = ROOT_EMPTY, now = ROOT_EMPTY, to = ROOT_EMPTY;
	const struct tree *tree = store_tree(f->store);
	struct worker copier, sweeper;

	store_head(f->store, &head, NULL);
	assert_int_equal(fs_freeze(f->fs, &now), 0);
	(void)alarm(DEADLINE);
	fs_park_writes(f->fs);
	start(&copier, f, copy);
	assert_false(__atomic_load_n(&copier.done, __ATOMIC_SEQ_CST));
	start(&sweeper, f, sweep);
	assert_int_equal(fs_graft(f->fs, &now, &head, "from", &to), 0);
	fs_unpark_writes(f->fs);
	assert_int_equal(pthread_join(copier.thread, NULL), 0);
	assert_int_equal(pthread_join(sweeper.thread, NULL), 0);
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
