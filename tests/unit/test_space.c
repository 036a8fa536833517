/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space.c: when a sweep is worth it; what it keeps for a turn of the queue. */
#include "fs/fs_internal.h"
#include "txn/store_internal.h" /* pin_epoch: is a sweep waiting? */

#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <sched.h>

enum { BYTES = 4 << 20 };

struct fixture {
	struct simfs s;
	struct fs_file *file;
	bool moved;
	int64_t (*now_ns)(struct env *env);
	uint64_t windows; /* what is written next */
	bool flips; /* the turn does */
	/* atomic: of the thread that makes a turn of the queue */
	bool frozen, go_on;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	simfs_init(&f->s, 0);
	simfs_create(&f->s);
	f->file = simfs_make_file(&f->s, "f");
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_file_put(f->file);
	simfs_release(&f->s);
	free(f);
	return 0;
}

/* All of the file is replaced, durably. */
static void replace(struct fixture *f)
{
	static uint8_t data[BYTES];

	memset(data, data[0] + 1, sizeof(data));
	simfs_write(f->file, 0, data, sizeof(data));
	assert_int_equal(fs_checkpoint(f->s.fs), 0);
}

/* Nothing happens meanwhile. */
static bool wants_when_idle(struct fixture *f)
{
	(void)fs_wants_sweep(f->s.fs);
	return fs_wants_sweep(f->s.fs);
}

static void move_beside(void *arg)
{
	struct fixture *f = arg;

	fs_shown_moved(f->s.fs);
	f->moved = true;
}

/* What the plain files showed when a sweep began was kept by it, also when they
 * show another state before it ends. */
static void test_plain_files_move_on_in_a_sweep(void **state)
{
	struct fixture *f = *state;

	replace(f);
	fs_shown_moved(f->s.fs);
	assert_true(wants_when_idle(f));
	assert_int_equal(fs_sweep(f->s.fs), 0);
	assert_false(wants_when_idle(f));

	replace(f);
	simdev_interrupt(f->s.sim, SIM_ALL, 1, move_beside, f);
	assert_int_equal(fs_sweep(f->s.fs), 0);
	assert_true(f->moved);
	assert_true(wants_when_idle(f));
	assert_int_equal(fs_sweep(f->s.fs), 0);
	assert_false(wants_when_idle(f));
}

/* --- a turn of the queue under way --- */

static _Thread_local bool leads;

/* The leader of the queue asks for the time when it has frozen what it works
 * on; before that a flip does, and who looks at the candidate by a view. */
static int64_t hold_up(struct env *env)
{
	struct fixture *f = CONTAINER_OF(env, struct fixture, s.env);
	bool flipped = __atomic_load_n(&f->s.fs->flip_clock, __ATOMIC_SEQ_CST);

	if (leads && f->s.store->queue_busy && !f->s.store->views &&
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
	simfs_write(f->file, 0, data, sizeof(data));
}

/* Another file is fsynced, and a record says that all bulk data is flushed. */
static void fsync_other(struct fixture *f)
{
	static uint8_t data[2 * WINDOW_BYTES];
	struct fs_file *other = simfs_make_file(&f->s, "other");

	simfs_write(other, 0, data, sizeof(data));
	assert_int_equal(fs_fsync(fs_working(f->s.fs), fs_file_ino(other)), 0);
	fs_file_put(other);
}

static void *commit_beside(void *arg)
{
	struct fixture *f = arg;
	uint64_t number;
	int err;

	leads = true;
	err = fs_commit(f->s.fs, 0, NULL, 0, &number);
	return err ? f : NULL;
}

static void *snapshot_beside(void *arg)
{
	struct fixture *f = arg;

	leads = true;
	return fs_snapshot(f->s.fs, "now", 0, NULL, 0) ? f : NULL;
}

static void *abort_beside(void *arg)
{
	struct fixture *f = arg;

	leads = true;
	return fs_abort(f->s.fs) ? f : NULL;
}

static void *sweep_beside(void *arg)
{
	struct fixture *f = arg;

	return fs_sweep(f->s.fs) ? f : NULL;
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
	uint64_t epoch;
	void *failed;

	write_window(f);
	(void)simfs_commit(&f->s);
	write_window(f);
	fsync_other(f);
	f->flips = turn == abort_beside;
	if (f->flips) {
		/* Open, it would keep the state before. */
		fs_file_put(f->file);
		f->file = NULL;
	}
	f->now_ns = f->s.env.now_ns;
	f->s.env.now_ns = hold_up;
	assert_int_equal(pthread_create(&turning, NULL, turn, f), 0);
	while (!__atomic_load_n(&f->frozen, __ATOMIC_SEQ_CST))
		sched_yield();
	if (!f->flips)
		write_window(f);
	epoch = __atomic_load_n(&f->s.store->pin_epoch, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_create(&sweeping, NULL, sweep_beside, f), 0);
	while (__atomic_load_n(&f->s.store->pin_epoch, __ATOMIC_SEQ_CST) ==
	       epoch)
		sched_yield();
	__atomic_store_n(&f->go_on, true, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_join(turning, &failed), 0);
	assert_null(failed);
	assert_int_equal(pthread_join(sweeping, &failed), 0);
	assert_null(failed);
	assert_int_equal(fs_verify(f->s.fs, &p, &st), 0);
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
