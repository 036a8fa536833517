/* SPDX-License-Identifier: GPL-2.0-or-later */
/* same_dir.h - is a directory what a view shows, and what is in its files? Of
 * extended attributes user.note. The directory's .txn is left out. */
#ifndef TESTS_LIB_SAME_DIR_H
#define TESTS_LIB_SAME_DIR_H

#include "fs/fs.h"

/* Fails the test where not. dir_times: those of directories are compared,
 * too. */
void same_dir_check(int dirfd, struct fs_view *fv, bool dir_times);

/* Which of n strings of bytes, one behind the other, are in files below an open
 * directory, which is closed: found[i] is set. */
void same_dir_find(int dirfd, const uint8_t *bytes, size_t len, size_t n,
		   bool *found);

#endif
