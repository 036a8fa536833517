/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_internal.h - what the files of the daemon share. Read fs/DESIGN.md
 * first: nodes, the switch, threads.
 *
 *	mount_main.c	options, start, the end
 *	mount_serve.c	requests are read until somebody ends that
 *	mount_place.c	the directory, its store, who has it
 *	mount_dead.c	taking the place of a mount whose daemon is gone
 *	mount_knode.c	the objects that the kernel knows by number
 *	mount_name.c	requests about names and attributes
 *	mount_file.c	requests about contents and directories' listings
 *	mount_virtual.c	what .txn/ shows: status, changes, log, error
 *	mount_ctl.c	commands, one after the other
 *	mount_ask.c	those that only ask
 *	mount_switch.c	giving the working view another state
 *	mount_ring.c	requests over io_uring
 *	mount_push.c	what was stored through mappings comes in
 *	mount_watch.c	a killed daemon's connections end
 *	mount_fast.c	open=fast: no messages for opening, .txn on its own
 *	mount_wire.c	messages where libfuse reads and writes them
 *	mount_plain.c	DIR's own files follow commits
 *	mount_edits.c	edits of theirs come in
 *	mount_gate.c	requests while those are looked for
 */
#ifndef FS_MOUNT_INTERNAL_H
#define FS_MOUNT_INTERNAL_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/stat.h>

#include "fs/ctl_parse.h"
#include "fs/fs.h"
#include "fs/holder.h"
#include "fs/slab.h"

/* O_TMPFILE and statx: operations of a newer libfuse (tools/libfuse.sh). */
#define HAVE_FUSE_3_18 (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18))

/* Set-id bits are ours to clear: a message less for a write. libfuse 3.18.3
 * tells who may keep them; before, mount_wire.c does. */
#if FUSE_VERSION > FUSE_MAKE_VERSION(3, 18) ||                                 \
	(FUSE_VERSION == FUSE_MAKE_VERSION(3, 18) && FUSE_HOTFIX_VERSION >= 3)
#define HAVE_KILLPRIV 1
#else
#define HAVE_KILLPRIV 0
#endif

/* Minor versions of the kernel's protocol that have them. */
enum { PROTO_TMPFILE = 37, PROTO_STATX = 39 };
/* Two requests: one is answered while the other is read. */
enum { READ_AHEAD_BYTES = 2 << 20 };

enum {
	KNOWN_SECONDS = 86400, /* how long the kernel may believe us */
	KEEP_NS = 1000000000, /* see object_error() */
	MOUNT_ERRORS_MAX = 16, /* last failures kept for .txn/error */
	SNAP_ID_BITS = 22, /* of st_ino, above those of the inode number */
	SNAP_ID_SHIFT = 40
};

/* Kinds of nodes; all but NODE_OBJECT are virtual. */
enum knode_kind {
	NODE_OBJECT,
	NODE_LINK, /* .txn where it is on a connection of its own */
	NODE_TXN, /* .txn */
	NODE_CTL,
	NODE_STATUS,
	NODE_CHANGES,
	NODE_LOG,
	NODE_ERROR,
	NODE_HEAD,
	NODE_SNAPSHOTS,
	NODE_KINDS
};

/* By which the kernel found a state below snapshots/. */
struct snap_name {
	struct snap_name *next;
	char name[STORE_NAME_MAX + 1];
};

/* A frozen state that somebody looks at; shared by its nodes. */
struct snap {
	struct ptr root;
	uint64_t id; /* for st_ino */
	struct fs_view *fv;
	unsigned int nodes; /* nodes_lock */
	struct snap_name *names; /* nodes_lock; until they are recalled */
	bool is_open; /* nodes_lock; for who recalls */
	struct snap *next;
};

/* A working inode that shows another st_ino than its own: see
 * knode_make_stale(). Kept until the end, programs remember numbers. */
struct renumber {
	uint64_t ino;
	uint32_t count; /* how often it was given another */
	struct renumber *next;
};

