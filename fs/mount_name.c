/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_name.c - requests about names and attributes: each calls one function
 * of fs.h and replies once. What is told about a name or attributes is told
 * between tell_begin and tell_end (fs/DESIGN.md, the switch).
 */
#include "fs/mount_internal.h"

#include "fs/mount_ring.h"
#include "fs/plain.h"

#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- telling --- */

void tell_begin(struct mount *m, const struct knode *n, struct telling *t)
{
	for (;;) {
		uint64_t e = __atomic_load_n(&m->epoch, __ATOMIC_SEQ_CST);

		__atomic_add_fetch(&m->inflight[e & 1], 1, __ATOMIC_SEQ_CST);
		t->epoch = e;
		if (__atomic_load_n(&m->epoch, __ATOMIC_SEQ_CST) == e)
			break;
		tell_end(m, t);
	}
	t->flips = flips_now(m);
	t->dir_changes = __atomic_load_n(&m->dir_changes, __ATOMIC_SEQ_CST);
	/* Looked at after it was counted: a recall that began before waits
	 * for nobody who may still keep what it is told. */
	if (n->kind != NODE_OBJECT || knode_is_stale(n))
		t->seconds = 0;
	else if (n->snap)
		t->seconds = KNOWN_SECONDS;
	else
		t->seconds = __atomic_load_n(&m->recall, __ATOMIC_SEQ_CST)
				     ? 0
				     : KNOWN_SECONDS;
}

void tell_end(struct mount *m, const struct telling *t)
{
	ring_send();
	if (__atomic_sub_fetch(&m->inflight[t->epoch & 1], 1,
			       __ATOMIC_SEQ_CST) ||
	    __atomic_load_n(&m->epoch, __ATOMIC_SEQ_CST) == t->epoch)
		return;
	pthread_mutex_lock(&m->epoch_lock);
	pthread_cond_broadcast(&m->epoch_cond);
	pthread_mutex_unlock(&m->epoch_lock);
}

double attr_seconds(struct mount *m, struct knode *n, mode_t mode,
		    const struct telling *t)
{
	if (!S_ISDIR(mode) || n->snap || t->seconds <= 0)
		return t->seconds;
	__atomic_store_n(&n->dir_told, true, __ATOMIC_SEQ_CST);
	/* Whoever counts later finds the node told. */
	return __atomic_load_n(&m->dir_changes, __ATOMIC_SEQ_CST) ==
			       t->dir_changes
		       ? t->seconds
		       : 0;
}

void dir_changed(struct mount *m, struct knode *dir, struct telling *t)
{
	uint64_t now = __atomic_add_fetch(&m->dir_changes, 1, __ATOMIC_SEQ_CST);

	/* Attributes alone: without a lock, so a handler may. What was asked
	 * for before is not believed after it. */
	if (__atomic_exchange_n(&dir->dir_told, false, __ATOMIC_SEQ_CST))
		(void)fuse_lowlevel_notify_inval_inode(m->work.se,
						       knode_id(m, dir), -1, 0);
	/* What it tells of is new, and nobody has changed it. */
	if (t)
		t->dir_changes = now;
}

int errno_out(int err)
{
	return err == -EFSCORRUPTED || err == -EFSBADCRC ? -EIO : err;
}

void reply_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, -errno_out(err));
}

static void ns_to_ts(int64_t ns, struct timespec *ts)
{
	ts->tv_sec = ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	if (ts->tv_nsec < 0) {
		ts->tv_nsec += 1000000000;
		ts->tv_sec--;
	}
}

static int64_t ts_to_ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

void attr_to_stat(struct mount *m, const struct knode *n,
		  const struct fs_attr *a, struct stat *st)
{
	*st = (struct stat){ .st_ino = knode_shown(m, n, a->ino),
			     .st_mode = a->mode,
			     .st_nlink = knode_is_stale(n) ? 0 : a->nlink,
			     .st_uid = a->uid,
			     .st_gid = a->gid,
			     .st_rdev = a->rdev,
			     .st_size = (off_t)a->size,
			     .st_blksize = FS_BLOCK_BYTES,
			     .st_blocks = (blkcnt_t)a->blocks };
	ns_to_ts(a->atime_ns, &st->st_atim);
	ns_to_ts(a->mtime_ns, &st->st_mtim);
	ns_to_ts(a->ctime_ns, &st->st_ctim);
}

