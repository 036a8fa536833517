/* SPDX-License-Identifier: GPL-2.0-or-later */
/* busy.h - which processes use files of a directory, from /proc. */
#ifndef FS_BUSY_H
#define FS_BUSY_H

#include "txn/base.h"

/* path: what it uses; how: "open", "open for writing", "mapped", "working
 * directory", "root directory". Other than 0 ends the search. */
typedef int (*busy_fn)(void *arg, long pid, const char *comm, const char *how,
		       const char *path);

/*
 * Each process but this one that has dir (an absolute path without symlinks) or
 * something below it in use; one call for each process. writers_only: files
 * open for writing and writable shared mappings. What the caller may not look
 * at is left out. 0, fn's result, -errno.
 */
int busy_find(const char *dir, bool writers_only, busy_fn fn, void *arg);
/* The same of uses that wanted(arg, path) says yes to. */
int busy_find_wanted(const char *dir, bool (*wanted)(void *arg, const char *),
		     busy_fn fn, void *arg);
/* Has that process the file of this path open? */
bool busy_has_open(long pid, const char *path);

#endif
