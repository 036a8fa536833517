/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space.c - what a sweep has to know of files, and when one is worth it. */
#include "fs/fs_internal.h"

enum { SWEEP_BYTES = 32 << 20, SWEEP_IDLE_BYTES = 1 << 20, SWEEP_PART = 8 };

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
		err = mark(ctx, w.pos[i], (uint64_t)n * FS_BLOCK_BYTES);
	return err;
}

/* No copy is between taking a place and putting it somewhere: what is entered
 * here has all of them. */
static int freeze(void *arg, struct root *root_out)
{
	struct fs *fs = arg;
	int err;

	pthread_rwlock_wrlock(&fs->copy_lock);
	err = fs_freeze(fs, root_out);
	pthread_rwlock_unlock(&fs->copy_lock);
	return err;
}

static uint64_t appended(struct fs *fs)
{
	struct log_stats ls;

	log_get_stats(fs->log, &ls);
	return ls.appended_bytes[LOG_SMALL] + ls.appended_bytes[LOG_BULK];
}

static int sweep(struct fs *fs, bool hurry, struct gc_stats *stats)
{
	struct gc_params p = { .mark_item = mark_item,
			       .freeze = freeze,
			       .arg = fs,
			       .hurry = hurry };
	struct gc_stats st = { 0 };
	/* What comes while it runs is the next one's. */
	uint64_t start = appended(fs);
	int err;

	err = store_gc(fs->store, &p, &st);
	if (!err) {
		__atomic_store_n(&fs->swept_at, start, __ATOMIC_RELAXED);
		__atomic_store_n(&fs->live_bytes, st.live_bytes,
				 __ATOMIC_RELAXED);
	}
	if (stats)
		*stats = st;
	return err;
}

int fs_gc(struct fs *fs, struct gc_stats *stats)
{
	int err = fs_checkpoint(fs);

	return err ? err : sweep(fs, true, stats);
}

bool fs_wants_sweep(struct fs *fs)
{
	uint64_t since =
		appended(fs) - __atomic_load_n(&fs->swept_at, __ATOMIC_RELAXED);
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
	 * that they showed, from sweeps too. */
	if (was < __atomic_load_n(&fs->swept_at, __ATOMIC_RELAXED))
		__atomic_store_n(&fs->swept_at, was, __ATOMIC_RELAXED);
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
