/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_in.c - edits of the plain files become staged changes. fs/DESIGN.md 8.
 *
 * The edits are made to a copy of the state that the files showed: that is
 * what they show now. When nothing was staged and no commit is missing from
 * the files, it becomes the working view as it is. Else each edit is grafted
 * into the working view; where that has changed the same path, the edit goes
 * beside it. One record makes all of it durable.
 */
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <unistd.h>

enum { SUFFIX_BYTES = 32, LOOKS_MAX = 16 };

struct edit {
	enum plain_difference what;
	char *path;
	uint64_t host_ino; /* of a removed one; 0: unknown */
	bool done; /* a removed one that was renamed, an added one */
	bool replaced; /* a changed one that is another object now */
};

struct importer {
	struct fs *fs;
	int dirfd;
	const struct plain_in_params *p;
	struct plain_in_result *out;
	struct store_error *err;
	struct plain_reader r;
	struct plain_state shown;
	struct root before; /* of the table */
	struct fs_view *sv; /* what the files showed */
	struct fs_view *ev; /* with the edits */
	struct fs_view *wv; /* the working state with them, when it differs */
	struct root edited, target;
	struct fs_delta *staged; /* sv to the working state */
	char *beside; /* what was put beside last, and under which number */
	unsigned int beside_n;
	struct edit *edits;
	size_t nedits, cap;
	size_t nfirst; /* of the first comparison */
	bool again; /* compare once more */
	unsigned int looks; /* because something went meanwhile */
};

static int add_edit(void *arg, enum plain_difference what, const char *path)
{
	struct importer *in = arg;
	int err;

	err = array_grow((void **)&in->edits, &in->cap, in->nedits + 1,
			 sizeof(*in->edits));
	if (err)
		return err;
	in->edits[in->nedits] =
		(struct edit){ .what = what, .path = strdup(path) };
	return in->edits[in->nedits++].path ? 0 : -ENOMEM;
}

static int failed(struct importer *in, const char *path, int err,
		  const char *what)
{
	char shown[256];

	if (in->err->text[0])
		return err;
	(void)fs_quote_path(path, shown, sizeof(shown));
	snprintf(in->err->text, sizeof(in->err->text), "%s: %s: %s", what,
		 shown, strerror(-err));
	return err;
}

static void tell(struct importer *in, const struct edit *e, const char *beside)
{
	if (in->p->edit)
		in->p->edit(in->p->arg, e->what, e->path, beside);
}

/* --- places --- */

/* The last component; the length of what is before it in *dir_len. */
static const char *base_name(const char *path, size_t *dir_len)
{
	const char *slash = strrchr(path, '/');

	*dir_len = slash ? (size_t)(slash - path) : 0;
	return slash ? slash + 1 : path;
}

static int walk_to_dir(struct fs_view *fv, const char *path, uint64_t *dir_out,
		       const char **name_out)
{
	struct fs_attr a;
	size_t len;
	char *dir;
	int err;

	*name_out = base_name(path, &len);
	dir = strndup(path, len);
	if (!dir)
		return -ENOMEM;
	err = fs_walk(fv, dir, &a);
	free(dir);
	*dir_out = a.ino;
	return err;
}

/* The plain directory that holds a path. */
static int open_plain_dir(struct importer *in, const char *path)
{
	size_t len;
	char *dir;
	int fd;

	(void)base_name(path, &len);
	dir = len ? strndup(path, len) : strdup(".");
	if (!dir)
		return -ENOMEM;
	fd = plain_open(in->dirfd, dir, O_RDONLY | O_DIRECTORY);
	free(dir);
	return fd;
}

/* --- the edits on top of what was shown --- */

/* What goes, to be taken out of the table. */
struct going {
	struct importer *in;
	uint64_t dir;
	uint64_t *inos;
	size_t n, cap;
};

