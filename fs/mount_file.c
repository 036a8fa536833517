/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount_file.c - requests about contents and about directories' listings. */
#include "fs/mount_internal.h"

#include "fs/mount_ring.h"

#include <fcntl.h>
#include <unistd.h>

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static struct handle *handle_new(struct mount *m, struct knode *n)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->node = n;
	pthread_mutex_lock(&m->nodes_lock);
	if (n && knode_open(n)) {
		pthread_mutex_unlock(&m->nodes_lock);
		free(h);
		return NULL;
	}
	pthread_mutex_init(&h->lock, NULL);
	h->next = m->handles;
	if (h->next)
		h->next->prev = h;
	m->handles = h;
	pthread_mutex_unlock(&m->nodes_lock);
	return h;
}

static int handle_set_node(struct mount *m, struct handle *h, struct knode *n)
{
	int err;

	pthread_mutex_lock(&m->nodes_lock);
	err = knode_open(n);
	if (!err)
		h->node = n;
	pthread_mutex_unlock(&m->nodes_lock);
	return err;
}

static void handle_free(struct mount *m, struct handle *h)
{
	if (!h)
		return;
	if (h->counted)
		knode_del_writer(m, h->node);
	pthread_mutex_lock(&m->nodes_lock);
	if (h->prev)
		h->prev->next = h->next;
	else
		m->handles = h->next;
	if (h->next)
		h->next->prev = h->prev;
	if (h->listed)
		h->node->use->nlisted--;
	if (h->node)
		knode_close(h->node);
	pthread_mutex_unlock(&m->nodes_lock);
	fs_file_put(h->f);
	pthread_mutex_destroy(&h->lock);
	free(h->text);
	free(h);
}

void handles_release(struct mount *m)
{
	while (m->handles)
		handle_free(m, m->handles);
}

/* --- open --- */

static bool wants_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* May the caller keep set-id bits? The kernel says so where they are ours to
 * clear. */
static bool may_keep_bits(const struct mount *m,
			  const struct fuse_file_info *fi)
{
#if HAVE_KILLPRIV
	return !fi->kill_suidgid;
#else
	return !killpriv_is_asked(m);
#endif
}

/* Of requests that do not say: root stands for CAP_FSETID. */
static bool is_root(fuse_req_t req)
{
	return !fuse_req_ctx(req)->uid;
}

static int change_contents(struct mount *m, struct knode *n, struct fs_file *f,
			   bool keep)
{
	return m->has_killpriv ? node_drop_priv(m, n, f, keep) : 0;
}

int node_drop_priv(struct mount *m, struct knode *n, struct fs_file *f,
		   bool keep)
{
	int err = fs_drop_priv(f, keep);

	if (err != 1)
		return err;
	/*
	 * The kernel believes in the bits on, and would run the file with them.
	 * It mostly asks (valid 0, op_setattr) before it writes; this is for
	 * the rest. Attributes alone (an offset below 0) are invalidated
	 * without a lock, so a handler may.
	 */
	(void)fuse_lowlevel_notify_inval_inode(m->work.se, knode_id(m, n), -1,
					       0);
	return 0;
}

static int open_object(struct mount *m, struct knode *n, struct handle *h,
		       const struct fuse_file_info *fi, uid_t uid)
{
	int flags = fi->flags;
	struct fs_view *fv = knode_view(n);
	int err;

	/* The kernel answers ESTALE by walking the path again. */
	if (knode_is_stale(n))
		return -ESTALE;
	if ((wants_write(flags) || flags & O_TRUNC) &&
	    (fs_view_is_read_only(fv) || store_failed(m->store, NULL)))
		return knode_error(n, -EROFS);
	err = fs_file_open(fv, n->ino, &h->f);
	/* Removed since the kernel found it: with O_CREAT it makes another. */
	if (err)
		return object_error(m, n, err);
	/* A switch in between: the pages known for the node are the old
	 * ones. */
	if (knode_is_stale(n))
		return -ESTALE;
	/* Without killpriv the kernel leaves an O_TRUNC to us, and does not say
	 * who may keep the bits: root stands for CAP_FSETID. */
	if (flags & O_TRUNC)
		err = node_drop_priv(m, n, h->f,
				     m->has_killpriv ? may_keep_bits(m, fi)
						     : !uid);
	if (!err && flags & O_TRUNC)
		err = fs_truncate(h->f, 0);
	if (!err && (flags & O_ACCMODE) == O_RDWR) {
		knode_add_writer(m, n);
		h->counted = true;
	}
	return err;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	struct handle *h;
	int err = 0;

	/* Never asked again after this answer, nor told of the end. */
	if (m->opt.fast && n->kind == NODE_OBJECT && !n->snap) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	h = handle_new(m, n);
	if (!h)
		err = -ENOMEM;
	else if (n->kind != NODE_OBJECT)
		err = virtual_open(m, h, fi->flags);
	else
		err = open_object(m, n, h, fi, fuse_req_ctx(req)->uid);
	if (err) {
		handle_free(m, h);
		reply_err(req, err);
		return;
	}
	fi->fh = (uintptr_t)h;
	fi->direct_io = n->kind != NODE_OBJECT;
	fi->keep_cache = n->kind == NODE_OBJECT;
	if (fuse_reply_open(req, fi))
		handle_free(m, h);
}

