/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space.c - what a sweep has to know of files, and when one is worth it. */
#include "fs/fs_internal.h"

#include <time.h>

enum {
	SWEEP_BYTES = 32 << 20,
	SWEEP_IDLE_BYTES = 1 << 20,
	SWEEP_PART = 8,
	SWEEP_FULL_BYTES = 256 << 10, /* when writers wait */
	BURST_ROUNDS = 2, /* of the sweeper, a second each */
	TRIM_ROUNDS = 60,
	/* Who asks for the sweep may be waited for by somebody that the sweep
	 * waits for: a commit that pushes a mapping, say. */
	SPACE_WAIT_SECONDS = 5
};

static int mark_item(void *arg, const struct key *key, const struct val *val,
		     int (*mark)(void *ctx, uint64_t pos, uint64_t len),
		     void *ctx)
{
	struct item_window w;
	unsigned int n;
	int err;

	if (key->kind != ITEM_KIND_EXTENT || key->obj == ITEM_OBJ_ORPHANS)
		return 0;
	err = item_window_decode(val, key->off, &w);
	for (unsigned int i = 0; !err && (n = item_window_extent(&w, &i));
	     i += n)
		err = mark(ctx, w.pos[i], item_window_bytes(&w, i, n));
	return err;
}

/* No copy is between taking a place and putting it somewhere: what is entered
 * here has all of them. */
static int freeze(void *arg, struct root *root_out)
{
	struct fs *fs = arg;
	int err;

	/* In the sweep's thread: what the freeze enters all the same is what
	 * the next small fsync would have to flush. */
	(void)fv_enter_all(fs->working, ENTER_FLUSHED);
	rwlock_lock_exclusive(&fs->copy_lock);
	err = fs_freeze(fs, root_out);
	rwlock_unlock_exclusive(&fs->copy_lock);
	return err;
}

static uint64_t appended(struct fs *fs)
{
	struct log_stats ls;

	log_get_stats(fs->log, &ls);
	return ls.appended_bytes[LOG_SMALL] + ls.appended_bytes[LOG_BULK];
}

