/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs_internal.h - what the files of fs/ without FUSE share.
 *
 * Invariants, going on from those of the store (txn/DESIGN.md 3); fs_check()
 * checks I20 to I26:
 *
 * I20	An entry names an inode that exists and has the entry's type.
 * I21	An inode's first name and its LINK items are exactly the entries
 *	that name it; nlink is their number (of directories: 2 and one for
 *	each directory inside). nlink 0: no name, and an ORPHAN item.
 * I22	A directory has one name; the way up from it ends at the root.
 * I23	A directory's size is the number of its entries.
 * I24	Extents of a file do not overlap, cross no multiple of 256 KiB and
 *	end at or before the block that holds the last byte; attr.blocks is
 *	the number of their blocks. An inode has INLINE items or extents,
 *	never both.
 * I25	Bytes past the end of a file in its last block are zero.
 * I26	A cookie is hash << 7 | collision number of its entry's name.
 * I27	Two states with an inode of equal data_version hold equal bytes of
 *	it.
 * I28	The state shown by a view is its tree overlaid with the buffers of
 *	its files; a buffered block hides the tree's, and at or above
 *	file->cut the tree's blocks are void.
 * I29	Packed blocks (item.h) are among the first EXTENT_PACKED_MAX of their
 *	file, in the tree and in buffers; decoding an item checks it.
 *
 * Lock order; each may be taken while those above it are held:
 *
 *	0. file->write_lock	one writer of contents at a time; held over
 *				reads of the device. Of one file at a time.
 *	1. fs->copy_lock	shared by copies and grafts
 *	2. view->lock		of one view (txn/view.h), its tree. Never asked
 *				for with any of the locks below held.
 *	   view->data_lock	the same view's files in use: who are there,
 *				buffers, file->fv. Updates hold both, except
 *				that entering one file takes its lock instead.
 *	3. file->lock		buffers of one file, with one of these shared;
 *				under the data_lock exclusive not needed
 *	4. fv->files_lock	the table of files in use; that of the working
 *				view before another's
 *	   fs->track_lock	what was written since fs_version()
 *	   fs->told_lock	damage that was told
 *	5. locks of the log	(log_append, log_claim)
 *
 *	fs->park_lock and fs->thread_lock are held alone.
 */
#ifndef FS_FS_INTERNAL_H
#define FS_FS_INTERNAL_H

#include <pthread.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/item.h"
#include "txn/log.h"
#include "txn/rwlock.h"

enum {
	WINDOW_BLOCKS = EXTENT_BLOCKS_MAX,
	WINDOW_BYTES = ITEM_WINDOW_BYTES,
	/* Small-head bytes claimed for what entering will make of a file and of
	 * each of its windows. */
	FILE_CLAIM_BYTES = 8 << 10,
	WINDOW_CLAIM_BYTES = 4 << 10,
	SMALL_MAX_BYTES = 256 << 10, /* what may go to the small head at once */
	BUFFER_DEFAULT_BYTES = 64 << 20,
	/* Appended and not entered: the host's pages hold it, a writer waits
	 * for the device only when it is so far ahead of the checkpoints. */
	PENDING_MAX_BYTES = 512 << 20,
	STEP_BYTES = 64 << 20, /* of a copy or a clearing that is larger */
	ENTER_BYTES = 8 << 20, /* entered at once when too much is buffered */
	/* Appended and not handed to the host: from the first on it is, beside
	 * the writer; past the second a writer hands over some of it; past the
	 * third he waits until all of it is. */
	WRITE_BEHIND_BYTES = 1 << 20,
	WRITE_OUT_BYTES = 16 << 20,
	UNWRITTEN_MAX_BYTES = 64 << 20,
	CHECKPOINT_BYTES = 64 << 20, /* new data between checkpoints */
	CHECKPOINT_SECONDS = 5,
	TOLD_MAX = 64,
	TRACK_MAX = 1 << 20,
	OP_TOUCHED_MAX = 8,
	FS_MOVED = 2 /* from a view_fn: the file is in another view now */
};

