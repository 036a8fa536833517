/* SPDX-License-Identifier: GPL-2.0-or-later */
/* window.h - where the tree says that a file's first 256 KiB lie. */
#ifndef TESTS_LIB_WINDOW_H
#define TESTS_LIB_WINDOW_H

#include "fs/fs_internal.h"

int window_get(struct fs_view *fv, uint64_t ino, struct item_window *out);

#endif
