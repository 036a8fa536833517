/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_out.c - the plain directory is made to show another state. fs/DESIGN.md
 * 8.
 *
 *	prepare	what is new, or has other contents, is made in the folder for
 *		objects on their way and flushed; then the target is noted in
 *		the table, durably: only from here on DIR itself changes
 *	take	directories that move go to the folder, files that move get a
 *		link there, what goes is removed; flushed and noted
 *	install	everything in the folder gets its name, large files are written
 *		over where they differ, attributes; flushed
 *	record	what stat shows, and the state, into the table, durably
 *
 * An interrupted run is repeated from take or install on. Each step looks at
 * what is there first, so that one that was done is left alone.
 */
#include "fs/plain_internal.h"
#include "txn/pace.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	PATCH_MIN_BYTES = 1 << 20,
	SLACK_BYTES = 64 << 20, /* of the host's space, that are left alone */
	SLACK_PART = 8, /* or such a part of it, if that is less */
	FLUSH_EACH_MAX = 64 /* objects; more are flushed together */
};

/* --- is what is there ours? --- */

static bool same_stat(const struct plain_stat *was, const struct stat *st)
{
	struct plain_stat now = plain_of_stat(st);

	return now.host_ino == was->host_ino && now.size == was->size &&
	       now.mtime_ns == was->mtime_ns && now.ctime_ns == was->ctime_ns &&
	       now.mode == was->mode && now.uid == was->uid &&
	       now.gid == was->gid;
}

/*
 * An object is ours when it is as the table says, or its contents are those of
 * one of the two states; after an interruption also a mixture of them. What
 * was looked at once counts from then on: links and renames change ctime.
 */
static int is_ours(struct plain_out *o, uint64_t ino, int dirfd,
		   const char *name, const struct stat *st, bool *ours)
{
	struct plain_stat was;
	struct out_inode *x;
	int err;

	(void)out_find(o, ino, &x);
	*ours = S_ISDIR(st->st_mode) ||
		(x && x->checked && x->host_ino == st->st_ino);
	if (*ours)
		return 0;
	err = plain_get(o->fs, ino, &was);
	if (err < 0)
		return err;
	*ours = !err && same_stat(&was, st);
	err = 0;
	if (!*ours)
		err = look_contents(&o->look, dirfd, name, st, o->sv,
				    o->again ? o->hv : NULL, ino, ours);
	if (!err && !*ours && o->again)
		err = look_contents(&o->look, dirfd, name, st, o->hv, NULL, ino,
				    ours);
	if (x && *ours) {
		x->checked = true;
		x->host_ino = st->st_ino;
	}
	return err;
}

/* 1: no such name. */
static int look_at(int dirfd, const char *name, struct stat *st)
{
	if (!fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW))
		return 0;
	return errno == ENOENT || errno == ENOTDIR ? 1 : -errno;
}

static void entry_name(const struct plain_out *o, const struct fs_delta_name *e,
		       char name[FS_NAME_MAX + 1])
{
	memcpy(name, o->d->names + e->name_off, e->name_len);
	name[e->name_len] = '\0';
}

/* --- prepare --- */

static int add_window(void *arg, const struct key *key, const struct val *a,
		      const struct val *b)
{
	struct plain_out *o = arg;
	int err;

	if (key->kind != ITEM_KIND_EXTENT || key->obj == ITEM_OBJ_ORPHANS)
		return 0;
	err = array_grow((void **)&o->win, &o->win_cap, o->nwin + 1,
			 sizeof(*o->win));
	if (!err)
		o->win[o->nwin++] =
			(struct out_window){ key->obj,
					     key->off / WINDOW_BYTES };
	return err;
}