static int note_going(void *arg, const struct fs_dirent *e)
{
	struct going *g = arg;
	uint64_t dir = g->dir;
	int err;

	err = array_grow((void **)&g->inos, &g->cap, g->n + 1,
			 sizeof(*g->inos));
	if (!err)
		err = plain_del_name(g->in->fs, dir, e->name, e->len);
	if (err)
		return err;
	g->inos[g->n++] = e->ino;
	if (!S_ISDIR(e->type))
		return 0;
	g->dir = e->ino;
	err = fs_readdir(g->in->ev, e->ino, 0, false, note_going, g);
	g->dir = dir;
	return err;
}

/* Those that have no name left. */
static int forget_gone(struct going *g)
{
	struct fs_attr a;
	int err = 0;

	for (size_t i = 0; i < g->n && !err; i++) {
		err = fs_getattr(g->in->ev, g->inos[i], &a);
		if (err == -ENOENT)
			err = plain_del(g->in->fs, g->inos[i]);
	}
	return err;
}

static int edit_removed(struct importer *in, const struct edit *e)
{
	struct going g = { .in = in };
	struct fs_dirent top = { 0 };
	const char *name;
	struct fs_attr a;
	int err;

	err = walk_to_dir(in->ev, e->path, &g.dir, &name);
	if (!err)
		err = fs_lookup(in->ev, g.dir, name, strlen(name), &a);
	if (err)
		return err;
	top.name = name;
	top.len = strlen(name);
	top.ino = a.ino;
	top.type = a.mode & S_IFMT;
	err = note_going(&g, &top);
	if (!err)
		err = fv_remove_tree(in->ev, g.dir, name, strlen(name), a.mode,
				     a.ino);
	if (!err)
		err = forget_gone(&g);
	free(g.inos);
	return err;
}

static int update_object(struct importer *in, uint64_t ino, int dirfd,
			 const char *name, struct stat *st)
{
	struct plain_stat was;
	int err, fd;

	err = plain_get(in->fs, ino, &was);
	if (err)
		return err == 1 ? -EFSCORRUPTED : err;
	fd = plain_reader_open(dirfd, name, st);
	if (fd < 0)
		return fd;
	err = plain_reader_update(&in->r, fd, ino, st, &was);
	close(fd);
	return err;
}

static int rename_edit(struct importer *in, struct edit *from, uint64_t dir,
		       const char *name, const struct fs_attr *a)
{
	struct fs_renamed moved;
	const char *old_name;
	uint64_t old_dir;
	int err;

	err = walk_to_dir(in->ev, from->path, &old_dir, &old_name);
	if (!err)
		err = fs_rename(in->ev, NULL, old_dir, old_name,
				strlen(old_name), dir, name, strlen(name),
				FS_RENAME_NOREPLACE, &moved);
	if (!err)
		err = plain_del_name(in->fs, old_dir, old_name,
				     strlen(old_name));
	if (!err)
		err = plain_put_name(in->fs, dir, name, strlen(name), a->ino,
				     a->mode);
	from->done = true;
	in->again = true;
	return err;
}

/* It was there under another name: what differs inside a directory is found by
 * comparing once more. */
static int find_renamed(struct importer *in, size_t first, uint64_t dir,
			int dirfd, const char *name, struct stat *st,
			bool *done)
{
	*done = false;
	/* Numbers are used again; only these can be brought up to date. */
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return 0;
	for (size_t i = first; i < in->nedits; i++) {
		struct edit *e = &in->edits[i];
		struct fs_attr a;
		int err;

		if (e->what != PLAIN_REMOVED || e->done ||
		    e->host_ino != st->st_ino || fs_walk(in->ev, e->path, &a) ||
		    (a.mode & S_IFMT) != (st->st_mode & S_IFMT))
			continue;
		*done = true;
		err = rename_edit(in, e, dir, name, &a);
		return err ? err : update_object(in, a.ino, dirfd, name, st);
	}
	return 0;
}

enum step { STEP_UPDATE, STEP_TAKE, STEP_ADD, STEP_LINK, STEP_REMOVE, STEPS };

/*
 * A file with several names comes last. What it is known by may have changed,
 * and be brought up to date when the directory that has another of its names
 * is looked into, which was renamed: until then it waits. One in an added
 * directory is found by the next comparison.
 */
