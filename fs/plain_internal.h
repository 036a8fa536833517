/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_internal.h - what the files about the plain directory share. Read
 * fs/DESIGN.md 8 first.
 *
 *	plain_item.c	the table: what stat showed, which state that was
 *	plain_look.c	is a plain object what a state says?
 *	plain_compare.c	all of the directory against the table
 *	plain_read.c	plain objects into a view: init, edits
 *	plain_in.c	edits made while unmounted become staged changes
 *	plain_make.c	objects of a state as plain ones
 *	plain_place.c	where directories are while names move
 *	plain_retry.c	what could not be done is tried again
 *	plain_space.c	what the store takes of the host
 *	plain_give.c	moved files as plain ones
 *	plain_out.c	the directory is made to show another state, in steps:
 *			what comes is prepared, then
 *	plain_take.c	what moves is taken away, what goes removed
 *	plain_install.c	everything gets its place, name and attributes
 */
#ifndef FS_PLAIN_INTERNAL_H
#define FS_PLAIN_INTERNAL_H

#include "fs/adopt.h"
#include "fs/plain.h"

#include "fs/fs_internal.h"

enum {
	PLAIN_BUF_BYTES = 256 << 10,
	PLAIN_CLONE_MIN_BYTES = 64 << 10 /* less is copied */
};

/* --- plain_item.c --- */

/* What a plain object looked like; times and ctime in ns since 1970. */
struct plain_stat {
	uint64_t host_ino, size;
	int64_t mtime_ns, ctime_ns;
	uint32_t mode, uid, gid;
	uint32_t flags; /* PLAIN_* of txn/format.h */
};

int64_t plain_ns(const struct timespec *ts);
struct timespec plain_time(int64_t ns);
struct plain_stat plain_of_stat(const struct stat *st);
/* It changed in the tick of the host's clock that was going on at since_ns, or
 * later: what changes it now may leave it the same times. */
bool plain_is_recent(const struct plain_stat *p, int64_t since_ns);

/* 1: there is none. Durable with the next record, like all changes here. */
int plain_get(struct fs *fs, uint64_t ino, struct plain_stat *out);
/* What is noted of an object counts, or not any more: a file's bytes among
 * those that are held twice, what is not there as missing. */
void plain_count(struct fs *fs, const struct plain_stat *p, int sign);
/* Of the first inode at or after *ino, which becomes its number. 1: none. */
int plain_next_stat(struct fs *fs, uint64_t *ino, struct plain_stat *out);
int plain_put(struct fs *fs, uint64_t ino, const struct plain_stat *p);
int plain_del(struct fs *fs, uint64_t ino);

/* *ino_out 0: no such name. */
int plain_find_name(struct fs *fs, uint64_t dir, const char *name,
		    uint64_t *ino_out, uint32_t *type_out);
int plain_put_name(struct fs *fs, uint64_t dir, const char *name, size_t len,
		   uint64_t ino, uint32_t type);
/* 0 too when there is no such name. */
int plain_del_name(struct fs *fs, uint64_t dir, const char *name, size_t len);
/* Names of a directory, in order of inode numbers, with what stat showed. */
enum { PLAIN_PART_NAMES = 1024, PLAIN_PART_BYTES = 64 << 10 };
struct plain_noted {
	uint64_t ino;
	uint32_t type;
	uint32_t name; /* where in names it begins; NUL-terminated */
};
struct plain_part {
	size_t n;
	struct plain_noted v[PLAIN_PART_NAMES];
	struct plain_stat was[PLAIN_PART_NAMES]; /* mode 0: there is none */
	char names[PLAIN_PART_BYTES];
};
/* From *cookie (at first 0) on, which becomes the one to go on from. None:
 * there are no more. */
int plain_next_part(struct fs *fs, uint64_t dir, uint64_t *cookie,
		    struct plain_part *out);

/* A state that the table names. */
struct plain_state {
	struct ptr root; /* pos 0: the empty tree */
	uint64_t number; /* of the commit; 0: it is none */
	uint32_t phase; /* of a target: enum plain_phase */
};

enum plain_phase { PHASE_TAKE = 1, PHASE_INSTALL };

/* which: PLAIN_STATE_SHOWN, PLAIN_STATE_TARGET. 1: there is none. The root of
 * what is put was written out. */
