/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * digest.h - what a state of files shows, as one number: names, kinds, modes,
 * owners, sizes, link counts, contents, targets, extended attributes; not
 * times. 0 or the error of the first thing that cannot be read.
 */
#ifndef TESTS_LIB_DIGEST_H
#define TESTS_LIB_DIGEST_H

#include "fs/fs.h"

int digest_view(struct fs_view *v, uint64_t *out);
/* The contents of one file. */
int digest_file(struct fs_view *v, uint64_t ino, uint64_t *out);

#endif