static int edit_added(struct importer *in, size_t first, struct edit *e,
		      enum step step)
{
	const char *name;
	struct stat st;
	uint64_t dir;
	bool is_link;
	int err, fd;

	if (e->done)
		return 0;
	err = walk_to_dir(in->ev, e->path, &dir, &name);
	if (err)
		return err;
	fd = open_plain_dir(in, e->path);
	if (fd < 0)
		return fd;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
		err = -errno;
	is_link = !err && S_ISREG(st.st_mode) && st.st_nlink > 1;
	if (err || (is_link && step == STEP_ADD))
		goto out;
	err = find_renamed(in, first, dir, fd, name, &st, &e->done);
	if (err || e->done || (is_link && in->again))
		goto out;
	in->r.may_wait = !is_link;
	in->r.waiting = false;
	err = plain_reader_add(&in->r, dir, fd, name);
	in->again |= in->r.waiting;
	e->done = true;
out:
	close(fd);
	return err;
}

/* The name is another object's now: of another type, or one with links that is
 * not the file of before. A file that replaced one (as editors do) goes on as
 * that, with other contents. */
static bool is_replaced(const struct fs_attr *a, const struct plain_stat *was,
			const struct stat *st)
{
	if ((st->st_mode & S_IFMT) != (a->mode & S_IFMT))
		return true;
	if (S_ISDIR(a->mode))
		return false;
	return !S_ISREG(a->mode) || (st->st_ino != was->host_ino &&
				     (st->st_nlink > 1 || a->nlink > 1));
}

static int edit_changed(struct importer *in, struct edit *e)
{
	bool is_root = !*e->path;
	struct plain_stat was = { 0 };
	const char *name = ".";
	struct fs_attr a;
	struct stat st;
	uint64_t dir;
	int err, dirfd;

	err = fs_walk(in->ev, e->path, &a);
	if (!err)
		err = plain_get(in->fs, a.ino, &was);
	if (!err && !is_root)
		err = walk_to_dir(in->ev, e->path, &dir, &name);
	if (err)
		return err == 1 ? -EFSCORRUPTED : err;
	dirfd = open_plain_dir(in, e->path);
	if (dirfd < 0)
		return dirfd;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		err = -errno;
	if (!err && is_replaced(&a, &was, &st)) {
		e->replaced = true; /* when all that stayed is up to date */
	} else if (!err) {
		err = update_object(in, a.ino, dirfd, name, &st);
	}
	close(dirfd);
	return err;
}

/* What the removed ones were on the host. */
static int note_removed(struct importer *in, struct edit *e)
{
	struct plain_stat p = { 0 };
	struct fs_attr a;
	int err;

	err = fs_walk(in->ev, e->path, &a);
	if (!err)
		err = plain_get(in->fs, a.ino, &p);
	if (!err)
		e->host_ino = p.host_ino;
	return err == 1 ? 0 : err;
}

static int apply_edit(struct importer *in, size_t first, struct edit *e,
		      enum step step)
{
	switch (step) {
	case STEP_UPDATE:
		return e->what == PLAIN_CHANGED ? edit_changed(in, e) : 0;
	case STEP_TAKE:
		return e->replaced ? edit_removed(in, e) : 0;
	case STEP_ADD:
	case STEP_LINK:
		return e->replaced || e->what == PLAIN_ADDED
			       ? edit_added(in, first, e, step)
			       : 0;
	default:
		return e->what == PLAIN_REMOVED && !e->done
			       ? edit_removed(in, e)
			       : 0;
	}
}

static int staging(void *arg, const struct adopt_progress *p)
{
	const struct importer *in = arg;

	return in->p->staging ? in->p->staging(in->p->arg) : 0;
}

/* What was found is there no more: another comparison tells what is. Not for
 * ever: the store may be the one that lacks something. */
static bool went_meanwhile(struct importer *in, int err)
{
	if ((err != -ENOENT && err != -ENOTDIR && err != -ELOOP) ||
	    in->looks == LOOKS_MAX)
		return false;
	in->looks += !in->again;
	in->again = true;
	in->err->text[0] = '\0';
	return true;
}