/*
 * What the kernel calls by its address (root and virtual ones live in struct
 * mount). An object is the node for its (view, inode) as long as it is hashed;
 * a switch that gives the inode other contents makes it unfit for that, and the
 * next lookup makes another. The kernel may know millions: what only those need
 * that are open lies in struct knode_use.
 */
struct knode {
	uint8_t kind; /* enum knode_kind */
	bool stale; /* atomic: fv is a state before a switch */
	bool hashed; /* nodes_lock: lookups find it */
	bool dir_told; /* atomic: attributes since it last changed; see
			* attr_seconds() */
	uint32_t stale_shown; /* for its st_ino since then; set before stale */
	uint64_t ino;
	uint64_t generation;
	struct fs_view *fv; /* atomic: a switch moves it to the old state */
	struct snap *snap; /* of a commit's objects */
	/* Removed while somebody still holds it (a directory, an O_PATH
	 * descriptor) or is about to use it: what it was. Set once, atomic;
	 * changed under nodes_lock. */
	struct fs_gone *gone;
	/* nodes_lock: */
	uint64_t nlookup;
	struct knode_use *use; /* NULL: it is not open */
	struct knode *next; /* in the table, hashed or not */
};

/* While a node has one of the first three. nodes_lock. */
struct knode_use {
	unsigned int nopen; /* handles */
	unsigned int nlisted; /* of those: listed, and the kernel kept it */
	unsigned int nwriters; /* open files that may be mapped shared */
	/* With open=fast, where the kernel does not tell who has it open: */
	struct fs_file *file; /* in use since the first request; mount_fast.c */
	bool file_used; /* since it was last looked at to be let go */
	bool file_kept; /* until the kernel forgets the node */
	struct knode *node;
	struct knode_use *file_prev, *file_next;
	struct knode_use *writer_prev, *writer_next;
};

struct mount_options {
	/* int: what fuse_opt_parse() writes */
	int staged_discard, ctldir_visible, force, checksum;
	char *offline; /* stage, refuse, ignore */
	char *transport; /* dev, io_uring; NULL: dev */
	char *compare; /* before, beside the mount; NULL: it may be either */
	bool read_only;
	bool fast; /* open=fast */
	uint64_t at_commit; /* 0: the newest state */
	bool has_ctl_owner;
	uid_t ctl_uid;
	gid_t ctl_gid;
	mode_t ctl_mode;
};

struct mount_error {
	int64_t time_ns;
	long pid;
	int err;
	char command[32];
	char reason[512];
};

struct ctl_job;
struct ring;

struct mount;

/* A connection to the kernel; what libfuse hands to the handlers. */
struct conn {
	struct mount *m;
	struct fuse_session *se;
	struct knode *root; /* what it calls the root */
	pthread_t thread; /* of its loop */
	bool has_thread;
	bool stop; /* atomic: it is ended on purpose */
	int err; /* of the loop, when that has ended */
	void (*on_lost)(struct conn *c);
};

struct mount {
	struct conn work; /* of the mount point */
	/* .txn with open=fast; se NULL: it is on the first one. */
	struct conn side;
	char *side_place; /* where that is mounted; .txn is a link to it */
	struct store *store;
	struct fs *fs;
	struct env env;
	struct dev *dev;
	struct holder *holder;
	int dirfd; /* DIR, from before the mount */
	/* When a dead mount is to be replaced; see mount_dead.c. */
	unsigned int ndead; /* at the mount point, on top of what is beneath */
	int beneath_fd; /* the namespace that dirfd belongs to; -1: ours */
	bool moved; /* libfuse mounted it at another place */
	const char *dir, *mountpoint; /* absolute */
	struct mount_options opt;
	int64_t start_ns;
	bool in_background; /* atomic: messages are for the system log */
	/* What the kernel and libfuse agreed to. */
	bool has_acl, has_readdirplus, has_tmpfile, has_birth, has_killpriv;
#if !HAVE_KILLPRIV
	uint64_t init_unique; /* atomic: request to answer with init_flags */
	uint32_t init_flags;
	pthread_key_t kill_key; /* does the thread's request ask for it? */
	bool has_kill_key;
#endif

