/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount_ring.h - what mount_ring.c and mount_ring_ops.c share. */
#ifndef FS_MOUNT_RING_H
#define FS_MOUNT_RING_H

#include "fs/mount_internal.h"

#if HAVE_RING

/* A request with its arguments. Names and contents lie in the ring until it is
 * answered; the rest is libfuse's, and gone when the handler returns. */
struct work {
	struct work *next;
	void (*run)(struct work *w);
	const struct fuse_lowlevel_ops *ops;
	fuse_req_t req;
	fuse_ino_t ino, ino2;
	const char *name, *name2;
	size_t size;
	off_t off, off2;
	unsigned int flags, mode;
	dev_t rdev;
	struct fuse_file_info fi, fi2, *fip;
	struct stat st;
};

/* A request of a ring: run(w) now, when it can be done without waiting (only
 * tried if here), or by a worker. The rest of *w is set by the caller. */
void ring_take(struct work *w, void (*run)(struct work *w), fuse_req_t req,
	       bool here);
/* Handlers that do so, in place of those that do the work. */
void ring_set_ops(struct fuse_lowlevel_ops *ops);

#endif
#endif