#define CUT_NONE UINT64_MAX

struct fs {
	struct store *store;
	void (*gone)(void *arg, const struct fs_gone *what); /* fs_params */
	void *gone_arg;
	void (*before_sweep)(void *arg);
	void *before_sweep_arg;
	struct env *env;
	struct log *log;
	struct fs_view *working;
	uint64_t name_seed; /* keys the hash of names */
	uint64_t hash_mask; /* narrowed by tests, to force collisions */
	uint64_t buffer_bytes;
	bool packs; /* the store's format has packed blocks */

	/* atomic */
	uint64_t dirty_bytes; /* buffered, not appended */
	uint64_t pending_bytes; /* appended, not entered */
	uint64_t new_bytes; /* appended since the last commit */
	uint64_t since_checkpoint; /* appended since the last checkpoint */
	uint64_t clock; /* counts changes of the working view */
	uint64_t op_clock; /* of the last that was not buffered contents */
	uint64_t same_clock; /* when working was last known to be head */
	uint64_t flip_clock; /* of the last flip */

	pthread_mutex_t track_lock; /* guards the next five */
	bool tracking; /* between fs_version() and the end of a flip */
	bool track_lost; /* there was no memory */
	uint64_t *track; /* inodes touched since */
	size_t ntrack, track_cap;

	pthread_mutex_t park_lock; /* guards park_cond */
	pthread_cond_t park_cond;
	unsigned int parked, writers; /* atomic */

	/* Shared: places of blocks are taken from one file and put into
	 * another. Exclusive: a sweep takes the state that it marks. Below a
	 * file's write_lock and the gate: nobody waits there with it. */
	struct rwlock copy_lock;
	int64_t plain_bytes; /* atomic; of the plain files, -1: not known */
	int64_t plain_missing; /* atomic; objects, while those are known */
	uint64_t swept_at; /* atomic: log bytes when the last sweep ended */
	uint64_t shown_at; /* atomic: the same for the plain files in step */
	/* atomic: what was appended from there on was kept by a state that the
	 * plain files showed, from the last sweep too; UINT64_MAX: nothing */
	uint64_t moved_at;
	uint64_t live_bytes; /* atomic: that it found */
	uint64_t looked_at; /* the sweeper's: bytes since, a while ago */
	uint64_t quiet_at; /* the sweeper's: bytes appended, for so long */
	unsigned int quiet_rounds;
	uint64_t burst_from; /* atomic; of the small head, when it was quiet */
	bool swept; /* atomic: a sweep has ended since opening */
	bool whole_sweeps; /* gc_params.whole, while there is one thread */
	/* The same: gc_params.*_below, while an import is under way. */
	uint64_t import_from[LOG_HEADS];

	pthread_mutex_t told_lock; /* guards the next two */
	uint64_t told[TOLD_MAX];
	unsigned int ntold;

	pthread_mutex_t thread_lock; /* guards stop, kick and the next three */
	bool space_wanted;
	uint64_t space_begun, space_done; /* sweeps that writers waited for */
	pthread_cond_t thread_cond, sweep_cond, space_cond;
	pthread_t thread, sweeper;
	bool has_thread, has_sweeper, stop, kick;
};

struct fs_view {
	struct fs *fs;
	struct view *view;
	bool is_working;
	int refs; /* atomic */
	pthread_mutex_t files_lock; /* guards the rest */
	struct fs_file **buckets;
	size_t nbuckets, nfiles;
	struct fs_file *first; /* of all in the table */
	struct fs_file *dirty_first, *dirty_last; /* oldest first */
	size_t ndirty_files;
};

/* 256 KiB of a file, as far as the buffer knows better than the tree. */
struct fs_window {
	uint64_t idx; /* offset / WINDOW_BYTES */
	uint64_t present; /* bit for each block in the buffer */
	uint64_t appended; /* of those: has pos and sum, maybe no blk */
	struct lbuf *blk[WINDOW_BLOCKS];
	/* As in struct item_window. */
	uint64_t pos[WINDOW_BLOCKS];
	uint64_t sum[WINDOW_BLOCKS];
	uint16_t len[WINDOW_BLOCKS];
};

