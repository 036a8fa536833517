/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_take.c - the second step of plain_out.c: what moves goes to the folder
 * for objects on their way, what goes is removed.
 */
#include "fs/plain_internal.h"
#include "txn/pace.h"

#include <fcntl.h>
#include <unistd.h>

static int leave(struct plain_out *o, const struct fs_delta_name *e,
		 const char *name, int err)
{
	const struct fs_delta_inode *d;
	struct out_inode *x;

	if (err == -ENOENT)
		return 0;
	if (!out_is_refused(err))
		return out_failed(o, e->dir, name, err, "cannot remove");
	d = out_find(o, e->a_ino, &x);
	/* Of what lives on by another name that would be noted, too: this one
	 * is not known any more, and is found as an added one. */
	if (d && d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN))
		x->left = true;
	o->r.unlike++;
	out_note(o, e->dir, name, "cannot be removed or moved by this user");
	return 0;
}

/* One that may not be written goes to no other directory: ".." is in it. */
static int move_dir(struct plain_out *o, int dirfd, const char *name,
		    const char *tmp)
{
	int fd;

	if (!renameat2(dirfd, name, o->tmpfd, tmp, RENAME_NOREPLACE))
		return 0;
	if (errno != EACCES)
		return -errno;
	fd = plain_open(dirfd, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	out_make_writable(fd);
	close(fd);
	return renameat2(dirfd, name, o->tmpfd, tmp, RENAME_NOREPLACE) ? -errno
								       : 0;
}

static int take_dir(struct plain_out *o, const struct fs_delta_name *e,
		    int dirfd, const char *name)
{
	const struct fs_delta_inode *d;
	struct out_inode *x;
	char tmp[32];
	int err;

	d = out_find(o, e->a_ino, &x);
	if (!d)
		return 0;
	if (d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN)) {
		x->goes = true; /* when everything in it went */
		return 0;
	}
	out_tmp_name(tmp, e->a_ino, true);
	err = move_dir(o, dirfd, name, tmp);
	if (!err) {
		o->r.changed++;
		out_forget_dir(o); /* or what is below it */
		return 0;
	}
	if (err == -ENOENT)
		return 0;
	/* Taken before an interruption, and somebody made another one since. */
	if (err == -EEXIST)
		return out_keep_aside(o, e->dir, dirfd, name);
	/* Going on would make another one and leave all below it behind. */
	return out_failed(o, e->dir, name, err, "cannot move");
}

/* What goes is looked at again when nobody finds it by its name any more:
 * somebody may have put something else there. */
static int remove_file(struct plain_out *o, const struct fs_delta_name *e,
		       int dirfd, const char *name)
{
	char taken[OUT_TAKEN_BYTES];
	int err;

	out_taken_name(taken, e->a_ino, 0);
	if (renameat(dirfd, name, o->tmpfd, taken)) {
		if (errno == ENOENT || !unlinkat(dirfd, name, 0))
			return 0;
		return leave(o, e, name, -errno);
	}
	err = out_drop_taken(o, taken, e->a_ino);
	return err == 1 ? out_keep_from(o, o->tmpfd, taken, e->dir, dirfd, name)
			: err;
}

/* What is at the name is checked to be e->a_ino's. */
static int take_file(struct plain_out *o, const struct fs_delta_name *e,
		     int dirfd, const char *name)
{
	const struct fs_delta_inode *d;
	struct out_inode *x;
	struct fs_attr b = { 0 };
	char tmp[32];
	bool lives;

	d = out_find(o, e->a_ino, &x);
	lives = d && !(d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN)) &&
		x->how != OUT_BUILD;
	if (lives && e->a_ino == e->b_ino)
		return 0; /* written over where it is */
	out_tmp_name(tmp, e->a_ino, false);
	if (lives && linkat(dirfd, name, o->tmpfd, tmp, 0) && errno != EEXIST) {
		/* No more links, or not by us: the last name goes there. */
		if (!renameat2(dirfd, name, o->tmpfd, tmp, RENAME_NOREPLACE) ||
		    errno == EEXIST)
			return 0;
		return leave(o, e, name, -errno);
	}
	if (e->b_ino && fs_getattr(o->hv, e->b_ino, &b))
		return -EFSCORRUPTED;
	if (e->b_ino && !S_ISDIR(b.mode))
		return 0; /* something else is renamed over it */
	o->r.changed++;
	return remove_file(o, e, dirfd, name);
}

/* What is at the name was edited. One that cannot be moved stays: the name is
 * not known any more, or what comes cannot be put there. */
static int keep(struct plain_out *o, const struct fs_delta_name *e, int dirfd,
		const char *name)
{
	int err = out_keep_aside(o, e->dir, dirfd, name);

	if (!out_is_refused(err))
		return err;
	o->err->text[0] = '\0';
	o->r.unlike++;
	out_note(o, e->dir, name,
		 "was edited, and cannot be removed or moved by this user");
	return 0;
}