/* A root's directory, in which DIR has names of its own beneath. */
static bool is_root(const struct knode *dir)
{
	return dir->ino == FS_ROOT_INO && dir->kind == NODE_OBJECT &&
	       !dir->snap;
}

bool is_reserved_name(const struct knode *dir, const char *name)
{
	return is_root(dir) && plain_is_own(name);
}

bool is_txn_name(const struct knode *dir, const char *name)
{
	return is_root(dir) && !strcmp(name, ".txn");
}

/* Of an object found in dir. */
static int reply_object(struct mount *m, fuse_req_t req, struct knode *dir,
			struct fs_attr *attr, const struct telling *t)
{
	struct fuse_entry_param e = { 0 };
	struct knode *n;
	int err;

	err = knode_get_found(m, dir, t->flips, attr, &n);
	if (err)
		return err;
	e.ino = knode_id(m, n);
	e.generation = n->generation;
	e.attr_timeout = attr_seconds(m, n, attr->mode, t);
	e.entry_timeout = t->seconds;
	attr_to_stat(m, n, attr, &e.attr);
	if (fuse_reply_entry(req, &e))
		knode_forget(m, n, 1); /* the kernel never counted it */
	return 0;
}

static void reply_virtual(struct mount *m, fuse_req_t req, struct knode *n)
{
	struct fuse_entry_param e = { 0 };

	bool is_new = n->kind == NODE_CTL || n->kind == NODE_HEAD;

	if (is_new)
		n = knode_new_virtual(m, (enum knode_kind)n->kind);
	if (!n) {
		reply_err(req, -ENOMEM);
		return;
	}
	e.ino = knode_id(m, n);
	e.generation = n->generation;
	e.attr_timeout = virtual_known(n);
	/* See knode_new_virtual(). */
	e.entry_timeout = is_new ? 0 : e.attr_timeout;
	virtual_stat(m, n, &e.attr);
	if (fuse_reply_entry(req, &e))
		knode_forget(m, n, 1); /* nobody has it */
}

/* --- lookup --- */

static void lookup_virtual(struct mount *m, fuse_req_t req,
			   const struct knode *dir, const char *name)
{
	struct knode *n = NULL, fake;
	struct snap *s = NULL;
	struct fs_attr attr;
	struct telling t;
	int err;

	if (dir->kind == NODE_TXN && probe_lookup(m, req, name))
		return;
	err = virtual_lookup(m, dir, name, &n, &s);
	if (err) {
		reply_err(req, err);
		return;
	}
	if (n) {
		reply_virtual(m, req, n);
		return;
	}
	fake = (struct knode){ .kind = NODE_OBJECT, .fv = s->fv, .snap = s };
	tell_begin(m, dir, &t);
	err = fs_getattr(s->fv, FS_ROOT_INO, &attr);
	if (!err)
		err = reply_object(m, req, &fake, &attr, &t);
	if (err)
		reply_err(req, err);
	tell_end(m, &t);
	knode_put_snap(m, s);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = req_mount(req);
	struct knode *dir = knode_of(req, parent);
	struct fuse_entry_param none = { 0 };
	struct fs_view *fv;
	struct fs_attr attr;
	struct telling t;
	int err;

	if (dir->kind != NODE_OBJECT) {
		lookup_virtual(m, req, dir, name);
		return;
	}
	if (is_txn_name(dir, name)) {
		reply_virtual(m, req, txn_node(m));
		return;
	}
	tell_begin(m, dir, &t);
	do {
		fv = knode_view(dir);
		err = fs_lookup(fv, dir->ino, name, strlen(name), &attr);
	} while (err == -ENOENT && knode_view(dir) != fv);
	if (!err)
		err = reply_object(m, req, dir, &attr, &t);
	if (err == -ENOENT && t.seconds > 0) {
		none.entry_timeout = t.seconds; /* no such name: keep that */
		fuse_reply_entry(req, &none);
	} else if (err) {
		reply_err(req, err);
	}
	tell_end(m, &t);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct mount *m = req_mount(req);

	knode_forget(m, knode_of(req, ino), nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	struct mount *m = req_mount(req);

	for (size_t i = 0; i < count; i++)
		knode_forget(m, knode_of(req, forgets[i].ino),
			     forgets[i].nlookup);
	fuse_reply_none(req);
}

/* --- attributes --- */

static int64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts_to_ns(&ts);
}