struct fs_file {
	uint64_t ino;
	struct fs_view *fv; /* atomic; changes under its exclusive locks */
	pthread_mutex_t write_lock;

	pthread_mutex_t lock; /* see "Lock order" */
	uint64_t size; /* always current */
	uint64_t cut; /* the tree's blocks from here on are void */
	uint64_t seq; /* changes with the contents and with entering */
	int64_t mtime_ns, ctime_ns; /* while dirty */
	bool dirty; /* something is not entered */
	bool is_inline; /* the tree has INLINE items */
	bool enter_inline; /* what tx_enter made of it */
	bool gone; /* the object was removed from its view */
	bool orphan; /* no name; removed with the last put */
	bool stale; /* a switch moved it to the state before */
	bool priv_clean; /* no set-id bits, no security.capability */
	bool no_caps; /* no security.capability */
	bool unpacked; /* what is appended is whole blocks */
	struct fs_window **win; /* ascending by idx */
	size_t nwin, win_cap;
	uint64_t ndirty; /* blocks buffered, not appended */
	uint64_t npending; /* blocks appended, not entered */
	uint64_t bulk_end; /* end of what was appended to the bulk head */
	uint64_t claimed_small, claimed_bulk; /* bytes, of the log's heads */

	/* files_lock of fv */
	unsigned int users;
	struct fs_file *hash_next;
	struct fs_file *prev, *next;
	struct fs_file *dirty_prev, *dirty_next;
	bool listed; /* in the list of dirty files */
};

/* --- fs.c --- */

/* Every reading or changing function embeds this first in its argument. */
struct fs_op {
	struct fs_view *fv;
	view_fn fn; /* gets the struct fs_op */
	view_done_fn done; /* may be NULL */
	uint64_t ino; /* for messages about damage */
	int64_t now_ns;
	bool enters; /* only brings buffers into the tree */
	/* Of what is beside the tree only the file with this lock is touched;
	 * NULL: anything may be. */
	pthread_mutex_t *beside;
	unsigned int ntouched;
	uint64_t touched[OP_TOUCHED_MAX];
	uint64_t gone_ino; /* removed, one at most; 0: none */
	struct item_attr gone_attr;
	struct fs_gone gone; /* of the working view, where somebody asks; its
			      * target is the operation's */
};

/* A view of fs that can be changed, over a root; put it. */
int fv_new_private(struct fs *fs, const struct root *root,
		   struct fs_view **out);

/* The root directory, where a state has none yet. */
int fv_make_root(struct fs_view *fv);

int fv_read(struct fs_view *fv, struct fs_op *op);
int fv_update(struct fs_view *fv, unsigned int flags, struct fs_op *op);
/* For those who call view_update_freeze and view_flip themselves. */
void op_start(struct fs_view *fv, struct fs_op *op);
int op_run(struct vtx *tx, void *arg);
void op_finish(void *arg);

void fs_track(struct fs *fs, uint64_t ino);
/* Say once that something of an inode is damaged. Not under locks. */
void fs_tell_damage(struct fs_view *fv, uint64_t ino, uint64_t pos, int err,
		    const char *what);
/* Buffers are dropped. */
void fs_release(struct fs *fs);
int64_t fs_now(struct fs *fs);

/* Make room for `need` elements in an array; -ENOMEM leaves it as it is. */
int array_grow(void **v, size_t *cap, size_t need, size_t size);

/* Objects without a name that nobody holds; one that its last holder put. */
int orphans_remove(struct fs *fs);
int orphan_remove(struct fs_file *f);

/* --- commit.c --- */

void fs_thread_init(struct fs *fs);
void fs_thread_stop(struct fs *fs);
void fs_thread_kick(struct fs *fs);

/* --- space.c --- */

