/* SPDX-License-Identifier: GPL-2.0-or-later */
/* same_dir.h - is a directory what a view shows? Of extended attributes
 * user.note. The directory's .txn is left out. */
#ifndef TESTS_LIB_SAME_DIR_H
#define TESTS_LIB_SAME_DIR_H

#include "fs/fs.h"

/* Fails the test where not. dir_times: those of directories are compared,
 * too. */
void same_dir_check(int dirfd, struct fs_view *fv, bool dir_times);

#endif