	struct knode root;
	struct knode virt[NODE_KINDS];
	/* Held while names below snapshots/ are recalled: who stops reading
	 * requests takes it first. Guards the next. */
	pthread_mutex_t snaps_lock;
	bool snaps_stop;
	pthread_mutex_t nodes_lock; /* guards the next fifteen */
	struct slab nodes; /* all but root and virt */
	struct knode **buckets; /* of all those */
	size_t nbuckets, nnodes;
	uint64_t next_generation;
	struct snap *snaps;
	pthread_cond_t snaps_cond; /* with nodes_lock: one has gone */
	struct knode_use *writers;
	struct knode_use *files, *files_end; /* with a file, and how many */
	size_t nfiles;
	struct handle *handles;
	struct renumber **renumbered; /* by hash */
	size_t renumber_buckets, nrenumbered;
	bool any_renumbered; /* atomic */

	/* Replies in flight, counted by the epoch that they began in. */
	bool recall; /* atomic: what is told now may not be kept */
	uint64_t epoch; /* atomic */
	uint64_t flips; /* atomic: counted before a flip moves nodes */
	uint64_t inflight[2]; /* atomic */
	uint64_t dir_changes; /* atomic: how often names changed */
	int64_t keep_until_ns; /* atomic: what loses its name is kept so long */
	pthread_mutex_t epoch_lock; /* for epoch_cond */
	pthread_cond_t epoch_cond;

	pthread_mutex_t ctl_lock; /* guards the next six */
	pthread_cond_t ctl_cond;
	struct ctl_job *jobs, **jobs_end;
	bool ctl_stop;
	bool ctl_runs; /* a command is under way, or none may be yet */
	bool ctl_here; /* in a request's thread; for who runs it */
	pthread_t ctl_thread;
	bool has_ctl_thread;
	unsigned int nlong; /* commands with a thread of their own; ctl_lock */
	unsigned int nheld; /* commands that came through a ring; ctl_lock */
	uint64_t verify_bytes, verify_total; /* atomic; total 0: none runs */

	int push_fd; /* to the process that pushes; -1: it is gone */
	pid_t push_pid;

	struct ring *ring; /* NULL: requests come by /dev/fuse alone */

	struct plain_job *plain; /* NULL: DIR's own files are left alone */
	struct edits *edits; /* NULL: they are not looked for, or came in */
	bool settling; /* atomic: the mount is up and they may still come */
	struct fuse_lowlevel_ops gated; /* handlers behind those of the gate */

	pthread_mutex_t errors_lock; /* guards the next four */
	struct mount_error errors[MOUNT_ERRORS_MAX];
	uint64_t nerrors;
	char last_result[64];
	bool switch_not_atomic; /* one had to be forced, or no barrier */

	/* Whether INVAL_ENTRY waits for lookups in flight: see probe_barrier.
	 */
	pthread_mutex_t probe_lock; /* guards the next two */
	pthread_cond_t probe_cond;
	fuse_req_t probe_req; /* a lookup that is kept waiting */
	bool probe_done;
	bool no_barrier; /* set before the first command */
	bool keeps_lists; /* atomic: the kernel may keep listings */
	int tell_fd; /* the parent waits at its other end; -1: nobody */
};

/* An open file or directory. */
struct handle {
	struct knode *node;
	struct fs_file *f; /* of regular files */
	bool counted; /* in node->nwriters */
	struct handle *prev, *next; /* nodes_lock */
	int64_t listed_ns; /* atomic: a directory's ctime when it began */
	bool listed; /* in node->use->nlisted; nodes_lock */
	pthread_mutex_t lock; /* of virtual files; guards the rest */
	char *text; /* what is read */
	size_t text_len;
	uint64_t text_off; /* where in the file text starts */
	bool text_made;
	uint64_t log_next; /* log: the next commit to show; 0: no more */
};