/* Enough was dropped and written for a sweep to be worth it. */
bool fs_wants_sweep(struct fs *fs);
/* The plain files show another state: the one before is not kept by that. */
void fs_shown_moved(struct fs *fs);
/* In the background; tells what went wrong. */
int fs_sweep(struct fs *fs);
/* The sweeper's: what is prepared ahead goes when nothing was written for a
 * minute. */
void fs_trim(struct fs *fs);
/*
 * The host is full: is there space to give back? Waits until it is (a few
 * seconds at most); true: try again. Not with any of the locks held: the sweep
 * wants them.
 */
bool fs_find_space(struct fs *fs);
/*
 * Before fs_start(), from now to the end: what is appended belongs to a state
 * that no sweep knows, and the plain directory's table has what only that one
 * has. So nothing of it is given back, and no record is made to find space.
 */
void fs_import_begin(struct fs *fs);
void fs_import_end(struct fs *fs);
/* The sweeper's part of it. */
void fs_space_sweep(struct fs *fs);

/* --- inode.c: under a view's lock --- */

/* 0, -ENOENT, errors of reading. */
int tx_get_attr(struct vtx *tx, uint64_t ino, struct item_attr *out);
int tx_put_attr(struct vtx *tx, struct fs_op *op, uint64_t ino,
		const struct item_attr *a);
/* With what is buffered laid over it. */
int tx_get_shown(struct vtx *tx, struct fs_view *fv, uint64_t ino,
		 struct fs_attr *out);
/* Same, of an attr that was read already. */
void fv_show(struct fs_view *fv, uint64_t ino, const struct item_attr *a,
	     struct fs_attr *out);
/* Remove an object; a: its attributes. */
int tx_del_object(struct vtx *tx, struct fs_op *op, uint64_t ino,
		  const struct item_attr *a);

/* Contents of symlinks, in chunks. */
int tx_put_target(struct vtx *tx, uint64_t ino, const char *s, size_t len);

/* --- dir.c --- */

struct dir_slot {
	uint64_t cookie; /* of the entry, or a free one */
	uint64_t ino; /* 0: not there */
	uint32_t type;
};

uint64_t name_hash(const struct fs *fs, const char *name, size_t len);
/* Find a name. When it is not there, *slot has a free cookie (0: none). */
int tx_find(struct vtx *tx, const struct fs *fs, uint64_t dir, const char *name,
	    size_t len, struct dir_slot *slot);
/* Where a new name goes. -EEXIST; -ENOSPC: 128 names have its hash. */
int tx_find_place(struct vtx *tx, const struct fs *fs, uint64_t dir,
		  const char *name, size_t len, uint64_t *cookie_out);
int tx_put_entry(struct vtx *tx, uint64_t dir, uint64_t cookie, uint64_t ino,
		 uint32_t type, const char *name, size_t len);
int tx_del_entry(struct vtx *tx, uint64_t dir, uint64_t cookie);
/* The directory's attributes, fit to take or lose entries. */
int tx_get_dir(struct vtx *tx, uint64_t ino, struct item_attr *out);
int name_check(const char *name, size_t len);

/* Back-references of an inode; a is changed, the caller puts it. */
int tx_ref_add(struct vtx *tx, uint64_t ino, struct item_attr *a,
	       uint64_t parent, uint64_t cookie);
int tx_ref_del(struct vtx *tx, uint64_t ino, struct item_attr *a,
	       uint64_t parent, uint64_t cookie);
/* One more item that names ino, from *link_off on; 1: no more. */
int tx_ref_next(struct vtx *tx, uint64_t ino, uint64_t *link_off,
		struct item_link *out);

/*
 * Take away one name of a non-directory: attributes, back-reference, and the
 * object when it was the last. Sets *last; the caller's done handler calls
 * file_lost_name(fv, ino, *last).
 */
int tx_drop_name(struct vtx *tx, struct fs_op *op, uint64_t ino,
		 uint64_t parent, uint64_t cookie, bool *last);