static uint64_t count_windows(const struct plain_out *o, uint64_t ino)
{
	size_t lo = 0, hi = o->nwin, n = 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (o->win[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	while (lo + n < o->nwin && o->win[lo + n].ino == ino)
		n++;
	return n;
}

/* All its names are in DIR: nobody else's copy (cp -al) is written over. */
static int has_only_our_names(struct plain_out *o, uint64_t ino, bool *only)
{
	struct plain_stat was = { 0 };
	struct fs_attr a;
	struct stat st;
	int err, fd;

	*only = false;
	err = fs_getattr(o->sv, ino, &a);
	if (!err)
		err = plain_get(o->fs, ino, &was);
	if (err)
		return err == -ENOENT || err == 1 ? 0 : err;
	err = out_open_object(o, ino, O_RDONLY | O_NONBLOCK, &fd);
	if (err)
		return 0;
	/* By that name there may be another file before names move. */
	if (!fstat(fd, &st))
		*only = S_ISREG(st.st_mode) && st.st_nlink == a.nlink &&
			st.st_ino == was.host_ino;
	close(fd);
	return 0;
}

/* A large file of which little differs, and that nobody edited. */
static int can_patch(struct plain_out *o, uint64_t ino, const struct fs_attr *a,
		     bool *can)
{
	struct fs_attr old;
	int err;

	*can = false;
	err = fs_getattr(o->sv, ino, &old);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (!S_ISREG(a->mode) || !S_ISREG(old.mode) ||
	    min_u64(a->size, old.size) < PATCH_MIN_BYTES ||
	    count_windows(o, ino) * 2 * WINDOW_BYTES > a->size)
		return 0;
	/* Its first name, which it must have in both: the check looks there. */
	return old.parent == a->parent ? has_only_our_names(o, ino, can) : 0;
}

/* A file in the folder says that one is to be patched: after an interruption
 * it must be, whatever could be found out about it then. */
static void mark_name(char buf[32], uint64_t ino)
{
	snprintf(buf, 32, "p%llu", (unsigned long long)ino);
}

static bool is_marked(const struct plain_out *o, uint64_t ino)
{
	char name[32];

	mark_name(name, ino);
	return !faccessat(o->tmpfd, name, F_OK, AT_SYMLINK_NOFOLLOW);
}

static int mark(struct plain_out *o, uint64_t ino)
{
	char name[32];
	int fd;

	mark_name(name, ino);
	fd = openat(o->tmpfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : close(fd) ? -errno : 0;
}

static int decide(struct plain_out *o, size_t i)
{
	const struct fs_delta_inode *d = &o->d->inodes[i];
	struct out_inode *x = &o->inodes[i];
	struct plain_stat was;
	struct fs_attr a;
	bool patch = false;
	int err;

	pace();
	x->how = OUT_KEEP;
	if (d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN))
		return 0;
	err = fs_getattr(o->hv, d->ino, &a);
	if (err)
		return err;
	if (S_ISDIR(a.mode)) {
		if (d->flags & FS_DELTA_NEW && d->ino != FS_ROOT_INO)
			x->how = OUT_BUILD;
		return 0;
	}
	err = plain_get(o->fs, d->ino, &was);
	if (err < 0)
		return err;
	if (!err && was.flags & PLAIN_ABSENT && !o->again) {
		x->how = OUT_BUILD; /* perhaps it can be made now */
		return 0;
	}
	if (o->again) {
		patch = is_marked(o, d->ino);
	} else if (d->flags & FS_DELTA_DATA && !(d->flags & FS_DELTA_NEW)) {
		err = can_patch(o, d->ino, &a, &patch);
		if (!err && patch)
			err = mark(o, d->ino);
		if (err)
			return err;
	}
	if (patch)
		x->how = OUT_PATCH;
	else if (d->flags & (FS_DELTA_DATA | FS_DELTA_NEW))
		x->how = OUT_BUILD;
	return 0;
}

/* The log goes before: what it needs for the next mount, and a little more, is
 * not taken. */
static int check_space(struct plain_out *o, uint64_t bytes)
{
	struct statvfs sv;
	uint64_t slack;

	if (fstatvfs(o->tmpfd, &sv))
		return -errno;
	slack = min_u64(SLACK_BYTES, sv.f_blocks * sv.f_frsize / SLACK_PART);
	return bytes + slack > sv.f_bavail * sv.f_frsize ? -ENOSPC : 0;
}

static int build_all(struct plain_out *o)
{
	uint64_t bytes = 0;
	size_t n = 0;
	int err = 0;

	for (size_t i = 0; i < o->d->ninodes && !err; i++) {
		struct fs_attr a = { 0 };

		if (o->inodes[i].how != OUT_BUILD)
			continue;
		n++;
		err = fs_getattr(o->hv, o->d->inodes[i].ino, &a);
		if (!err && out_can_give(o, &a))
			bytes += a.blocks * 512;
	}
	if (!err && n)
		err = check_space(o, bytes);
	if (err)
		return out_failed(o, FS_ROOT_INO, NULL, err,
				  "no room for files below");
	o->flush_each = n <= FLUSH_EACH_MAX;
	for (size_t i = 0; i < o->d->ninodes && !err; i++) {
		if (o->inodes[i].how != OUT_BUILD)
			continue;
		err = out_build(o, o->d->inodes[i].ino);
		if (err < 0)
			return out_failed(o, FS_ROOT_INO, NULL, err,
					  "cannot make files below");
		err = 0;
	}
	if (o->flush_each ? fsync(o->tmpfd) : syncfs(o->tmpfd))
		return -errno;
	return 0;
}

/* The table durable; what else is entered by then is, too. */
static int make_durable(struct plain_out *o)
{
	return store_checkpoint(o->fs->store, o->fs->working->view);
}

static int enter_phase(struct plain_out *o, enum plain_phase phase)
{
	int err;

	o->target.phase = phase;
	err = plain_put_state(o->fs, PLAIN_STATE_TARGET, &o->target);
	return err ? err : make_durable(o);
}

static int prepare(struct plain_out *o)
{
	int err;

	err = fs_delta_new(o->fs, &(struct root){ .ptr = o->shown.root },
			   &(struct root){ .ptr = o->target.root }, &o->d);
	if (!err)
		err = tree_diff(store_tree(o->fs->store),
				&(struct root){ .ptr = o->shown.root },
				&(struct root){ .ptr = o->target.root },
				add_window, o);
	if (err)
		return err;
	o->inodes = calloc(o->d->ninodes + 1, sizeof(*o->inodes));
	if (!o->inodes)
		return -ENOMEM;
	for (size_t i = 0; i < o->d->ninodes && !err; i++)
		err = decide(o, i);
	if (err || o->again)
		return err;
	err = build_all(o);
	return err ? err : enter_phase(o, PHASE_TAKE);
}

/* --- flushing names --- */

static int flush_dirs(struct plain_out *o)
{
	int err = 0, fd;

	if (o->flush_all || o->ntouched > FLUSH_EACH_MAX)
		return syncfs(o->p->dirfd) ? -errno : 0;
	for (size_t i = 0; i < o->ntouched && !err; i++) {
		err = out_open_dir(o, o->touched[i], false, &fd);
		if (err == -ENOENT)
			err = 0; /* it went: its own directory tells */
		else if (!err && fsync(fd))
			err = -errno;
	}
	if (!err && fsync(o->tmpfd))
		err = -errno;
	return err;
}

static void forget_dir(struct plain_out *o)
{
	if (o->dir_ino)
		close(o->dir_fd);
	o->dir_ino = 0;
}

/* --- take --- */

static int leave(struct plain_out *o, const struct fs_delta_name *e,
		 const char *name, int err)
{
	struct out_inode *x;

	if (err == -ENOENT)
		return 0;
	if (!out_is_refused(err))
		return out_failed(o, e->dir, name, err, "cannot remove");
	(void)out_find(o, e->a_ino, &x);
	if (x)
		x->left = true;
	o->r.unlike++;
	out_note(o, e->dir, name, "cannot be removed or moved by this user");
	return 0;
}

static int take_dir(struct plain_out *o, const struct fs_delta_name *e,
		    int dirfd, const char *name)
{
	const struct fs_delta_inode *d;
	struct out_inode *x;
	char tmp[32];

	d = out_find(o, e->a_ino, &x);
	if (!d)
		return 0;
	if (d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN)) {
		x->goes = true; /* when everything in it went */
		return 0;
	}
	out_tmp_name(tmp, e->a_ino, true);
	if (!renameat2(dirfd, name, o->tmpfd, tmp, RENAME_NOREPLACE)) {
		o->r.changed++;
		forget_dir(o); /* or what is below it */
		return 0;
	}
	if (errno == ENOENT)
		return 0;
	/* Taken before an interruption, and somebody made another one since. */
	if (errno == EEXIST)
		return out_keep_aside(o, e->dir, dirfd, name);
	/* Going on would make another one and leave all below it behind. */
	return out_failed(o, e->dir, name, -errno, "cannot move");
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
	return unlinkat(dirfd, name, 0) ? leave(o, e, name, -errno) : 0;
}

static int take_entry(struct plain_out *o, const struct fs_delta_name *e)
{
	char name[FS_NAME_MAX + 1];
	struct stat st;
	bool ours = false;
	int dirfd, err;

	pace();
	entry_name(o, e, name);
	err = out_open_dir(o, e->dir, true, &dirfd);
	if (!err)
		err = look_at(dirfd, name, &st);
	if (err == 1 || err == -ENOENT || err == -ENOTDIR || err == -ELOOP)
		return 0; /* it went by itself */
	if (err)
		return leave(o, e, name, err);
	err = is_ours(o, e->a_ino, dirfd, name, &st, &ours);
	/* After an interruption what comes may be in place. */
	if (!err && !ours && o->again && e->b_ino && e->b_ino != e->a_ino) {
		err = is_ours(o, e->b_ino, dirfd, name, &st, &ours);
		if (!err && ours)
			return 0;
	}
	if (err)
		return out_failed(o, e->dir, name, err, "cannot read");
	if (!ours)
		return out_keep_aside(o, e->dir, dirfd, name);
	if (S_ISDIR(st.st_mode))
		return take_dir(o, e, dirfd, name);
	return take_file(o, e, dirfd, name);
}

static int remove_dir(struct plain_out *o, const struct fs_delta_name *e,
		      struct out_inode *x)
{
	char name[FS_NAME_MAX + 1];
	int dirfd, err;

	entry_name(o, e, name);
	err = out_open_dir(o, e->dir, true, &dirfd);
	if (!err && unlinkat(dirfd, name, AT_REMOVEDIR))
		err = -errno;
	if (err == -ENOTEMPTY || err == -EEXIST)
		return 0;
	if (err && err != -ENOENT && err != -ENOTDIR)
		return leave(o, e, name, err);
	o->r.changed += !err;
	x->goes = false;
	forget_dir(o);
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
	if (out_open_dir(l->o, dir, false, &dirfd) || look_at(dirfd, name, &st))
		return 0;
	err = is_ours(l->o, l->ino, dirfd, name, &st, &ours);
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
	if (!look_at(o->tmpfd, tmp, &st))
		return 0;
	l.tmp = tmp;
	err = fv_each_name(o->sv, e->b_ino, link_name, &l);
	return err == 1 ? 0 : err;
}

/* Links are taken while all names are as the state shown says. */
static int take(struct plain_out *o)
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
		err = flush_dirs(o);
	if (!err)
		err = enter_phase(o, PHASE_INSTALL);
	return err;
}