static int take_entry(struct plain_out *o, const struct fs_delta_name *e)
{
	char name[FS_NAME_MAX + 1];
	struct stat st;
	bool ours = false;
	int dirfd, err;

	pace();
	out_entry_name(o, e, name);
	err = out_open_dir(o, e->dir, true, &dirfd);
	if (!err)
		err = out_look_at(dirfd, name, &st);
	if (err == 1 || out_is_gone(err))
		return 0; /* it went by itself */
	if (err)
		return leave(o, e, name, err);
	err = out_is_ours(o, e->a_ino, dirfd, name, &st, &ours);
	/* After an interruption what comes may be in place. */
	if (!err && !ours && o->again && e->b_ino && e->b_ino != e->a_ino) {
		err = out_is_ours(o, e->b_ino, dirfd, name, &st, &ours);
		if (!err && ours)
			return 0;
	}
	if (err)
		return out_failed(o, e->dir, name, err, "cannot read");
	if (!ours)
		return keep(o, e, dirfd, name);
	if (S_ISDIR(st.st_mode))
		return take_dir(o, e, dirfd, name);
	return take_file(o, e, dirfd, name);
}

static int remove_dir(struct plain_out *o, const struct fs_delta_name *e,
		      struct out_inode *x)
{
	char name[FS_NAME_MAX + 1];
	int dirfd, err;

	out_entry_name(o, e, name);
	err = out_open_dir(o, e->dir, true, &dirfd);
	if (!err && unlinkat(dirfd, name, AT_REMOVEDIR))
		err = -errno;
	if (err == -ENOTEMPTY || err == -EEXIST)
		return 0;
	if (err && !out_is_gone(err))
		return leave(o, e, name, err);
	o->r.changed += !err;
	x->goes = false;
	out_forget_dir(o);
	return 0;
}

/*
 * Again and again, until no more goes: later numbers tend to lie inside
 * earlier ones, so that mostly once does. What stays has something in it that
 * is not ours (the next mount finds it) or could not be removed.
 */
static int remove_dirs(struct plain_out *o)
{
	size_t left = SIZE_MAX, before;
	int err = 0;

	do {
		before = left;
		left = 0;
		for (size_t i = o->d->nentries; i-- && !err;) {
			const struct fs_delta_name *e = &o->d->entries[i];
			struct out_inode *x = NULL;

			if (e->a_ino)
				(void)out_find(o, e->a_ino, &x);
			if (!x || !x->goes)
				continue;
			err = remove_dir(o, e, x);
			left += x->goes;
		}
	} while (!err && left && left < before);
	for (size_t i = 0; i < o->d->ninodes && !err; i++)
		if (o->inodes[i].goes && o->r.unlike)
			o->inodes[i].left = true;
	return err;
}

struct linking {
	struct plain_out *o;
	uint64_t ino;
	const char *tmp;
};

/* 1: done. */
static int link_name(void *arg, uint64_t dir, const char *name_, size_t len)
{
	struct linking *l = arg;
	char name[FS_NAME_MAX + 1];
	struct stat st;
	bool ours = false;
	int dirfd, err;

	memcpy(name, name_, len);
	name[len] = '\0';
	if (out_open_dir(l->o, dir, false, &dirfd) ||
	    out_look_at(dirfd, name, &st))
		return 0;
	err = out_is_ours(l->o, l->ino, dirfd, name, &st, &ours);
	if (err || !ours)
		return err;
	return !linkat(dirfd, name, l->o->tmpfd, l->tmp, 0);
}

/* A file that gets one more name, and may keep all that it has. */
static int take_link(struct plain_out *o, const struct fs_delta_name *e)
{
	struct linking l = { .o = o, .ino = e->b_ino };
	const struct fs_delta_inode *d;
	struct out_inode *x;
	char tmp[32];
	struct fs_attr a;
	struct stat st;
	int err;

	pace();
	d = out_find(o, e->b_ino, &x);
	if (!d || x->how == OUT_BUILD || e->a_ino == e->b_ino)
		return 0;
	err = fs_getattr(o->hv, e->b_ino, &a);
	if (err || S_ISDIR(a.mode))
		return err;
	out_tmp_name(tmp, e->b_ino, false);
	if (!out_look_at(o->tmpfd, tmp, &st))
		return 0;
	l.tmp = tmp;
	err = fv_each_name(o->sv, e->b_ino, link_name, &l);
	return err == 1 ? 0 : err;
}

/* Links are taken while all names are as the state shown says. */
int out_take(struct plain_out *o)
{
	int err = 0;

	for (size_t i = 0; i < o->d->nentries && !err; i++)
		if (o->d->entries[i].b_ino)
			err = take_link(o, &o->d->entries[i]);
	for (size_t i = 0; i < o->d->nentries && !err; i++)
		if (o->d->entries[i].a_ino)
			err = take_entry(o, &o->d->entries[i]);
	if (!err)
		err = remove_dirs(o);
	if (!err)
		err = out_flush_dirs(o);
	if (!err)
		err = out_enter_phase(o, PHASE_INSTALL);
	return err;
}
