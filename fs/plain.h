/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain.h - what DIR's own files looked like to stat when they were last in
 * step with a commit, and whether they still do. Kept in the tree that
 * store_plain() gives; bytes: txn/FORMAT.md 7.
 */
#ifndef FS_PLAIN_H
#define FS_PLAIN_H

#include "fs/fs.h"

#include <sys/stat.h>

/* Note that the plain object of inode ino looks like st. Durable with the next
 * commit or checkpoint. */
int plain_record(struct fs *fs, uint64_t ino, const struct stat *st);
enum plain_difference { PLAIN_CHANGED, PLAIN_ADDED, PLAIN_REMOVED };

/* path: relative to DIR, NUL-terminated. Other than 0 ends the comparison. */
typedef int (*plain_fn)(void *arg, enum plain_difference what,
			const char *path);

/*
 * Call fn for everything in the directory dirfd (the store's own folder and
 * other mounts left out) that is not as it was recorded for the commit that the
 * setting STORE_PLAIN_SHOWN names. What only stat tells
 * apart (a copy of the whole directory, an extra hard link) is compared byte
 * for byte. 0, fn's result, -errno.
 */
int plain_compare(struct fs *fs, int dirfd, plain_fn fn, void *arg);

/* Names in DIR that are the store's own. */
bool plain_is_own(const char *name);

/* Open an object of a directory without following symlinks or crossing into
 * another mount (-EXDEV). */
int plain_open(int dirfd, const char *name, int flags);

#endif
