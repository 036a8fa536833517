/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_ring_ops.c - the handlers of a ring: each notes its arguments and says
 * whether the request may be done without waiting.
 */
#include "fs/mount_internal.h"
#include "fs/mount_ring.h"

#if HAVE_RING

#include <fcntl.h>

static void set_file(struct work *w, const struct fuse_file_info *fi)
{
	if (!fi)
		return;
	w->fi = *fi;
	w->fip = &w->fi;
}

/* An object of a directory or file; what is virtual is put together. */
static bool is_object(fuse_req_t req, fuse_ino_t ino)
{
	return knode_of(req, ino)->kind == NODE_OBJECT;
}

/* --- names --- */

static void run_lookup(struct work *w)
{
	w->ops->lookup(w->req, w->ino, w->name);
}

static void ring_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct work w = { .ino = parent, .name = name };
	struct knode *dir = knode_of(req, parent);

	ring_take(&w, run_lookup, req,
		  dir->kind == NODE_OBJECT && !is_txn_name(dir, name));
}

static void run_getattr(struct work *w)
{
	w->ops->getattr(w->req, w->ino, w->fip);
}

static void ring_getattr(fuse_req_t req, fuse_ino_t ino,
			 struct fuse_file_info *fi)
{
	struct work w = { .ino = ino };

	set_file(&w, fi);
	ring_take(&w, run_getattr, req, is_object(req, ino));
}

static void run_statx(struct work *w)
{
	w->ops->statx(w->req, w->ino, (int)w->flags, (int)w->mode, w->fip);
}

static void ring_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask,
		       struct fuse_file_info *fi)
{
	struct work w = { .ino = ino,
			  .flags = (unsigned int)flags,
			  .mode = (unsigned int)mask };

	set_file(&w, fi);
	ring_take(&w, run_statx, req, is_object(req, ino));
}

static void run_setattr(struct work *w)
{
	w->ops->setattr(w->req, w->ino, &w->st, (int)w->flags, w->fip);
}

static void ring_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
			 int to_set, struct fuse_file_info *fi)
{
	struct work w = { .ino = ino,
			  .st = *st,
			  .flags = (unsigned int)to_set };

	set_file(&w, fi);
	ring_take(&w, run_setattr, req, false);
}

static void run_readlink(struct work *w)
{
	w->ops->readlink(w->req, w->ino);
}

static void ring_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct work w = { .ino = ino };

	ring_take(&w, run_readlink, req, is_object(req, ino));
}

static void run_mknod(struct work *w)
{
	w->ops->mknod(w->req, w->ino, w->name, w->mode, w->rdev);
}

static void ring_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode, dev_t rdev)
{
	struct work w = {
		.ino = parent, .name = name, .mode = mode, .rdev = rdev
	};

	ring_take(&w, run_mknod, req, is_object(req, parent));
}

static void run_mkdir(struct work *w)
{
	w->ops->mkdir(w->req, w->ino, w->name, w->mode);
}

static void ring_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode)
{
	struct work w = { .ino = parent, .name = name, .mode = mode };

	ring_take(&w, run_mkdir, req, is_object(req, parent));
}

static void run_symlink(struct work *w)
{
	w->ops->symlink(w->req, w->name2, w->ino, w->name);
}

static void ring_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
			 const char *name)
{
	struct work w = { .ino = parent, .name = name, .name2 = target };

	ring_take(&w, run_symlink, req, is_object(req, parent));
}

static void run_link(struct work *w)
{
	w->ops->link(w->req, w->ino, w->ino2, w->name);
}

static void ring_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
		      const char *name)
{
	struct work w = { .ino = ino, .ino2 = parent, .name = name };

	ring_take(&w, run_link, req, false);
}

/* With open=fast what a name means is opened before the name goes. */
static bool may_remove(fuse_req_t req, fuse_ino_t parent)
{
	return is_object(req, parent) && !req_mount(req)->opt.fast;
}

static void run_unlink(struct work *w)
{
	w->ops->unlink(w->req, w->ino, w->name);
}

static void ring_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct work w = { .ino = parent, .name = name };

	ring_take(&w, run_unlink, req, may_remove(req, parent));
}

static void run_rmdir(struct work *w)
{
	w->ops->rmdir(w->req, w->ino, w->name);
}

static void ring_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct work w = { .ino = parent, .name = name };

	ring_take(&w, run_rmdir, req, may_remove(req, parent));
}

