/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * home.h - where the store of a directory lies: in the folder DIR/.txn, or
 * elsewhere, in a folder that the symlink DIR/.txn leads to.
 *
 * A store elsewhere says in its file "home" which directory it belongs to, by
 * the host's inode number and the path. So a copy of DIR, which has a copy of
 * the link, is found out, and a link that somebody else made leads nowhere.
 *
 * A store elsewhere is made in three steps, each of which may be the last one:
 * all of it in PATH/.txn.new; its names into PATH, "format" last, which makes
 * it a store; the link. home_begin() looks which of them an interrupted init
 * got to.
 *
 * Threads: any. All functions set a text that names the path and what to do.
 */
#ifndef FS_HOME_H
#define FS_HOME_H

#include "fs/holder.h"
#include "txn/store.h"

#define HOME_NAME ".txn"
/* What is being made; what is being removed. */
#define HOME_NEW_NAME ".txn.new"
#define HOME_GONE_NAME ".txn.gone"

/*
 * Open the store's folder. dir is DIR's path, for messages and to compare.
 * -ENOENT without a text: DIR has no store. -ENOLINK: the link leads to what is
 * not there. -EPERM: link or folder are of somebody who has no say in DIR.
 * -EBUSY: the store belongs to another directory.
 */
int home_open(int dirfd, const char *dir, int *fd_out,
	      struct store_error *err_out);

/* A store that is to be elsewhere, under its lock. */
struct home {
	int dirfd; /* the caller's */
	const char *dir, *path; /* absolute; the caller's */
	int fd; /* the folder at path */
	struct holder *holder;
	bool made; /* the folder, by us */
};

/* DIR has a store, or a link to one; neither may be of any use. */
bool home_is_there(int dirfd);
/* May a store be made in DIR? -EEXIST: there is one, or something else has its
 * name; the text says what to do. */
int home_check_free(int dirfd, const char *dir, struct store_error *err_out);

/*
 * Begin: make the folder or take an empty one. 0: fill HOME_NEW_NAME in it,
 * then home_finish(). 1: a whole store of DIR is there, of an init that was
 * interrupted: home_link() is all that is to be done. home_end() or
 * home_cancel() after both, not after a failure.
 */
int home_begin(struct home *h, int dirfd, const char *dir, const char *path,
	       struct store_error *err_out);
/* The store in HOME_NEW_NAME, durable, becomes the one at the path, and
 * DIR/.txn leads there, durably. */
int home_finish(struct home *h, struct store_error *err_out);
int home_link(struct home *h, struct store_error *err_out);
void home_end(struct home *h);
/* The same, and what is not a whole store goes, as far as that works. */
void home_cancel(struct home *h);

/*
 * The store at the path (NULL: where the link leads) belongs to DIR from now
 * on, whatever it and the link said: DIR was copied or restored, or the store
 * moved.
 */
int home_relink(int dirfd, const char *dir, const char *path,
		struct store_error *err_out);

/* Remove the store whose DIR/.txn was renamed to HOME_GONE_NAME, and that name.
 * May be repeated after an interruption. */
int home_remove(int dirfd, const char *dir, struct store_error *err_out);

#endif
