/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs.h - files on a store: inodes, directories, contents, extended
 * attributes, without FUSE. The mount daemon, the tool and the tests stand on
 * this header.
 *
 * A struct fs is a store presented as files. A struct fs_view is one state of
 * it: the working view, or a frozen root (a snapshot, the state before a
 * switch), read-only. Objects are named by inode number; the root directory
 * is FS_ROOT_INO. Names are any bytes but '/' and NUL, at most FS_NAME_MAX.
 *
 * What is written to files waits in per-file buffers and is *entered* in the
 * view's tree (size, times and extents of a file together) by fsync, a commit,
 * a checkpoint, a rename of the file, or when buffers are large. Everything
 * else changes the tree at once. Entered changes are durable after the next
 * record (fs_checkpoint, fs_commit).
 *
 * Errors are negative errnos of the matching system call. Damage is
 * -EFSCORRUPTED or -EFSBADCRC and was told once through env->log with the
 * inode and the path. -EROFS: read-only view or store, or one that has stopped
 * (what makes durable says -EIO then). -ENOSPC comes before anything changed.
 * -ESTALE: see fs_file.
 *
 * Permissions are not checked here (the mount uses default_permissions).
 *
 * Threads: any, for everything but fs_open/fs_close. No function may be
 * called from view_fn code. Lock order: txn/DESIGN.md.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include "txn/store.h"

struct fs;
struct fs_view;
struct fs_file;

enum {
	FS_ROOT_INO = 1,
	FS_NAME_MAX = 255,
	FS_SYMLINK_MAX = 4095,
	FS_XATTR_NAME_MAX = 255,
	FS_XATTR_VALUE_MAX = 65536,
	FS_XATTR_LIST_MAX = 65536,
	FS_LINK_MAX = 65000,
	FS_BLOCK_BYTES = 4096, /* each has its own checksum */
	FS_COOKIE_FIRST = 4 /* directory cookies are never below */
};

#define FS_FILE_MAX_BYTES ((uint64_t)1 << 60)

struct fs_attr {
	uint64_t ino;
	uint64_t size; /* symlinks: length; directories: count of entries */
	uint64_t blocks; /* of 512 bytes */
	uint64_t rdev;
	/* Changes whenever the contents may have: equal numbers mean equal
	 * bytes, in any two states of one store. Buffered writes show only
	 * after they are entered. */
	uint64_t data_version;
	uint64_t parent; /* directories: the one above; others: of one name */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	uint32_t mode; /* with S_IFMT */
	uint32_t nlink;
	uint32_t uid, gid;
};

struct fs_cred {
	uint32_t uid, gid;
	/* The caller may write set-id files without their bits being cleared
	 * (CAP_FSETID). */
	bool fsetid;
};

/* --- the whole --- */

/* What an object was that is gone. */
struct fs_gone {
	struct fs_attr attr; /* nlink 0 */
	char *target; /* of a symlink; NULL: no memory */
	bool has_xattrs;
};

struct fs_params {
	uint64_t
		buffer_bytes; /* bound of all file buffers; 0: default 64 MiB */
	/*
	 * An object of the working view is gone, although it may still be known
	 * somewhere. Called under the view's lock, before anybody can see that;
	 * it must not call fs functions. May be NULL.
	 */
	void (*gone)(void *arg, const struct fs_gone *what);
	void *gone_arg;
	/*
	 * A sweep begins, in its thread and without a lock: states that are
	 * looked at for nobody any more can be let go of, so that it finds what
	 * they took. May wait for a moment, and be NULL.
	 */
	void (*before_sweep)(void *arg);
	void *before_sweep_arg;
};

/* What recovery needs to check items of files (store_params.check_item). */
int fs_check_item(void *arg, struct log *log, uint64_t small_limit,
		  const struct key *key, const struct val *val);