/* --- install --- */

/* Something is at the name where e->b_ino's object belongs. *done: it is that
 * object. Else it may be renamed over, or is not there any more. */
static int make_way(struct plain_out *o, const struct fs_delta_name *e,
		    int dirfd, const char *name, const char *tmp, bool *done)
{
	struct out_inode *x;
	struct stat st, own;
	bool ours = false;
	int err;

	*done = false;
	err = look_at(dirfd, name, &st);
	if (err)
		return err == 1 ? 0 : err;
	if (!look_at(o->tmpfd, tmp, &own)) {
		*done = own.st_ino == st.st_ino && own.st_dev == st.st_dev;
		if (*done)
			return 0;
	} else if (o->again) {
		err = out_is_given(o, e->b_ino, &st, done);
		if (err || *done)
			return err;
		/* It was put there before the interruption, and perhaps is half
		 * written over. */
		(void)out_find(o, e->b_ino, &x);
		if (x && x->how == OUT_PATCH)
			err = is_ours(o, e->b_ino, dirfd, name, &st, done);
		else
			err = look_contents(&o->look, dirfd, name, &st, o->hv,
					    NULL, e->b_ino, done);
		if (err || *done)
			return err;
	}
	if (S_ISDIR(st.st_mode))
		return out_keep_aside(o, e->dir, dirfd, name);
	if (e->a_ino)
		err = is_ours(o, e->a_ino, dirfd, name, &st, &ours);
	if (err)
		return err;
	return ours ? 0 : out_keep_aside(o, e->dir, dirfd, name);
}