int object_error(struct mount *m, const struct knode *n, int err)
{
	if (err != -ENOENT)
		return knode_error(n, err);
	__atomic_store_n(&m->keep_until_ns, monotonic_ns() + KEEP_NS,
			 __ATOMIC_SEQ_CST);
	return -ESTALE;
}

/* What a name means that is about to go, where somebody may be on the way to
 * it. */
static void keep_named(struct mount *m, const struct knode *dir,
		       const char *name)
{
	if (m->opt.fast ||
	    monotonic_ns() <
		    __atomic_load_n(&m->keep_until_ns, __ATOMIC_SEQ_CST))
		node_keep_named(m, dir, name);
}

/* What an open handle has is its own file: perhaps not the name's any more. */
static int get_attr(struct mount *m, struct knode *n,
		    const struct fuse_file_info *fi, struct fs_attr *attr)
{
	struct handle *h = fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
	struct fs_view *fv;
	struct fs_file *f;
	int err;

	do {
		fv = knode_view(n);
		if (knode_is_gone(n)) {
			knode_gone_attr(m, n, 0, NULL, attr);
			return 0;
		}
		f = peek_file(m, n, h);
		err = f ? fs_file_getattr(f, attr)
			: fs_getattr(fv, n->ino, attr);
		put_file(h, f);
		/* It left the state that we looked at: it was just removed, or
		 * a switch moved the node to the one before. */
	} while (err == -ENOENT && (knode_is_gone(n) || knode_view(n) != fv));
	return err;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	struct fs_attr attr;
	struct telling t;
	struct stat st;
	int err;

	if (n->kind != NODE_OBJECT) {
		virtual_stat(m, n, &st);
		fuse_reply_attr(req, &st, virtual_known(n));
		return;
	}
	tell_begin(m, n, &t);
	err = get_attr(m, n, fi, &attr);
	if (err) {
		reply_err(req, object_error(m, n, err));
	} else {
		attr_to_stat(m, n, &attr, &st);
		fuse_reply_attr(req, &st, attr_seconds(m, n, attr.mode, &t));
	}
	tell_end(m, &t);
}

#if HAVE_FUSE_3_18
static void ts_to_statx(const struct timespec *ts, struct statx_timestamp *out)
{
	out->tv_sec = ts->tv_sec;
	out->tv_nsec = (uint32_t)ts->tv_nsec;
}

static void stat_to_statx(const struct stat *st, struct statx *sx)
{
	*sx = (struct statx){ .stx_mask = STATX_BASIC_STATS,
			      .stx_blksize = (uint32_t)st->st_blksize,
			      .stx_nlink = (uint32_t)st->st_nlink,
			      .stx_uid = st->st_uid,
			      .stx_gid = st->st_gid,
			      .stx_mode = (uint16_t)st->st_mode,
			      .stx_ino = st->st_ino,
			      .stx_size = (uint64_t)st->st_size,
			      .stx_blocks = (uint64_t)st->st_blocks,
			      .stx_rdev_major = major(st->st_rdev),
			      .stx_rdev_minor = minor(st->st_rdev) };
	ts_to_statx(&st->st_atim, &sx->stx_atime);
	ts_to_statx(&st->st_mtim, &sx->stx_mtime);
	ts_to_statx(&st->st_ctim, &sx->stx_ctime);
}

