/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view.h - a root presented for reading and, unless it is frozen, changing:
 * the working view, a private transaction, a snapshot's read-only view.
 *
 * An operation on a view is a function that reads items and, in an update,
 * notes changes; the view runs it under its lock, applies the changes all
 * together or not at all, and runs it again from the start when a node was
 * not in memory (it is loaded outside the lock in between). So the function
 *  - has no effect except through vtx_put/vtx_del and outputs that a second
 *    run overwrites; it does not see its own changes;
 *  - passes on every negative result of a vtx_ call at once (-EAGAIN is the
 *    restart);
 *  - does not block, and takes no lock that is held while views are used.
 * `done`, when given, runs after the changes were applied, still under the
 * lock, exactly once: the place to change what lives in memory beside the
 * tree. It cannot fail.
 *
 * Locks: view->lock, shared for view_read, exclusive for view_update. Then
 * view->data_lock for what is kept beside the tree: exclusive for updates too,
 * shared for those who change only that, each part under a mutex of its own.
 * Whoever waits for one of them shared waits for one update, not for all that
 * are in line.
 */
#ifndef TXN_VIEW_H
#define TXN_VIEW_H

#include <pthread.h>

#include "txn/tree.h"

struct store;
struct view;
struct vtx;

typedef int (*view_fn)(struct vtx *tx, void *arg);
typedef void (*view_done_fn)(void *arg);

/* A private transaction or a snapshot: starts from a copy of *root. Read-only
 * ones refuse updates with -EROFS. */
int view_new(struct store *store, uint64_t id, const struct root *root,
	     bool read_only, struct view **view_out);
void view_free(struct view *v);

uint64_t view_id(const struct view *v);
bool view_is_read_only(const struct view *v);
/* Changes so far; grows with every update that changed something. */
uint64_t view_version(struct view *v);

/* 0, what fn returned (positive results too), or an error of loading. */
int view_read(struct view *v, view_fn fn, void *arg);
/* fn returning other than 0 applies nothing. -EROFS, also once the store has
 * stopped. -ENOSPC before anything changed; a privileged update (what frees
 * space) may use half of the reserve, one that finishes something all. */
enum {
	VIEW_PRIVILEGED = 1,
	VIEW_WHEN_STOPPED = 2, /* brings in what was accepted before */
	VIEW_FINISHES = 4 /* what a commit needs, and what has begun */
};
int view_update(struct view *v, unsigned int flags, view_fn fn,
		view_done_fn done, void *arg);

/* Of what is beside the tree it touches only what this mutex guards: those who
 * change other parts go on meanwhile. */
int view_update_beside(struct view *v, unsigned int flags,
		       pthread_mutex_t *beside, view_fn fn, view_done_fn done,
		       void *arg);

/*
 * view->data_lock shared, without tree access: for file buffers. A write that
 * holds it is on one side of every update that enters what others wrote too,
 * and of every flip.
 */
void view_lock_data(struct view *v);
void view_unlock_data(struct view *v);
/* view->lock exclusive: no reading and no update runs meanwhile. */
void view_lock_tree(struct view *v);
void view_unlock_tree(struct view *v);
/* Both locks exclusive: no operation of the view runs meanwhile. */
void view_lock_exclusive(struct view *v);
void view_unlock_exclusive(struct view *v);

/* Give a view that nobody else knows yet its root (a reference is taken). */
void view_adopt(struct view *v, const struct root *root);

int vtx_get(struct vtx *tx, const struct key *key, struct val *val_out);
int vtx_next(struct vtx *tx, const struct key *from, const struct key *to,
	     struct key *key_out, struct val *val_out);
int vtx_prev(struct vtx *tx, const struct key *from, const struct key *to,
	     struct key *key_out, struct val *val_out);
int vtx_put(struct vtx *tx, const struct key *key, const void *val, size_t len);
int vtx_del(struct vtx *tx, const struct key *key);
int vtx_del_range(struct vtx *tx, const struct key *from, const struct key *to);

/* O(1): the state as of now; later changes copy. The caller puts the root. */
void view_freeze(struct view *v, struct root *out);

/*
 * Apply fn's changes and freeze in one hold of the lock: what fn entered is
 * the last thing in *out. With fn NULL only freezes.
 */
int view_update_freeze(struct view *v, view_fn fn, view_done_fn done, void *arg,
		       struct root *out);

/*
 * Replace the state: the flip of a switch. In one hold of the exclusive lock:
 * fn's changes are applied (fn may be NULL; other than 0: nothing happens and
 * that is returned), old := the frozen root, root := a reference to *to,
 * *old_out := old (the caller puts it), then at(arg).
 */
int view_flip(struct view *v, const struct root *to, view_fn fn,
	      view_done_fn at, void *arg, struct root *old_out);

/* Invariant I6: no node reachable from the root has a generation that is newer
 * than the view's; ASSERT_SLOW builds walk, others check the root only. */
int view_check(struct view *v, char *why, size_t why_bytes);

#endif