/* The object is in the folder: it was built or taken; or it has to be built
 * now, since what should have been taken was not there. 1: cannot be. */
static int have_object(struct plain_out *o, uint64_t ino, const char *tmp)
{
	struct out_inode *x;
	struct stat st;

	(void)out_find(o, ino, &x);
	if (x && x->flags & PLAIN_ABSENT)
		return 1;
	if (!look_at(o->tmpfd, tmp, &st))
		return 0;
	o->flush_each = true;
	return out_build(o, ino);
}

static int install_dir(struct plain_out *o, const struct fs_delta_name *e,
		       int dirfd, const char *name, const char *tmp)
{
	struct stat st, own;
	int err;

	err = look_at(dirfd, name, &st);
	if (!err && S_ISDIR(st.st_mode) && look_at(o->tmpfd, tmp, &own) == 1)
		return 0; /* before the interruption */
	/* It could not be removed when its files were moved. */
	if (!err && S_ISDIR(st.st_mode) && o->p->give &&
	    !unlinkat(o->tmpfd, tmp, AT_REMOVEDIR)) {
		forget_dir(o);
		return 0;
	}
	if (!err)
		err = out_keep_aside(o, e->dir, dirfd, name);
	if (err == 1)
		err = 0;
	if (!err)
		err = have_object(o, e->b_ino, tmp);
	if (err)
		return err;
	forget_dir(o);
	err = out_open_dir(o, e->dir, true, &dirfd);
	if (!err && renameat2(o->tmpfd, tmp, dirfd, name, RENAME_NOREPLACE))
		err = -errno;
	forget_dir(o);
	return err;
}

