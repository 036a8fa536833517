/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * adopt.h - reading a plain directory into a new store as commit 1. The plain
 * files are only read. The store is made as DIR/.txn.new and renamed when the
 * commit is durable, so an interrupted adoption leaves nothing that counts. One
 * that is to lie elsewhere gets its link then (home.h).
 */
#ifndef FS_ADOPT_H
#define FS_ADOPT_H

#include "fs/fs.h"

struct adopt_progress {
	uint64_t objects, bytes; /* read so far */
	uint64_t reread; /* files that changed while they were read */
	uint64_t mounts; /* other mounts, taken as empty directories */
};

struct adopt_params {
	const char *dir; /* an absolute path without symlinks */
	const char *store; /* where the store is to lie; NULL: DIR/.txn */
	struct env *env;
	/* Called now and then, in this thread; other than 0 stops it. */
	int (*progress)(void *arg, const struct adopt_progress *p);
	void *arg;
	bool no_thread; /* as in store_params, for tests */
};

/*
 * 0: DIR/.txn is there, durable, and so are the plain files as they were read
 * (DIR's filesystem was flushed). 1: the same, and the store was whole already,
 * of an adoption that was interrupted before the link. -EEXIST: there is one
 * already. -EBUSY: a file keeps changing, or another adoption runs. -ECANCELED:
 * progress said so. The text says which path and what to do.
 */
int adopt(const struct adopt_params *params, struct adopt_progress *out,
	  struct store_error *err_out);

/* What adopt() does before the new store gets its name: the same into the empty
 * folder of a device. Durable on return. */
int adopt_into(const struct adopt_params *params, struct dev *dev,
	       struct adopt_progress *out, struct store_error *err_out);

#endif