static void run_rename(struct work *w)
{
	w->ops->rename(w->req, w->ino, w->name, w->ino2, w->name2, w->flags);
}

static void ring_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
			fuse_ino_t newparent, const char *newname,
			unsigned int flags)
{
	struct work w = { .ino = parent,
			  .name = name,
			  .ino2 = newparent,
			  .name2 = newname,
			  .flags = flags };

	ring_take(&w, run_rename, req, false);
}

static void run_setxattr(struct work *w)
{
	w->ops->setxattr(w->req, w->ino, w->name, w->name2, w->size,
			 (int)w->flags);
}

static void ring_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			  const char *value, size_t size, int flags)
{
	struct work w = { .ino = ino,
			  .name = name,
			  .name2 = value,
			  .size = size,
			  .flags = (unsigned int)flags };

	ring_take(&w, run_setxattr, req, false);
}

static void run_getxattr(struct work *w)
{
	w->ops->getxattr(w->req, w->ino, w->name, w->size);
}

static void ring_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			  size_t size)
{
	struct work w = { .ino = ino, .name = name, .size = size };

	ring_take(&w, run_getxattr, req, true);
}

static void run_listxattr(struct work *w)
{
	w->ops->listxattr(w->req, w->ino, w->size);
}

static void ring_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct work w = { .ino = ino, .size = size };

	ring_take(&w, run_listxattr, req, true);
}

static void run_removexattr(struct work *w)
{
	w->ops->removexattr(w->req, w->ino, w->name);
}

static void ring_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct work w = { .ino = ino, .name = name };

	ring_take(&w, run_removexattr, req, false);
}

/* --- files --- */

static void run_open(struct work *w)
{
	w->ops->open(w->req, w->ino, w->fip);
}

static void ring_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct work w = { .ino = ino };

	set_file(&w, fi);
	ring_take(&w, run_open, req,
		  is_object(req, ino) && !(fi->flags & O_TRUNC));
}

static void run_create(struct work *w)
{
	w->ops->create(w->req, w->ino, w->name, w->mode, w->fip);
}

static void ring_create(fuse_req_t req, fuse_ino_t parent, const char *name,
			mode_t mode, struct fuse_file_info *fi)
{
	struct work w = { .ino = parent, .name = name, .mode = mode };

	set_file(&w, fi);
	ring_take(&w, run_create, req, is_object(req, parent));
}

static void run_tmpfile(struct work *w)
{
	w->ops->tmpfile(w->req, w->ino, w->mode, w->fip);
}

static void ring_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
			 struct fuse_file_info *fi)
{
	struct work w = { .ino = parent, .mode = mode };

	set_file(&w, fi);
	ring_take(&w, run_tmpfile, req, false);
}

static void run_release(struct work *w)
{
	w->ops->release(w->req, w->ino, w->fip);
}

static void ring_release(fuse_req_t req, fuse_ino_t ino,
			 struct fuse_file_info *fi)
{
	struct work w = { .ino = ino };

	set_file(&w, fi);
	ring_take(&w, run_release, req, true);
}

static void run_read(struct work *w)
{
	w->ops->read(w->req, w->ino, w->size, w->off, w->fip);
}

static void ring_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	struct work w = { .ino = ino, .size = size, .off = off };

	set_file(&w, fi);
	ring_take(&w, run_read, req, false);
}

static void run_write(struct work *w)
{
	w->ops->write(w->req, w->ino, w->name, w->size, w->off, w->fip);
}

static void ring_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		       size_t size, off_t off, struct fuse_file_info *fi)
{
	struct work w = { .ino = ino, .name = buf, .size = size, .off = off };

	set_file(&w, fi);
	ring_take(&w, run_write, req, false);
}

static void run_fsync(struct work *w)
{
	w->ops->fsync(w->req, w->ino, (int)w->flags, w->fip);
}

static void ring_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		       struct fuse_file_info *fi)
{
	struct work w = { .ino = ino, .flags = (unsigned int)datasync };

	set_file(&w, fi);
	ring_take(&w, run_fsync, req, false);
}

static void run_fallocate(struct work *w)
{
	w->ops->fallocate(w->req, w->ino, (int)w->mode, w->off, w->off2,
			  w->fip);
}

static void ring_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
			   off_t len, struct fuse_file_info *fi)
{
	struct work w = {
		.ino = ino, .mode = (unsigned int)mode, .off = off, .off2 = len
	};

	set_file(&w, fi);
	ring_take(&w, run_fallocate, req, false);
}