/* Those of one comparison, from `first` on. */
static int apply_edits(struct importer *in, size_t first)
{
	int err = 0;

	for (size_t i = first; i < in->nedits && !err; i++)
		if (in->edits[i].what == PLAIN_REMOVED)
			err = note_removed(in, &in->edits[i]);
	/* What stays first: what comes may be a link to it. */
	for (enum step step = STEP_UPDATE; step < STEPS; step++)
		for (size_t i = first; i < in->nedits && !err; i++) {
			struct edit *e = &in->edits[i];

			if (in->p->staging && in->p->staging(in->p->arg))
				return -ECANCELED;
			err = apply_edit(in, first, e, step);
			if (went_meanwhile(in, err))
				err = 0;
			if (err)
				err = failed(in, e->path, err,
					     "cannot stage the edit of");
		}
	return err;
}

/* A directory's times, which names that came and went in the copy changed. */
static int copy_dir_times(struct importer *in, const char *path)
{
	struct fs_attr a, t = { 0 };
	struct stat st;
	int err, fd;

	err = fs_walk(in->ev, path, &a);
	if (err)
		return err == -ENOENT || err == -ENOTDIR ? 0 : err;
	fd = plain_open(in->dirfd, *path ? path : ".", O_PATH | O_DIRECTORY);
	if (fd < 0)
		return fd == -ENOTDIR || fd == -ENOENT || fd == -ELOOP ? 0 : fd;
	err = fstat(fd, &st) ? -errno : 0;
	close(fd);
	if (err || !S_ISDIR(a.mode))
		return err;
	t.mtime_ns = plain_ns(&st.st_mtim);
	t.ctime_ns = plain_ns(&st.st_ctim);
	return fs_setattr(in->ev, a.ino, FS_SET_MTIME | FS_SET_CTIME, &t, NULL);
}

static int copy_all_dir_times(struct importer *in)
{
	const char *last = NULL;
	size_t last_len = 0, len;
	int err = 0;

	for (size_t i = 0; i < in->nedits && !err; i++) {
		const char *path = in->edits[i].path;
		char *dir;

		if (in->edits[i].what == PLAIN_CHANGED)
			err = copy_dir_times(in, path);
		(void)base_name(path, &len);
		if (err ||
		    (last && len == last_len && !memcmp(path, last, len)))
			continue; /* the one before was in it, too */
		last = path;
		last_len = len;
		dir = strndup(path, len);
		err = dir ? copy_dir_times(in, dir) : -ENOMEM;
		free(dir);
	}
	return err;
}

static int progress(void *arg, uint64_t objects)
{
	const struct importer *in = arg;

	return in->p->progress(in->p->arg, objects);
}

static void compared_dir(void *arg, uint64_t ino, bool exact)
{
	const struct importer *in = arg;

	in->p->dir(in->p->arg, ino, exact);
}

static void not_compared(void *arg, const char *path, int err)
{
	(void)failed(arg, *path ? path : ".", err, "comparing with the store");
}

static int add_recent(void *arg, uint64_t ino)
{
	return plain_reader_add_recent(&((struct importer *)arg)->r, ino);
}

static int find_edits(struct importer *in, bool first)
{
	struct plain_compare_params cp = {
		.checksum = in->p->checksum,
		.fn = add_edit,
		.dir = first && in->p->dir ? compared_dir : NULL,
		.failed = not_compared,
		.recent = add_recent,
		.progress = in->p->progress ? progress : NULL,
		.arg = in
	};
	int err = plain_compare(in->fs, in->dirfd, &cp);

	if (!err && first && in->p->compared &&
	    in->p->compared(in->p->arg, in->nedits))
		err = -ECANCELED;
	return err;
}

/* The empty state has no DIR: what it is like now is no edit. */
static int take_root(struct importer *in)
{
	struct plain_stat p;
	struct stat st;
	int err;

	if (fstat(in->dirfd, &st))
		return -errno;
	p = plain_of_stat(&st);
	err = plain_reader_attr(&in->r, in->dirfd, FS_ROOT_INO, &st);
	return err ? err : plain_put(in->fs, FS_ROOT_INO, &p);
}