static int install_file(struct plain_out *o, const struct fs_delta_name *e,
			int dirfd, const char *name, const char *tmp,
			uint32_t nlink)
{
	static const char one_more[] = "link";
	bool done;
	int err;

	err = make_way(o, e, dirfd, name, tmp, &done);
	if (err || done)
		return err;
	err = have_object(o, e->b_ino, tmp);
	if (err)
		return err;
	if (nlink == 1)
		return renameat(o->tmpfd, tmp, dirfd, name) ? -errno : 0;
	if (unlinkat(o->tmpfd, one_more, 0) && errno != ENOENT)
		return -errno;
	if (linkat(o->tmpfd, tmp, o->tmpfd, one_more, 0) ||
	    renameat(o->tmpfd, one_more, dirfd, name))
		return -errno;
	return 0;
}

static int install_entry(struct plain_out *o, const struct fs_delta_name *e)
{
	char name[FS_NAME_MAX + 1], tmp[32];
	const struct fs_delta_inode *d;
	struct out_inode *x;
	struct fs_attr b;
	bool moved;
	int dirfd, err;

	pace();
	d = out_find(o, e->b_ino, &x);
	if (!d)
		return -EFSCORRUPTED;
	if (e->a_ino == e->b_ino && x->how != OUT_BUILD)
		return 0;
	entry_name(o, e, name);
	err = fs_getattr(o->hv, e->b_ino, &b);
	if (err)
		return err;
	moved = S_ISDIR(b.mode) && !(d->flags & FS_DELTA_NEW);
	out_tmp_name(tmp, e->b_ino, S_ISDIR(b.mode));
	err = out_open_dir(o, e->dir, true, &dirfd);
	if (err == -ENOENT)
		err = -EACCES; /* the directory could not be made */
	else if (!err && S_ISDIR(b.mode))
		err = install_dir(o, e, dirfd, name, tmp);
	else if (!err)
		err = install_file(o, e, dirfd, name, tmp, b.nlink);
	/* A directory that moves has all below it with it. */
	if (!moved && (err == 1 || out_is_refused(err))) {
		x->flags |= PLAIN_ABSENT;
		o->r.unlike++;
		out_note(o, e->dir, name, "cannot be made by this user here");
		return 0;
	}
	if (err)
		return out_failed(o, e->dir, name, err, "cannot write");
	o->r.changed++;
	return 0;
}

/* --- contents and attributes in place --- */

/* It was edited since it was looked at: the edit keeps the file, the name gets
 * another. */