/*
 * Wrap an open store (made with check_item = fs_check_item); it stays the
 * caller's and outlives the fs. In a store without commits the root directory
 * is made (0755, owned by the caller). In others it must be readable
 * (-EFSCORRUPTED, -EFSBADCRC). Objects left behind unlinked by a crash
 * are removed (unless read-only).
 */
int fs_open(struct store *store, const struct fs_params *params,
	    struct fs **fs_out);
/* Start the threads that checkpoint staged work every 5 s or 64 MiB and give
 * space back. Until then no record is made but by those who ask for one. */
int fs_start(struct fs *fs);
/* Why fs_open() failed, for people, with the commit that could be opened. */
void fs_open_error(struct store *store, int err, struct store_error *text);
/*
 * Enter what is buffered and release. Files must be put before. The result is
 * that of entering; store_close() makes it durable.
 */
int fs_close(struct fs *fs);
/* As after kill -9: what is buffered is dropped. For tests, before
 * store_abandon(). */
void fs_abandon(struct fs *fs);

struct fs_view *fs_working(struct fs *fs); /* borrowed */

/* A read-only presentation of a frozen root (a reference of it is taken). */
int fs_view_new(struct fs *fs, const struct root *root, struct fs_view **out);
struct fs_view *fs_view_get(struct fs_view *fv);
void fs_view_put(struct fs_view *fv); /* of the last: frees; not working's */
bool fs_view_is_read_only(const struct fs_view *fv);
bool fs_view_is_working(const struct fs_view *fv);
uint64_t fs_view_id(const struct fs_view *fv);

/* --- names --- */

int fs_lookup(struct fs_view *fv, uint64_t dir, const char *name, size_t len,
	      struct fs_attr *attr_out);
/* Resolve a relative path without following symlinks; "" is the root. */
int fs_walk(struct fs_view *fv, const char *path, struct fs_attr *attr_out);
/* A path of ino without leading '/', NUL-terminated; free() it. -ENOENT when
 * it has no name. Hard links: any one. */
int fs_path(struct fs_view *fv, uint64_t ino, char **path_out);

struct fs_new {
	uint32_t mode; /* S_IFMT and permissions */
	uint32_t umask; /* taken off, unless there is a default ACL */
	uint64_t rdev;
	const char *target; /* symlinks */
	size_t target_len;
};

/*
 * Make an object of any type, also hard to find ones (name NULL: no name yet,
 * nlink 0, for O_TMPFILE). gid and setgid follow the directory's setgid bit as
 * on other filesystems; a default ACL of the directory is applied by
 * fs/acl.c. file_out may be NULL; else the new file, open (one reference), made
 * in the same step.
 */
int fs_make(struct fs_view *fv, const struct fs_cred *cred, uint64_t dir,
	    const char *name, size_t len, const struct fs_new *new_,
	    struct fs_attr *attr_out, struct fs_file **file_out);
int fs_link(struct fs_view *fv, uint64_t ino, uint64_t dir, const char *name,
	    size_t len, struct fs_attr *attr_out);
/* Removes a name; the object too with its last name, unless a struct fs_file
 * of it is held (then with the last put). *ino_out: what the name was. */
int fs_unlink(struct fs_view *fv, uint64_t dir, const char *name, size_t len,
	      uint64_t *ino_out);
int fs_rmdir(struct fs_view *fv, uint64_t dir, const char *name, size_t len,
	     uint64_t *ino_out);

/* As renameat2. WHITEOUT leaves a character device 0:0 under the old name. */
enum {
	FS_RENAME_NOREPLACE = 1,
	FS_RENAME_EXCHANGE = 2,
	FS_RENAME_WHITEOUT = 4
};

struct fs_renamed {
	uint64_t ino; /* what moved */
	uint64_t other_ino; /* what was replaced or exchanged; 0: nothing */
};