/* Also into what was renamed, which was not looked into, and for what took the
 * place of what went. */
static int collect(struct importer *in)
{
	size_t first;
	int err;

	do {
		first = in->nedits;
		in->again = false;
		err = find_edits(in, !first);
		if (err)
			return in->err->text[0]
				       ? err
				       : failed(in, ".", err,
						"comparing with the store");
		if (!first)
			in->nfirst = in->nedits;
		err = apply_edits(in, first);
	} while (!err && in->again);
	if (!err)
		err = copy_all_dir_times(in);
	if (!err)
		err = plain_reader_doubt_recent(&in->r);
	if (!err && !in->shown.root.pos && in->nedits)
		err = take_root(in);
	if (!err)
		err = fv_enter_all(in->ev, ENTER_WRITTEN);
	if (!err)
		view_freeze(in->ev->view, &in->edited);
	return err;
}

/* --- beside what is staged --- */

struct below {
	struct importer *in;
	bool touched;
};

static int is_touched(void *arg, const struct fs_dirent *ent)
{
	struct below *b = arg;

	b->touched = fs_delta_find(b->in->staged, ent->ino) != NULL;
	if (!b->touched && S_ISDIR(ent->type))
		return fs_readdir(b->in->wv, ent->ino, 0, false, is_touched, b);
	return b->touched;
}

/* Does the working state have something else at the path than what the files
 * showed? With all below it, when that goes. */
static int is_staged(struct importer *in, const struct edit *e, bool *staged)
{
	const struct fs_delta_inode *d;
	struct below b = { in, false };
	struct fs_attr s, w, now;
	int es = fs_walk(in->sv, e->path, &s);
	int ew = fs_walk(in->wv, e->path, &w);

	/* ENOTDIR: a file on the way to it. */
	*staged = (es != 0) != (ew != 0) || ew == -ENOTDIR;
	if ((es && es != -ENOENT && es != -ENOTDIR) ||
	    (ew && ew != -ENOENT && ew != -ENOTDIR))
		return es ? es : ew;
	if (es || ew)
		return 0;
	d = fs_delta_find(in->staged, w.ino);
	*staged = s.ino != w.ino ||
		  (d &&
		   d->flags & (S_ISDIR(w.mode) ? FS_DELTA_OWNER | FS_DELTA_MOVED
					       : ~0u));
	if (*staged || !S_ISDIR(w.mode) ||
	    (!fs_walk(in->ev, e->path, &now) && S_ISDIR(now.mode)))
		return 0;
	es = fs_readdir(in->wv, w.ino, 0, false, is_touched, &b);
	*staged = b.touched;
	return es < 0 ? es : 0;
}

/* What is staged stands in the way of a path: at its end, or before where it
 * has no directory. The length of the path up to there. */
static int find_conflict(struct importer *in, const char *path, size_t *len_out)
{
	struct fs_attr a;
	int err = 0;

	for (const char *s = strchr(path, '/'); s; s = strchr(s + 1, '/')) {
		char *dir = strndup(path, (size_t)(s - path));

		if (!dir)
			return -ENOMEM;
		err = fs_walk(in->wv, dir, &a);
		free(dir);
		if (err == -ENOENT)
			break;
		if (err)
			return err;
		if (!S_ISDIR(a.mode)) {
			*len_out = (size_t)(s - path);
			return 0;
		}
	}
	*len_out = strlen(path);
	return 0;
}

/* A free name for what is at the first len bytes of a path; *path_out is
 * allocated. One directory beside is for all that belongs into it. */