int plain_get_state(struct fs *fs, uint64_t which, struct plain_state *out);
int plain_put_state(struct fs *fs, uint64_t which,
		    const struct plain_state *state);
int plain_del_state(struct fs *fs, uint64_t which);
/* The same as a view, which the caller puts; state_out may be NULL. 1: none. */
int plain_view(struct fs *fs, uint64_t which, struct fs_view **out,
	       struct plain_state *state_out);

/* What is being done with all of the directory: PLAIN_MARK_* of txn/format.h,
 * 0: nothing. */
int plain_get_mark(struct fs *fs, uint32_t *mark_out);
int plain_put_mark(struct fs *fs, uint32_t mark);

/* --- paths, for messages --- */

/* Components with '/' between them, NUL-terminated; "" is DIR. */
struct plain_path {
	char *s;
	size_t len, cap;
};

int path_push(struct plain_path *p, const char *name, size_t *mark);
void path_pop(struct plain_path *p, size_t mark);

/* --- plain_look.c --- */

/* What looking needs; one thread. */
struct looker {
	struct fs *fs;
	uint8_t *buf; /* PLAIN_BUF_BYTES */
	char *list; /* of xattr names: FS_XATTR_LIST_MAX */
	uint8_t *value, *value2; /* FS_XATTR_VALUE_MAX */
};

int looker_init(struct looker *l, struct fs *fs);
void looker_release(struct looker *l); /* a zeroed one is fine */

/* Is the object of a directory what the state has under that inode? Contents
 * only: type, size, bytes, target, device. Between two states: for every 512
 * bytes one of them (other may be NULL). An object that went meanwhile is not
 * the same. */
int look_contents(struct looker *l, int dirfd, const char *name,
		  const struct stat *st, struct fs_view *state,
		  struct fs_view *other, uint64_t ino, bool *same);
/* The same of an open file. */
int look_bytes(struct looker *l, int fd, uint64_t size, struct fs_view *state,
	       struct fs_view *other, uint64_t ino, bool *same);
/* Extended attributes, those left out that the caller may not set. fd may be
 * O_PATH. */
int look_xattrs(struct looker *l, int fd, struct fs_view *state, uint64_t ino,
		bool unlike, bool *same);
/* Names of xattrs of a descriptor's object in l->list; *len_out 0 where there
 * are none. */
int look_list_xattrs(struct looker *l, int fd, size_t *len_out);
/* Attributes of namespaces that only root may set. */
bool look_is_privileged_xattr(const char *name);

/* Where the blocks of a window of a file lie, and their sums: mask 0 where it
 * has none (a hole, or contents in the inode). What is buffered is not seen. */
int look_window(struct fs_view *state, uint64_t ino, uint64_t widx,
		struct item_window *out);

/* --- plain_read.c --- */

/* Reading plain objects into a view; one thread. */
struct plain_reader {
	struct looker look;
	struct fs_view *to;
	uint8_t *buf; /* 1 MiB */
	struct plain_path path; /* of what is being read */
	struct adopt_progress p;
	int (*progress)(void *arg, const struct adopt_progress *p);
	void *arg;
	struct store_error *err; /* gets the first reason */
	struct linked *links; /* a hash table: host inodes with several names */
	size_t nlinks, links_cap;
	int64_t began_ns;
	uint64_t *recent; /* files that had just changed then, or did since */
	size_t nrecent, recent_cap;
	bool untracked; /* nothing is noted in the table */
	bool from_table; /* the table's are known, too */
	bool learned; /* they were added */
	/* What may be a name of a known file, but the table is not up to date
	 * about that, is passed over, and something was. */
	bool may_wait, waiting;
	bool no_clone; /* the host cannot */
};

int plain_reader_init(struct plain_reader *r, struct fs *fs,
		      struct fs_view *to);
void plain_reader_release(struct plain_reader *r);
/* A file that may change from now on without another time. When all was read:
 * the next comparison reads such files once more. */
int plain_reader_add_recent(struct plain_reader *r, uint64_t ino);
int plain_reader_doubt_recent(struct plain_reader *r);
__attribute__((format(printf, 3, 4))) int
plain_reader_failed(struct plain_reader *r, int err, const char *fmt, ...);
/* A name of a directory, with all below it; noted in the table too. */
int plain_reader_add(struct plain_reader *r, uint64_t dir, int dirfd,
		     const char *name);