/* Asked for the time of birth only: getattr tells all else. */
static void op_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask,
		     struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	struct timespec birth;
	struct fs_attr attr;
	struct telling t;
	struct statx sx;
	struct stat st;
	int err;

	if (n->kind != NODE_OBJECT) {
		virtual_stat(m, n, &st);
		stat_to_statx(&st, &sx);
		fuse_reply_statx(req, 0, &sx, 0);
		return;
	}
	tell_begin(m, n, &t);
	err = get_attr(m, n, fi, &attr);
	if (err) {
		reply_err(req, object_error(m, n, err));
	} else {
		attr_to_stat(m, n, &attr, &st);
		stat_to_statx(&st, &sx);
		ns_to_ts(attr.btime_ns, &birth);
		ts_to_statx(&birth, &sx.stx_btime);
		sx.stx_mask |= STATX_BTIME;
		fuse_reply_statx(req, 0, &sx,
				 attr_seconds(m, n, attr.mode, &t));
	}
	tell_end(m, &t);
}
#endif

static bool is_owner(struct mount *m, struct knode *n, fuse_req_t req,
		     struct fuse_file_info *fi)
{
	struct fs_attr a;

	return !get_attr(m, n, fi, &a) && a.uid == fuse_req_ctx(req)->uid;
}

/*
 * Set-id bits, where they are ours: a new owner takes them away, and a new size
 * unless the caller may keep them. Nothing to set at all is what the kernel
 * asks before it changes the contents of a file that has such bits or
 * capabilities, and for chown(-1, -1), by whomever and without looking whose
 * file it is: of others that alone takes nothing. Root keeps the bits.
 */
static unsigned int kill_mask(struct mount *m, struct knode *n, fuse_req_t req,
			      int to_set, struct fuse_file_info *fi)
{
	if (!m->has_killpriv)
		return 0;
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) ||
	    (!to_set && fuse_req_ctx(req)->uid && is_owner(m, n, req, fi)))
		return FS_SET_KILL_PRIV;
#if HAVE_KILLPRIV
	/* FATTR_KILL_SUIDGID of the protocol, which libfuse names so */
	if (to_set & FUSE_SET_ATTR_KILL_SUID)
		return FS_SET_KILL_PRIV;
#else
	if (killpriv_is_asked(m))
		return FS_SET_KILL_PRIV;
#endif
	return to_set & FUSE_SET_ATTR_SIZE ? FS_SET_KILL_CAPS : 0;
}

static unsigned int setattr_mask(struct mount *m, int to_set,
				 const struct stat *st, struct fs_attr *a)
{
	int64_t now = m->env.now_ns(&m->env);
	unsigned int set = 0;

	*a = (struct fs_attr){ .mode = st->st_mode,
			       .uid = st->st_uid,
			       .gid = st->st_gid,
			       .size = (uint64_t)st->st_size,
			       .atime_ns = ts_to_ns(&st->st_atim),
			       .mtime_ns = ts_to_ns(&st->st_mtim),
			       .ctime_ns = ts_to_ns(&st->st_ctim) };
	if (to_set & FUSE_SET_ATTR_MODE)
		set |= FS_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		set |= FS_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		set |= FS_SET_GID;
	if (to_set & FUSE_SET_ATTR_SIZE)
		set |= FS_SET_SIZE;
	if (to_set & FUSE_SET_ATTR_ATIME)
		set |= FS_SET_ATIME;
	if (to_set & FUSE_SET_ATTR_MTIME)
		set |= FS_SET_MTIME;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		a->atime_ns = now;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		a->mtime_ns = now;
	return set;
}

static int set_attr(struct mount *m, struct knode *n, unsigned int set,
		    const struct fs_attr *a, struct fs_attr *out)
{
	if (!knode_is_gone(n))
		return fs_setattr(knode_view(n), n->ino, set, a, out);
	if (set & FS_SET_SIZE)
		return -ENOENT;
	knode_gone_attr(m, n, set, a, out);
	return 0;
}

static int set_open_file(struct mount *m, struct knode *n, struct fs_file *f,
			 unsigned int set, const struct fs_attr *a,
			 struct fs_attr *out)
{
	int err = 0;

