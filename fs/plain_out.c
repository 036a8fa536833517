/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_out.c - the plain directory is made to show another state. fs/DESIGN.md
 * 8. The run, with its first and its last step; plain_take.c and
 * plain_install.c are the two between.
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
	SLACK_PART = 8 /* or such a part of it, if that is less */
};

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
	size_t first = array_lower_bound(o->win, o->nwin, sizeof(*o->win),
					 offsetof(struct out_window, ino), ino);
	size_t n = 0;

	while (first + n < o->nwin && o->win[first + n].ino == ino)
		n++;
	return n;
}

/* All its names are in DIR: nobody else's copy (cp -al) is written over. And we
 * may: one that is read-only, or runs, is replaced. */
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
	err = out_open_object(o, ino, O_RDWR | O_NONBLOCK, &fd);
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
	o->flush_each = n <= OUT_FLUSH_EACH_MAX;
	for (size_t i = 0; i < o->d->ninodes && !err; i++) {
		if (o->inodes[i].how != OUT_BUILD)
			continue;
		err = out_build(o, o->d->inodes[i].ino);
		if (err < 0)
			return out_failed(o, o->d->inodes[i].ino, NULL, err,
					  "cannot make");
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

int out_enter_phase(struct plain_out *o, enum plain_phase phase)
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
	if (!err && o->again)
		err = out_settle_taken(o);
	if (err || o->again)
		return err;
	err = build_all(o);
	return err ? err : out_enter_phase(o, PHASE_TAKE);
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

/* Was it edited since it was looked at, made or given attributes? Then, or when
 * the host does not keep such times, the next comparison reads it, or finds
 * other attributes. */
static int doubt(struct plain_out *o, uint64_t ino, const struct out_inode *x,
		 struct plain_stat *p)
{
	struct fs_attr a;
	int err;

	err = fs_getattr(o->hv, ino, &a);
	if (err)
		return err;
	if (!S_ISDIR(p->mode) &&
	    (p->mtime_ns != a.mtime_ns || p->size != a.size ||
	     p->host_ino != x->given_ino))
		p->ctime_ns = 0;
	if ((p->mode & S_IFMT) != (a.mode & S_IFMT))
		p->mode = a.mode;
	if (p->flags & PLAIN_UNLIKE)
		return 0; /* it has others, and they are no edit */
	if (!S_ISLNK(a.mode))
		p->mode = a.mode;
	p->uid = a.uid;
	p->gid = a.gid;
	return 0;
}

/* What could not be made, or be put into its place. What has its name is noted
 * when it is what could not be replaced, and else is an edit. */
static int record_absent(struct plain_out *o, uint64_t ino,
			 const struct out_inode *x, bool below)
{
	struct plain_stat p = { .flags = PLAIN_ABSENT };
	struct stat st;
	int fd, err = below ? -ENOENT : out_open_object(o, ino, O_PATH, &fd);

	if (!err) {
		err = fstat(fd, &st) ? -errno : 0;
		close(fd);
		if (!err && (st.st_ino == x->given_ino ||
			     (x->stays && out_was_checked(x->stays, &st)))) {
			p = plain_of_stat(&st);
			p.flags = x->flags;
		}
	}
	if (err && !out_is_gone(err) && err != -EXDEV)
		return out_failed(o, ino, NULL, err, "cannot look at");
	o->r.unlike += p.flags & PLAIN_UNLIKE;
	return note_stat(o, ino, &p);
}

static int record_inode(struct plain_out *o, size_t i)
{
	const struct fs_delta_inode *d = &o->d->inodes[i];
	const struct out_inode *x = &o->inodes[i];
	struct plain_stat p = { 0 };
	uint32_t flags = x->flags;
	struct stat st;
	bool below;
	int err, fd;

	pace();
	if (x->left) {
		err = plain_get(o->fs, d->ino, &p);
		p.flags |= PLAIN_LEFT;
		return err ? 0 : plain_put(o->fs, d->ino, &p);
	}
	if (d->flags & (FS_DELTA_GONE | FS_DELTA_ORPHAN))
		return note_stat(o, d->ino, NULL);
	below = o->any_absent && out_is_below_absent(o, d->ino);
	if (below || flags & PLAIN_ABSENT)
		return record_absent(o, d->ino, x, below);
	err = out_open_object(o, d->ino, O_PATH, &fd);
	if (out_is_gone(err)) {
		/* Or somebody took it, which the next comparison tells. What
		 * keeps its contents was not given what changed, then; where
		 * there may be older contents it reads them. */
		err = plain_get(o->fs, d->ino, &p);
		if (err < 0)
			return err;
		if (!err && (S_ISDIR(p.mode) || out_wants_attr(o, d, x)))
			p.flags |= PLAIN_UNLIKE;
		if (!err && x->how != OUT_KEEP)
			p.ctime_ns = 0;
		return note_stat(o, d->ino, &p);
	}
	if (err == -EXDEV)
		return 0;
	if (err)
		return out_failed(o, d->ino, NULL, err, "cannot look at");
	if (fstat(fd, &st))
		err = -errno;
	close(fd);
	if (!err && x->how == OUT_KEEP && !S_ISDIR(st.st_mode) &&
	    !out_wants_attr(o, d, x)) {
		/* It has the attributes that it had. */
		err = plain_get(o->fs, d->ino, &p);
		flags |= p.flags & PLAIN_UNLIKE;
		err = err == 1 ? 0 : err;
	}
	p = plain_of_stat(&st);
	p.flags = flags;
	o->r.unlike += p.flags & PLAIN_UNLIKE;
	if (!err)
		err = doubt(o, d->ino, x, &p);
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
		err = out_take(o);
	if (!err)
		err = out_install(o);
	if (!err)
		err = record(o);
	/* Nothing in it counts any more. */
	return err ? err : out_close_folder(o);
}

static void release(struct plain_out *o)
{
	out_forget_dir(o);
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
	*behind_out = *half_out || !ptr_eq(&shown.root, &want.root);
	/* What edits made it has no number before it is committed. */
	*number_out = *behind_out ? shown.number : want.number;
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