/* Everything of an object that the view has already, from a descriptor;
 * fill: of directories their entries too. */
int plain_reader_fill(struct plain_reader *r, int fd, uint64_t ino,
		      struct stat *st);
/* The same where the view has an older version: what is equal stays, and what
 * `was` says was not given to the plain file stays, too. */
int plain_reader_update(struct plain_reader *r, int fd, uint64_t ino,
			struct stat *st, const struct plain_stat *was);
int plain_reader_open(int dirfd, const char *name, const struct stat *st);
/* The parts of it: a new object of a directory; a file's bytes (what the view
 * has goes before: truncate it); extended attributes, owner, mode and times, of
 * which the view may have others. */
int plain_reader_make(struct plain_reader *r, uint64_t dir, int dirfd,
		      const char *name, const char *as, const struct stat *st,
		      uint64_t *ino_out);
int plain_reader_contents(struct plain_reader *r, int fd, uint64_t ino,
			  struct stat *st);
int plain_reader_attr(struct plain_reader *r, int fd, uint64_t ino,
		      const struct stat *st);
int plain_reader_tell(struct plain_reader *r);
/* A host inode that is known under this number. */
int plain_reader_knows(struct plain_reader *r, const struct stat *st,
		       uint64_t ino);

/* --- adopt.c --- */

/* The folder of the store to be, with its lock. */
struct holder;
int adopt_make_folder(struct plain_reader *r, int dirfd,
		      struct holder **holder_out, int *fd_out);

/* --- plain_out.c, plain_take.c, plain_install.c, plain_place.c, plain_make.c
 * --- */

enum { OUT_FLUSH_EACH_MAX = 64 /* objects; more are flushed together */ };

/* What becomes of an object that the target has. */
enum out_how {
	OUT_KEEP, /* it is there, maybe elsewhere or with other attributes */
	OUT_BUILD, /* made anew, then put in its place */
	OUT_PATCH /* what differs of a large file is written over */
};

struct out_inode { /* one for each of the difference */
	uint8_t how;
	bool checked; /* what stat shows so is not edited */
	bool goes; /* a directory that is still to be removed */
	bool left; /* it could not be removed */
	uint32_t flags; /* PLAIN_* it ends with */
	uint64_t host_ino, size; /* when it was checked */
	int64_t mtime_ns;
	uint64_t given_ino; /* the host's number of what has its names */
	/* What has one of its names, and could not be replaced; may be it. */
	const struct out_inode *stays;
};

/* A window of a large file that differs. */
struct out_window {
	uint64_t ino, widx;
};

/* One run from the state shown to the target. */
struct plain_out {
	struct fs *fs;
	const struct plain_out_params *p;
	struct looker look;
	struct plain_state shown, target;
	struct fs_view *sv, *hv; /* of the two */
	struct fs_delta *d;
	struct out_inode *inodes; /* as d->inodes */
	struct out_window *win; /* ascending */
	size_t nwin, win_cap;
	int tmpfd; /* the folder for objects on their way */
	bool again; /* an interrupted run goes on */
	bool installing; /* directories are looked for as the target says */
	bool flush_each; /* few objects: one by one; else all at once */
	bool no_clone; /* the host cannot */
	bool any_absent; /* something cannot be put into its place */
	bool flush_all; /* attributes changed, which no directory's flush has */
	uint64_t dir_ino; /* the directory opened last; 0: none */
	int dir_fd;
	uint64_t *touched; /* directories whose times changed */
	size_t ntouched, touched_cap;
	struct plain_out_result r;
	struct store_error *err;
};

/* The folder for objects on their way: o->tmpfd; empty: without what an earlier
 * run left. Closing removes it. */
int out_open_folder(struct plain_out *o, bool empty);
int out_close_folder(struct plain_out *o);
/* Names in the folder: directories, and other objects. */
void out_tmp_name(char buf[32], uint64_t ino, bool dir);
/* What was taken from its name last, and is looked at once more: a file of the
 * state shown; comes: what takes its place, which lies there before (0: none).
 */