	/* The file in use: it may be another one than the name's now. */
	if (set & FS_SET_SIZE) {
		if (m->has_killpriv)
			err = node_drop_priv(m, n, f,
					     !(set & FS_SET_KILL_PRIV));
		if (!err)
			err = fs_truncate(f, a->size);
		set &= ~(unsigned int)(FS_SET_SIZE | FS_SET_KILL_PRIV |
				       FS_SET_KILL_CAPS);
	}
	if (!err && set)
		err = fs_file_setattr(f, set, a, out);
	return err ? err : fs_file_getattr(f, out);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
		       int to_set, struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	struct handle *h = fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
	struct fs_file *f;
	struct fs_attr a, out;
	struct telling t;
	unsigned int set;
	int err;

	if (n->kind != NODE_OBJECT) {
		/* > and >> on ctl ask for a size of 0. */
		if (n->kind != NODE_CTL || to_set & ~FUSE_SET_ATTR_SIZE) {
			reply_err(req, -EPERM);
			return;
		}
		virtual_stat(m, n, st);
		fuse_reply_attr(req, st, 0);
		return;
	}
	set = setattr_mask(m, to_set, st, &a) |
	      kill_mask(m, n, req, to_set, fi);
	tell_begin(m, n, &t);
	f = peek_file(m, n, h);
	/* Perhaps the O_TRUNC of an open that we are not told of: not the file
	 * that a switch puts in its place, which it will not write to. */
	err = !f && m->opt.fast && set & FS_SET_SIZE && !knode_is_gone(n)
		      ? get_file(m, n, h, &f)
		      : 0;
	if (!err)
		err = f ? set_open_file(m, n, f, set, &a, &out)
			: set_attr(m, n, set, &a, &out);
	put_file(h, f);
	if (err) {
		reply_err(req, object_error(m, n, err));
	} else {
		if (n == &m->root && set & (FS_SET_UID | FS_SET_GID))
			virtual_recall(m);
		attr_to_stat(m, n, &out, st);
		fuse_reply_attr(req, st, attr_seconds(m, n, out.mode, &t));
	}
	tell_end(m, &t);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct mount *m = req_mount(req);
	const struct knode *n = knode_of(req, ino);
	char *target, head[64];
	size_t len;
	int err;

	if (n->kind == NODE_LINK) {
		fuse_reply_readlink(req, m->side_place);
		return;
	}
	if (n->kind == NODE_HEAD) {
		err = virtual_readlink(m, head, sizeof(head));
		if (err)
			reply_err(req, err);
		else
			fuse_reply_readlink(req, head);
		return;
	}
	if (n->kind != NODE_OBJECT) {
		reply_err(req, -EINVAL);
		return;
	}
	err = fs_readlink(knode_view(n), n->ino, &target, &len);
	if (err == -ENOENT && knode_is_gone(n) && n->gone->target) {
		fuse_reply_readlink(req, n->gone->target);
		return;
	}
	if (err) {
		reply_err(req, object_error(m, n, err));
		return;
	}
	fuse_reply_readlink(req, target);
	free(target);
}

/* --- new names --- */

/* May names in this directory change at all? */
static int dir_error(const struct knode *dir, const char *name, int txn_err)
{
	if (dir->kind != NODE_OBJECT)
		return -EPERM;
	return is_txn_name(dir, name) ? txn_err : 0;
}

/* May such a name be made here? */
static int new_name_error(const struct knode *dir, const char *name,
			  int txn_err)
{
	int err = dir_error(dir, name, txn_err);

	return err ? err : is_reserved_name(dir, name) ? -EPERM : 0;
}

static struct fs_cred cred_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct fs_cred){ .uid = ctx->uid, .gid = ctx->gid };
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name,
		 struct fs_new *w)
{
	struct mount *m = req_mount(req);
	struct knode *dir = knode_of(req, parent);
	struct fs_cred cred = cred_of(req);
	struct fs_attr attr;
	struct telling t;
	int err;