static int name_beside(struct importer *in, const char *path, size_t len,
		       char **path_out)
{
	bool again = in->beside && strlen(in->beside) == len && path[len] &&
		     !memcmp(in->beside, path, len);
	char *to = malloc(len + SUFFIX_BYTES + 1), *top = strndup(path, len);
	unsigned int n = again ? in->beside_n : 1;
	const char *name;
	struct fs_attr a;
	size_t dir_len;
	int err = to && top ? 0 : -ENOMEM;

	for (; !err; n++) {
		char suffix[SUFFIX_BYTES];
		int keep;

		name = base_name(top, &dir_len);
		snprintf(suffix, sizeof(suffix), "@offline-%u", n);
		keep = (int)min_u64(strlen(name), FS_NAME_MAX - strlen(suffix));
		snprintf(to, len + SUFFIX_BYTES + 1, "%.*s%s%.*s%s",
			 (int)dir_len, top, dir_len ? "/" : "", keep, name,
			 suffix);
		if (again)
			break;
		/* In neither: it is renamed in the one first. */
		err = fs_walk(in->wv, to, &a);
		if (err == -ENOENT || err == -ENOTDIR)
			err = fs_walk(in->ev, to, &a);
		if (err == -ENOENT || err == -ENOTDIR) {
			err = 0;
			break;
		}
	}
	if (!err) {
		free(in->beside);
		in->beside = top;
		in->beside_n = n;
		*path_out = to;
		return 0;
	}
	free(top);
	free(to);
	return err;
}

/* The edit under a free name beside what is staged: under its new name in a
 * state of its own, from where it comes. */
static int put_beside(struct importer *in, const struct edit *e)
{
	struct root root = root_get(&in->edited);
	char *to = NULL, *top = NULL, *path = NULL;
	struct fs_view *copy = NULL;
	struct fs_renamed moved;
	const char *name, *new_name;
	size_t dir_len, len = 0;
	uint64_t dir;
	int err;

	err = find_conflict(in, e->path, &len);
	if (!err)
		err = name_beside(in, e->path, len, &to);
	if (!err) {
		size_t size = strlen(to) + strlen(e->path + len) + 1;

		top = strndup(e->path, len);
		path = malloc(size);
		if (top && path)
			snprintf(path, size, "%s%s", to, e->path + len);
		else
			err = -ENOMEM;
	}
	if (!err)
		err = fv_new_private(in->fs, &root, &copy);
	if (!err)
		err = walk_to_dir(copy, top, &dir, &name);
	if (!err) {
		new_name = base_name(to, &dir_len);
		err = fs_rename(copy, NULL, dir, name, strlen(name), dir,
				new_name, strlen(new_name), 0, &moved);
	}
	if (!err)
		err = fv_graft(in->wv, copy, path);
	if (!err) {
		in->out->beside++;
		tell(in, e, path);
	}
	fs_view_put(copy);
	root_put(store_tree(in->fs->store), &root);
	free(to);
	free(top);
	free(path);
	return err;
}

static int merge_removed(struct importer *in, const struct edit *e)
{
	struct fs_attr a = { 0 };
	const char *name;
	uint64_t dir;
	int err;

	err = walk_to_dir(in->wv, e->path, &dir, &name);
	if (!err)
		err = fs_lookup(in->wv, dir, name, strlen(name), &a);
	if (!err)
		err = fv_remove_tree(in->wv, dir, name, strlen(name), a.mode,
				     a.ino);
	return err == -ENOENT || err == -ENOTDIR ? 0 : err;
}

/* Extended attributes of one view's object that the other's lacks go; the
 * others are copied. */
static int copy_xattrs(struct importer *in, uint64_t from, uint64_t to)
{
	char *names = in->r.look.list;
	uint8_t *value = in->r.look.value;
	size_t n = 0, len = 0;
	int err;

	err = fs_listxattr(in->wv, to, names, FS_XATTR_LIST_MAX, &n);
	for (const char *s = names; !err && s < names + n; s += strlen(s) + 1) {
		err = fs_getxattr(in->ev, from, s, value, FS_XATTR_VALUE_MAX,
				  &len);
		if (err == -ENODATA)
			err = fs_removexattr(in->wv, to, s);
	}
	if (!err)
		err = fs_listxattr(in->ev, from, names, FS_XATTR_LIST_MAX, &n);
	for (const char *s = names; !err && s < names + n; s += strlen(s) + 1) {
		err = fs_getxattr(in->ev, from, s, value, FS_XATTR_VALUE_MAX,
				  &len);
		if (!err)
			err = fs_setxattr(in->wv, to, s, value, len, 0);
	}
	return err;
}

