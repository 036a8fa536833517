/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_gate.c - handlers for a mount that came up while edits of the plain
 * files are still looked for (mount_edits.c). Each waits until its request may
 * be answered and hands it to the handler behind: what changes something until
 * all is staged, what tells of a directory until that is known to stay as it
 * is.
 *
 * What is told of an object needs no question: only a lookup gives it out, and
 * that asked for its directory. Of a directory the lookup asks for itself, too:
 * its attributes change with its entries. Snapshots and .txn wait for nothing,
 * but for ctl and for what lists staged changes.
 */
#include "fs/mount_internal.h"

#include <fcntl.h>

static struct fuse_lowlevel_ops *behind(fuse_req_t req)
{
	return &req_mount(req)->gated;
}

static bool is_working(const struct knode *n)
{
	return n->kind == NODE_OBJECT && !n->snap;
}

/* False: it was answered. */
static bool go_on(fuse_req_t req, int err)
{
	if (err)
		reply_err(req, err);
	return !err;
}

static bool may_change(fuse_req_t req, fuse_ino_t ino)
{
	return !is_working(knode_of(req, ino)) ||
	       go_on(req, edits_wait(req_mount(req), req));
}

static bool may_tell(fuse_req_t req, fuse_ino_t ino)
{
	const struct knode *n = knode_of(req, ino);

	return !is_working(n) ||
	       go_on(req, edits_wait_dir(req_mount(req), req, n->ino));
}

/* --- names and attributes --- */

/* The directory that a name of an exact one means. */
static int wait_named(struct mount *m, fuse_req_t req, const struct knode *dir,
		      const char *name)
{
	struct fs_attr attr;
	int err;

	if (!edits_are_pending(m))
		return 0;
	err = fs_lookup(knode_view(dir), dir->ino, name, strlen(name), &attr);
	if (err)
		return 0; /* it is told */
	return S_ISDIR(attr.mode) ? edits_wait_dir(m, req, attr.ino) : 0;
}

static void gate_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = req_mount(req);
	const struct knode *dir = knode_of(req, parent);

	if (is_working(dir) && !is_txn_name(dir, name) &&
	    (!may_tell(req, parent) ||
	     !go_on(req, wait_named(m, req, dir, name))))
		return;
	behind(req)->lookup(req, parent, name);
}

/* Every path goes through the root, that of .txn too: it never waits. Its mode
 * and owner are as they will be, its times are DIR's, if names came or went. */
static void gate_getattr(fuse_req_t req, fuse_ino_t ino,
			 struct fuse_file_info *fi)
{
	struct mount *m = req_mount(req);
	const struct knode *n = knode_of(req, ino);
	struct stat st, plain;
	struct fs_attr attr;
	int err;

	if (n != &m->root || !edits_may_differ(m, FS_ROOT_INO)) {
		behind(req)->getattr(req, ino, fi);
		return;
	}
	err = fs_getattr(knode_view(n), FS_ROOT_INO, &attr);
	if (!err && fstat(m->dirfd, &plain))
		err = -errno;
	if (!go_on(req, err))
		return;
	attr_to_stat(m, n, &attr, &st);
	if (st.st_mtim.tv_sec != plain.st_mtim.tv_sec ||
	    st.st_mtim.tv_nsec != plain.st_mtim.tv_nsec) {
		st.st_mtim = plain.st_mtim;
		st.st_ctim = plain.st_ctim;
	}
	fuse_reply_attr(req, &st, 0);
}

static void gate_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
			 int to_set, struct fuse_file_info *fi)
{
	if (may_change(req, ino))
		behind(req)->setattr(req, ino, st, to_set, fi);
}

static void gate_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode, dev_t rdev)
{
	if (may_change(req, parent))
		behind(req)->mknod(req, parent, name, mode, rdev);
}

static void gate_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode)
{
	if (may_change(req, parent))
		behind(req)->mkdir(req, parent, name, mode);
}

static void gate_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
			 const char *name)
{
	if (may_change(req, parent))
		behind(req)->symlink(req, target, parent, name);
}

static void gate_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
		      const char *name)
{
	if (may_change(req, parent))
		behind(req)->link(req, ino, parent, name);
}

static void gate_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (may_change(req, parent))
		behind(req)->unlink(req, parent, name);
}

static void gate_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (may_change(req, parent))
		behind(req)->rmdir(req, parent, name);
}

