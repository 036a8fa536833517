/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain.h - DIR's own files, beneath the mount: they follow commits, and edits
 * made to them while unmounted become staged changes. fs/DESIGN.md 8.
 *
 * The store's tree store_plain() notes what stat showed of each object when it
 * was last in step, and which state that was (the state *shown*). While the
 * files are being made another state, that is the *target*.
 *
 * One thread at a time uses these functions on a store; others may use the fs
 * meanwhile.
 */
#ifndef FS_PLAIN_H
#define FS_PLAIN_H

#include "fs/fs.h"

#include <sys/stat.h>

/* What is being made lies here in DIR for the time of plain_sync() when the
 * store lies elsewhere, else in .txn/sync. */
#define PLAIN_TMP_NAME ".txn.sync"

/* Names in DIR that are the store's own. */
bool plain_is_own(const char *name);

/* Open an object below a directory without following symlinks or crossing into
 * another mount (-EXDEV). */
int plain_open(int dirfd, const char *path, int flags);

/* Remove a directory's entry with all below it; -ENOENT is fine. */
int plain_remove_tree(int dirfd, const char *name);

/* --- looking --- */

enum plain_difference { PLAIN_CHANGED, PLAIN_ADDED, PLAIN_REMOVED };

struct plain_compare_params {
	bool checksum; /* read every file, whatever stat says */
	/* path: relative to DIR ("": DIR itself). Not called for what
	 * is in an added or removed directory. Other than 0 ends it. */
	int (*fn)(void *arg, enum plain_difference what, const char *path);
	/* A directory was compared; exact: neither it nor what it names has
	 * changed in anything that stat shows, not even a number of links (of
	 * directories that it names: they are there). May be NULL. */
	void (*dir)(void *arg, uint64_t ino, bool exact);
	/* What it ends for could not be looked at; may be told of its
	 * directories after that. May be NULL. */
	void (*failed)(void *arg, const char *path, int err);
	/* For each object; other than 0 ends it. May be NULL. */
	int (*progress)(void *arg, uint64_t objects);
	/* A file that was in doubt, and is what it was, but may change from now
	 * on without another time; NULL: it stays in doubt. Other than 0 ends
	 * it. */
	int (*recent)(void *arg, uint64_t ino);
	void *arg;
};

/*
 * Call fn for everything in the directory dirfd (the store's own folder and
 * other mounts left out) that is not as it was noted. 0, fn's result,
 * -ECANCELED, -errno.
 */
int plain_compare(struct fs *fs, int dirfd,
		  const struct plain_compare_params *params);

/*
 * One directory of the state shown, by its path and number: is it exact? By
 * stat alone; nothing is noted, so that another thread may be in
 * plain_compare(), or that of plain_in(), meanwhile. Of the params only
 * progress is used.
 */
int plain_dir_is_exact(struct fs *fs, int dirfd, const char *path, uint64_t ino,
		       const struct plain_compare_params *params,
		       bool *exact_out);

/* DIR's own mode, owner and extended attributes are as noted. */
int plain_root_is_same(struct fs *fs, int dirfd, bool *same_out);

/* Do the files show what the working view does? Else something is staged, or
 * commits are missing from them. */
int plain_shows_working(struct fs *fs, bool *same_out);

/* --- in: edits become staged changes --- */

struct plain_in_params {
	bool checksum;
	/* One edit was found, and staged (beside NULL); or the path has
	 * staged changes of its own, and it is staged under the name beside
	 * ("": what was removed stays). */
	void (*edit)(void *arg, enum plain_difference what, const char *path,
		     const char *beside);
	/* All was compared, for the first time; nothing was changed yet. Other
	 * than 0 ends it. These may be NULL. */
	int (*compared)(void *arg, bool any_edits);
	void (*dir)(void *arg, uint64_t ino, bool exact); /* before that */
	int (*progress)(void *arg, uint64_t objects);
	/* While edits are staged: other than 0 ends it. */
	int (*staging)(void *arg);
	/* The working view shows them from now on: as fs_flip()'s at. */
	void (*flipped)(void *arg, const struct fs_delta *delta,
			struct fs_view *old);
	void *arg;
};