/* Of a directory that both have: what is in it has edits of its own, or is
 * staged. */
static int copy_dir_attr(struct importer *in, const char *path,
			 const struct fs_attr *a)
{
	struct fs_attr w;
	int err = fs_walk(in->wv, path, &w);

	if (!err)
		err = copy_xattrs(in, a->ino, w.ino);
	return err ? err
		   : fs_setattr(in->wv, w.ino,
				FS_SET_MODE | FS_SET_UID | FS_SET_GID, a, NULL);
}

static int merge_edit(struct importer *in, const struct edit *e)
{
	struct fs_attr a;
	bool staged;
	int err;

	err = is_staged(in, e, &staged);
	if (err)
		return err;
	if (e->what == PLAIN_REMOVED) {
		if (!staged)
			err = merge_removed(in, e);
		if (!err)
			tell(in, e, staged ? "" : NULL);
		return err;
	}
	if (fs_walk(in->ev, e->path, &a))
		return 0; /* it was renamed after that */
	if (staged && S_ISDIR(a.mode) && e->what == PLAIN_CHANGED &&
	    !e->replaced)
		return 0; /* only its attributes; the staged ones win */
	if (staged)
		return put_beside(in, e);
	err = S_ISDIR(a.mode) && e->what == PLAIN_CHANGED && !e->replaced
		      ? copy_dir_attr(in, e->path, &a)
		      : fv_graft(in->wv, in->ev, e->path);
	if (!err)
		tell(in, e, NULL);
	return err;
}

/* Those of later comparisons lie in what was renamed, and came with it; or
 * somebody edits still. */
static int is_merged(struct importer *in, size_t i, bool *merged)
{
	const char *name, *path = in->edits[i].path;
	uint64_t was = 0, now = 0;
	int es, ee;

	*merged = false;
	if (i < in->nfirst || !*path)
		return 0;
	es = walk_to_dir(in->sv, path, &was, &name);
	ee = walk_to_dir(in->ev, path, &now, &name);
	*merged = es || ee || was != now;
	if (es && es != -ENOENT && es != -ENOTDIR)
		return es;
	for (size_t k = 0; k < in->nfirst && !*merged; k++)
		*merged = !strcmp(in->edits[k].path, path);
	return ee && ee != -ENOENT && ee != -ENOTDIR ? ee : 0;
}

/* Removed first: what was renamed keeps its number. */
static int merge(struct importer *in, const struct root *working)
{
	int err;

	err = fs_delta_new(in->fs, &(struct root){ .ptr = in->shown.root },
			   working, &in->staged);
	if (!err)
		err = fv_new_private(in->fs, working, &in->wv);
	for (int removed = 1; removed >= 0 && !err; removed--)
		for (size_t i = 0; i < in->nedits && !err; i++) {
			const struct edit *e = &in->edits[i];
			bool merged;

			if ((e->what == PLAIN_REMOVED) != removed)
				continue;
			err = is_merged(in, i, &merged);
			if (!err && !merged)
				err = merge_edit(in, e);
			if (err)
				err = failed(in, e->path, err,
					     "cannot stage the edit of");
		}
	if (!err)
		view_freeze(in->wv->view, &in->target);
	return err;
}

/* 1: not the same. The caller puts the working state. */
static int differs_from_working(struct fs *fs, const struct plain_state *shown,
				struct root *working)
{
	int err = fs_freeze(fs, working);

	return err ? err
		   : fs_delta_shows(fs, &(struct root){ .ptr = shown->root },
				    working);
}

int plain_shows_working(struct fs *fs, bool *same_out)
{
	struct root working = ROOT_EMPTY;
	struct plain_state shown;
	int err = plain_get_state(fs, PLAIN_STATE_SHOWN, &shown);

	if (err)
		return err == 1 ? -EFSCORRUPTED : err;
	err = differs_from_working(fs, &shown, &working);
	*same_out = !err;
	root_put(store_tree(fs->store), &working);
	return err == 1 ? 0 : err;
}