/* The node and the handle of a file that was just made; answers. */
static int reply_created(struct mount *m, fuse_req_t req, struct knode *dir,
			 struct handle *h, struct fs_attr *attr,
			 const struct telling *t, struct fuse_file_info *fi)
{
	struct fuse_entry_param e = { 0 };
	struct knode *n;
	int err;

	err = knode_get_found(m, dir, t->flips, attr, &n);
	if (err)
		return err;
	if (m->opt.fast) {
		/* The end of this handle would not be told either. */
		err = node_set_file(m, n, h->f, !attr->nlink);
		h->f = NULL;
	} else {
		err = handle_set_node(m, h, n);
	}
	if (err) {
		knode_forget(m, n, 1);
		return err;
	}
	if (!m->opt.fast && (fi->flags & O_ACCMODE) == O_RDWR) {
		knode_add_writer(m, n);
		h->counted = true;
	}
	e.ino = knode_id(m, n);
	e.generation = n->generation;
	e.attr_timeout = t->seconds;
	e.entry_timeout = t->seconds;
	attr_to_stat(m, n, attr, &e.attr);
	fi->fh = m->opt.fast ? 0 : (uintptr_t)h;
	fi->keep_cache = 1;
	if (m->opt.fast)
		handle_free(m, h);
	if (fuse_reply_create(req, &e, fi)) {
		if (!m->opt.fast)
			handle_free(m, h);
		knode_forget(m, n, 1);
	}
	return 0;
}

/* Make a file and open it; name NULL: one that has no name yet. */
static void create(fuse_req_t req, fuse_ino_t parent, const char *name,
		   mode_t mode, struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *dir = knode_of(req, parent);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fs_cred cred = { .uid = ctx->uid, .gid = ctx->gid };
	struct fs_new w = { .mode = S_IFREG | (mode & 07777),
			    .umask = ctx->umask };
	struct handle *h = handle_new(m, NULL);
	struct fs_attr attr;
	struct telling t;
	int err = h ? 0 : -ENOMEM;

	if (!err && dir->kind != NODE_OBJECT)
		err = -EPERM;
	if (!err && name && is_reserved_name(dir, name))
		err = is_txn_name(dir, name) ? -EEXIST : -EPERM;
	if (err) {
		handle_free(m, h);
		reply_err(req, err);
		return;
	}
	tell_begin(m, dir, &t);
	err = fs_make(knode_view(dir), &cred, dir->ino, name,
		      name ? strlen(name) : 0, &w, &attr, &h->f);
	/* A switch brought the name since the kernel found none. */
	if (err == -EEXIST && !(fi->flags & O_EXCL))
		err = -ESTALE;
	if (!err && name)
		dir_changed(m, dir, NULL);
	if (!err)
		err = reply_created(m, req, dir, h, &attr, &t, fi);
	if (err) {
		handle_free(m, h);
		reply_err(req, knode_error(dir, err));
	}
	tell_end(m, &t);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		      mode_t mode, struct fuse_file_info *fi)
{
	create(req, parent, name, mode, fi);
}

#if HAVE_FUSE_3_18
static void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
		       struct fuse_file_info *fi)
{
	create(req, parent, NULL, mode, fi);
}
#endif

