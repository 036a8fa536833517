/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * holder.h - who has the store: a lock on .txn/lock for as long as the process
 * lives, and in it, for people, the process and where it is mounted.
 *
 * Threads: one handle, one thread.
 */
#ifndef FS_HOLDER_H
#define FS_HOLDER_H

#include "txn/base.h"

struct holder;

enum { HOLDER_PATH_MAX = 4096 };

struct holder_info {
	long pid; /* 0: unknown */
	char mountpoint[HOLDER_PATH_MAX]; /* "": not mounted */
};

/*
 * Take the lock of the store in the folder storefd, waiting up to wait_ms for
 * somebody who is going. -EBUSY: held, *info says by whom. -EROFS, -EACCES,
 * -EIO. shared: several readers at once (nothing is written into it). On
 * success the mount point ("" for none) is written, best effort; *info then has
 * what the last holder left: pid 0 when it released the store.
 */
int holder_take(int storefd, bool shared, const char *mountpoint,
		unsigned int wait_ms, struct holder **out,
		struct holder_info *info);
/* NULL is fine. */
void holder_release(struct holder *h);
/* Who holds it now: 0, or 1 when nobody does. */
int holder_probe(int storefd, struct holder_info *info);

#endif
