/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space.c: when a sweep is worth it; what it keeps for a turn of the queue. */
#include "fs/fs_internal.h"
#include "txn/store_internal.h" /* pin_epoch: is a sweep waiting? */

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

#include <sched.h>
#include <sys/stat.h>

enum { BYTES = 4 << 20 };

struct fixture {
	struct simdev *sim;
	struct env env;
	struct store *store;
	struct fs *fs;
	struct fs_file *file;
	bool moved;
	int64_t (*now_ns)(struct env *env);
	uint64_t windows; /* what is written next */
	bool flips; /* the turn does */
	/* atomic: of the thread that makes a turn of the queue */
	bool frozen, go_on;
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

/* --- a turn of the queue under way --- */

static _Thread_local bool leads;

/* The leader of the queue asks for the time when it has frozen what it works
 * on; before that a flip does, and who looks at the candidate by a view. */
static int64_t hold_up(struct env *env)
{
	struct fixture *f = (struct fixture *)((char *)env -
					       offsetof(struct fixture, env));
	bool flipped = __atomic_load_n(&f->fs->flip_clock, __ATOMIC_SEQ_CST);

	if (leads && f->store->queue_busy && !f->store->views &&
	    (flipped || !f->flips)) {
		leads = false;
		__atomic_store_n(&f->frozen, true, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(&f->go_on, __ATOMIC_SEQ_CST))
			sched_yield();
	}
	return f->now_ns(env);
}

/* A window of the file, with bytes of its own: they are appended at once, and
 * entered later. */
static void write_window(struct fixture *f)
{
	static uint8_t data[WINDOW_BYTES];

	memset(data, (int)++f->windows, sizeof(data));
	assert_int_equal(
		fs_write(f->file, &cred, 0, data, sizeof(data), false), 0);
}

/* Another file is fsynced, and a record says that all bulk data is flushed. */
static void fsync_other(struct fixture *f)
{
	static uint8_t data[2 * WINDOW_BYTES];
	struct fs_new w = { .mode = S_IFREG | 0644 };
	struct fs_file *other;
	struct fs_attr attr;

	assert_int_equal(fs_make(fs_working(f->fs), &cred, FS_ROOT_INO, "other",
				 5, &w, &attr, &other),
			 0);
	assert_int_equal(fs_write(other, &cred, 0, data, sizeof(data), false),
			 0);
	assert_int_equal(fs_fsync(fs_working(f->fs), attr.ino), 0);
	fs_file_put(other);
}

static void *commit_beside(void *arg)
{
	struct fixture *f = arg;
	uint64_t number;
	int err;

	leads = true;
	err = fs_commit(f->fs, 0, NULL, 0, &number);
	return err ? f : NULL;
}

static void *snapshot_beside(void *arg)
{
	struct fixture *f = arg;

	leads = true;
	return fs_snapshot(f->fs, "now", 0, NULL, 0) ? f : NULL;
}

static void *abort_beside(void *arg)
{
	struct fixture *f = arg;

	leads = true;
	return fs_abort(f->fs) ? f : NULL;
}

static void *sweep_beside(void *arg)
{
	struct fixture *f = arg;

	return fs_sweep(f->fs) ? f : NULL;
}

static void told(void *arg, const char *state, const char *path,
		 const char *what)
{
	fail_msg("%s: %s: %s", state, path ? path : "-", what);
}

/* What the turn has frozen is in no record and no name yet, and the working
 * view shows something else by then; its data was durable before. */
static void sweep_in(struct fixture *f, void *(*turn)(void *arg))
{
	struct fs_verify_params p = { .damaged = told };
	struct fs_verify_stats st;
	pthread_t turning, sweeping;
	uint64_t number, epoch;
	void *failed;

	write_window(f);
	assert_int_equal(fs_commit(f->fs, 0, NULL, 0, &number), 0);
	write_window(f);
	fsync_other(f);
	f->flips = turn == abort_beside;
	if (f->flips) {
		/* Open, it would keep the state before. */
		fs_file_put(f->file);
		f->file = NULL;
	}
	f->now_ns = f->env.now_ns;
	f->env.now_ns = hold_up;
	assert_int_equal(pthread_create(&turning, NULL, turn, f), 0);
	while (!__atomic_load_n(&f->frozen, __ATOMIC_SEQ_CST))
		sched_yield();
	if (!f->flips)
		write_window(f);
	epoch = __atomic_load_n(&f->store->pin_epoch, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_create(&sweeping, NULL, sweep_beside, f), 0);
	while (__atomic_load_n(&f->store->pin_epoch, __ATOMIC_SEQ_CST) == epoch)
		sched_yield();
	__atomic_store_n(&f->go_on, true, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_join(turning, &failed), 0);
	assert_null(failed);
	assert_int_equal(pthread_join(sweeping, &failed), 0);
	assert_null(failed);
	assert_int_equal(fs_verify(f->fs, &p, &st), 0);
	assert_int_equal(st.damaged, 0);
}

static void test_sweep_in_a_commit(void **state)
{
	sweep_in(*state, commit_beside);
}

static void test_sweep_in_a_snapshot(void **state)
{
	sweep_in(*state, snapshot_beside);
}

static void test_sweep_in_an_abort(void **state)
{
	sweep_in(*state, abort_beside);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_plain_files_move_on_in_a_sweep),
		TEST(test_sweep_in_a_commit),
		TEST(test_sweep_in_a_snapshot),
		TEST(test_sweep_in_an_abort),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