void file_lost_name(struct fs_view *fv, uint64_t ino, bool last);

int tx_put_orphan(struct vtx *tx, uint64_t ino);

/* --- xattr.c --- */

int tx_find_xattr(struct vtx *tx, const struct fs *fs, uint64_t ino,
		  const char *name, size_t len, uint64_t *off_out,
		  struct item_xattr *out);
int tx_has_capability(struct vtx *tx, const struct fs *fs, uint64_t ino);
int tx_del_xattr(struct vtx *tx, uint64_t ino, uint64_t off);
int tx_put_xattr(struct vtx *tx, uint64_t ino, uint64_t off, const char *name,
		 size_t name_len, const void *value, size_t size);
/* 1: not there; size 0 asks for the length, -ERANGE: too small. */
int tx_get_xattr(struct vtx *tx, const struct fs *fs, uint64_t ino,
		 const char *name, uint8_t *buf, size_t size, size_t *len_out);
#define XATTR_CAPABILITY "security.capability"
#define XATTR_ACL_ACCESS "system.posix_acl_access"
#define XATTR_ACL_DEFAULT "system.posix_acl_default"

/* --- acl.c --- */

enum { FS_ACL_MAX = 4096 }; /* bytes of a list: 511 entries */

/* What a new object gets from its directory's default ACL, or else the umask;
 * changes *mode. */
int tx_inherit_acl(struct vtx *tx, const struct fs *fs, uint64_t dir,
		   uint64_t ino, uint32_t umask_, uint32_t *mode);
/* The permission bits that an access ACL stands for; 1: they say all of it;
 * -EINVAL. */
int acl_to_mode(const uint8_t *acl, size_t len, uint32_t *mode);
/* After a chmod: the access ACL follows. */
int tx_chmod_acl(struct vtx *tx, const struct fs *fs, uint64_t ino,
		 uint32_t mode);

/* --- path.c --- */

/* The path ends at the end of *buf (grown as needed) and starts at *start. */
int tx_path(struct vtx *tx, uint64_t ino, char **buf, size_t *cap,
	    size_t *start_out);

/* --- delta.c --- */

/* fs_delta_new(); with the names that do not differ, or without. */
int delta_new(struct fs *fs, const struct root *a, const struct root *b,
	      bool other_names, struct fs_delta **out);
/* Every name of an inode in a frozen view. */
typedef int (*fv_name_fn)(void *arg, uint64_t dir, const char *name,
			  size_t len);
int fv_each_name(struct fs_view *fv, uint64_t ino, fv_name_fn fn, void *arg);

/* --- graft.c --- */

/* As fs_graft(), into a view that can be changed. */
int fv_graft(struct fs_view *to, struct fs_view *from, const char *path);
/* A name with all below it. */
int fv_remove_tree(struct fs_view *fv, uint64_t dir, const char *name,
		   size_t len, uint32_t mode, uint64_t ino);

/* --- flip.c --- */

/* In a switch_req's flip: the working view goes to a state that nobody
 * compared with it, while nobody changes it; at as that of fs_flip(), may be
 * NULL. */
typedef void (*fs_flipped_fn)(void *arg, const struct fs_delta *delta,
			      struct fs_view *old);
int fs_flip_anyhow(struct fs *fs, const struct root *to, fs_flipped_fn at,
		   void *arg, struct root *old_out);

/* --- extent.c: what the tree knows of contents; under a view's lock --- */

int fmap_load(struct vtx *tx, uint64_t ino, uint64_t widx,
	      struct item_window *m);
/* Make the tree say m of a window. */
int fmap_store(struct vtx *tx, uint64_t ino, uint64_t widx,
	       const struct item_window *m);
/* Leave out the blocks at or above a byte offset. */
void fmap_cut(struct item_window *m, uint64_t widx, uint64_t cut);
/* Remove all from window `from` to before window `to` (UINT64_MAX: the end);
 * *nblocks becomes smaller by what was there. */
