/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store.h - a store: log, cache, catalog, the working view, and the queue
 * that makes states durable. The store knows nothing of files.
 *
 * The head is the last commit. The working view is head + staged changes. A
 * commit appends a record in which head is the view's frozen state; a
 * checkpoint appends one that only keeps the staged state. At most one record
 * is unflushed; callers that arrive meanwhile share the next (group commit).
 *
 * Threads: any, unless said otherwise. Lock order: txn/DESIGN.md.
 */
#ifndef TXN_STORE_H
#define TXN_STORE_H

#include "txn/dev.h"
#include "txn/env.h"
#include "txn/view.h"

enum {
	STORE_MESSAGE_MAX = 3900, /* bytes of a commit message */
	STORE_NAME_MAX = 64,
	STORE_FORMAT_VERSION = 2, /* the newest; 1 is known, too */
	STORE_FORMAT_PACKED = 2 /* has packed extents: FORMAT.md 6 */
};

struct store;

/* A text for people goes with every failure of open and create. */
struct store_error {
	char text[1024];
};

struct store_params {
	struct dev *dev; /* borrowed: outlives the store */
	struct env *env; /* borrowed */
	bool read_only; /* recover without writing anything */
	/*
	 * With read_only, on a device that is not: heal what is read and does
	 * not match its checksum, where the right bytes can be found
	 * (repair.h). Nothing else is written.
	 */
	bool repair;
	/*
	 * Other than 0, for a store that store_open() refuses or whose newest
	 * states cannot be read: open it at this commit, an intact one, and
	 * give up what came later. What that is goes to env->log, line by line.
	 * With read_only it is shown, and nothing is given up. -EEXIST: there
	 * is no need.
	 */
	uint64_t at_commit;
	uint64_t cache_bytes; /* 0: default (48 MiB) */
	/*
	 * What recovery asks of the store's user for every item written after
	 * the last known flush: is the data that it refers to, in the small
	 * head at or above small_limit, whole? 0, -EFSBADCRC, -EFSCORRUPTED,
	 * -EIO. May be NULL.
	 */
	int (*check_item)(void *arg, struct log *log, uint64_t small_limit,
			  const struct key *key, const struct val *val);
	void *check_arg;
	/* For tests and small disks; 0: default, chosen by store_create from
	 * the free space and kept in the format file. */
	uint64_t small_segment_bytes, bulk_segment_bytes, reserve_bytes;
	unsigned int format_version; /* for tests; 0: the newest */
	/* For tests that replay: segments are made by whoever needs them, not
	 * ahead by a thread, so that the same calls change the device in the
	 * same order. */
	bool no_thread;
};

/*
 * Make an empty store in the device's folder (which exists and is empty):
 * format, log/, tmp/, .gitignore, the guard directory ctl/. Durable on return.
 * It holds no commit; head and working are the empty tree. The caller makes
 * commit 1. -EEXIST when there is a format file.
 */
int store_create(const struct store_params *params, struct store **store_out,
		 struct store_error *err);

/*
 * Open and recover. -ENOENT not a store; -EPROTONOSUPPORT foreign version;
 * -EFSCORRUPTED / -EFSBADCRC damage (what, where); -ENOSPC not even the
 * reserve fits; -EROFS, -EIO, -ENOMEM.
 */
int store_open(const struct store_params *params, struct store **store_out,
	       struct store_error *err);

/*
 * Add to a text about damage which commit could be opened by at_commit, and
 * what that would give up. Reads a lot.
 */
void store_suggest(struct store *store, struct store_error *err);

/*
 * Close. Staged changes that were entered in the working view are
 * checkpointed first (unless the store has stopped or is read-only): the
 * result of that is returned; the handle is gone in any case.
 */
int store_close(struct store *store);
/* As after kill -9: nothing more is written. For tests. */
void store_abandon(struct store *store);

const struct tree *store_tree(struct store *store);
struct log *store_log(struct store *store);
struct env *store_env(struct store *store);
/* NULL without params.repair. */
struct repair *store_repair(struct store *store);
struct view *store_working(struct store *store);
bool store_is_read_only(const struct store *store);
const char *store_uuid(const struct store *store); /* 36 characters */
unsigned int store_format_version(const struct store *store);

/* A fresh inode number (object number): never handed out before. */
uint64_t store_new_obj(struct store *store);
/* A fresh view id, for view_new. */
uint64_t store_new_view_id(struct store *store);

/*
 * Items entered in a view refer to bulk data below end_pos: it is flushed
 * before the next record is appended. Cheap; under the view's lock too.
 */
void store_require_bulk(struct store *store, uint64_t end_pos);

/* 0, or the errno that stopped the store, with the reason. */
int store_failed(struct store *store, const char **reason_out);

/* --- making states durable --- */

