/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * move.h - a plain directory becomes a store without being held twice, and a
 * store without plain files becomes a plain directory again. fs/DESIGN.md 9.
 *
 * Both ways are long, and may end anywhere: each byte is then in DIR or in what
 * is durable of the store, a mark in the store keeps it from being mounted, and
 * the same call goes on where this one ended.
 */
#ifndef FS_MOVE_H
#define FS_MOVE_H

#include "fs/adopt.h"

enum {
	/* Smaller files are copied: a name in log/ for each of them would be
	 * read whenever the store is opened, and costs the host as much. */
	MOVE_MIN_BYTES = 128 << 10
};

/* What a store says of itself: not to be mounted before that is finished. */
enum { MOVE_MARK_NONE, MOVE_MARK_IN, MOVE_MARK_OUT };
int move_mark(struct fs *fs, uint32_t *mark_out);

struct move_params {
	const char *dir; /* an absolute path without symlinks */
	struct env *env;
	int (*progress)(void *arg, const struct adopt_progress *p);
	/* Something stays in DIR, or is not as it was. */
	void (*note)(void *arg, const char *path, const char *why);
	void *arg;
	bool no_thread; /* as in store_params, for tests */
};

struct move_result {
	struct adopt_progress p;
	uint64_t moved,
		moved_bytes; /* files that are in the store as they are */
	uint64_t left; /* names that are still in DIR */
	bool resumed; /* an interrupted one was gone on with */
};

/*
 * Move DIR's files into a new store DIR/.txn, or go on with that. 0: commit 1
 * has them, `plain` is off, and DIR is empty but for what was left. -EEXIST: a
 * store that is not being moved into is there. -EBUSY: somebody has it. Errors
 * as of adopt(), after which the files are where they are: call it again.
 */
int move_in(const struct move_params *params, struct move_result *out,
	    struct store_error *err_out);

/* The same with the store in the empty folder of a device; resume: in that of
 * an interrupted call. */
int move_into(const struct move_params *params, struct dev *dev, bool resume,
	      struct move_result *out, struct store_error *err_out);

/*
 * Make DIR plain again where only its store is: the last commit comes out of
 * it. Files that are in the store as they were moved, unchanged, get their
 * names back and are not copied; the sums of each are looked at before (damage:
 * -EFSBADCRC with the path, and nothing was given). 0: DIR has everything,
 * durably, and the store, which is to be removed, is good for nothing else.
 * -EBUSY: somebody has it, or something is staged.
 */
int move_out(const struct move_params *params, struct store_error *err_out);

#endif