static int choose_target(struct importer *in)
{
	const struct tree *t = store_tree(in->fs->store);
	struct root working = ROOT_EMPTY;
	int err;

	err = differs_from_working(in->fs, &in->shown, &working);
	if (!err)
		in->target = root_get(&in->edited);
	else if (err > 0)
		err = merge(in, &working);
	root_put(t, &working);
	return err;
}

/* --- making it so --- */

/* As the leader of the queue: one record has the working view and the table. */
static int flip(void *arg, struct root *old_out)
{
	struct importer *in = arg;
	struct plain_state st = { 0 };
	int err;

	err = tree_write_out(store_tree(in->fs->store), &in->edited, NULL);
	st.root = in->edited.ptr;
	if (!err)
		err = plain_put_state(in->fs, PLAIN_STATE_SHOWN, &st);
	return err ? err
		   : fs_flip_anyhow(in->fs, &in->target, in->p->flipped,
				    in->p->arg, old_out);
}

static int import(struct importer *in)
{
	struct switch_req req = { .flip = flip, .arg = in };
	struct plain_state target;
	int err;

	err = plain_get_state(in->fs, PLAIN_STATE_TARGET, &target);
	if (err != 1)
		return err ? err : -EBUSY;
	err = plain_view(in->fs, PLAIN_STATE_SHOWN, &in->sv, &in->shown);
	if (!err)
		err = fv_new_private(in->fs,
				     &(struct root){ .ptr = in->shown.root },
				     &in->ev);
	if (!err && !in->shown.root.pos)
		err = fv_make_root(in->ev);
	if (!err)
		err = plain_reader_init(&in->r, in->fs, in->ev);
	if (err)
		return err == 1 ? -EFSCORRUPTED : err;
	in->r.err = in->err;
	in->r.from_table = true;
	in->r.progress = staging;
	in->r.arg = in;
	err = collect(in);
	if (err || !in->nedits)
		return err;
	err = choose_target(in);
	if (!err)
		err = store_switch(in->fs->store, in->fs->working->view, &req,
				   NULL);
	if (err)
		return err;
	in->out->edits = in->nedits;
	if (!in->wv)
		for (size_t i = 0; i < in->nedits; i++)
			tell(in, &in->edits[i], NULL);
	return 0;
}

/* With what could not be entered, when there was an error. */
static void drop_view(struct fs_view *fv)
{
	if (fv)
		fv_drop_all(fv);
	fs_view_put(fv);
}

/* A full host is not to be kept full by what did not come in. */
static void give_back(struct fs *fs)
{
	uint64_t flushed;

	if (!log_flush(fs->log, LOG_BULK, &flushed))
		(void)fs_gc(fs, NULL);
}

int plain_in(struct fs *fs, int dirfd, const struct plain_in_params *params,
	     struct plain_in_result *out, struct store_error *err_out)
{
	struct importer in = { .fs = fs,
			       .dirfd = dirfd,
			       .p = params,
			       .out = out,
			       .err = err_out };
	const struct tree *t = store_tree(fs->store);
	struct root dropped = ROOT_EMPTY;
	int err;

	*out = (struct plain_in_result){ 0 };
	err_out->text[0] = '\0';
	view_freeze(store_plain(fs->store), &in.before);
	fs_import_begin(fs);
	err = import(&in);
	fs_import_end(fs);
	if (err && !store_failed(fs->store, NULL)) {
		/* The table must not say that it has what is not staged. */
		int undo = view_flip(store_plain(fs->store), &in.before, NULL,
				     NULL, NULL, &dropped);

		ASSERT(!undo); /* nothing to apply, nothing to load */
		root_put(t, &dropped);
	}
	root_put(t, &in.before);
	root_put(t, &in.edited);
	root_put(t, &in.target);
	fs_delta_free(in.staged);
	free(in.beside);
	fs_view_put(in.sv);
	drop_view(in.ev);
	drop_view(in.wv);
	plain_reader_release(&in.r);
	for (size_t i = 0; i < in.nedits; i++)
		free(in.edits[i].path);
	free(in.edits);
	if (err == -ENOSPC)
		give_back(fs);
	return err;
}
