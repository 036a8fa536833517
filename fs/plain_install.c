/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_install.c - the third step of plain_out.c: everything in the folder for
 * objects on their way gets its name, large files are written over where they
 * differ, attributes.
 */
#include "fs/plain_internal.h"
#include "txn/pace.h"

#include <fcntl.h>
#include <unistd.h>

/* What somebody moves away each time is an error. */
enum { MOVED_TRIES = 8 };

/* Still the object that goes from the name, whatever its bytes are? */
static int is_old(struct plain_out *o, const struct fs_delta_name *e,
		  const struct stat *st, bool *old)
{
	struct plain_stat was = { 0 };
	int err = 0;

	*old = false;
	if (e->a_ino && e->a_ino != e->b_ino) {
		err = plain_get(o->fs, e->a_ino, &was);
		*old = !err && was.host_ino == st->st_ino;
	}
	return err < 0 ? err : 0;
}

/* Is it e->b_ino's object that is at the name? */
static int is_in_place(struct plain_out *o, const struct fs_delta_name *e,
		       int dirfd, const char *name, const char *tmp,
		       const struct stat *st, bool *done)
{
	struct out_inode *x;
	struct stat own;
	bool old;
	int err;

	*done = false;
	(void)out_find(o, e->b_ino, &x);
	if (!out_look_at(o->tmpfd, tmp, &own)) {
		*done = own.st_ino == st->st_ino && own.st_dev == st->st_dev;
		return 0;
	}
	if (!o->again)
		return 0;
	err = out_is_given(o, e->b_ino, st, done);
	if (err || *done)
		return err;
	/* It was put there before the interruption, and perhaps is half written
	 * over. */
	err = is_old(o, e, st, &old);
	if (!err && x && x->how == OUT_PATCH)
		err = out_is_ours(o, e->b_ino, dirfd, name, st, done);
	else if (!err && !old)
		err = look_contents(&o->look, dirfd, name, st, o->hv, NULL,
				    e->b_ino, done);
	return err;
}

/* What is at the name where e->b_ino's object belongs? *done: that object;
 * *ours: one that it may take the place of. Else nothing is there any more. */
static int make_way(struct plain_out *o, const struct fs_delta_name *e,
		    int dirfd, const char *name, const char *tmp, bool *done,
		    bool *ours)
{
	struct out_inode *x;
	struct stat st;
	int err;

	*done = *ours = false;
	err = out_look_at(dirfd, name, &st);
	if (err)
		return err == 1 ? 0 : err;
	err = is_in_place(o, e, dirfd, name, tmp, &st, done);
	if (err)
		return err;
	if (*done) {
		(void)out_find(o, e->b_ino, &x);
		x->given_ino = st.st_ino;
		return 0;
	}
	if (S_ISDIR(st.st_mode))
		return out_keep_aside(o, e->dir, dirfd, name);
	if (e->a_ino)
		err = out_is_ours(o, e->a_ino, dirfd, name, &st, ours);
	if (err)
		return err;
	return *ours ? 0 : out_keep_aside(o, e->dir, dirfd, name);
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
	if (!out_look_at(o->tmpfd, tmp, &st))
		return 0;
	o->flush_each = true;
	return out_build(o, ino);
}