struct commit_info {
	uint64_t number; /* 1, 2, ...; 0: no commit yet */
	int64_t time_ns;
	uint32_t uid;
	uint64_t changes; /* as the committer counted, for log and status */
	uint64_t bytes;
	uint32_t names; /* tags that name it */
	struct ptr root;
	size_t message_bytes;
	char message[STORE_MESSAGE_MAX + 1]; /* NUL-terminated; any bytes */
};

struct commit_req {
	uint32_t uid;
	const char *message; /* may be NULL */
	size_t message_bytes;
	/* Enter what is still buffered, in the same hold of the view's lock as
	 * the freeze; may be NULL (view_update's rules). */
	view_fn enter;
	view_done_fn entered;
	void *arg;
	/* Look at the frozen candidate before anything is appended; -errno
	 * cancels the commit, 1 says that nothing is staged. May be NULL; fills
	 * changes/bytes of *info. */
	int (*inspect)(void *arg, const struct root *head,
		       const struct root *candidate, struct commit_info *info);
};

/*
 * Commit what view shows. 0 and *number_out: durable, head is that state. 1:
 * nothing was staged, *number_out is the head's number. Else nothing was
 * committed: errno of enter or inspect, -EAGAIN never, -ENOMEM, -ENOSPC,
 * -EROFS. -EIO: the store has stopped, and the outcome is settled by the next
 * store_open (I9).
 */
int store_commit(struct store *store, struct view *view,
		 const struct commit_req *req, uint64_t *number_out);

/* --- names: snapshots, tags, discarded states --- */

enum store_name_kind {
	STORE_SNAPSHOT = 1, /* a state of a view, staged changes included */
	STORE_TAG, /* of a commit, which is then never dropped */
	STORE_DISCARDED /* what a switch replaced: "@discarded-N" */
};

struct name_info {
	enum store_name_kind kind;
	struct ptr root;
	uint64_t number; /* a tag's commit; else what head was */
	int64_t time_ns;
	uint32_t uid;
	size_t message_bytes;
	char name[STORE_NAME_MAX + 1];
	char message[STORE_MESSAGE_MAX + 1]; /* NUL-terminated */
};

/* [A-Za-z0-9][A-Za-z0-9._-]{0,63}, not head, staged or working. */
bool store_name_is_valid(const char *name);

/* 1: no such name. "@discarded-N" is one too. */
int store_get_name(struct store *store, const char *name,
		   struct name_info *out);
/* Names in no order, then discarded states from the oldest on; fn's other than
 * 0 ends it. */
int store_each_name(struct store *store,
		    int (*fn)(void *arg, const struct name_info *info),
		    void *arg);

/* Settings of the store, kept in it. */
enum store_setting {
	STORE_KEEP_LAST = 1, /* unnamed commits that are kept; 0: all */
	STORE_KEEP_DISCARDED, /* the same of discarded states */
	STORE_PUSH_MAPS, /* before a commit; 0: do not */
	STORE_PLAIN, /* the plain files follow commits; 0: there are none */
	STORE_SETTINGS
};

enum { STORE_KEEP_LAST_DEFAULT = 10, STORE_KEEP_DISCARDED_DEFAULT = 3 };

uint64_t store_get_setting(struct store *store, enum store_setting which);

/* A change of the catalog, durable on return. */
struct catalog_change {
	enum {
		CATALOG_SNAPSHOT, /* name := what view shows now */
		CATALOG_TAG, /* name := commit number */
		CATALOG_DELETE, /* name goes; also "@discarded-N" */
		CATALOG_SET /* setting := number */
	} op;
	const char *name;
	uint64_t number;
	enum store_setting setting;
	uint32_t uid;
	const char *message;
	size_t message_bytes;
	/* SNAPSHOT: as in commit_req. */
	view_fn enter;
	view_done_fn entered;
	void *arg;
};

/* -EEXIST, -ENOENT (name or commit), -EINVAL (not a name), and as
 * store_commit. */
int store_change_catalog(struct store *store, struct view *view,
			 const struct catalog_change *change);

/*
 * Give a view another state, durable on return. flip() does it in memory, as
 * the leader of the queue (no record is made meanwhile): view_flip(), *old_out
 * becomes the state before. What it returns other than 0 is returned, and
 * nothing happened. discard: keep the state before as a discarded one (left out
 * when there is no memory or space for it). to: when not NULL, that state (a
 * written one) also becomes head, as a new commit, by the same record.
 */
struct switch_req {
	int (*flip)(void *arg, struct root *old_out);
	void *arg;
	bool discard;
	const struct root *to;
	uint32_t uid;
	const char *message;
	size_t message_bytes;
	uint64_t changes, bytes; /* of that commit */
};

int store_switch(struct store *store, struct view *view,
		 const struct switch_req *req, uint64_t *number_out);

/* Durable on return: all that was entered in the view before the call,
 * staged. -EIO: the store has stopped. */
int store_checkpoint(struct store *store, struct view *view);
/* Does the view hold entered changes that no durable record has? */
bool store_needs_checkpoint(struct store *store, struct view *view);