static int patch_anew(struct plain_out *o, uint64_t ino)
{
	struct out_inode *x;
	int err = 0;

	(void)out_find(o, ino, &x);
	x->how = OUT_BUILD;
	for (size_t i = 0; i < o->d->nentries && !err; i++)
		if (o->d->entries[i].b_ino == ino)
			err = install_entry(o, &o->d->entries[i]);
	return err;
}

static int patch_open(struct plain_out *o, uint64_t ino, int fd, bool *ours)
{
	struct plain_stat was;
	struct out_inode *x;
	struct stat st;
	int err;

	(void)out_find(o, ino, &x);
	if (fstat(fd, &st))
		return -errno;
	*ours = x->checked && x->host_ino == st.st_ino;
	if (!*ours && !plain_get(o->fs, ino, &was))
		*ours = same_stat(&was, &st);
	if (!*ours && S_ISREG(st.st_mode)) {
		err = look_bytes(&o->look, fd, (uint64_t)st.st_size, o->sv,
				 o->again ? o->hv : NULL, ino, ours);
		if (err)
			return err;
	}
	if (!*ours)
		return 0;
	err = out_patch(o, ino, fd);
	if (!err)
		err = out_apply_attr(o, ino, fd, &x->flags);
	return err ? err : fsync(fd) ? -errno : 0;
}

static int patch(struct plain_out *o, uint64_t ino)
{
	bool ours = false;
	int err, fd;

	pace();
	err = out_open_object(o, ino, O_RDWR | O_NONBLOCK, &fd);
	if (!err) {
		err = patch_open(o, ino, fd, &ours);
		close(fd);
	} else if (err == -ENOENT || err == -ELOOP || err == -EISDIR) {
		err = 0;
	}
	return err || ours ? err : patch_anew(o, ino);
}

static int patch_all(struct plain_out *o)
{
	int err = 0;

	for (size_t i = 0; i < o->d->ninodes && !err; i++) {
		if (o->inodes[i].how != OUT_PATCH)
			continue;
		err = patch(o, o->d->inodes[i].ino);
		if (err)
			return out_failed(o, FS_ROOT_INO, NULL, err,
					  "cannot write into a file below");
		o->r.changed++;
	}
	return err;
}

static int apply_one(struct plain_out *o, uint64_t ino, uint32_t *flags)
{
	int err, fd;

	err = out_open_object(o, ino, O_PATH, &fd);
	if (err == -ENOENT || err == -EXDEV)
		return 0; /* ABSENT, or another mount */
	if (!err) {
		err = out_apply_attr(o, ino, fd, flags);
		close(fd);
	}
	if (err)
		return out_failed(o, FS_ROOT_INO, NULL, err,
				  "cannot set attributes below");
	return 0;
}

/* Files that were made or written over have theirs. */
static bool wants_attr(const struct plain_out *o,
		       const struct fs_delta_inode *d,
		       const struct out_inode *x)
{
	return x->how == OUT_KEEP &&
	       (d->flags & (FS_DELTA_OWNER | FS_DELTA_MTIME) || o->again);
}

/* Directories last: their times change with what is in them. */
static int apply_all(struct plain_out *o, bool dirs)
{
	struct fs_attr a;
	int err = 0;

	for (size_t i = 0; i < o->d->ninodes && !err; i++) {
		const struct fs_delta_inode *d = &o->d->inodes[i];
		struct out_inode *x = &o->inodes[i];
		uint32_t flags = 0;

		if (d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN) ||
		    x->flags & PLAIN_ABSENT)
			continue;
		err = fs_getattr(o->hv, d->ino, &a);
		if (err || S_ISDIR(a.mode) != dirs ||
		    (!dirs && !wants_attr(o, d, x)))
			continue;
		err = apply_one(o, d->ino, &flags);
		x->flags |= flags;
		o->flush_all |= !(d->flags & FS_DELTA_LIST);
	}
	return err;
}