enum { OUT_TAKEN_BYTES = 48 };
void out_taken_name(char buf[OUT_TAKEN_BYTES], uint64_t ino, uint64_t comes);
/* It is removed if it is ours. 1: it is not. */
int out_drop_taken(struct plain_out *o, const char *tmp, uint64_t ino);
/* What an interruption left of that: as if it had been looked at. */
int out_settle_taken(struct plain_out *o);
/* NULL: it does not differ. */
const struct fs_delta_inode *out_find(const struct plain_out *o, uint64_t ino,
				      struct out_inode **out);
/* A directory where it is now, for changing entries (touch) or looking; the
 * descriptor is o's. -ENOENT: nowhere. */
int out_open_dir(struct plain_out *o, uint64_t ino, bool touch, int *fd_out);
/* One that its owner, who we are, may not write: until it gets its mode. */
void out_make_writable(int fd);
/* One that is nowhere, with those on the way to it. */
int out_make_dir(struct plain_out *o, uint64_t ino);
/* The object of the target where it has its (first) name. */
int out_open_object(struct plain_out *o, uint64_t ino, int flags, int *fd_out);
/* Tell about a name; dir as o->installing says. */
void out_note(struct plain_out *o, uint64_t dir, const char *name,
	      const char *why);
int out_failed(struct plain_out *o, uint64_t dir, const char *name, int err,
	       const char *what);
/* Something is in the way that is no version of ours: it gets another name. */
int out_keep_aside(struct plain_out *o, uint64_t dir, int dirfd,
		   const char *name);
/* The same of what was taken from there to another place. */
int out_keep_from(struct plain_out *o, int fromfd, const char *from,
		  uint64_t dir, int dirfd, const char *name);
/* Is a directory that an object of the target is in one of those? */
bool out_is_below_absent(const struct plain_out *o, uint64_t ino);
/* Nothing is there, or on the way there something else than a directory. */
bool out_is_gone(int err);
/* Is it a matter of rights or of the host, and not worth stopping for? */
bool out_is_refused(int err);
/* Whoever opens a directory next looks for it anew. */
void out_forget_dir(struct plain_out *o);
/* Is an object of DIR, at a name of this number, as we left it? By its stat, or
 * else by its contents. */
bool out_same_stat(const struct plain_stat *was, const struct stat *st);
bool out_was_checked(const struct out_inode *x, const struct stat *st);
int out_is_ours(struct plain_out *o, uint64_t ino, int dirfd, const char *name,
		const struct stat *st, bool *ours);
/* lstat; 1: no such name. */
int out_look_at(int dirfd, const char *name, struct stat *st);
void out_entry_name(const struct plain_out *o, const struct fs_delta_name *e,
		    char name[FS_NAME_MAX + 1]);
/* All names that changed are durable. */
int out_flush_dirs(struct plain_out *o);

/* The steps, each with what it changed durable on return; and that one begins,
 * noted durably. */
int out_take(struct plain_out *o);
int out_install(struct plain_out *o);
int out_enter_phase(struct plain_out *o, enum plain_phase phase);
/* Files that were made or written over have theirs. */
static inline bool out_wants_attr(const struct plain_out *o,
				  const struct fs_delta_inode *d,
				  const struct out_inode *x)
{
	return x->how == OUT_KEEP &&
	       (d->flags & (FS_DELTA_OWNER | FS_DELTA_MTIME) || o->again);
}

/* plain_give.c: is a file of the target a moved file as it lies, and to be
 * given? 0: it is, 1: not. */
int out_can_give(struct plain_out *o, const struct fs_attr *a);
/* The file itself into the folder, after its sums were looked at. 1: it has to
 * be copied. */
int out_give(struct plain_out *o, const struct fs_attr *a, const char *tmp);
/* Is an object of DIR the moved file that a file of the target has? Whatever
 * was written into it since. */
int out_is_given(struct plain_out *o, uint64_t ino, const struct stat *st,
		 bool *is);
/* Make an object of the target in the folder. 1: the caller may not. */
int out_build(struct plain_out *o, uint64_t ino);
/* Write what differs over a file that is open for writing. Not flushed. */
int out_patch(struct plain_out *o, uint64_t ino, int fd);
/* Owner, mode, extended attributes and times, as far as the caller may: *flags
 * says. fd may be O_PATH; st: as it was looked at. What was written into it
 * since keeps its time. */
int out_apply_attr(struct plain_out *o, uint64_t ino, int fd,
		   const struct stat *st, uint32_t *flags);

#endif