/* --- mount_main.c --- */

/* txnfs(8), EXIT STATUS. */
enum {
	EXIT_USAGE = 2,
	EXIT_REFUSED = 3,
	EXIT_DAMAGE = 4,
	NAMED_MAX = 10, /* of paths or processes in a message */
	EXIT_STOPPED = 5, /* it served, and what was staged may be lost */
	EXIT_LOST = 6 /* it served, and was not unmounted: all is saved */
};

/* To standard error; returns status. */
int complain(int status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int status_of(int err);

/* --- mount_serve.c --- */

/* Before anything is mounted: SIGTERM and the like are noted from now on. */
int serve_prepare(void);
/* Until the mount ends, by whatever: an exit status, told. No command runs any
 * more then but where a failure is told. */
int serve(struct mount *m);
/* Requests of a connection are read by threads of its own; on_lost is called in
 * one of them when that ends without conn_stop(). */
int conn_start(struct conn *c, void (*on_lost)(struct conn *c));
/* No request is under way any more. */
void conn_stop(struct conn *c);

/* --- mount_place.c: exit statuses, complaints made --- */

/* Absolute, without symlinks, in place of what was given. */
int place_resolve(char **path);
/* Something is there, and it is no directory. */
int place_check_mountpoint(const char *path);
/* m->dirfd, and the folder of the store in *storefd. A dead mount stays in
 * place where we may look beneath it (m->ndead), else it is removed. */
int place_open(struct mount *m, int *storefd);
/* The lock of the store; a daemon that is just going is waited for. */
int place_take(struct mount *m, int storefd);
/* Where that lock is. */
int place_lock_path(int storefd, char *path, size_t size);
/* Is a mount of ours at m->mountpoint? */
bool place_is_mounted(const struct mount *m);
/* Read ahead as far as the filesystem does that the store lies on, where we may
 * say so (root), at most a request. Once it is mounted, before it is served. */
void place_read_ahead(const struct mount *m, int storefd);
/* What is mounted is watched; before it is served. */
void place_watch(struct mount *m);

/* --- mount_dead.c: exit statuses, complaints made --- */

/* Is that what a mount without a daemon answers? */
bool dead_says(int err);
/* Does a mount without a daemon cover this path? */
bool dead_is_at(const char *path);
/* Such mounts go, all that are over one another. */
int dead_detach(const char *path);
/* m->ndead, and with open_dir m->dirfd, which is DIR beneath them; as it was
 * when we may not. */
void dead_look_beneath(struct mount *m, bool open_dir);
/* m->work.se is mounted, the dead mounts are gone: at once, for who looks. */
int dead_replace(struct mount *m);
/* At the end: the session is not mounted any more, wherever it was. */
void dead_unmount(struct mount *m);

/* --- mount_knode.c --- */

int knodes_init(struct mount *m);
void knodes_release(struct mount *m);
static inline struct mount *req_mount(fuse_req_t req)
{
	return ((struct conn *)fuse_req_userdata(req))->m;
}

static inline struct knode *knode_of(fuse_req_t req, fuse_ino_t id)
{
	return id == FUSE_ROOT_ID
		       ? ((struct conn *)fuse_req_userdata(req))->root
		       : (struct knode *)(uintptr_t)id;
}

fuse_ino_t knode_id(struct mount *m, struct knode *n);
/* The node for an object, with one more lookup. NULL: no memory. */
struct knode *knode_get(struct mount *m, struct fs_view *fv, struct snap *snap,
			uint64_t ino);
static inline uint64_t flips_now(const struct mount *m)
{
	return __atomic_load_n(&m->flips, __ATOMIC_SEQ_CST);
}
/*
 * The same for what was found or made in dir since flips was read. A flip after
 * that does not know a node that comes later: then attr is asked for again, and
 * what the new state does not have is -ESTALE. -ENOMEM.
 */
int knode_get_found(struct mount *m, struct knode *dir, uint64_t flips,
		    struct fs_attr *attr, struct knode **out);
/*
 * A node for ctl or head, with one lookup; each lookup has one of its own, so
 * that the kernel has an inode of its own for each. It keeps what a symlink
 * leads to. A writer of ctl holds the lock of its inode until the command is
 * done: an unlink of the same one would wait for that with .txn's lock held, a
 * rename for .txn's with the root's, and a switch, which invalidates names of
 * the root, for that. NULL: no memory.
 */
struct knode *knode_new_virtual(struct mount *m, enum knode_kind kind);
void knode_forget(struct mount *m, struct knode *n, uint64_t count);
/* Under nodes_lock: one more handle. -ENOMEM. */
int knode_open(struct knode *n);
void knode_close(struct knode *n);
/* Under nodes_lock: what n has while it is in use, made if need be. NULL: no
 * memory. It goes by knode_unuse() when nothing is left in it. */
struct knode_use *knode_use(struct knode *n);
void knode_unuse(struct knode *n);
/* The node of a working object that the kernel knows, with one more lookup. */
struct knode *knode_hold(struct mount *m, uint64_t ino);
/* The kernel's number of a working object that it knows; 0: it does not. */
fuse_ino_t knode_known(struct mount *m, uint64_t ino);
/* The object goes: a later one of that number is another node. */
void knode_unhash(struct mount *m, uint64_t ino);
/* fs_params.gone: the node keeps this, and is no longer found. */
void knode_gone(void *arg, const struct fs_gone *what);
static inline bool knode_is_gone(const struct knode *n)
{
	return __atomic_load_n(&n->gone, __ATOMIC_ACQUIRE);
}
/* Of one that is gone; set (FS_SET_*): change it like fs_setattr() first. */
void knode_gone_attr(struct mount *m, struct knode *n, unsigned int set,
		     const struct fs_attr *a, struct fs_attr *out);
/*
 * Under the working view's lock, in a flip: it shows the old state on. When it
 * is open, the object that takes its place shows another st_ino: two files at
 * once with one number are taken for one, and a program that holds the old one
 * sees by the number that the name is another's (SQLite then keeps its hands
 * off the journal and the log of the restored database).
 */
void knode_make_stale(struct mount *m, uint64_t ino, struct fs_view *old);
/* The st_ino of an object; n is its node, or one of the same view. */
uint64_t knode_shown(struct mount *m, const struct knode *n, uint64_t ino);
/* Of one that is open. */
void knode_add_writer(struct mount *m, struct knode *n);
void knode_del_writer(struct mount *m, struct knode *n);
/* Inodes of working files that are open for reading and writing; free(). */
bool knode_has_writers(struct mount *m);
int knode_list_writers(struct mount *m, uint64_t **inos_out, size_t *n_out);
/* The view of a state that was found by a name, held until knode_put_snap() or
 * by a node made of it. */
int knode_get_snap(struct mount *m, const struct ptr *root, const char *name,
		   struct snap **out);
void knode_put_snap(struct mount *m, struct snap *s);

/* --- mount_snaps.c --- */

/* The kernel forgets states whose names are gone: fs_params.before_sweep. */
void snaps_recall(void *arg);
/* No more of that: while requests are still served, which it may wait for. */
void snaps_stop(struct mount *m);

static inline struct fs_view *knode_view(const struct knode *n)
{
	return __atomic_load_n(&n->fv, __ATOMIC_ACQUIRE);
}

static inline bool knode_is_stale(const struct knode *n)
{
	return __atomic_load_n(&n->stale, __ATOMIC_ACQUIRE);
}

/* Does it show the state before a switch? It is stale, or was found in a
 * directory that is. */
static inline bool knode_is_past(const struct knode *n)
{
	return n->kind == NODE_OBJECT && !n->snap &&
	       !fs_view_is_working(knode_view(n));
}

/* What a changing operation on a node ends with. -ENOENT: a switch came between
 * finding its view and looking there. */
static inline int knode_error(const struct knode *n, int err)
{
	return (err == -EROFS || err == -ENOENT) && knode_is_past(n) ? -ESTALE
								     : err;
}

/* What one on two nodes of different states ends with: the kernel answers
 * ESTALE by walking the paths again. */
static inline int knode_xdev(const struct knode *a, const struct knode *b)
{
	return knode_is_past(a) || knode_is_past(b) ? -ESTALE : -EXDEV;
}

/* --- mount_name.c --- */

/* One reply that tells names or attributes: begin before looking. */
struct telling {
	uint64_t epoch;
	uint64_t flips, dir_changes; /* when it began */
	double seconds; /* what the kernel may keep it for */
};

void tell_begin(struct mount *m, const struct knode *n, struct telling *t);
void tell_end(struct mount *m, const struct telling *t);
/*
 * How long the kernel may keep attributes that were looked at since. It does
 * not know that those of a directory, on their way to it, were overtaken by the
 * answer to a change there. So who changed names tells it in between, when
 * attributes may be on their way.
 */
double attr_seconds(struct mount *m, struct knode *n, mode_t mode,
		    const struct telling *t);
/* Names of dir changed; before that is answered. t may be NULL: its own. */
void dir_changed(struct mount *m, struct knode *dir, struct telling *t);
void attr_to_stat(struct mount *m, const struct knode *n,
		  const struct fs_attr *a, struct stat *st);
/*
 * Of an object that was found: where it is not there any more (-ENOENT) perhaps
 * its name is another's now. -ESTALE: the kernel walks the path again, but only
 * once. So for a moment what names mean outlives them, until the kernel forgets
 * it.
 */
int object_error(struct mount *m, const struct knode *n, int err);
/* -EFSCORRUPTED and -EFSBADCRC are EIO outside. */
int errno_out(int err);
void reply_err(fuse_req_t req, int err);
/* fs_drop_priv(), and the kernel hears of it; keep: the caller may keep set-id
 * bits. */
int node_drop_priv(struct mount *m, struct knode *n, struct fs_file *f,
		   bool keep);
/* The node that .txn is in the working root. */
static inline struct knode *txn_node(struct mount *m)
{
	return &m->virt[m->opt.fast ? NODE_LINK : NODE_TXN];
}
bool is_txn_name(const struct knode *dir, const char *name);
/* That, or another one that the plain directory needs. */
bool is_reserved_name(const struct knode *dir, const char *name);

/* Fill in the handlers; names first, it sets all. */
void mount_name_ops(struct fuse_lowlevel_ops *ops);
void mount_file_ops(struct fuse_lowlevel_ops *ops);
/* Those that nobody closed, at the end. */
void handles_release(struct mount *m);

/* --- mount_virtual.c --- */

void virtual_init(struct mount *m);
void virtual_stat(struct mount *m, const struct knode *n, struct stat *st);
/* For how many seconds the kernel may believe that: .txn and ctl are looked at
 * for each command. They change their owner with the root's. */
static inline double virtual_known(const struct knode *n)
{
	return n->kind <= NODE_CTL ? KNOWN_SECONDS : 0;
}
/* The root has another owner: attributes alone are invalidated, under no lock,
 * so a handler may. */
void virtual_recall(struct mount *m);
/* The connection that has .txn. */
static inline struct fuse_session *virtual_session(struct mount *m)
{
	return m->side.se ? m->side.se
			  : __atomic_load_n(&m->work.se, __ATOMIC_ACQUIRE);
}

/* A name in a virtual directory: its node, or a commit's root (*snap). */
int virtual_lookup(struct mount *m, const struct knode *dir, const char *name,
		   struct knode **out, struct snap **snap);
/* Names on the host need not be UTF-8; JSON strings must be. */
json_t *json_text(const char *s);
int virtual_readlink(struct mount *m, char *buf, size_t size);
/* Entries of a virtual directory from a cookie on. */
typedef bool (*virtual_entry_fn)(void *arg, const char *name, uint64_t cookie,
				 const struct stat *st);
int virtual_list(struct mount *m, const struct knode *dir, uint64_t cookie,
		 virtual_entry_fn fn, void *arg);
int virtual_open(struct mount *m, struct handle *h, int flags);
/* Replies. */
void virtual_read(struct mount *m, fuse_req_t req, struct handle *h,
		  uint64_t off, size_t size);
/* What reading the handle gives from now on; takes over text. */
void virtual_set_text(struct handle *h, char *text, size_t len);

/* --- mount_ctl.c --- */

/* tell: a byte, 0, is written there when the mount is ready; -1: nobody asks.
 */
int ctl_start(struct mount *m, int tell);
void ctl_stop(struct mount *m);
/* Do what was written, in the thread for it, and reply. */
void ctl_write(struct mount *m, fuse_req_t req, struct handle *h,
	       const char *buf, size_t len, uint64_t off);
void mount_note_error(struct mount *m, long pid, const char *command, int err,
		      const char *reason);
/* A process that waits was interrupted: was it by what ends it? */
bool ctl_wants_to_end(long pid);

/* --- mount_ask.c --- */

/* A state by name; why not, for people. */
int ask_state(struct mount *m, const char *name, struct root *out, char *why,
	      size_t size);
int ask_diff(struct mount *m, const struct ctl_command *c, FILE *f, char *why,
	     size_t size);
int ask_names(struct mount *m, FILE *f);
int ask_verify(struct mount *m, FILE *f);

/* --- mount_plain.c --- */

/* Before the mount answers: what was left half done is finished, edits become
 * staged changes as m->opt.offline says. 0, or an exit status (told). */
int plain_prepare(struct mount *m, int storefd);
/* The thread that lets the files follow. */
int plain_start(struct mount *m);
/* Let them follow to the last commit and end; nobody uses the mount. */
void plain_stop(struct mount *m);
/* There is a new commit, or a new setting. */
void plain_kick(struct mount *m);
/* The command sync: one line for each thing worth telling, and how it went. */
int plain_sync_now(struct mount *m, FILE *reply, bool *nothing, char *reason,
		   size_t reason_size);
/* For status; a new reference. */
json_t *plain_status(struct mount *m);
json_t *plain_space(struct mount *m);

/* --- mount_edits.c --- */

/* Edits become staged changes, or the mount is refused: 0, or an exit status
 * (told). It may go on beside the mount; then it starts what must not run
 * before its end: fs_start(), plain_start(). */
int edits_begin(struct mount *m, bool refuse);
static inline bool edits_are_beside(struct mount *m)
{
	return m->edits;
}
/* It ends soon and nothing was changed, unless it is done. Who waited for it
 * gets an error at once. */
void edits_cancel(struct mount *m);
/* The same; waits for the thread. */
void edits_stop(struct mount *m);
void edits_release(struct mount *m); /* no more requests come */
/* For status: how far it is, in the object about the plain files. */
void edits_status(struct mount *m, json_t *plain);
/*
 * For requests, before they begin to tell. 0: go on. Until all edits are
 * staged, and until what a directory of the working view shows is what stays.
 * -EINTR: the caller is about to end, -EIO: it failed, -ENOTCONN: the mount
 * ends.
 */
int edits_wait(struct mount *m, fuse_req_t req);
int edits_wait_dir(struct mount *m, fuse_req_t req, uint64_t ino);
static inline bool edits_are_pending(const struct mount *m)
{
	return __atomic_load_n(&m->settling, __ATOMIC_ACQUIRE);
}
/* It is not known that the directory stays as it is. */
bool edits_may_differ(struct mount *m, uint64_t ino);

/* --- mount_gate.c --- */

/* Handlers in front of those of ops, if edits are looked for beside the mount.
 */
void gate_ops(struct mount *m, struct fuse_lowlevel_ops *ops);

/* --- mount_switch.c --- */

/* Where a switch goes. */
struct switch_target {
	const struct root *root; /* a state */
	const char *path; /* only this path of it, grafted; NULL: all */
	bool commit; /* and it becomes head (not with a path) */
	uint32_t uid;
	const char *message;
	size_t message_bytes;
	uint64_t changes, bytes; /* of that commit */
};

/* The working view goes there: durable on return. What it showed is kept as
 * @discarded-N. -EAGAIN: too many changes beside it. */
int switch_to(struct mount *m, const struct switch_target *target,
	      uint64_t *number_out);
/* In a flip: nodes of what differs show the state before. */
void switch_nodes(struct mount *m, const struct fs_delta *delta,
		  struct fs_view *old);
/* Find out whether INVAL_ENTRY waits for lookups in flight. */
void probe_barrier(struct mount *m);
/* The lookup that the probe makes: kept waiting. False: it is another name. */
bool probe_lookup(struct mount *m, fuse_req_t req, const char *name);

/* --- mount_fast.c --- */

/* Mount .txn: an exit status, complaints made; what daemons that were killed
 * left is taken away. args: what is passed to libfuse. */
int side_mount(struct mount *m, const struct fuse_args *args);
/* Serve it; it is unmounted. Commands that are under way are answered before
 * that. */
int side_start(struct mount *m);
void side_release(struct mount *m);
/*
 * The file of a node, in use until it is put; h: the handle, which has it when
 * the kernel told us of the opening. Without one it is opened here, and stays
 * so for a while: put_file() with the same h.
 */
int get_file(struct mount *m, struct knode *n, const struct handle *h,
	     struct fs_file **out);
void put_file(const struct handle *h, struct fs_file *f);
/* The same when there is one already; NULL. */
struct fs_file *peek_file(struct mount *m, struct knode *n,
			  const struct handle *h);
/* The node takes over a file that was just made; keep: until the kernel forgets
 * the node, since it has no name. -ENOMEM: f was put. */
int node_set_file(struct mount *m, struct knode *n, struct fs_file *f,
		  bool keep);
/* Before a name goes, what it means is kept so: somebody may have it open, or
 * be about to. */
void node_keep_named(struct mount *m, const struct knode *dir,
		     const char *name);
/* With nodes_lock: what the caller has to put; NULL: nothing. */
struct fs_file *node_take_file(struct mount *m, struct knode *n);

/* --- mount_push.c --- */

/* The process that pushes; before there are threads, the store's lock and the
 * connection. */
int push_start(struct mount *m);
void push_stop(struct mount *m);
/* The process ends this connection should we be killed. */
void push_watch(struct mount *m, uint64_t connection);
/* Push what programs wrote through shared mappings, in a command.
 * -ENOMEM, -EIO: what was stored would be left out. */
int push_maps(struct mount *m);

/* --- mount_watch.c: in the process that pushes --- */

struct watch;
/* When this process is gone, by whatever, the connections that were added are
 * aborted, where we may. Called in its child, which has no threads yet; stays
 * until that ends. NULL: it cannot be watched. */
struct watch *watch_new(pid_t daemon);
/* By the number of the mount's device; w may be NULL. */
void watch_add(struct watch *w, uint64_t connection);

/* --- mount_wire.c --- */

/* Once it is mounted, before the first message is read: an exit status, told.
 */
int wire_start(struct mount *m);
/* With transport=io_uring: requests are served from here on. An exit status,
 * told. */
int wire_start_ring(struct mount *m);
/* No request of a ring is under way any more. */
void wire_stop_ring(struct mount *m);
void wire_free(struct mount *m); /* the session is gone */
#if !HAVE_KILLPRIV
/* Does the request that this thread handles say that its caller may not keep
 * set-id bits? */
bool killpriv_is_asked(const struct mount *m);
#endif

#endif