/* 1: cannot be. -EEXIST: something is there by now. */
static int put_dir(struct plain_out *o, const struct fs_delta_name *e,
		   int dirfd, const char *name, const char *tmp)
{
	struct stat st, own;
	int err;

	err = out_look_at(dirfd, name, &st);
	if (!err && S_ISDIR(st.st_mode) &&
	    out_look_at(o->tmpfd, tmp, &own) == 1)
		return 0; /* before the interruption */
	/* It could not be removed when its files were moved. */
	if (!err && S_ISDIR(st.st_mode) && o->p->give &&
	    !unlinkat(o->tmpfd, tmp, AT_REMOVEDIR)) {
		out_forget_dir(o);
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
	out_forget_dir(o);
	err = out_open_dir(o, e->dir, true, &dirfd);
	if (!err && renameat2(o->tmpfd, tmp, dirfd, name, RENAME_NOREPLACE))
		err = -errno;
	out_forget_dir(o);
	return err;
}

static int install_dir(struct plain_out *o, const struct fs_delta_name *e,
		       const char *name, const char *tmp)
{
	int dirfd, err;

	do {
		err = out_open_dir(o, e->dir, true, &dirfd);
		if (!err)
			err = put_dir(o, e, dirfd, name, tmp);
	} while (err == -EEXIST);
	return err;
}

/* It comes in place of what is ours there, which is looked at again when nobody
 * finds it by that name any more. 1: nothing is there by now. */
static int exchange(struct plain_out *o, const struct fs_delta_name *e,
		    int dirfd, const char *name, const char *incoming)
{
	int err;

	if (renameat2(o->tmpfd, incoming, dirfd, name, RENAME_EXCHANGE)) {
		if (errno != EINVAL)
			return errno == ENOENT ? 1 : -errno;
		/* This host cannot. */
		return renameat(o->tmpfd, incoming, dirfd, name) ? -errno : 0;
	}
	err = out_drop_taken(o, incoming, e->a_ino);
	return err == 1 ? out_keep_from(o, o->tmpfd, incoming, e->dir, dirfd,
					name)
			: err;
}

/* 1: something is there by now. */
static int put_at_free_name(struct plain_out *o, const char *from, int dirfd,
			    const char *name)
{
	if (!renameat2(o->tmpfd, from, dirfd, name, RENAME_NOREPLACE))
		return 0;
	return errno == EEXIST ? 1 : -errno;
}

/* 1: once more, since the name is not as it was looked at. An object stays in
 * the folder until it has its last name: what is interrupted is gone on with.
 */
static int give_name(struct plain_out *o, const struct fs_delta_name *e,
		     int dirfd, const char *name, const char *tmp,
		     bool only_name, bool ours)
{
	char incoming[OUT_TAKEN_BYTES];
	int err;

	if (only_name && !ours)
		return put_at_free_name(o, tmp, dirfd, name);
	out_taken_name(incoming, e->a_ino, e->b_ino);
	if (unlinkat(o->tmpfd, incoming, 0) && errno != ENOENT)
		return -errno;
	if (linkat(o->tmpfd, tmp, o->tmpfd, incoming, 0)) {
		if (!only_name)
			return -errno;
		/* No links here. */
		return renameat(o->tmpfd, tmp, dirfd, name) ? -errno : 0;
	}
	err = ours ? exchange(o, e, dirfd, name, incoming)
		   : put_at_free_name(o, incoming, dirfd, name);
	if (!err && only_name && unlinkat(o->tmpfd, tmp, 0))
		err = -errno;
	return err;
}

static int install_file(struct plain_out *o, const struct fs_delta_name *e,
			int dirfd, const char *name, const char *tmp,
			uint32_t nlink)
{
	struct out_inode *x;
	bool done, ours;
	struct stat st;
	int err;

	(void)out_find(o, e->b_ino, &x);
	for (;;) {
		err = make_way(o, e, dirfd, name, tmp, &done, &ours);
		if (err)
			return err;
		if (done)
			break;
		if (out_look_at(o->tmpfd, tmp, &st) == 1) {
			err = have_object(o, e->b_ino, tmp);
			if (err)
				return err;
			continue; /* that may have taken long */
		}
		x->given_ino = st.st_ino;
		err = give_name(o, e, dirfd, name, tmp, nlink == 1, ours);
		if (err <= 0)
			return err;
	}
	/* Or it is one name more than it should have. */
	if (nlink == 1 && unlinkat(o->tmpfd, tmp, 0) && errno != ENOENT)
		return -errno;
	return 0;
}

static int open_or_make_dir(struct plain_out *o, uint64_t ino, int *fd_out)
{
	int err = out_open_dir(o, ino, true, fd_out);

	if (!out_is_gone(err))
		return err;
	err = out_make_dir(o, ino);
	return err ? err : out_open_dir(o, ino, true, fd_out);
}

static int install_name(struct plain_out *o, const struct fs_delta_name *e,
			const char *name)
{
	const struct fs_delta_inode *d;
	char tmp[32];
	struct out_inode *x, *old;
	struct fs_attr b;
	unsigned int tries = MOVED_TRIES;
	bool moved;
	int dirfd, err;

	pace();
	d = out_find(o, e->b_ino, &x);
	if (!d)
		return -EFSCORRUPTED;
	if (e->a_ino == e->b_ino && x->how != OUT_BUILD)
		return 0;
	err = fs_getattr(o->hv, e->b_ino, &b);
	if (err)
		return err;
	moved = S_ISDIR(b.mode) && !(d->flags & FS_DELTA_NEW);
	out_tmp_name(tmp, e->b_ino, S_ISDIR(b.mode));
	for (;;) {
		err = open_or_make_dir(o, e->dir, &dirfd);
		if (!err && S_ISDIR(b.mode))
			err = install_dir(o, e, name, tmp);
		else if (!err)
			err = install_file(o, e, dirfd, name, tmp, b.nlink);
		if (!out_is_gone(err) || !--tries)
			break;
		/* Somebody moved the directory meanwhile, or what is on the
		 * way to it. */
		out_forget_dir(o);
	}
	/* A directory that moves has all below it with it. */
	if (!moved && (err == 1 || out_is_refused(err))) {
		o->err->text[0] = '\0';
		x->flags |= PLAIN_ABSENT;
		o->any_absent = true;
		(void)out_find(o, e->a_ino, &old);
		if (old)
			x->stays = old;
		o->r.unlike++;
		out_note(o, e->dir, name, "cannot be made by this user here");
		return 0;
	}
	if (err)
		return out_failed(o, e->dir, name, err, "cannot write");
	o->r.changed++;
	return 0;
}

static int install_entry(struct plain_out *o, const struct fs_delta_name *e)
{
	char name[FS_NAME_MAX + 1];

	out_entry_name(o, e, name);
	return install_name(o, e, name);
}

/* --- contents and attributes in place --- */

/* A file of which each name is looked at. */
struct renewed {
	struct plain_out *o;
	uint64_t ino;
	uint64_t host_ino; /* by the names so far; 0: none yet */
};

static int renew_name(void *arg, uint64_t dir, const char *name_, size_t len)
{
	const struct renewed *r = arg;
	const struct fs_delta_name e = { .dir = dir,
					 .a_ino = r->ino,
					 .b_ino = r->ino };
	char name[FS_NAME_MAX + 1];

	memcpy(name, name_, len);
	name[len] = '\0';
	return install_name(r->o, &e, name);
}

/* It was edited: the edit keeps the file, the names get another, which is made:
 * a link that was taken is that file, and not what the target says. */
static int renew(struct plain_out *o, uint64_t ino)
{
	struct renewed r = { .o = o, .ino = ino };
	struct out_inode *x;
	char tmp[32];
	int err;

	(void)out_find(o, ino, &x);
	x->how = OUT_BUILD;
	out_tmp_name(tmp, ino, false);
	if (unlinkat(o->tmpfd, tmp, 0) && errno != ENOENT)
		return -errno;
	/* First: without it a name with the same bytes is taken for done. */
	err = have_object(o, ino, tmp);
	return err < 0 ? err : fv_each_name(o->hv, ino, renew_name, &r);
}

/* 1: something else is at the name, or nothing; or another file than at those
 * before, which an interruption leaves. */
static int look_at_name(void *arg, uint64_t dir, const char *name_, size_t len)
{
	struct renewed *r = arg;
	char name[FS_NAME_MAX + 1];
	struct out_inode *x;
	bool ours = false;
	struct stat st;
	int dirfd, err;

	memcpy(name, name_, len);
	name[len] = '\0';
	err = out_open_dir(r->o, dir, false, &dirfd);
	if (err)
		return out_is_gone(err) ? 1 : out_is_refused(err) ? 0 : err;
	err = out_look_at(dirfd, name, &st);
	if (!err)
		err = out_is_ours(r->o, r->ino, dirfd, name, &st, &ours);
	if (err < 0)
		return out_failed(r->o, dir, name, err, "cannot read");
	if (ours && r->host_ino && r->host_ino != st.st_ino)
		ours = false;
	r->host_ino = st.st_ino;
	if (!ours)
		return 1;
	(void)out_find(r->o, r->ino, &x);
	x->given_ino = st.st_ino;
	return 0;
}

/* It could not be made then, and perhaps can be now. 1: so it is. */
static int was_absent(struct plain_out *o, uint64_t ino)
{
	struct plain_stat was;
	int err = plain_get(o->fs, ino, &was);

	return err ? (err == 1 ? 0 : err) : !!(was.flags & PLAIN_ABSENT);
}

/*
 * What keeps its contents may have been edited, too: it must not be noted as
 * what the target says.
 */
static int renew_edited(struct plain_out *o)
{
	struct fs_attr a;
	int err = 0;

	for (size_t i = 0; i < o->d->ninodes && !err; i++) {
		const struct fs_delta_inode *d = &o->d->inodes[i];
		struct renewed r = { .o = o, .ino = d->ino };

		pace();
		if (d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN) ||
		    o->inodes[i].how != OUT_KEEP ||
		    o->inodes[i].flags & PLAIN_ABSENT)
			continue;
		err = fs_getattr(o->hv, d->ino, &a);
		if (err || S_ISDIR(a.mode))
			continue;
		err = was_absent(o, d->ino);
		if (!err)
			err = fv_each_name(o->hv, d->ino, look_at_name, &r);
		if (err == 1)
			err = renew(o, d->ino);
	}
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
	*ours = out_was_checked(x, &st);
	if (!*ours && !plain_get(o->fs, ino, &was))
		*ours = out_same_stat(&was, &st);
	if (!*ours && S_ISREG(st.st_mode)) {
		err = look_bytes(&o->look, fd, (uint64_t)st.st_size, o->sv,
				 o->again ? o->hv : NULL, ino, ours);
		if (err)
			return err;
	}
	if (!*ours)
		return 0;
	x->given_ino = st.st_ino;
	err = out_patch(o, ino, fd);
	if (!err && fstat(fd, &st))
		err = -errno;
	if (!err)
		err = out_apply_attr(o, ino, fd, &st, &x->flags);
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
	} else if (out_is_gone(err) || out_is_refused(err) || err == -EISDIR ||
		   err == -ETXTBSY) {
		err = 0;
	}
	return err || ours ? err : renew(o, ino);
}