	w->umask = fuse_req_ctx(req)->umask;
	err = new_name_error(dir, name, -EEXIST);
	if (err) {
		reply_err(req, err);
		return;
	}
	tell_begin(m, dir, &t);
	err = fs_make(knode_view(dir), &cred, dir->ino, name, strlen(name), w,
		      &attr, NULL);
	if (!err) {
		dir_changed(m, dir, &t);
		err = reply_object(m, req, dir, &attr, &t);
	}
	if (err)
		reply_err(req, knode_error(dir, err));
	tell_end(m, &t);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t rdev)
{
	struct fs_new w = { .mode = mode, .rdev = rdev };

	make(req, parent, name, &w);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode)
{
	struct fs_new w = { .mode = S_IFDIR | (mode & 07777) };

	make(req, parent, name, &w);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name)
{
	struct fs_new w = { .mode = S_IFLNK | 0777,
			    .target = target,
			    .target_len = strlen(target) };

	make(req, parent, name, &w);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
		    const char *name)
{
	struct mount *m = req_mount(req);
	struct knode *dir = knode_of(req, parent);
	const struct knode *n = knode_of(req, ino);
	struct fs_attr attr;
	struct telling t;
	int err;

	err = new_name_error(dir, name, -EEXIST);
	if (!err &&
	    (n->kind != NODE_OBJECT || knode_view(n) != knode_view(dir)))
		err = knode_xdev(n, dir);
	if (err) {
		reply_err(req, err);
		return;
	}
	tell_begin(m, dir, &t);
	err = fs_link(knode_view(dir), n->ino, dir->ino, name, strlen(name),
		      &attr);
	if (!err) {
		dir_changed(m, dir, NULL);
		err = reply_object(m, req, dir, &attr, &t);
	}
	if (err)
		reply_err(req, knode_error(dir, err));
	tell_end(m, &t);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = req_mount(req);
	struct knode *dir = knode_of(req, parent);
	int err;

	err = dir_error(dir, name, -EPERM);
	if (!err)
		keep_named(m, dir, name);
	if (!err) {
		err = knode_error(dir, fs_unlink(knode_view(dir), dir->ino,
						 name, strlen(name), NULL));
		if (!err)
			dir_changed(m, dir, NULL);
	}
	reply_err(req, err);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct knode *dir = knode_of(req, parent);
	int err;

	err = dir_error(dir, name, -EPERM);
	if (!err) {
		err = knode_error(dir, fs_rmdir(knode_view(dir), dir->ino, name,
						strlen(name), NULL));
		if (!err)
			dir_changed(req_mount(req), dir, NULL);
	}
	reply_err(req, err);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t newparent, const char *newname,
		      unsigned int flags)
{
	struct mount *m = req_mount(req);
	struct knode *from = knode_of(req, parent);
	struct knode *to = knode_of(req, newparent);
	struct fs_cred cred = cred_of(req);
	int err;

	err = dir_error(from, name, -EPERM);
	if (!err)
		err = new_name_error(to, newname, -EPERM);
	if (!err && knode_view(from) != knode_view(to))
		err = knode_xdev(from, to);
	if (!err && !(flags & FS_RENAME_EXCHANGE))
		keep_named(m, to, newname);
	if (!err)
		err = knode_error(
			from, fs_rename(knode_view(from), &cred, from->ino,
					name, strlen(name), to->ino, newname,
					strlen(newname), flags, NULL));
	if (!err) {
		dir_changed(m, from, NULL);
		if (to != from)
			dir_changed(m, to, NULL);
	}
	reply_err(req, err);
}

/* --- extended attributes --- */

static bool xattr_is_acl(const char *name)
{
	return !strcmp(name, "system.posix_acl_access") ||
	       !strcmp(name, "system.posix_acl_default");
}

/* The kernel hands over names of any kind; other filesystems know these. */
static bool xattr_is_known(const char *name)
{
	static const char *const kinds[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t len = strlen(kinds[i]);

		if (!strncmp(name, kinds[i], len))
			return name[len];
	}
	return xattr_is_acl(name);
}

/* Errors and sizes the way fuse_reply_ wants them. */
static void reply_bytes(fuse_req_t req, int err, size_t size, const void *buf,
			size_t len)
{
	if (err)
		reply_err(req, err);
	else if (!size)
		fuse_reply_xattr(req, len);
	else
		fuse_reply_buf(req, buf, len);
}

