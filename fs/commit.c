/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * commit.c - making states of the working view durable: fsync, checkpoint,
 * commit, the frozen state, and the thread that does it in the background.
 *
 * Most of what is buffered goes out before the view is frozen, file by file;
 * only what was written meanwhile is entered in the hold of the view's lock in
 * which the freeze happens.
 */
#include "fs/fs_internal.h"
#include "txn/pace.h"

#include <time.h>

enum { COMMIT_ROUNDS = 2, SWEEP_SECONDS = 1 };

struct enter_op {
	struct fs_op op;
	uint64_t clock; /* of the frozen state */
	uint64_t new_bytes;
};

static int enter_fn(struct vtx *tx, void *arg)
{
	struct enter_op *e = arg;

	return tx_enter_all(tx, &e->op);
}

static void enter_done(void *arg)
{
	struct enter_op *e = arg;
	struct fs *fs = e->op.fv->fs;

	fv_entered_all(e->op.fv);
	e->clock = __atomic_load_n(&fs->clock, __ATOMIC_SEQ_CST);
	e->new_bytes = __atomic_load_n(&fs->new_bytes, __ATOMIC_SEQ_CST);
}

static void enter_init(struct fs *fs, struct enter_op *e)
{
	*e = (struct enter_op){
		.op = { .fn = enter_fn, .done = enter_done, .enters = true }
	};
	op_start(fs->working, &e->op);
}

int fs_freeze(struct fs *fs, struct root *root_out)
{
	struct enter_op e;

	if (store_is_read_only(fs->store)) {
		view_freeze(fs->working->view, root_out);
		return 0;
	}
	/* Most of it without keeping writers back, unless they are already.
	 * What fails there is told by what follows; a store that has stopped
	 * can be looked at all the same. */
	if (!__atomic_load_n(&fs->parked, __ATOMIC_SEQ_CST))
		(void)fv_enter_all(fs->working, ENTER_IN_MEMORY);
	enter_init(fs, &e);
	return view_update_freeze(fs->working->view, op_run, op_finish, &e.op,
				  root_out);
}

/* What makes durable says EIO when the store has stopped: EROFS would be for
 * those who want to change something. */
static int durable_error(struct fs *fs, int err)
{
	return err == -EROFS && store_failed(fs->store, NULL) ? -EIO : err;
}

int fs_checkpoint(struct fs *fs)
{
	int err;

	if (store_is_read_only(fs->store))
		return -EROFS;
	err = fv_enter_all(fs->working, ENTER_FLUSHED);
	if (!err)
		err = store_checkpoint(fs->store, fs->working->view);
	if (!err)
		__atomic_store_n(&fs->since_checkpoint, 0, __ATOMIC_RELAXED);
	return durable_error(fs, err);
}

int fs_fsync(struct fs_view *fv, uint64_t ino)
{
	struct fs_file *f;
	int err = 0;

	if (fs_view_is_read_only(fv))
		return 0;
	f = file_find(fv, ino);
	if (f) {
		err = file_enter(f);
		fs_file_put(f);
	}
	if (!err)
		err = store_checkpoint(fv->fs->store, fv->view);
	return durable_error(fv->fs, err);
}

/* For the history: what the commit changes. 1: nothing. A file that was removed
 * while somebody had it open, and is not open any more, is no change. */
static int commit_inspect(void *arg, const struct root *head,
			  const struct root *candidate,
			  struct commit_info *info)
{
	struct fs_change_totals t;
	int err;

	err = fs_change_totals(arg, head, candidate, &t);
	if (err)
		return err;
	info->changes =
		t.added + t.modified + t.deleted + t.renamed + t.retyped;
	info->bytes = t.bytes;
	if (info->number == 1 || info->changes)
		return 0;
	err = fs_delta_shows(arg, head, candidate);
	return err < 0 ? err : !err;
}

struct commit_arg {
	struct enter_op e; /* first: what enter and entered get */
	struct fs *fs;
};

static int inspect_adapter(void *arg, const struct root *head,
			   const struct root *candidate,
			   struct commit_info *info)
{
	struct commit_arg *c = arg;

	return commit_inspect(c->fs, head, candidate, info);
}

int fs_commit(struct fs *fs, uint32_t uid, const char *message,
	      size_t message_bytes, uint64_t *number_out)
{
	struct commit_arg c = { .fs = fs };
	struct commit_req req = { .uid = uid,
				  .message = message,
				  .message_bytes = message_bytes,
				  .enter = op_run,
				  .entered = op_finish,
				  .arg = &c,
				  .inspect = inspect_adapter };
	uint64_t flushed;
	int err = 0;

	if (store_is_read_only(fs->store))
		return -EROFS;
	for (int i = 0; i < COMMIT_ROUNDS && !err; i++)
		err = fv_enter_all(fs->working, ENTER_WRITTEN);
	/* Others may go on while the data goes to the device; the queue then
	 * finds little left to flush. */
	if (!err)
		err = log_flush(fs->log, LOG_BULK, &flushed);
	if (err)
		return durable_error(fs, err);
	enter_init(fs, &c.e);
	err = store_commit(fs->store, fs->working->view, &req, number_out);
	if (err < 0)
		return err;
	__atomic_store_n(&fs->same_clock, c.e.clock, __ATOMIC_SEQ_CST);
	__atomic_sub_fetch(&fs->new_bytes, c.e.new_bytes, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fs->since_checkpoint, 0, __ATOMIC_RELAXED);
	return err;
}