int extents_remove(struct vtx *tx, uint64_t ino, uint64_t from, uint64_t to,
		   uint64_t *nblocks);
/* First window at or after widx that has an extent; 1: none. */
int extents_next_window(struct vtx *tx, uint64_t ino, uint64_t widx,
			uint64_t *widx_out);
int inline_load(struct vtx *tx, uint64_t ino, const struct item_attr *a,
		uint8_t buf[INLINE_FILE_MAX]);
int inline_remove(struct vtx *tx, uint64_t ino);

static inline unsigned int bits_count(uint64_t mask)
{
	return (unsigned int)__builtin_popcountll(mask);
}

/* --- buffer.c: files in use and what is written to them --- */

/* The view that f is in, with its data_lock held shared and f->lock. */
struct fs_view *file_lock(struct fs_file *f);
void file_unlock(struct fs_file *f, struct fs_view *fv);
/* The same, refusing files that cannot change: -ESTALE, -EROFS, -ENOENT. */
int file_lock_to_change(struct fs_file *f, struct fs_view **fv_out);
/* Run op on the view that f is in, until it was in that view throughout;
 * op->fn starts with file_is_in(). */
int file_read_op(struct fs_file *f, struct fs_op *op);
int file_update_op(struct fs_file *f, unsigned int flags, struct fs_op *op);
static inline bool file_is_in(struct fs_file *f, const struct fs_op *op)
{
	return __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE) == op->fv;
}

/* Find in the table; adds a user. No lock held: users go from 0 to 1 under one
 * of the view's locks shared, and from 1 to 0 under view->lock exclusive. So in
 * an update that holds both file_is_used() stays true or false. */
struct fs_file *file_find(struct fs_view *fv, uint64_t ino);
/* Under the view's lock: look without adding a user. */
struct fs_file *file_peek(struct fs_view *fv, uint64_t ino);
bool file_is_used(struct fs_view *fv, uint64_t ino);
/* Is it in use, and known to have no security.capability? No lock held. */
bool file_lacks_caps(struct fs_view *fv, uint64_t ino);
struct fs_file *file_new(uint64_t ino);
void file_free(struct fs_file *f); /* never shown to anybody; NULL is fine */
/* Under the view's lock: nf (with one user), or the one that was there, with
 * one more; then nf is freed. */
struct fs_file *file_insert(struct fs_view *fv, struct fs_file *nf);
void file_set_from_attr(struct fs_file *f, const struct item_attr *a);
/* Under the exclusive lock: forget buffers; free f when nobody uses it. */
void file_discard(struct fs_file *f);
/* Under the exclusive lock of the view that it is in; it is clean. */
void file_move(struct fs_file *f, struct fs_view *to);
/* Under the exclusive lock: each file of the table. fn may discard it. */
void fv_each_file(struct fs_view *fv, void (*fn)(void *arg, struct fs_file *f),
		  void *arg);
/* The dirty file that follows `after` (whose user is put), from the one that is
 * dirty for the longest time on (also when after is not dirty any more, or
 * NULL), with a user; NULL: none. */
struct fs_file *fv_next_dirty(struct fs_view *fv, struct fs_file *after);
size_t fv_count_dirty(struct fs_view *fv);
/* Forget all files; nobody else is there any more. */
void fv_drop_all(struct fs_view *fv);

/* With both locks (or the exclusive one): */
struct fs_window *file_window(struct fs_file *f, uint64_t idx);
size_t file_window_idx(const struct fs_file *f, uint64_t idx);
/* Put a block into its window, which file_reserve_window() made; takes over
 * the reference. */
int file_reserve_window(struct fs_file *f, uint64_t idx);
/* Those that got no block. */
void file_drop_empty_windows(struct fs_file *f);
void file_set_block(struct fs_file *f, uint64_t blk, struct lbuf *b);
/* The same of n blocks of one window that lie in the log already; len NULL:
 * whole ones. */
void file_set_stored(struct fs_file *f, uint64_t blk, const uint64_t *pos,
		     const uint64_t *sum, const uint16_t *len, unsigned int n);