static int u64_cmp(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

/* Directories that did not change, but in which names were replaced. */
static int apply_touched(struct plain_out *o)
{
	uint64_t last = 0;
	struct fs_attr a;
	int err = 0;

	if (o->ntouched)
		qsort(o->touched, o->ntouched, sizeof(*o->touched), u64_cmp);
	for (size_t i = 0; i < o->ntouched && !err; i++) {
		uint64_t ino = o->touched[i];
		uint32_t flags = 0;

		if (ino == last || fs_delta_find(o->d, ino))
			continue;
		last = ino;
		err = fs_getattr(o->hv, ino, &a);
		if (!err)
			err = apply_one(o, ino, &flags);
		else if (err == -ENOENT)
			err = 0;
	}
	return err;
}

static int install(struct plain_out *o)
{
	int err = 0;

	forget_dir(o);
	o->installing = true;
	for (size_t i = 0; i < o->d->nentries && !err; i++)
		if (o->d->entries[i].b_ino)
			err = install_entry(o, &o->d->entries[i]);
	if (!err)
		err = patch_all(o);
	if (!err)
		err = apply_all(o, false);
	if (!err)
		err = apply_all(o, true);
	if (!err)
		err = apply_touched(o);
	if (!err)
		err = flush_dirs(o);
	return err;
}

/* --- record --- */

/* With what is held twice. */
static int note_stat(struct plain_out *o, uint64_t ino,
		     const struct plain_stat *p)
{
	struct plain_stat was;
	int err = plain_get(o->fs, ino, &was);

	if (!err)
		plain_count(o->fs, &was, -1);
	if (err < 0)
		return err;
	if (!p)
		return plain_del(o->fs, ino);
	plain_count(o->fs, p, 1);
	return plain_put(o->fs, ino, p);
}

static int record_inode(struct plain_out *o, size_t i)
{
	const struct fs_delta_inode *d = &o->d->inodes[i];
	const struct out_inode *x = &o->inodes[i];
	struct plain_stat p = { 0 };
	uint32_t flags = x->flags;
	struct stat st;
	int err, fd;

	pace();
	if (x->left) {
		err = plain_get(o->fs, d->ino, &p);
		p.flags |= PLAIN_LEFT;
		return err ? 0 : plain_put(o->fs, d->ino, &p);
	}
	if (d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN))
		return note_stat(o, d->ino, NULL);
	err = out_open_object(o, d->ino, O_PATH, &fd);
	if (err == -ENOENT) {
		p.flags = PLAIN_ABSENT;
		return note_stat(o, d->ino, &p);
	}
	if (err == -EXDEV)
		return 0;
	if (err)
		return err;
	if (fstat(fd, &st))
		err = -errno;
	close(fd);
	if (!err && x->how == OUT_KEEP && !S_ISDIR(st.st_mode) &&
	    !wants_attr(o, d, x)) {
		/* It has the attributes that it had. */
		err = plain_get(o->fs, d->ino, &p);
		flags |= p.flags & PLAIN_UNLIKE;
		err = err == 1 ? 0 : err;
	}
	p = plain_of_stat(&st);
	p.flags = flags;
	o->r.unlike += p.flags & PLAIN_UNLIKE;
	return err ? err : note_stat(o, d->ino, &p);
}

static int record_entry(struct plain_out *o, const struct fs_delta_name *e)
{
	const char *name = o->d->names + e->name_off;
	struct out_inode *x = NULL;
	struct fs_attr a;
	int err;

	pace();
	if (e->b_ino) {
		err = fs_getattr(o->hv, e->b_ino, &a);
		return err ? err
			   : plain_put_name(o->fs, e->dir, name, e->name_len,
					    e->b_ino, a.mode);
	}
	(void)out_find(o, e->a_ino, &x);
	return x && x->left ? 0
			    : plain_del_name(o->fs, e->dir, name, e->name_len);
}

static int record(struct plain_out *o)
{
	int err = 0;

	for (size_t i = 0; i < o->d->ninodes && !err; i++)
		err = record_inode(o, i);
	for (size_t i = 0; i < o->d->nentries && !err; i++)
		err = record_entry(o, &o->d->entries[i]);
	o->target.phase = 0;
	if (!err)
		err = plain_put_state(o->fs, PLAIN_STATE_SHOWN, &o->target);
	if (!err)
		err = plain_del_state(o->fs, PLAIN_STATE_TARGET);
	if (!err)
		err = make_durable(o);
	if (!err)
		fs_shown_moved(o->fs);
	return err;
}

/* --- the run --- */