static void gate_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
			fuse_ino_t newparent, const char *newname,
			unsigned int flags)
{
	if (may_change(req, parent))
		behind(req)->rename(req, parent, name, newparent, newname,
				    flags);
}

static void gate_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			  const char *value, size_t size, int flags)
{
	if (may_change(req, ino))
		behind(req)->setxattr(req, ino, name, value, size, flags);
}

static void gate_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	if (may_change(req, ino))
		behind(req)->removexattr(req, ino, name);
}

#if HAVE_FUSE_3_18
static void gate_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask,
		       struct fuse_file_info *fi)
{
	if (knode_of(req, ino) != &req_mount(req)->root || may_tell(req, ino))
		behind(req)->statx(req, ino, flags, mask, fi);
}

static void gate_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
			 struct fuse_file_info *fi)
{
	if (may_change(req, parent))
		behind(req)->tmpfile(req, parent, mode, fi);
}
#endif

/* --- contents and listings --- */

/* With open=fast the answer is for good, and changes nothing. */
static void gate_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	bool changes =
		(fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC;

	if (!changes || req_mount(req)->opt.fast || may_change(req, ino))
		behind(req)->open(req, ino, fi);
}

static void gate_create(fuse_req_t req, fuse_ino_t parent, const char *name,
			mode_t mode, struct fuse_file_info *fi)
{
	if (may_change(req, parent))
		behind(req)->create(req, parent, name, mode, fi);
}

static void gate_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	if (knode_of(req, ino)->kind != NODE_CHANGES ||
	    go_on(req, edits_wait(req_mount(req), req)))
		behind(req)->read(req, ino, size, off, fi);
}

static void gate_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		       size_t size, off_t off, struct fuse_file_info *fi)
{
	if (knode_of(req, ino)->kind == NODE_CTL
		    ? go_on(req, edits_wait(req_mount(req), req))
		    : may_change(req, ino))
		behind(req)->write(req, ino, buf, size, off, fi);
}

static void gate_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		       struct fuse_file_info *fi)
{
	if (may_change(req, ino))
		behind(req)->fsync(req, ino, datasync, fi);
}

static void gate_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
			   off_t len, struct fuse_file_info *fi)
{
	if (may_change(req, ino))
		behind(req)->fallocate(req, ino, mode, off, len, fi);
}

static void gate_copy_file_range(fuse_req_t req, fuse_ino_t ino_in,
				 off_t off_in, struct fuse_file_info *fi_in,
				 fuse_ino_t ino_out, off_t off_out,
				 struct fuse_file_info *fi_out, size_t len,
				 int flags)
{
	if (may_change(req, ino_out))
		behind(req)->copy_file_range(req, ino_in, off_in, fi_in,
					     ino_out, off_out, fi_out, len,
					     flags);
}

static void gate_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			 struct fuse_file_info *fi)
{
	if (may_tell(req, ino))
		behind(req)->readdir(req, ino, size, off, fi);
}

static void gate_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			     off_t off, struct fuse_file_info *fi)
{
	if (may_tell(req, ino))
		behind(req)->readdirplus(req, ino, size, off, fi);
}

void gate_ops(struct mount *m, struct fuse_lowlevel_ops *ops)
{
	if (!edits_are_beside(m))
		return;
	m->gated = *ops;
	ops->lookup = gate_lookup;
	ops->getattr = gate_getattr;
	ops->setattr = gate_setattr;
	ops->mknod = gate_mknod;
	ops->mkdir = gate_mkdir;
	ops->symlink = gate_symlink;
	ops->link = gate_link;
	ops->unlink = gate_unlink;
	ops->rmdir = gate_rmdir;
	ops->rename = gate_rename;
	ops->setxattr = gate_setxattr;
	ops->removexattr = gate_removexattr;
#if HAVE_FUSE_3_18
	ops->statx = gate_statx;
	ops->tmpfile = gate_tmpfile;
#endif
	ops->open = gate_open;
	ops->create = gate_create;
	ops->read = gate_read;
	ops->write = gate_write;
	ops->fsync = gate_fsync;
	ops->fsyncdir = gate_fsync;
	ops->fallocate = gate_fallocate;
	ops->copy_file_range = gate_copy_file_range;
	ops->readdir = gate_readdir;
	ops->readdirplus = gate_readdirplus;
}