static bool had_no_xattrs(const struct knode *n)
{
	return knode_is_gone(n) && !n->gone->has_xattrs;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	const struct knode *n = knode_of(req, ino);
	char small[512], *buf = small;
	size_t len = 0;
	int err = 0;

	if (n->kind != NODE_OBJECT) {
		reply_err(req, -ENODATA);
		return;
	}
	if (size > sizeof(small))
		buf = malloc(size);
	if (!buf)
		err = -ENOMEM;
	if (!err)
		err = fs_getxattr(knode_view(n), n->ino, name, buf, size, &len);
	if (err == -ENOENT && had_no_xattrs(n))
		err = -ENODATA;
	if (err == -ENODATA && !xattr_is_known(name))
		err = -EOPNOTSUPP;
	err = object_error(req_mount(req), n, err);
	reply_bytes(req, err, size, buf, len);
	if (buf != small)
		free(buf);
}

static size_t drop_trusted(char *list, size_t len)
{
	static const char trusted[] = "trusted.";
	size_t kept = 0, n;

	for (size_t at = 0; at < len; at += n) {
		n = strlen(list + at) + 1;
		if (!strncmp(list + at, trusted, strlen(trusted)))
			continue;
		memmove(list + kept, list + at, n);
		kept += n;
	}
	return kept;
}

/* Names of root's are for root: others could not ask for what they say. The
 * kernel leaves that to us. buf: for FS_XATTR_LIST_MAX, unless all is shown. */
static int list_xattrs(const struct knode *n, bool all, char *buf, size_t size,
		       size_t *len)
{
	int err = fs_listxattr(knode_view(n), n->ino, buf,
			       all ? size : FS_XATTR_LIST_MAX, len);

	if (err == -ENOENT && had_no_xattrs(n))
		return 0;
	if (err || all)
		return err;
	*len = drop_trusted(buf, *len);
	return size && *len > size ? -ERANGE : 0;
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	const struct knode *n = knode_of(req, ino);
	bool all = !fuse_req_ctx(req)->uid;
	char *buf = NULL;
	size_t len = 0;
	int err = 0;

	if (n->kind == NODE_OBJECT) {
		buf = malloc(all ? size + 1 : FS_XATTR_LIST_MAX);
		err = buf ? list_xattrs(n, all, buf, size, &len) : -ENOMEM;
	}
	err = object_error(req_mount(req), n, err);
	reply_bytes(req, err, size, buf ? buf : "", len);
	free(buf);
}

static bool is_in_group(fuse_req_t req, gid_t gid)
{
	int n = fuse_req_getgroups(req, 0, NULL), got = 0;
	gid_t *list = n > 0 ? calloc((size_t)n, sizeof(*list)) : NULL;
	bool found = fuse_req_ctx(req)->gid == gid;

	if (list)
		got = fuse_req_getgroups(req, n, list);
	for (int i = 0; i < n && i < got && !found; i++)
		found = list[i] == gid;
	free(list);
	return found;
}

/* The kernel knows who may leave a set-group-id bit where it sets an access
 * ACL, but libfuse 3.14 does not pass on what it says. Root stands for
 * CAP_FSETID. */
static int acl_flags(fuse_req_t req, const struct knode *n, const char *name)
{
	struct fs_attr attr;

	if (strcmp(name, "system.posix_acl_access") != 0 ||
	    !fuse_req_ctx(req)->uid ||
	    fs_getattr(knode_view(n), n->ino, &attr) ||
	    is_in_group(req, attr.gid))
		return 0;
	return FS_XATTR_KILL_SGID;
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			const char *value, size_t size, int flags)
{
	const struct knode *n = knode_of(req, ino);
	int err = -EOPNOTSUPP;

	if (n->kind == NODE_OBJECT && xattr_is_known(name)) {
		flags |= acl_flags(req, n, name);
		err = fs_setxattr(knode_view(n), n->ino, name, value, size,
				  flags);
		err = object_error(req_mount(req), n, err);
	}
	reply_err(req, err);
}

