/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fusermount.h - unmounting for those who may not umount2(). */
#ifndef FS_FUSERMOUNT_H
#define FS_FUSERMOUNT_H

#include "txn/base.h"

/* fusermount3 -u; lazy: -uz. 0, -EBUSY when it refuses, -errno. */
int fusermount(const char *path, bool lazy);

#endif