/* cred: who owns a whiteout; else it may be NULL. */
int fs_rename(struct fs_view *fv, const struct fs_cred *cred, uint64_t dir,
	      const char *name, size_t len, uint64_t new_dir,
	      const char *new_name, size_t new_len, unsigned int flags,
	      struct fs_renamed *out);

int fs_readlink(struct fs_view *fv, uint64_t ino, char **target_out,
		size_t *len_out); /* NUL-terminated; free() */

struct fs_dirent {
	const char *name; /* not NUL-terminated */
	size_t len;
	uint64_t ino;
	uint64_t cookie; /* of this entry: pass it to go on after it */
	uint32_t type; /* S_IFMT bits */
	const struct fs_attr *attr; /* only when asked for */
};

/* 0: go on; 1: stop before this entry; negative: an error. */
typedef int (*fs_dirent_fn)(void *arg, const struct fs_dirent *ent);

/*
 * Entries after cookie (0: from the start), without . and .., in cookie order
 * (stable: an entry that stays is seen exactly once). fn runs without locks
 * and may call fs functions.
 */
int fs_readdir(struct fs_view *fv, uint64_t dir, uint64_t cookie,
	       bool with_attr, fs_dirent_fn fn, void *arg);

/* --- attributes --- */

int fs_getattr(struct fs_view *fv, uint64_t ino, struct fs_attr *attr_out);

enum {
	FS_SET_MODE = 1,
	FS_SET_UID = 2,
	FS_SET_GID = 4,
	FS_SET_SIZE = 8,
	FS_SET_ATIME = 16,
	FS_SET_MTIME = 32,
	FS_SET_CTIME = 64, /* else: now */
	FS_SET_KILL_PRIV = 128, /* drop suid, sgid (if group-executable) and
				 * security.capability */
	FS_SET_KILL_CAPS = 256 /* the last alone */
};

/* Times come from attr; "now" is the caller's to fill in. FS_SET_SIZE on
 * anything but a regular file: -EINVAL, -EISDIR. attr_out may be attr. */
int fs_setattr(struct fs_view *fv, uint64_t ino, unsigned int set,
	       const struct fs_attr *attr, struct fs_attr *attr_out);

/* size 0 asks for the length; -ERANGE when value is too small. */
int fs_getxattr(struct fs_view *fv, uint64_t ino, const char *name, void *value,
		size_t size, size_t *len_out);
enum { FS_XATTR_KILL_SGID = 1 << 8 };
/* flags: XATTR_CREATE, XATTR_REPLACE; FS_XATTR_KILL_SGID: an access ACL takes
 * the set-group-id bit away. */
int fs_setxattr(struct fs_view *fv, uint64_t ino, const char *name,
		const void *value, size_t size, int flags);
/* NUL-terminated names one after the other. */
int fs_listxattr(struct fs_view *fv, uint64_t ino, char *list, size_t size,
		 size_t *len_out);
int fs_removexattr(struct fs_view *fv, uint64_t ino, const char *name);

/* --- contents --- */

/*
 * A regular file in use: one object for each (view, inode), shared by all its
 * openers. While one is held the file outlives its last name. When a switch
 * gives the file other contents, the object moves to the frozen state before
 * the switch: it reads on there, and what would change it says -ESTALE.
 */
int fs_file_open(struct fs_view *fv, uint64_t ino, struct fs_file **out);
struct fs_file *fs_file_get(struct fs_file *f);
/* The last one removes an object without names; NULL is fine. */
void fs_file_put(struct fs_file *f);
uint64_t fs_file_ino(const struct fs_file *f);
bool fs_file_is_stale(const struct fs_file *f);
/* As fs_getattr, of what the object reads (nlink 0 when stale). */
int fs_file_getattr(struct fs_file *f, struct fs_attr *attr_out);
/* As fs_setattr, of that object: -ESTALE when it is of a state before. */
int fs_file_setattr(struct fs_file *f, unsigned int set,
		    const struct fs_attr *attr, struct fs_attr *attr_out);