static void op_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	handle_free(req_mount(req), handle_of(fi));
	fuse_reply_err(req, 0);
}

/* Never asked for again after this answer. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS);
}

/* --- contents --- */

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	struct handle *h = handle_of(fi);
	struct fs_file *f = NULL;
	void *buf = NULL, *room = NULL;
	size_t got = 0;
	int err;

	if (n->kind != NODE_OBJECT) {
		virtual_read(m, req, h, (uint64_t)off, size);
		return;
	}
	err = get_file(m, n, h, &f);
	if (!err)
		room = ring_room(size);
	if (!err)
		buf = room ? room : malloc(size);
	if (!err)
		err = buf ? fs_read(f, (uint64_t)off, buf, size, &got)
			  : -ENOMEM;
	put_file(h, f);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_buf(req, buf, got);
	if (!room)
		free(buf);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		     size_t size, off_t off, struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	struct handle *h = handle_of(fi);
	struct fs_file *f = NULL;
	int err;

	if (n->kind == NODE_CTL) {
		ctl_write(m, req, h, buf, size, (uint64_t)off);
		return;
	}
	err = n->kind == NODE_OBJECT ? get_file(m, n, h, &f) : -EPERM;
	if (!err)
		err = change_contents(m, n, f, may_keep_bits(m, fi));
	if (!err)
		err = fs_write(f, NULL, (uint64_t)off, buf, size, false);
	put_file(h, f);
	if (err)
		reply_err(req, knode_error(n, err));
	else
		fuse_reply_write(req, size);
	/* Beside the next request. */
	if (fs_is_behind(m->fs) && !ring_after())
		fs_write_behind(m->fs);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	const struct knode *n = knode_of(req, ino);

	if (n->kind != NODE_OBJECT)
		reply_err(req, 0);
	else
		reply_err(req, fs_fsync(knode_view(n), n->ino));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	const struct handle *h = handle_of(fi);
	struct fs_file *f = NULL;
	int err;

	err = n->kind == NODE_OBJECT ? get_file(m, n, h, &f) : -EOPNOTSUPP;
	if (!err)
		err = change_contents(m, n, f, is_root(req));
	if (!err)
		err = fs_fallocate(f, mode, (uint64_t)off, (uint64_t)len);
	put_file(h, f);
	reply_err(req, knode_error(n, err));
}

/* May somebody have stored through a mapping what we were not told yet? Who
 * asks by a handle that may be mapped itself knows of that. */
static bool others_may_store(struct mount *m, const struct knode *n,
			     const struct handle *h)
{
	unsigned int writers;

	pthread_mutex_lock(&m->nodes_lock);
	writers = n->use ? n->use->nwriters : 0;
	pthread_mutex_unlock(&m->nodes_lock);
	return writers > (h && h->counted ? 1 : 0);
}

/* The kernel asks without writing dirty pages before: a copy of the file would
 * lack what it skips. */
static int seek_all(struct fs_file *f, uint64_t off, int whence, uint64_t *out)
{
	struct fs_attr attr;
	int err = fs_file_getattr(f, &attr);

	if (!err && off >= attr.size)
		err = -ENXIO;
	if (!err)
		*out = whence == SEEK_DATA ? off : attr.size;
	return err;
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	const struct handle *h = handle_of(fi);
	struct fs_file *f = NULL;
	uint64_t found = 0;
	int err;

	if (n->kind != NODE_OBJECT)
		err = -EINVAL;
	else if (off < 0)
		err = -ENXIO;
	else
		err = get_file(m, n, h, &f);
	if (!err && others_may_store(m, n, h))
		err = seek_all(f, (uint64_t)off, whence, &found);
	else if (!err)
		err = fs_seek(f, (uint64_t)off, whence, &found);
	put_file(h, f);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_lseek(req, (off_t)found);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			       off_t off_out, struct fuse_file_info *fi_out,
			       size_t len, int flags)
{
	struct mount *m = req_mount(req);
	struct knode *from = knode_of(req, ino_in),
		     *to = knode_of(req, ino_out);
	const struct handle *in = handle_of(fi_in), *out = handle_of(fi_out);
	struct fs_file *a = NULL, *b = NULL;
	size_t done = 0;
	int err = 0;

	/* EXDEV: the kernel copies by reading and writing. */
	if (from->kind != NODE_OBJECT || to->kind != NODE_OBJECT)
		err = -EXDEV;
	if (!err)
		err = get_file(m, from, in, &a);
	if (!err)
		err = get_file(m, to, out, &b);
	if (!err)
		err = change_contents(m, to, b, is_root(req));
	if (!err)
		err = fs_copy_range(a, (uint64_t)off_in, b, (uint64_t)off_out,
				    len, &done);
	put_file(in, a);
	put_file(out, b);
	if (err)
		reply_err(req, knode_error(to, err));
	else
		fuse_reply_write(req, done);
}