struct plain_in_result {
	uint64_t edits, beside;
};

/*
 * Make what was edited in DIR since the files were last in step part of the
 * working view, staged, durable on return, all or nothing. Before fs_start();
 * others may read meanwhile where the files show what the working view does
 * (what is staged else is merged by path). A target must not be pending.
 */
int plain_in(struct fs *fs, int dirfd, const struct plain_in_params *params,
	     struct plain_in_result *out, struct store_error *err_out);

/* --- out: the files follow --- */

struct plain_out_params {
	int dirfd; /* DIR's own, beneath a mount over it */
	int storefd; /* the store's folder */
	/* What lies in the log as it was moved there gets its name again, and
	 * is not copied: only when the store is not to be used after it. */
	bool give;
	/* Something is not as the state says, or was kept: what, and why. */
	void (*note)(void *arg, const char *path, const char *why);
	void *arg;
};

struct plain_out_result {
	uint64_t number; /* commit that the files show; 0: none */
	uint64_t changed; /* names and objects that were made or removed */
	uint64_t kept; /* edits found in the way, now NAME@offline-N */
	uint64_t unlike; /* what the caller may not do */
};

/*
 * Make DIR show the last commit (or, with the setting `plain` off, nothing).
 * 0: it does; 1: it did already; both durably. Else the next call goes on where
 * this one ended, whatever the reason (a crash included): -ENOSPC, -EIO, ... An
 * edit that is in the way is kept beside under the name NAME@offline-N.
 */
int plain_sync(struct fs *fs, const struct plain_out_params *params,
	       struct plain_out_result *out, struct store_error *err_out);

/*
 * What an earlier caller might not do to the plain files (owners, devices,
 * attributes of root's) is something for plain_sync() to do from now on, if
 * there is any. Not what could not be removed. Cost: the table. All or nothing,
 * durable.
 */
int plain_retry(struct fs *fs, bool *any_out);

/*
 * Make the table anew, as if the files showed the last commit: for a store that
 * was opened at an older one. What they show else is found by plain_in(), which
 * reads them. Durable with the next record. Cost: everything.
 */
int plain_renew(struct fs *fs);

/* Before that: what a run that was interrupted has of the files on their way
 * goes back to DIR, as interrupted@offline-N, which the table does not know. */
int plain_keep_interrupted(int dirfd, int storefd);

/*
 * Bytes of the plain files, by the sizes in the table, in blocks of 4 KiB:
 * holes count, a file with several names counts once. The first call costs as
 * much as the table is long (nothing of DIR is looked at), later ones nothing:
 * what plain_sync() changes is counted.
 */
int plain_get_bytes(struct fs *fs, uint64_t *bytes_out);
bool plain_knows_bytes(const struct fs *fs);
/* How much of the state shown DIR does not have, since neither the host nor the
 * caller could have it there: objects, or names of them. The same cost. */
int plain_get_missing(struct fs *fs, uint64_t *n_out);
/* Each of these with a path; 0, fn's result (below 0), -errno. Cost: the
 * table. */
int plain_each_missing(struct fs *fs, int (*fn)(void *arg, const char *path),
		       void *arg);
/* Bytes that the store takes of its host: O(segments). */
int plain_store_bytes(int storefd, uint64_t *bytes_out);
/* Does the host share blocks between DIR's files and the store? */
bool plain_shares(int dirfd, int storefd);

/*
 * What is being done with all of the directory, by move.h, and must be finished
 * before the store may be mounted; NULL: nothing.
 */
int plain_unfinished(struct fs *fs, const char **what_out);

/* Is there something for plain_sync() to do? number_out: the commit that the
 * files show (0: none); half: they are between two. */
int plain_is_behind(struct fs *fs, bool *behind_out, uint64_t *number_out,
		    bool *half_out);

#endif