/* *got_out < len only at the end of the file. */
int fs_read(struct fs_file *f, uint64_t off, void *buf, size_t len,
	    size_t *got_out);
/*
 * Contents are about to change: takes security.capability away, and set-id bits
 * unless the caller may keep them (CAP_FSETID). 1: there were some.
 */
int fs_drop_priv(struct fs_file *f, bool fsetid);
/* All of it or an error with nothing written. fs_drop_priv() before, unless
 * cred is NULL. append: at the end, whatever off says. */
int fs_write(struct fs_file *f, const struct fs_cred *cred, uint64_t off,
	     const void *buf, size_t len, bool append);
/* After writing, and after whoever wrote has his answer: a share of what is to
 * be handed to the host, unless another thread is at it. A failure stops the
 * log, and is met by whoever makes this durable. */
void fs_write_behind(struct fs *fs);
/* Is there so much that this would do something? */
bool fs_is_behind(struct fs *fs);
int fs_truncate(struct fs_file *f, uint64_t size);
/* mode as fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE with or
 * without KEEP_SIZE, COLLAPSE_RANGE, INSERT_RANGE; else -EOPNOTSUPP. Space is
 * promised only in that the log has room now; -ENOSPC: the host has not that
 * much. After an error blocks that the range has in part may be changed. */
int fs_fallocate(struct fs_file *f, int mode, uint64_t off, uint64_t len);
/* whence SEEK_DATA or SEEK_HOLE; -ENXIO. */
int fs_seek(struct fs_file *f, uint64_t off, int whence, uint64_t *off_out);
/*
 * Whole blocks of one window (64 blocks, aligned in f) from a file of the host,
 * shared with it where the host can. -EOPNOTSUPP: not here, copy it; -EXDEV and
 * -ENOTTY: not from there at all.
 */
int fs_clone_in(struct fs_file *f, uint64_t off, int fd, size_t len);
/* Shares extents where blocks align, copies the edges. Source and target may
 * be of different views of one fs, or overlap not (-EINVAL). */
int fs_copy_range(struct fs_file *src, uint64_t src_off, struct fs_file *dst,
		  uint64_t dst_off, size_t len, size_t *copied_out);

/* Durable on return: this object's contents and attributes, with the names it
 * had (datasync changes nothing: one record carries all). */
int fs_fsync(struct fs_view *fv, uint64_t ino);

/* --- transactions --- */

/* Enter everything buffered in the working view, then make it durable,
 * staged. */
int fs_checkpoint(struct fs *fs);

/* Commit the working view. 0, 1 (nothing staged), errors: store_commit. */
int fs_commit(struct fs *fs, uint32_t uid, const char *message,
	      size_t message_bytes, uint64_t *number_out);

/* The current state of the working view with all that is buffered entered,
 * frozen; the caller puts the root. */
int fs_freeze(struct fs *fs, struct root *root_out);

/* Staged right now (head against working, buffers as good as entered):
 * cheap; for status. bytes: new data, counted since the last commit. */
struct fs_staged {
	bool any;
	uint64_t bytes;
	uint64_t buffered_bytes;
};
void fs_get_staged(struct fs *fs, struct fs_staged *out);

/* --- the difference of two states, by inode: what a switch needs --- */

enum {
	FS_DELTA_NEW = 1, /* only in b */
	FS_DELTA_GONE = 2, /* only in a */
	FS_DELTA_DATA = 4, /* contents (also of symlinks), type or size */
	FS_DELTA_ATTR = 8, /* attributes, xattrs, link count */
	FS_DELTA_LIST = 16, /* a directory's entries */
	FS_DELTA_MOVED = 32, /* a directory's parent or name */
	FS_DELTA_ORPHAN = 64, /* in b it has no name */
	/* Finer than ATTR: */
	FS_DELTA_OWNER = 128, /* mode, owner, xattrs */
	FS_DELTA_MTIME = 256
};