/* What the files should show: the last commit, or nothing. */
static int wanted_state(struct fs *fs, struct plain_state *out)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct root head;

	*out = (struct plain_state){ 0 };
	if (!info)
		return -ENOMEM;
	if (store_get_setting(fs->store, STORE_PLAIN)) {
		store_head(fs->store, &head, info);
		out->root = head.ptr;
		out->number = info->number;
		root_put(store_tree(fs->store), &head);
	}
	free(info);
	return 0;
}

/* The views that are made keep the states from being swept away. */
static int open_states(struct plain_out *o)
{
	unsigned int pin = store_pin(o->fs->store);
	int err;

	err = plain_get_state(o->fs, PLAIN_STATE_TARGET, &o->target);
	o->again = !err;
	if (err == 1)
		err = wanted_state(o->fs, &o->target);
	if (!err)
		err = plain_view(o->fs, PLAIN_STATE_SHOWN, &o->sv, &o->shown);
	if (err == 1)
		err = -EFSCORRUPTED;
	if (!err)
		err = fs_view_new(
			o->fs, &(struct root){ .ptr = o->target.root }, &o->hv);
	store_unpin(o->fs->store, pin);
	return err;
}

static int run(struct plain_out *o)
{
	int err;

	err = looker_init(&o->look, o->fs);
	/* The checkpoint that noted the phase may have failed: DIR is not
	 * touched before the store knows. */
	if (!err && o->again)
		err = make_durable(o);
	if (!err)
		err = out_open_folder(o, !o->again);
	if (!err)
		err = prepare(o);
	if (err && !o->again && !o->target.phase) {
		(void)out_close_folder(o); /* no space is held for nothing */
		return err;
	}
	if (!err && o->target.phase == PHASE_TAKE)
		err = take(o);
	if (!err)
		err = install(o);
	if (!err)
		err = record(o);
	/* Nothing in it counts any more. */
	return err ? err : out_close_folder(o);
}

static void release(struct plain_out *o)
{
	forget_dir(o);
	if (o->tmpfd >= 0)
		close(o->tmpfd);
	fs_view_put(o->sv);
	fs_view_put(o->hv);
	fs_delta_free(o->d);
	looker_release(&o->look);
	free(o->inodes);
	free(o->win);
	free(o->touched);
}

int plain_is_behind(struct fs *fs, bool *behind_out, uint64_t *number_out,
		    bool *half_out)
{
	struct plain_state shown, target, want;
	int err;

	err = plain_get_state(fs, PLAIN_STATE_SHOWN, &shown);
	if (!err)
		err = wanted_state(fs, &want);
	if (err)
		return err == 1 ? -EFSCORRUPTED : err;
	err = plain_get_state(fs, PLAIN_STATE_TARGET, &target);
	if (err < 0)
		return err;
	*half_out = !err;
	*number_out = shown.number;
	*behind_out = *half_out || !ptr_eq(&shown.root, &want.root);
	return 0;
}

/* One target; 1: there was nothing to do. */
static int sync_once(struct fs *fs, const struct plain_out_params *params,
		     struct plain_out_result *out, struct store_error *err_out,
		     bool *again_out)
{
	struct plain_out o = {
		.fs = fs, .p = params, .tmpfd = -1, .err = err_out
	};
	int err;

	err = open_states(&o);
	if (!err && !o.again && ptr_eq(&o.shown.root, &o.target.root)) {
		/* A run may have ended before it removed the folder, and before
		 * the store knew what it had recorded. */
		err = make_durable(&o);
		if (!err)
			err = out_close_folder(&o);
		err = err ? err : 1;
	} else if (!err) {
		err = run(&o);
	}
	*again_out = o.again && !err;
	out->changed += o.r.changed;
	out->kept += o.r.kept;
	out->unlike = o.r.unlike;
	if (err >= 0)
		out->number = o.target.number;
	release(&o);
	return err;
}

int plain_sync(struct fs *fs, const struct plain_out_params *params,
	       struct plain_out_result *out, struct store_error *err_out)
{
	bool again, any = false;
	int err;

	*out = (struct plain_out_result){ 0 };
	err_out->text[0] = '\0';
	do {
		err = sync_once(fs, params, out, err_out, &again);
		any |= !err;
	} while (again);
	if (err < 0 && !err_out->text[0])
		snprintf(err_out->text, sizeof(err_out->text), "%s",
			 strerror(-err));
	return err == 1 && any ? 0 : err;
}