static int patch_all(struct plain_out *o)
{
	int err = 0;

	for (size_t i = 0; i < o->d->ninodes && !err; i++) {
		if (o->inodes[i].how != OUT_PATCH)
			continue;
		err = patch(o, o->d->inodes[i].ino);
		if (err)
			return out_failed(o, o->d->inodes[i].ino, NULL, err,
					  "cannot write into");
		o->r.changed++;
	}
	return err;
}

/* Not to what took a file's place since that was looked at, nor to what was
 * written into it: its times tell that. */
static int apply_open(struct plain_out *o, uint64_t ino, int fd,
		      uint32_t *flags)
{
	struct out_inode *x;
	struct fs_attr a;
	struct stat st;
	int err = fs_getattr(o->hv, ino, &a);

	(void)out_find(o, ino, &x);
	if (!err && fstat(fd, &st))
		err = -errno;
	if (err || (st.st_mode & S_IFMT) != (a.mode & S_IFMT))
		return err;
	if (S_ISDIR(st.st_mode) || !x || !x->checked || out_was_checked(x, &st))
		return out_apply_attr(o, ino, fd, &st, flags);
	if (st.st_ino == x->host_ino)
		*flags = PLAIN_UNLIKE;
	return 0;
}

static int apply_one(struct plain_out *o, uint64_t ino, uint32_t *flags)
{
	int err, fd;

	err = out_open_object(o, ino, O_PATH, &fd);
	if (out_is_gone(err) || err == -EXDEV)
		return 0; /* ABSENT, or another mount */
	if (!err) {
		err = apply_open(o, ino, fd, flags);
		close(fd);
	}
	if (err)
		return out_failed(o, ino, NULL, err,
				  "cannot set attributes of");
	return 0;
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
		    (!dirs && !out_wants_attr(o, d, x)))
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