/* Nothing from there on was looked at since the plain files moved on. */
static void note_moved(struct fs *fs, uint64_t at)
{
	uint64_t now = __atomic_load_n(&fs->moved_at, __ATOMIC_RELAXED);

	while (at < now &&
	       !__atomic_compare_exchange_n(&fs->moved_at, &now, at, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Bytes that the next sweep is the first to look at, or to look at again. */
static uint64_t unswept(struct fs *fs)
{
	return appended(fs) -
	       min_u64(__atomic_load_n(&fs->swept_at, __ATOMIC_RELAXED),
		       __atomic_load_n(&fs->moved_at, __ATOMIC_RELAXED));
}

static uint64_t appended_small(struct fs *fs)
{
	struct log_stats ls;

	log_get_stats(fs->log, &ls);
	return ls.appended_bytes[LOG_SMALL];
}

static int sweep(struct fs *fs, bool hurry, struct gc_stats *stats)
{
	struct gc_params p = { .mark_item = mark_item,
			       .freeze = freeze,
			       .arg = fs,
			       .hurry = hurry,
			       .whole = fs->whole_sweeps,
			       .small_below = fs->import_from[LOG_SMALL],
			       .bulk_below = fs->import_from[LOG_BULK] };
	struct gc_stats st = { 0 };
	/* What comes while it runs is the next one's. */
	uint64_t start = appended(fs);
	uint64_t moved = __atomic_exchange_n(&fs->moved_at, UINT64_MAX,
					     __ATOMIC_RELAXED);
	int err;

	if (fs->before_sweep)
		fs->before_sweep(fs->before_sweep_arg);
	err = store_gc(fs->store, &p, &st);
	if (err) {
		note_moved(fs, moved);
	} else {
		__atomic_store_n(&fs->swept_at, start, __ATOMIC_RELAXED);
		__atomic_store_n(&fs->live_bytes, st.live_bytes,
				 __ATOMIC_RELAXED);
		__atomic_store_n(&fs->swept, true, __ATOMIC_RELAXED);
	}
	if (stats)
		*stats = st;
	return err;
}

int fs_gc(struct fs *fs, struct gc_stats *stats)
{
	struct gc_stats before = { 0 };
	int err = fs_checkpoint(fs);

	/* Nothing is left of the reserve: what no record has makes room. */
	if (err == -ENOSPC) {
		err = sweep(fs, true, &before);
		if (!err)
			err = fs_checkpoint(fs);
	}
	if (!err)
		err = sweep(fs, true, stats);
	if (err)
		return err;
	if (stats)
		stats->freed_bytes += before.freed_bytes;
	log_trim(fs->log, true);
	/* What was appended until now is no burst to be ready for. */
	__atomic_store_n(&fs->burst_from, appended_small(fs),
			 __ATOMIC_RELAXED);
	return 0;
}

void fs_trim(struct fs *fs)
{
	uint64_t from = __atomic_load_n(&fs->burst_from, __ATOMIC_RELAXED);
	uint64_t now = appended(fs), small = appended_small(fs);

	if (now != fs->quiet_at)
		fs->quiet_rounds = 0;
	fs->quiet_at = now;
	fs->quiet_rounds++;
	if (fs->quiet_rounds == BURST_ROUNDS && small > from) {
		log_expect(fs->log, small - from);
		__atomic_store_n(&fs->burst_from, small, __ATOMIC_RELAXED);
	}
	if (fs->quiet_rounds == TRIM_ROUNDS)
		log_trim(fs->log, false);
}

bool fs_wants_sweep(struct fs *fs)
{
	uint64_t since = unswept(fs);
	uint64_t live = __atomic_load_n(&fs->live_bytes, __ATOMIC_RELAXED);
	bool idle = fs->looked_at == since;

	fs->looked_at = since;
	/* What is staged replaces what was staged, without any state that is
	 * dropped; whether it did is not known, so less often. */
	idle = idle && store_dropped(fs->store);
	return since >= (idle ? SWEEP_IDLE_BYTES
			      : max_u64(SWEEP_BYTES, live / SWEEP_PART));
}

void fs_shown_moved(struct fs *fs)
{
	uint64_t was = __atomic_exchange_n(&fs->shown_at, appended(fs),
					   __ATOMIC_RELAXED);

	/* What was replaced since the files were in step was kept by the state
	 * that they showed, from sweeps too: also from one that runs. */
	note_moved(fs, was);
	store_note_dropped(fs->store);
}

int fs_sweep(struct fs *fs)
{
	int err = sweep(fs, false, NULL);

	if (err && err != -ECANCELED && err != -EIO)
		env_logf(fs->env, ENV_WARNING, "giving space back: %s",
			 strerror(-err));
	return err;
}

/* --- when the host is full --- */

/* Not when the last sweep has found all that there was. What is changed in the
 * tree and not written yet replaces something, too, and takes less than it
 * claims. */
static bool may_find_space(struct fs *fs)
{
	struct tree_stats ts;

	tree_get_stats(store_tree(fs->store), &ts);
	return !__atomic_load_n(&fs->swept, __ATOMIC_RELAXED) ||
	       unswept(fs) + ts.dirty_bytes >= SWEEP_FULL_BYTES ||
	       store_dropped(fs->store);
}

void fs_import_begin(struct fs *fs)
{
	for (int i = 0; i < LOG_HEADS; i++)
		fs->import_from[i] = log_tail(fs->log, i);
}

void fs_import_end(struct fs *fs)
{
	for (int i = 0; i < LOG_HEADS; i++)
		fs->import_from[i] = 0;
}

/* What was replaced is given back once a record is durable that does not have
 * it; for that record there is a reserve. */
static void sweep_now(struct fs *fs)
{
	if (!fs->import_from[LOG_SMALL])
		(void)fs_checkpoint(fs);
	(void)sweep(fs, true, NULL);
}

/* Under thread_lock. */
void fs_space_sweep(struct fs *fs)
{
	uint64_t ticket = ++fs->space_begun;

	fs->space_wanted = false;
	pthread_mutex_unlock(&fs->thread_lock);
	sweep_now(fs);
	pthread_mutex_lock(&fs->thread_lock);
	fs->space_done = ticket;
	pthread_cond_broadcast(&fs->space_cond);
}

bool fs_find_space(struct fs *fs)
{
	struct timespec until;
	uint64_t ticket;
	int err = 0;

	if (store_failed(fs->store, NULL) || !may_find_space(fs))
		return false;
	if (!fs->has_sweeper) {
		sweep_now(fs);
		return true;
	}
	if (clock_gettime(CLOCK_MONOTONIC, &until))
		abort();
	until.tv_sec += SPACE_WAIT_SECONDS;
	pthread_mutex_lock(&fs->thread_lock);
	/* One under way may have begun before what is dead now was. */
	ticket = fs->space_begun + 1;
	fs->space_wanted = true;
	pthread_cond_signal(&fs->sweep_cond);
	while (fs->space_done < ticket && !fs->stop && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&fs->space_cond, &fs->thread_lock,
					     &until);
	pthread_mutex_unlock(&fs->thread_lock);
	return !err;
}