/* --- history --- */

/* The head's root (the caller puts it) and its commit; info may be NULL. */
void store_head(struct store *store, struct root *root_out,
		struct commit_info *info_out);
/* 1: no such commit (never made, or dropped). */
int store_get_commit(struct store *store, uint64_t number,
		     struct commit_info *info_out);
/* The first at or after `from`, in ascending order; 1: none. */
int store_next_commit(struct store *store, uint64_t from,
		      struct commit_info *info_out);
/* Newest first, from number downwards; fn's other than 0 ends it. */
int store_each_commit(struct store *store, uint64_t from,
		      int (*fn)(void *arg, const struct commit_info *info),
		      void *arg);

/* --- space --- */

struct gc_params {
	/* What an item of a tree of files refers to in the log. */
	int (*mark_item)(void *arg, const struct key *key,
			 const struct val *val,
			 int (*mark)(void *ctx, uint64_t pos, uint64_t len),
			 void *ctx);
	/* The working view, with all that was appended for it entered. */
	int (*freeze)(void *arg, struct root *root_out);
	void *arg;
	bool hurry; /* somebody waits: do not rest */
	/* Remove segments, punch nothing: moved files may have names that are
	 * not the log's, whose bytes are somebody's. */
	bool whole;
	/* Nothing from these positions on, where they are not 0. */
	uint64_t small_below, bulk_below;
};

struct gc_stats {
	uint64_t freed_bytes; /* given back by this sweep */
	uint64_t live_bytes; /* of the pages that it looked at */
};

/*
 * Give back to the host what no state reaches any more. Reads every node that
 * is reached, once; nobody waits for it. A crash in it leaves less to give
 * back. -ECANCELED: store_gc_stop(). Damage ends it before anything is given
 * back.
 */
int store_gc(struct store *store, const struct gc_params *params,
	     struct gc_stats *out);
void store_gc_stop(struct store *store);
/* Turns of the queue that dropped states since the last sweep. */
uint64_t store_dropped(struct store *store);
/* Count one more: the plain directory's table no longer names a state. */
void store_note_dropped(struct store *store);

/*
 * Look at states whole, what they share once: for verification.
 */
struct scan;
struct scan_params {
	/* Each item of trees of files that was not met before. Other than 0
	 * ends the scan. */
	int (*item)(void *arg, struct scan *scan, const struct key *key,
		    const struct val *val);
	/* A node cannot be read: err; the scan goes on beside it. low: the
	 * first key that it may have had; NULL: it is a root. May be called
	 * again for what states share. */
	void (*damaged)(void *arg, const struct ptr *ptr, const struct key *low,
			int err);
	/* So many bytes of nodes were read; other than 0 ends the scan. */
	int (*progress)(void *arg, uint64_t bytes);
	void *arg;
};

int store_scan_new(struct store *store, const struct scan_params *params,
		   struct scan **out);
void store_scan_free(struct scan *scan);
/* One state; also the catalog and the plain directory's tree (states NULL). */
int store_scan_state(struct scan *scan, const struct root *root);
int store_scan_own(struct scan *scan);
/* The catalog alone, its items: as far as it can be read, damage beside it. */
int store_scan_catalog(struct scan *scan);
/* The state that an item of the catalog names, "@12" or a name. 1: none. */
int store_item_state(const struct key *key, const struct val *val,
		     char name_out[STORE_NAME_MAX + 1], struct ptr *root_out);
/* Was the block of a file that begins at pos met before? It is from now on. */
bool store_scan_meet(struct scan *scan, uint64_t pos);
/* And is it known to be damaged? */
bool store_scan_is_bad(struct scan *scan, uint64_t pos);
int store_scan_set_bad(struct scan *scan, uint64_t pos);

/*
 * Whoever holds a position or a root that is not a view's, and goes on to read
 * it, does so between these: a sweep waits for those who were there before it
 * ended marking. Counted, any thread; not around store_gc().
 */
unsigned int store_pin(struct store *store);
void store_unpin(struct store *store, unsigned int pin);

/* --- plain directory: what DIR's own files looked like when last in step,
 * as items of a tree of its own (fs/plain_item.c). Written with the next commit
 * or checkpoint of the store. --- */
struct view *store_plain(struct store *store);

/* --- statistics and checks --- */

struct store_stats {
	uint64_t records; /* sequence number of the newest */
	uint64_t commits, checkpoints; /* since open */
	uint64_t last_commit_ns; /* duration */
	uint64_t last_commit_bytes; /* appended to the small head by it */
	uint64_t dirty_nodes, dirty_bytes, cached_bytes;
	bool recovered; /* the store was not closed cleanly */
};
void store_get_stats(struct store *store, struct store_stats *out);

/*
 * All invariants that need no reading of file data: log_check, tree_check of
 * head, working, catalog and plain, the catalog's order. 0 or an error with a
 * text.
 */
int store_check(struct store *store, char *why, size_t why_bytes);

#endif