void file_drop_blocks_from(struct fs_file *f, uint64_t blk);
void file_mark_dirty(struct fs_file *f, int64_t now_ns);
/* So much was appended to the log, of contents. */
void count_appended(struct fs *fs, uint64_t bytes);
/* Append what is dirty; full: whole windows only. */
int file_append(struct fs_file *f, enum log_head head, bool full);

/* --- enter.c: bringing buffers into the tree --- */

/* A view_fn part and its done part. */
int tx_enter(struct vtx *tx, struct fs_op *op, struct fs_file *f,
	     enum log_head head);
void file_entered(struct fs_file *f);
/* One file, in one update; nothing when it is clean. */
int file_enter(struct fs_file *f);
/* All dirty files of a view, in one update. */
int tx_enter_all(struct vtx *tx, struct fs_op *op);
void fv_entered_all(struct fs_view *fv);
/* The same file by file, so that writers go on meanwhile. Before it is entered,
 * data of the bulk head is durable, or handed to the host, or neither: then
 * nothing waits for the device. */
enum enter_how { ENTER_FLUSHED, ENTER_WRITTEN, ENTER_IN_MEMORY };
int fv_enter_all(struct fs_view *fv, enum enter_how how);
/* Keep within the bounds, after writing to files of a view; no locks held. */
int fs_balance(struct fs_view *fv);
/* Room for writing so much, until the change is made and has claims of its own;
 * may wait for the device, and for a sweep. frees: so that something else
 * goes. */
int fs_take_room(struct fs *fs, uint64_t bytes, bool frees);
void fs_give_room(struct fs *fs, uint64_t bytes);
/* Room for what frees space. */
int fs_take_room_to_free(struct fs *fs);
void fs_give_room_to_free(struct fs *fs);

/* --- file.c --- */

/* One block as it is shown now; NULL: a hole. write_lock held. */
int file_load_block(struct fs_file *f, uint64_t blk, struct lbuf **out);
void fs_gate_enter(struct fs *fs);
void fs_gate_leave(struct fs *fs);
/* A window that is written as a whole goes to the log as one buffer. */
struct whole_window {
	struct lbuf *buf; /* NULL: appended */
	uint64_t pos[WINDOW_BLOCKS], sum[WINDOW_BLOCKS];
};

/* Gather the buffers of one change of contents, then make it. */
struct change_set {
	struct fs_file *f;
	uint64_t first; /* number of the first block */
	size_t n;
	struct lbuf **bufs; /* of each block; NULL: leave it */
	/* Instead of bufs: blocks of one window that lie in the log. */
	const uint64_t *pos, *sum;
	const uint16_t *len; /* NULL: they are whole there */
	/* Beside bufs, which have nothing there: windows from whole_first on */
	struct whole_window *whole; /* NULL: none */
	uint64_t whole_first;
	size_t nwhole;
	struct lbuf *head; /* block 0 of a file that was inline; may be NULL */
	uint64_t size; /* after the change */
	uint64_t drop_from; /* blocks from here on go; CUT_NONE: none */
};
int file_change(struct change_set *c);
/* n blocks of one window that lie in the log; size: at least that much after
 * it. write_lock held, and store_pin() or the copy_lock, so that no sweep
 * takes them meanwhile. */
int file_put_stored(struct fs_file *f, uint64_t blk, const uint64_t *pos,
		    const uint64_t *sum, const uint16_t *len, unsigned int n,
		    uint64_t size);
/* Zeros over what is there; a file that was cut meanwhile stays so. */
int file_zero(struct fs_file *f, uint64_t off, size_t len);
/* Make it at least that long; never shorter. */
int file_grow(struct fs_file *f, uint64_t size);
/* Through the gate first: never with another file's held. Behind the gate only
 * updates that finish something: others may wait for the queue, whose leader
 * may wait for the gate. */
void file_write_lock(struct fs_file *f);
void file_write_unlock(struct fs_file *f);

#endif
