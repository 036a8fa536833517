/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_internal.h - what view.c and the store_*.c files share.
 *
 * Lock order (DESIGN.md 8): store->queue_lock is never held while another
 * lock is taken; view->lock, then store->head_lock; below them only the locks
 * inside cache and log.
 */
#ifndef TXN_STORE_INTERNAL_H
#define TXN_STORE_INTERNAL_H

#include <pthread.h>

#include "txn/cache.h"
#include "txn/format_text.h"
#include "txn/log.h"
#include "txn/record.h"
#include "txn/repair.h"
#include "txn/rwlock.h"
#include "txn/store.h"

enum {
	STORE_WORKING_ID = 1,
	STORE_PLAIN_ID = 2,
	STORE_CATALOG_ID = 3,
	STORE_FIRST_VIEW_ID = 16, /* lower ones are the store's own */
	STORE_FIRST_OBJ = 16, /* lower ones have fixed meanings (fs: root) */
	/* Object numbers skipped after an unclean end, so that none handed out
	 * since the last record is handed out again. */
	STORE_OBJ_SKIP = 1 << 20
};

struct view {
	struct store *store;
	uint64_t id;
	bool read_only;
	struct rwlock lock; /* guards the fields below */
	struct rwlock data_lock; /* guards what others keep: view.h */
	struct root root;
	uint64_t gen; /* nodes of this generation may be changed in place */
	uint64_t version;
	/* Guarded by being the leader of the commit queue. */
	uint64_t recorded_version; /* durable as of this version */
	struct ptr recorded; /* root in the last durable record */
	/* store->views_lock; read-only ones are listed: their roots stay. */
	struct view *prev, *next;
};

/* One caller waiting for the queue; lives on its stack. */
struct queue_req {
	struct queue_req *next;
	struct view *view;
	/* One of these, or none: a checkpoint. */
	const struct commit_req *commit;
	const struct catalog_change *change;
	const struct switch_req *sw;
	bool closing; /* a closing record, even when nothing changed */
	int result;
	uint64_t number;
	bool done;
};

struct store {
	struct dev *dev;
	struct env *env;
	struct log *log;
	struct cache *cache;
	struct tree tree;
	struct format_text format;
	uint8_t uuid[16];
	struct repair *repair; /* may be NULL */
	bool read_only;
	bool no_thread;
	bool recovered; /* the last end was not a clean close */
	int (*check_item)(void *arg, struct log *log, uint64_t small_limit,
			  const struct key *key, const struct val *val);
	void *check_arg;

	struct view *working, *plain, *catalog;
	/* The catalog of the newest durable record, which is what is read:
	 * the other has what a turn has entered and may still take back. */
	struct view *shown;

	/* atomic */
	uint64_t next_obj, next_view, next_gen;
	uint64_t bulk_required; /* bulk flushed up to here before a record */

	pthread_mutex_t queue_lock; /* guards the next four */
	pthread_cond_t queue_cond;
	struct queue_req *queue_first, **queue_last;
	bool queue_busy; /* somebody leads */

	/* The leader's: */
	struct record last; /* newest durable record */
	uint64_t small_flushed, bulk_flushed;
	uint64_t lineage;
	uint64_t copied_pos; /* of the record in the file "last"; 0: not yet */

	pthread_mutex_t views_lock; /* guards views */
	struct view *views;
	pthread_mutex_t gc_lock; /* one sweep at a time */
	/* atomic */
	bool gc_stop;
	uint64_t pin_epoch, pins[2]; /* see store_pin() */

	pthread_mutex_t head_lock; /* guards the next two, and replacing last */
	struct root head;
	struct commit_info head_info;

	/* atomic: states dropped from the catalog since the last sweep */
	uint64_t n_dropped;
	uint64_t settings[STORE_SETTINGS]; /* atomic */

	/* atomic, for statistics */
	uint64_t n_commits, n_checkpoints, last_commit_ns, last_commit_bytes;
};

/* store_queue.c */
int store_queue_run(struct store *store, struct queue_req *req);

/* store_catalog.c: commits in the catalog; in view_fns */
int tx_put_commit(struct vtx *tx, const struct commit_info *info);
int tx_put_commit_item(struct vtx *tx, const struct commit_info *info);
int tx_del_commit(struct vtx *tx, uint64_t number);
/* The first at or after from_number (without its message); 1: none. */
int tx_next_commit(struct vtx *tx, uint64_t from_number,
		   struct commit_info *info);

/* store_names.c: everything that one turn changes in the catalog, in one
 * update. Fields that do not apply are NULL. */
struct catalog_update {
	struct store *store;
	const struct catalog_at *at; /* first of all */
	const struct commit_info *commit; /* a new one; may drop old ones */
	const struct catalog_change *change;
	const struct ptr *state; /* SNAPSHOT: the root */
	const struct ptr *discarded; /* keep that state */
	uint32_t uid; /* who discarded it */
	uint64_t head_number; /* as it will be */
	int64_t time_ns;
	bool dropped; /* out: something is not reachable any more */
};

/* What goes from a catalog when an older commit is opened: items by their
 * keys, messages with them. */
struct catalog_at {
	const struct commit_info *commit; /* that very one, if it is missing */
	const struct key *drop;
	size_t ndrop;
	uint64_t unnamed; /* commits without a tag, then */
};

int catalog_update(struct store *store, struct catalog_update *u);
/* A commit of any catalog, and the newest at or below a number; 1: none. */
int catalog_get_commit(struct view *catalog, uint64_t number,
		       struct commit_info *info);
int catalog_prev_commit(struct view *catalog, uint64_t number,
			struct commit_info *info);
/* Any item of the catalog: 0 or -EFSCORRUPTED. Without context. */
int catalog_check_item(const struct key *key, const struct val *val);
int catalog_check_commit(const struct val *val);
/* The root that an item of the catalog names; false: it names none. */
bool catalog_item_root(const struct key *key, const struct val *val,
		       struct ptr *out);
/* The same of an item of the plain directory's table. */
bool plain_item_root(const struct key *key, const struct val *val,
		     struct ptr *out);
int catalog_load_settings(struct store *store);

/* store_recover.c: choose the record (*rec_out is filled) and say why not. */
int store_recover(struct store *store, struct record *rec_out,
		  struct store_error *err);

/* store_at.c: the state that an older commit is opened with, as a record that
 * follows the newest; the catalog view and head_info are made from it. */
struct at_choice;
int store_at_choose(struct store *store, uint64_t number,
		    struct at_choice **out, struct store_error *err);
void store_at_free(struct at_choice *c);
int store_at_record(const struct at_choice *c, struct record *rec_out);
/* After the views were made of that record. */
int store_at_apply(struct store *store, struct at_choice *c);

/* store_copy.c: the file "last", a copy of a durable record. */
/* Write it anew, from the newest record. Best effort. */
void store_keep_copy(struct store *store);
/* After each record that changed something: is a new copy due? */
void store_note_record(struct store *store);
/* 1: there is none that can be read. */
int store_read_copy(struct store *store, struct record *out);

/* A copy of the newest durable record; record_release() it. */
int store_last_record(struct store *store, struct record *out);

/* view.c, for the leader of the queue */
/* The state was written out: hold it by pointer from now on, if the view
 * still shows it. */
void view_settle(struct view *v, const struct root *written);

void store_error_set(struct store_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