struct fs_delta_inode {
	uint64_t ino;
	unsigned int flags;
};

struct fs_delta_name {
	uint64_t dir;
	uint64_t a_ino, b_ino; /* 0: not there */
	uint32_t name_off; /* in delta->names */
	uint16_t name_len;
};

struct fs_delta {
	struct fs_delta_inode *inodes; /* ascending by ino */
	size_t ninodes;
	/* Names that differ, ascending by dir, then (b_ino == a_ino) every
	 * other name, in a, of inodes whose contents differ. */
	struct fs_delta_name *entries;
	size_t nentries;
	char *names;
	size_t names_bytes;
};

/* Cost: what differs. Both roots frozen. */
int fs_delta_new(struct fs *fs, const struct root *a, const struct root *b,
		 struct fs_delta **out);
void fs_delta_free(struct fs_delta *d);
/* 1: they show different things; 0: what differs, if anything, has no name in
 * either. Cost: up to the first that shows. */
int fs_delta_shows(struct fs *fs, const struct root *a, const struct root *b);
/* Count a file as one whose contents differ: every name that it has in a is
 * added (some may be listed twice). -ENOENT: a does not have it. */
int fs_delta_add(struct fs *fs, struct fs_delta *d, const struct root *a,
		 uint64_t ino);
/* NULL: unchanged. */
const struct fs_delta_inode *fs_delta_find(const struct fs_delta *d,
					   uint64_t ino);

/*
 * The flip of the working view to *to (a state of this store). delta was made
 * from a fs_freeze() of the working view taken at working version `version`
 * (fs_version()) and *to. -EAGAIN: something but buffered writes changed since;
 * make a new delta (force: flip all the same; then everything that changed
 * since is in `late`). Otherwise, in one hold of the view's lock: what is
 * buffered is entered in the old state; the working view becomes *to; files
 * that are DATA, GONE (of delta, or late) and in use move to the old state's
 * view; at(arg, old, late, nlate) runs: old is the view of the state before
 * (borrowed; take a reference to keep it), late the inodes written since the
 * delta's freeze and not in it. at must not call fs functions but
 * fs_view_get.
 *
 * Not durable yet: it is called from store_switch(), which makes it so.
 * *old_out (the caller puts it) is the state before.
 */
uint64_t fs_version(struct fs *fs);
typedef void (*fs_flip_fn)(void *arg, struct fs_view *old, const uint64_t *late,
			   size_t nlate);
int fs_flip(struct fs *fs, const struct root *to, const struct fs_delta *delta,
	    uint64_t version, bool force, fs_flip_fn at, void *arg,
	    struct root *old_out);
/* The state that the last flip went to is head now: nothing is staged, unless
 * something changed since. */
void fs_flip_is_head(struct fs *fs);

/* Until unparked nobody changes contents: returns when those under way are
 * done (they may wait for a read of the device), later ones wait. Counted. */
void fs_park_writes(struct fs *fs);
void fs_unpark_writes(struct fs *fs);

/* Abort without kernel caches in the way (tests, before a mount): flip to
 * head, record. */
int fs_abort(struct fs *fs);

/* Snapshot of the working view, staged changes included. */
int fs_snapshot(struct fs *fs, const char *name, uint32_t uid,
		const char *message, size_t message_bytes);

/*
 * Graft a path of a frozen state into another state: *to_out becomes `now` with
 * the path (and its parents, where they are missing) as it is in `from`.
 * Contents are shared. An object keeps its inode number unless that lives on
 * elsewhere in `now`. -ENOENT: not in from; -ENOTDIR: a file is in the way of a
 * directory. path "" is everything. Durable when to_out is.
 */
int fs_graft(struct fs *fs, const struct root *now, const struct root *from,
	     const char *path, struct root *to_out);