/* --- listings --- */

/*
 * What one handle lists of a directory goes on in the kernel's pages where
 * another ended, perhaps before a change. The kernel sees that at the beginning
 * of the next listing, but one that is under way takes what is there. So only a
 * listing that is alone is kept, and until its handle is closed others are
 * without these pages.
 */
static bool take_listed(struct mount *m, struct handle *h)
{
	struct knode_use *use = h->node->use;
	bool alone;

	pthread_mutex_lock(&m->nodes_lock);
	alone = use->nopen == 1;
	if (alone && !h->listed) {
		h->listed = true;
		use->nlisted++;
	}
	pthread_mutex_unlock(&m->nodes_lock);
	return alone;
}

static bool is_listed(struct mount *m, const struct knode *n)
{
	bool listed;

	pthread_mutex_lock(&m->nodes_lock);
	listed = n->use->nlisted;
	pthread_mutex_unlock(&m->nodes_lock);
	return listed;
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	struct knode *n = knode_of(req, ino);
	struct handle *h;

	if (knode_is_stale(n)) {
		reply_err(req, -ESTALE);
		return;
	}
	h = handle_new(m, n);
	if (!h) {
		reply_err(req, -ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)h;
	/* The kernel lists from its own pages what nothing changed since. */
	if (n->kind == NODE_OBJECT) {
		fi->keep_cache =
			__atomic_load_n(&m->keeps_lists, __ATOMIC_ACQUIRE);
		fi->cache_readdir = fi->keep_cache && !is_listed(m, n);
	}
	if (fuse_reply_open(req, fi))
		handle_free(m, h);
}

struct listing {
	struct mount *m;
	fuse_req_t req;
	struct handle *h;
	struct knode *dir;
	struct telling t;
	bool plus;
	char *buf;
	size_t size, used;
	struct knode **given; /* nodes that the reply counts a lookup of */
	size_t ngiven;
	int err;
};

enum { PLUS_ENTRY_MIN = 128 }; /* bytes; bounds the number of entries */

/* False: it does not fit. */
static bool list_put(struct listing *l, const char *name, uint64_t cookie,
		     const struct fuse_entry_param *e)
{
	char *at = l->buf + l->used;
	size_t room = l->size - l->used, n;

	n = l->plus ? fuse_add_direntry_plus(l->req, at, room, name, e,
					     (off_t)cookie)
		    : fuse_add_direntry(l->req, at, room, name, &e->attr,
					(off_t)cookie);
	if (n > room)
		return false;
	l->used += n;
	return true;
}

static bool list_put_stat(void *arg, const char *name, uint64_t cookie,
			  const struct stat *st)
{
	struct fuse_entry_param e = { .attr = *st }; /* ino 0: not linked */

	return list_put(arg, name, cookie, &e);
}

static int list_put_object(struct listing *l, const char *name,
			   const struct fs_dirent *ent)
{
	struct fuse_entry_param e = { 0 };
	struct knode *n = NULL;

	if (ent->attr)
		attr_to_stat(l->m, l->dir, ent->attr, &e.attr);
	else
		attr_to_stat(l->m, l->dir,
			     &(struct fs_attr){ .ino = ent->ino,
						.mode = ent->type },
			     &e.attr);
	/* What may not be kept is not linked either. */
	if (l->plus && l->t.seconds > 0) {
		n = knode_get(l->m, knode_view(l->dir), l->dir->snap, ent->ino);
		if (n) {
			e.ino = knode_id(l->m, n);
			e.generation = n->generation;
			e.attr_timeout =
				attr_seconds(l->m, n, e.attr.st_mode, &l->t);
			e.entry_timeout = l->t.seconds;
		}
	}
	if (!list_put(l, name, ent->cookie, &e)) {
		if (n)
			knode_forget(l->m, n, 1);
		return 1;
	}
	if (n)
		l->given[l->ngiven++] = n;
	return 0;
}

static int list_object(void *arg, const struct fs_dirent *ent)
{
	struct listing *l = arg;
	char name[FS_NAME_MAX + 1];

	memcpy(name, ent->name, ent->len);
	name[ent->len] = '\0';
	return list_put_object(l, name, ent);
}

/* . and .. and perhaps .txn; false: no more room. */
static bool list_dots(struct listing *l, uint64_t cookie)
{
	struct fs_attr attr = { .ino = l->dir->ino, .mode = S_IFDIR };
	struct stat st;

	if (cookie < 2)
		l->err = fs_getattr(knode_view(l->dir), l->dir->ino, &attr);
	if (l->err)
		return false;
	if (cookie < 1)
		__atomic_store_n(&l->h->listed_ns, attr.ctime_ns,
				 __ATOMIC_RELAXED);
	attr_to_stat(l->m, l->dir, &attr, &st);
	if (cookie < 1 && !list_put_stat(l, ".", 1, &st))
		return false;
	if (attr.parent)
		attr.ino = attr.parent;
	attr_to_stat(l->m, l->dir, &attr, &st);
	if (cookie < 2 && !list_put_stat(l, "..", 2, &st))
		return false;
	if (cookie < 3 && l->m->opt.ctldir_visible &&
	    is_txn_name(l->dir, ".txn")) {
		virtual_stat(l->m, txn_node(l->m), &st);
		return list_put_stat(l, ".txn", 3, &st);
	}
	return true;
}

/* At its end: may the kernel keep the listing? Not in a switch, and not when
 * the directory changed meanwhile: a position in it would show what went. */
static bool list_may_be_kept(const struct listing *l)
{
	struct fs_attr attr;

	return l->t.seconds > 0 && l->dir->kind == NODE_OBJECT &&
	       !fs_getattr(knode_view(l->dir), l->dir->ino, &attr) &&
	       attr.ctime_ns ==
		       __atomic_load_n(&l->h->listed_ns, __ATOMIC_RELAXED) &&
	       (l->dir->snap || take_listed(l->m, l->h));
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi, bool plus)
{
	struct mount *m = req_mount(req);
	struct listing l = { .m = m,
			     .req = req,
			     .h = handle_of(fi),
			     .dir = knode_of(req, ino),
			     .plus = plus,
			     .size = size };
	uint64_t cookie = (uint64_t)off;

	l.buf = malloc(size);
	l.given = malloc((size / PLUS_ENTRY_MIN + 1) * sizeof(struct knode *));
	tell_begin(m, l.dir, &l.t);
	if (!l.buf || !l.given)
		l.err = -ENOMEM;
	else if (l.dir->kind != NODE_OBJECT)
		l.err = virtual_list(m, l.dir, cookie, list_put_stat, &l);
	else if (list_dots(&l, cookie))
		l.err = fs_readdir(knode_view(l.dir), l.dir->ino,
				   cookie < FS_COOKIE_FIRST ? 0 : cookie, plus,
				   list_object, &l);
	if (l.err && !l.used)
		reply_err(req, l.err);
	else if (!l.used && !list_may_be_kept(&l))
		/* Less than an entry ends a listing, too, but the kernel takes
		 * only an empty reply for a sign that it has all of it: this
		 * one it does not keep. */
		fuse_reply_buf(req, "", 1);
	else if (fuse_reply_buf(req, l.buf, l.used))
		for (size_t i = 0; i < l.ngiven; i++)
			knode_forget(m, l.given[i], 1);
	tell_end(m, &l.t);
	free(l.buf);
	free(l.given);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	list(req, ino, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, fi, true);
}

void mount_file_ops(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
	ops->release = op_release;
	ops->flush = op_flush;
	ops->read = op_read;
	ops->write = op_write;
	ops->fsync = op_fsync;
	ops->fallocate = op_fallocate;
	ops->lseek = op_lseek;
	ops->copy_file_range = op_copy_file_range;
	ops->opendir = op_opendir;
	ops->releasedir = op_release;
	ops->fsyncdir = op_fsync;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
#if HAVE_FUSE_3_18
	ops->tmpfile = op_tmpfile;
#endif
}