static void run_lseek(struct work *w)
{
	w->ops->lseek(w->req, w->ino, w->off, (int)w->flags, w->fip);
}

static void ring_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		       struct fuse_file_info *fi)
{
	struct work w = { .ino = ino,
			  .off = off,
			  .flags = (unsigned int)whence };

	set_file(&w, fi);
	ring_take(&w, run_lseek, req, false);
}

static void run_copy_file_range(struct work *w)
{
	w->ops->copy_file_range(w->req, w->ino, w->off, w->fip, w->ino2,
				w->off2, &w->fi2, w->size, (int)w->flags);
}

static void ring_copy_file_range(fuse_req_t req, fuse_ino_t ino_in,
				 off_t off_in, struct fuse_file_info *fi_in,
				 fuse_ino_t ino_out, off_t off_out,
				 struct fuse_file_info *fi_out, size_t len,
				 int flags)
{
	struct work w = { .ino = ino_in,
			  .off = off_in,
			  .ino2 = ino_out,
			  .off2 = off_out,
			  .fi2 = *fi_out,
			  .size = len,
			  .flags = (unsigned int)flags };

	set_file(&w, fi_in);
	ring_take(&w, run_copy_file_range, req, false);
}

static void run_opendir(struct work *w)
{
	w->ops->opendir(w->req, w->ino, w->fip);
}

static void ring_opendir(fuse_req_t req, fuse_ino_t ino,
			 struct fuse_file_info *fi)
{
	struct work w = { .ino = ino };

	set_file(&w, fi);
	ring_take(&w, run_opendir, req, true);
}

static void run_releasedir(struct work *w)
{
	w->ops->releasedir(w->req, w->ino, w->fip);
}

static void ring_releasedir(fuse_req_t req, fuse_ino_t ino,
			    struct fuse_file_info *fi)
{
	struct work w = { .ino = ino };

	set_file(&w, fi);
	ring_take(&w, run_releasedir, req, true);
}

static void run_statfs(struct work *w)
{
	w->ops->statfs(w->req, w->ino);
}

static void ring_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct work w = { .ino = ino };

	ring_take(&w, run_statfs, req, true);
}

static void run_readdir(struct work *w)
{
	w->ops->readdir(w->req, w->ino, w->size, w->off, w->fip);
}

static void ring_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			 struct fuse_file_info *fi)
{
	struct work w = { .ino = ino, .size = size, .off = off };

	set_file(&w, fi);
	ring_take(&w, run_readdir, req, false);
}

static void run_readdirplus(struct work *w)
{
	w->ops->readdirplus(w->req, w->ino, w->size, w->off, w->fip);
}

static void ring_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			     off_t off, struct fuse_file_info *fi)
{
	struct work w = { .ino = ino, .size = size, .off = off };

	set_file(&w, fi);
	ring_take(&w, run_readdirplus, req, false);
}

/* Those that are left as they are only answer; forgetting comes by /dev/fuse.
 */
void ring_set_ops(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = ring_lookup;
	ops->getattr = ring_getattr;
	ops->statx = ring_statx;
	ops->setattr = ring_setattr;
	ops->readlink = ring_readlink;
	ops->mknod = ring_mknod;
	ops->mkdir = ring_mkdir;
	ops->symlink = ring_symlink;
	ops->link = ring_link;
	ops->unlink = ring_unlink;
	ops->rmdir = ring_rmdir;
	ops->rename = ring_rename;
	ops->setxattr = ring_setxattr;
	ops->getxattr = ring_getxattr;
	ops->listxattr = ring_listxattr;
	ops->removexattr = ring_removexattr;
	ops->open = ring_open;
	ops->create = ring_create;
	ops->tmpfile = ring_tmpfile;
	ops->release = ring_release;
	ops->read = ring_read;
	ops->write = ring_write;
	ops->fsync = ring_fsync;
	ops->fallocate = ring_fallocate;
	ops->lseek = ring_lseek;
	ops->copy_file_range = ring_copy_file_range;
	ops->fsyncdir = ring_fsync;
	ops->opendir = ring_opendir;
	ops->releasedir = ring_releasedir;
	ops->statfs = ring_statfs;
	ops->readdir = ring_readdir;
	ops->readdirplus = ring_readdirplus;
}

#endif
