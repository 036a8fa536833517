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

/* The hash of a file's contents, block by block; holes need not be fed. */
struct plain_hash;
struct plain_hash *plain_hash_new(void);
void plain_hash_free(struct plain_hash *h); /* NULL is fine */
void plain_hash_reset(struct plain_hash *h);
/* off is a multiple of 4096; len too, but at the end of the file. */
void plain_hash_feed(struct plain_hash *h, uint64_t off, const uint8_t *buf,
		     size_t len);
uint64_t plain_hash_get(const struct plain_hash *h);

/* Note that a plain object looks like st, with contents of that hash (of
 * symlinks: plain_hash_target). Durable with the next commit or checkpoint. */
int plain_record(struct fs *fs, uint64_t ino, const struct stat *st,
		 uint64_t hash);
uint64_t plain_hash_target(const char *target, size_t len);
/* And that a directory has this name. */
int plain_record_name(struct fs *fs, uint64_t dir, const char *name, size_t len,
		      uint64_t ino, uint32_t type);

enum plain_difference { PLAIN_CHANGED, PLAIN_ADDED, PLAIN_REMOVED };

/* path: relative to DIR, NUL-terminated. Other than 0 ends the comparison. */
typedef int (*plain_fn)(void *arg, enum plain_difference what,
			const char *path);

/*
 * Call fn for everything in the directory dirfd (the store's own folder and
 * other mounts left out) that is not as it was recorded. Where only the host's
 * inode number, the count of links or ctime differ (a copy of the whole
 * directory, an extra hard link), the contents decide. 0, fn's result, -errno.
 */
int plain_compare(struct fs *fs, int dirfd, plain_fn fn, void *arg);

/* Names in DIR that are the store's own. */
bool plain_is_own(const char *name);

/* Open an object of a directory without following symlinks or crossing into
 * another mount (-EXDEV). */
int plain_open(int dirfd, const char *name, int flags);

#endif