/* What was moved into one that could not be put into its place would go with
 * the folder. */
static int moved_into_absent(struct plain_out *o)
{
	for (size_t i = 0; i < o->d->ninodes; i++) {
		const struct fs_delta_inode *d = &o->d->inodes[i];
		struct fs_attr a;
		int err;

		if (!(d->flags & FS_DELTA_MOVED) || d->flags & FS_DELTA_NEW)
			continue;
		err = fs_getattr(o->hv, d->ino, &a);
		if (err)
			return err;
		if (S_ISDIR(a.mode) && out_is_below_absent(o, d->ino))
			return out_failed(o, d->ino, NULL, -EPERM,
					  "cannot move");
	}
	return 0;
}

int out_install(struct plain_out *o)
{
	int err = 0;

	out_forget_dir(o);
	o->installing = true;
	for (size_t i = 0; i < o->d->nentries && !err; i++)
		if (o->d->entries[i].b_ino)
			err = install_entry(o, &o->d->entries[i]);
	if (!err && o->any_absent)
		err = moved_into_absent(o);
	if (!err)
		err = patch_all(o);
	if (!err)
		err = renew_edited(o);
	if (!err)
		err = apply_all(o, false);
	if (!err)
		err = apply_all(o, true);
	if (!err)
		err = apply_touched(o);
	if (!err)
		err = out_flush_dirs(o);
	return err;
}