int fs_snapshot(struct fs *fs, const char *name, uint32_t uid,
		const char *message, size_t message_bytes)
{
	struct enter_op e;
	struct catalog_change c = { .op = CATALOG_SNAPSHOT,
				    .name = name,
				    .uid = uid,
				    .message = message,
				    .message_bytes = message_bytes,
				    .enter = op_run,
				    .entered = op_finish,
				    .arg = &e.op };
	uint64_t flushed;
	int err;

	if (store_is_read_only(fs->store))
		return -EROFS;
	err = fv_enter_all(fs->working, ENTER_WRITTEN);
	if (!err)
		err = log_flush(fs->log, LOG_BULK, &flushed);
	if (err)
		return durable_error(fs, err);
	enter_init(fs, &e);
	return store_change_catalog(fs->store, fs->working->view, &c);
}

void fs_get_staged(struct fs *fs, struct fs_staged *out)
{
	out->any = __atomic_load_n(&fs->clock, __ATOMIC_SEQ_CST) !=
		   __atomic_load_n(&fs->same_clock, __ATOMIC_SEQ_CST);
	out->buffered_bytes =
		__atomic_load_n(&fs->dirty_bytes, __ATOMIC_RELAXED) +
		__atomic_load_n(&fs->pending_bytes, __ATOMIC_RELAXED);
	out->bytes = __atomic_load_n(&fs->new_bytes, __ATOMIC_RELAXED) +
		     __atomic_load_n(&fs->dirty_bytes, __ATOMIC_RELAXED);
}

/* --- in the background --- */

static void add_seconds(struct timespec *ts, time_t s)
{
	if (clock_gettime(CLOCK_MONOTONIC, ts))
		abort();
	ts->tv_sec += s;
}

static bool wants_checkpoint(struct fs *fs)
{
	struct fs_staged st;

	if (store_failed(fs->store, NULL))
		return false;
	fs_get_staged(fs, &st);
	return st.buffered_bytes ||
	       __atomic_load_n(&fs->working->dirty_first, __ATOMIC_RELAXED) ||
	       store_needs_checkpoint(fs->store, fs->working->view);
}

static void *background(void *arg)
{
	struct fs *fs = arg;
	struct timespec until;
	int err;

	pace_begin();
	pthread_mutex_lock(&fs->thread_lock);
	while (!fs->stop) {
		add_seconds(&until, CHECKPOINT_SECONDS);
		err = 0;
		while (!fs->stop && !fs->kick && err != ETIMEDOUT)
			err = pthread_cond_timedwait(&fs->thread_cond,
						     &fs->thread_lock, &until);
		fs->kick = false;
		if (fs->stop)
			break;
		pthread_mutex_unlock(&fs->thread_lock);
		if (wants_checkpoint(fs)) {
			err = fs_checkpoint(fs);
			if (err)
				env_logf(fs->env, ENV_WARNING,
					 "checkpoint of staged changes: %s",
					 strerror(-err));
		}
		pthread_mutex_lock(&fs->thread_lock);
	}
	pthread_mutex_unlock(&fs->thread_lock);
	return NULL;
}

/* Every few seconds: is there space to give back? In a thread of its own, so
 * that checkpoints do not wait for a sweep. */
static void *sweeper(void *arg)
{
	struct fs *fs = arg;
	struct timespec until;

	pace_begin();
	pthread_mutex_lock(&fs->thread_lock);
	while (!fs->stop) {
		int err = 0;

		add_seconds(&until, SWEEP_SECONDS);
		while (!fs->stop && !fs->space_wanted && err != ETIMEDOUT)
			err = pthread_cond_timedwait(&fs->sweep_cond,
						     &fs->thread_lock, &until);
		if (fs->stop)
			break;
		if (fs->space_wanted)
			fs_space_sweep(fs);
		pthread_mutex_unlock(&fs->thread_lock);
		while (!store_failed(fs->store, NULL) && fs_wants_sweep(fs) &&
		       !fs_sweep(fs))
			;
		fs_trim(fs);
		pthread_mutex_lock(&fs->thread_lock);
	}
	pthread_mutex_unlock(&fs->thread_lock);
	return NULL;
}

void fs_thread_init(struct fs *fs)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&fs->thread_cond, &attr);
	pthread_cond_init(&fs->sweep_cond, &attr);
	pthread_cond_init(&fs->space_cond, &attr);
	pthread_condattr_destroy(&attr);
}

int fs_start(struct fs *fs)
{
	int err = pthread_create(&fs->thread, NULL, background, fs);

	fs->has_thread = !err;
	if (!err) {
		err = pthread_create(&fs->sweeper, NULL, sweeper, fs);
		fs->has_sweeper = !err;
	}
	return -err;
}

void fs_thread_kick(struct fs *fs)
{
	if (!fs->has_thread)
		return;
	pthread_mutex_lock(&fs->thread_lock);
	fs->kick = true;
	pthread_cond_signal(&fs->thread_cond);
	pthread_mutex_unlock(&fs->thread_lock);
}

void fs_thread_stop(struct fs *fs)
{
	if (!fs->has_thread)
		return;
	pthread_mutex_lock(&fs->thread_lock);
	fs->stop = true;
	pthread_cond_signal(&fs->thread_cond);
	pthread_cond_signal(&fs->sweep_cond);
	pthread_cond_broadcast(&fs->space_cond);
	pthread_mutex_unlock(&fs->thread_lock);
	store_gc_stop(fs->store);
	pthread_join(fs->thread, NULL);
	fs->has_thread = false;
	if (fs->has_sweeper)
		pthread_join(fs->sweeper, NULL);
	fs->has_sweeper = false;
}