/* The kernel's wish, before somebody else's file is written or for a chown that
 * changes nothing (see kill_mask()): what is written takes them. */
static bool is_wish_for_caps(struct mount *m, struct knode *n, fuse_req_t req,
			     const char *name)
{
	return m->has_killpriv && fuse_req_ctx(req)->uid &&
	       !strcmp(name, "security.capability") &&
	       !is_owner(m, n, req, NULL);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct knode *n = knode_of(req, ino);
	int err = -ENODATA;

	if (n->kind == NODE_OBJECT &&
	    is_wish_for_caps(req_mount(req), n, req, name)) {
		err = 0;
	} else if (n->kind == NODE_OBJECT) {
		err = fs_removexattr(knode_view(n), n->ino, name);
		if (err == -ENODATA && !xattr_is_known(name))
			err = -EOPNOTSUPP;
		if (err == -ENODATA && xattr_is_acl(name))
			err = 0; /* as it is wanted */
		err = object_error(req_mount(req), n, err);
	}
	reply_err(req, err);
}

/* --- the whole --- */

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct mount *m = req_mount(req);
	struct statvfs sv;

	if (fstatvfs(m->dirfd, &sv)) {
		reply_err(req, -errno);
		return;
	}
	sv.f_namemax = FS_NAME_MAX;
	fuse_reply_statfs(req, &sv);
}

static void want(struct fuse_conn_info *conn, unsigned int cap, bool on)
{
	if (on)
		conn->want |= conn->capable & cap;
	else
		conn->want &= ~cap;
}

static void note_agreed(struct mount *m, const struct fuse_conn_info *conn)
{
#if HAVE_KILLPRIV
	m->has_killpriv = conn->want & FUSE_CAP_HANDLE_KILLPRIV_V2;
#endif
	m->has_acl = conn->want & FUSE_CAP_POSIX_ACL;
	m->has_readdirplus = conn->want & FUSE_CAP_READDIRPLUS;
	m->has_tmpfile = HAVE_FUSE_3_18 && conn->proto_minor >= PROTO_TMPFILE;
	m->has_birth = HAVE_FUSE_3_18 && conn->proto_minor >= PROTO_STATX;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct conn *c = userdata;
	struct mount *m = c->m;

	want(conn,
	     FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_READDIRPLUS |
		     FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS |
		     FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPLICIT_INVAL_DATA |
		     FUSE_CAP_CACHE_SYMLINKS, /* an inode's never changes */
	     true);
	/* Who is not told of an opening is not told of its O_TRUNC either. */
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, !m->opt.fast || c == &m->side);
#if HAVE_KILLPRIV
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2, true);
#endif
	/* Only a switch changes files behind the kernel's back, and tells.
	 * Without killpriv v2 clearing set-id bits is the kernel's: it knows
	 * who may keep them.
	 * ASYNC_DIO: a direct write that io_submit(2) does not wait for leaves
	 * old pages in the page cache when somebody reads there meanwhile. */
	want(conn,
	     FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_DIO |
		     FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_WRITEBACK_CACHE |
		     FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS,
	     false);
	if (c == &m->work)
		note_agreed(m, conn);
	conn->max_write = 1 << 20;
	conn->max_readahead = READ_AHEAD_BYTES;
	conn->max_background = 64;
	conn->time_gran = 1;
#ifdef FUSE_CAP_OVER_IO_URING
	/* Not libfuse's, also when the environment says so. */
	want(conn, FUSE_CAP_OVER_IO_URING, false);
#endif
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	reply_err(req, 0); /* default_permissions: the kernel checks */
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd,
		     void *arg, struct fuse_file_info *fi, unsigned int flags,
		     const void *in_buf, size_t in_bufsz, size_t out_bufsz)
{
	reply_err(req, -ENOTTY);
}

static const struct fuse_lowlevel_ops name_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.statfs = op_statfs,
	.access = op_access,
	.ioctl = op_ioctl,
#if HAVE_FUSE_3_18
	.statx = op_statx,
#endif
};

void mount_name_ops(struct fuse_lowlevel_ops *ops)
{
	*ops = name_ops;
}
