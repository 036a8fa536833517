/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * listing.h - everything about a tree as lines of text, from a directory of the
 * host or a view: paths, modes, owners, times, sizes, bytes (as a sum), links,
 * targets, the attribute user.note. Equal trees have equal texts.
 */
#ifndef TESTS_LIB_LISTING_H
#define TESTS_LIB_LISTING_H

#include "fs/fs.h"

/* free() them. The root's own time of change and the store's folder are left
 * out. */
char *listing_of_dir(int dirfd);
char *listing_of_view(struct fs_view *fv);

#endif