/*
 * A state by its name: "head", "head~2" (two commits before), "@12", "staged"
 * (what the working view shows), a snapshot's or a tag's name, "@discarded-3".
 * There is no "@012".
 * The caller puts the root. -ENOENT: no such state; -EINVAL: no such name can
 * be.
 */
int fs_resolve(struct fs *fs, const char *name, struct root *out);

/* --- the difference of two states, by path: what people read --- */

struct fs_change {
	char op; /* 'A' 'M' 'D' 'R' 'T' (type changed) */
	const char *path; /* NUL-terminated, from the root, no leading '/' */
	const char *from; /* 'R': the old path; else NULL */
	uint32_t old_mode, new_mode; /* 0: not there */
	uint64_t old_size, new_size; /* files and symlinks; else 0 */
};

typedef int (*fs_change_fn)(void *arg, const struct fs_change *change);

/*
 * Deletions first (children before their directory), then the rest by path.
 * A directory that only got a new time because its entries changed is not
 * listed. A subtree that was moved is one R. Cost: what differs, times the
 * depth of its paths. Both roots frozen.
 */
int fs_changes(struct fs *fs, const struct root *a, const struct root *b,
	       fs_change_fn fn, void *arg);
/* Counts of files and bytes for a commit's log line. */
struct fs_change_totals {
	uint64_t added, modified, deleted, renamed, retyped;
	uint64_t bytes; /* new sizes of A, M and T files */
};
int fs_change_totals(struct fs *fs, const struct root *a, const struct root *b,
		     struct fs_change_totals *out);
/* Would fs_changes() tell of anything between head and the working view? Unlike
 * fs_get_staged(), what was made and taken back is nothing. */
int fs_has_changes(struct fs *fs, bool *any_out);

/* A name for people and for lines: as it is, or in double quotes with C
 * escapes when it holds quotes, backslashes, control bytes or invalid UTF-8, or
 * a space at an end.
 * Returns the length that it would have (as snprintf). */
size_t fs_quote_path(const char *path, char *out, size_t size);
/* Undo that in place; what does not begin with a quote goes to the next tab,
 * newline or the end. Returns the first byte behind it. */
char *fs_unquote_path(char *s);

/* --- verification --- */

struct fs_verify_stats {
	uint64_t states, nodes, blocks, bytes; /* read so far */
	uint64_t total_bytes; /* of the log: more than will be read */
	uint64_t damaged; /* places; at the end */
	uint64_t healed_blocks, healed_nodes, healed_records;
};

struct fs_verify_params {
	/* state: "@12", a name, "staged"; path: NULL when it is not a file's.
	 * Called for each state that has the damage. */
	void (*damaged)(void *arg, const char *state, const char *path,
			const char *what);
	/* Other than 0 ends it. May be NULL. */
	int (*progress)(void *arg, const struct fs_verify_stats *st);
	/* Of a store opened with params.repair: contents that are whole again.
	 */
	void (*healed)(void *arg, const char *state, const char *path,
		       const char *what);
	int plain_fd; /* the same: DIR, whose files may hold what is wanted */
	void *arg;
};

/* Read every node and block of every retained state, what they share once, and
 * check the invariants. 0 also when there is damage (stats->damaged). In a
 * store opened with params.repair what can be healed is, and then is not told
 * as damaged. */
int fs_verify(struct fs *fs, const struct fs_verify_params *params,
	      struct fs_verify_stats *out);

/* --- space --- */

/* Give back what no state reaches any more (store_gc), and what is prepared
 * for writing beyond the reserve (log_trim). stats may be NULL. */
int fs_gc(struct fs *fs, struct gc_stats *stats);

/* --- checks --- */

/* Invariants of files (I20 to I26): link counts, parents, entries to existing
 * objects, sizes against extents, back-references; verify_data also reads
 * every block. 0 or an error with a text. Cost: everything. */
int fs_check(struct fs_view *fv, bool verify_data, char *why, size_t why_bytes);
void fs_dump(struct fs_view *fv, FILE *out);

#endif
