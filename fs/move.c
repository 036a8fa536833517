/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * move.c - DIR's files into a new store, without holding them twice; move.h.
 *
 *	make	an empty store as .txn.new, with the mark and `plain` off; the
 *		name .txn: from here on DIR is being moved
 *	walk	directories come into the view, everything with one name goes
 *		in batches (move_batch.c)
 *	last	files with several names, and those that somebody wrote to
 *	commit	@1; the plain directories are removed; the mark goes
 *
 * An interrupted run is the same once more: what is in DIR is walked, and known
 * again by the notes of the last batch. Directories are in DIR until the end;
 * in the view they keep the times of before anything was taken out.
 */
#include "fs/move_internal.h"

#include "fs/home.h"
#include "fs/hostdir.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	ITEMS_MAX = 2048, /* of a batch; each has a descriptor */
	ITEMS_PART = 4, /* or such a part of what may be open */
	SETS_FIRST = 1024
};

void move_note(struct move *m, const char *path, const char *why)
{
	if (m->p->note)
		m->p->note(m->p->arg, path, why);
}

/* --- what has to wait --- */

static struct move_set *set_place(struct move_set *t, size_t cap, uint64_t dev,
				  uint64_t host_ino)
{
	size_t i = (host_ino * 0x9e3779b97f4a7c15ull ^ dev) & (cap - 1);

	while (t[i].paths && (t[i].dev != dev || t[i].host_ino != host_ino))
		i = (i + 1) & (cap - 1);
	return &t[i];
}

static int sets_grow(struct move *m)
{
	size_t cap = m->sets_cap ? m->sets_cap * 2 : SETS_FIRST;
	struct move_set *t;

	if (m->nsets * 2 < m->sets_cap)
		return 0;
	t = calloc(cap, sizeof(*t));
	if (!t)
		return -ENOMEM;
	for (size_t i = 0; i < m->sets_cap; i++)
		if (m->sets[i].paths)
			*set_place(t, cap, m->sets[i].dev,
				   m->sets[i].host_ino) = m->sets[i];
	free(m->sets);
	m->sets = t;
	m->sets_cap = cap;
	return 0;
}

int move_put_off(struct move *m, const char *path, const struct stat *st)
{
	int err = sets_grow(m);
	struct move_set *s;
	bool first;
	char *copy;

	if (err)
		return err;
	s = set_place(m->sets, m->sets_cap, st->st_dev, st->st_ino);
	first = !s->paths;
	err = array_grow((void **)&s->paths, &s->cap, s->n + 1, sizeof(char *));
	if (err)
		return err;
	s->dev = st->st_dev;
	s->host_ino = st->st_ino;
	m->nsets += first;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	s->paths[s->n++] = copy;
	return 0;
}

static void sets_free(struct move *m)
{
	for (size_t i = 0; i < m->sets_cap; i++) {
		for (size_t k = 0; k < m->sets[i].n; k++)
			free(m->sets[i].paths[k]);
		free(m->sets[i].paths);
	}
	free(m->sets);
	m->sets = NULL;
	m->sets_cap = m->nsets = 0;
}

/* --- names of a directory, before any of them goes --- */

struct names {
	char **v;
	size_t n, cap;
};

static void names_free(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int names_read(int fd, bool root, struct names *l)
{
	DIR *d = hostdir_open(fd, ".");
	const char *name;
	int err = 0;

	if (!d)
		return -errno;
	while (!err && !(err = hostdir_next(d, &name)) && name) {
		if (root && plain_is_own(name))
			continue;
		err = array_grow((void **)&l->v, &l->cap, l->n + 1,
				 sizeof(char *));
		if (!err)
			l->v[l->n] = strdup(name);
		if (!err && !l->v[l->n++])
			err = -ENOMEM;
	}
	closedir(d);
	return err;
}

/* --- walking --- */

static int take_one(struct move *m, struct move_dir *d)
{
	struct move_name *n = calloc(1, sizeof(*n));
	const char *slash;

	if (!n)
		return -ENOMEM;
	n->path = strdup(m->r.path.s);
	if (!n->path) {
		free(n);
		return -ENOMEM;
	}
	slash = strrchr(n->path, '/');
	n->name = slash ? slash + 1 : n->path;
	n->dir = d;
	d->refs++;
	return move_take(m, n, 1);
}

/* The directory in the view: made, or as it was before an interruption, which
 * has the times of before. */
static int dir_into_view(struct move *m, struct move_dir *up, const char *name,
			 int fd, struct stat *st, uint64_t *ino_out)
{
	char as[FS_NAME_MAX + 1];
	struct fs_attr a;
	int err;

	err = fs_lookup(m->r.to, up->ino, name, strlen(name), &a);
	if (!err && S_ISDIR(a.mode)) {
		st->st_atim = plain_time(a.atime_ns);
		st->st_mtim = plain_time(a.mtime_ns);
		st->st_ctim = plain_time(a.ctime_ns);
		*ino_out = a.ino;
	} else if (!err || err == -ENOENT) {
		err = move_touch(m, up);
		if (!err)
			err = move_free_name(m, up->ino, m->r.path.s, name, as);
		if (!err)
			err = plain_reader_make(&m->r, up->ino, up->fd, name,
						as, st, ino_out);
		m->r.p.objects += !err;
	}
	return err ? err : plain_reader_attr(&m->r, fd, *ino_out, st);
}

static int walk_dir(struct move *m, struct move_dir *d);

static int enter_dir(struct move *m, struct move_dir *up, const char *name,
		     struct stat *st)
{
	struct move_dir *d = NULL;
	uint64_t ino = 0;
	struct fs_attr a;
	int err, fd;

	fd = plain_reader_open(up->fd, name, st);
	if (fd == -EXDEV) {
		/* Another mount: an empty directory in its place. */
		m->r.p.mounts++;
		if (!fs_lookup(m->r.to, up->ino, name, strlen(name), &a))
			return 0;
		err = move_touch(m, up);
		return err ? err
			   : plain_reader_make(&m->r, up->ino, up->fd, name,
					       name, st, &ino);
	}
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	err = fstat(fd, st) ? -errno : dir_into_view(m, up, name, fd, st, &ino);
	if (!err) {
		d = move_dir_new(fd, ino, st);
		err = d ? 0 : -ENOMEM;
	}
	if (!d) {
		close(fd);
		return err;
	}
	err = move_touch(m, d);
	if (!err)
		err = walk_dir(m, d);
	move_dir_put(d);
	return err;
}

static int walk_name(struct move *m, struct move_dir *d, const char *name)
{
	struct stat st;

	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return enter_dir(m, d, name, &st);
	/* Its other names may come later, or it is in log/ already. */
	if (st.st_nlink > 1)
		return move_put_off(m, m->r.path.s, &st);
	return take_one(m, d);
}

static int walk_dir(struct move *m, struct move_dir *d)
{
	struct names l = { 0 };
	size_t mark;
	int err;

	err = names_read(d->fd, d->ino == FS_ROOT_INO, &l);
	if (err)
		err = plain_reader_failed(&m->r, err, "cannot list");
	for (size_t i = 0; i < l.n && !err; i++) {
		err = path_push(&m->r.path, l.v[i], &mark);
		if (err)
			break;
		err = walk_name(m, d, l.v[i]);
		if (err && err != -ECANCELED)
			err = plain_reader_failed(&m->r, err,
						  "cannot move into the store");
		path_pop(&m->r.path, mark);
	}
	names_free(&l);
	return err;
}

static int walk_all(struct move *m)
{
	struct move_dir *root = NULL;
	struct fs_attr a;
	struct stat st;
	int err = 0, fd;

	fd = openat(m->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		err = -errno;
	if (!err && m->out->resumed) {
		err = fs_getattr(m->r.to, FS_ROOT_INO, &a);
		st.st_atim = plain_time(a.atime_ns);
		st.st_mtim = plain_time(a.mtime_ns);
		st.st_ctim = plain_time(a.ctime_ns);
	}
	if (!err)
		root = move_dir_new(fd, FS_ROOT_INO, &st);
	if (!root) {
		if (fd >= 0)
			close(fd);
		return err ? err : -ENOMEM;
	}
	err = plain_reader_attr(&m->r, fd, FS_ROOT_INO, &st);
	if (!err)
		err = move_touch(m, root);
	if (!err)
		err = walk_dir(m, root);
	if (!err)
		err = move_flush(m);
	move_dir_put(root);
	return err;
}

/* --- the last pass --- */

static int copy_parent(const char *path, char **out)
{
	const char *slash = strrchr(path, '/');

	*out = strndup(path, slash ? (size_t)(slash - path) : 0);
	return *out ? 0 : -ENOMEM;
}

/* The directory of a path, in DIR and in the view. */
static int find_dir(struct move *m, const char *path, struct move_dir **out)
{
	struct stat st = { 0 };
	struct fs_attr a;
	char *parent;
	int err, fd;

	*out = NULL;
	err = copy_parent(path, &parent);
	if (err)
		return err;
	err = fs_walk(m->r.to, parent, &a);
	/* Changed in this batch: its times are those of before. */
	for (size_t i = m->ndirs; i-- && !err && !*out;)
		if (m->dirs[i]->ino == a.ino) {
			*out = m->dirs[i];
			(*out)->refs++;
		}
	if (!err && !*out) {
		fd = *parent ? plain_open(m->dirfd, parent,
					  O_RDONLY | O_DIRECTORY)
			     : openat(m->dirfd, ".",
				      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		err = fd < 0 ? (*parent ? fd : -errno) : 0;
		st.st_atim = plain_time(a.atime_ns);
		st.st_mtim = plain_time(a.mtime_ns);
		st.st_ctim = plain_time(a.ctime_ns);
		if (!err)
			*out = move_dir_new(fd, a.ino, &st);
		if (!err && !*out) {
			close(fd);
			err = -ENOMEM;
		}
	}
	free(parent);
	return err;
}

/* A name that is still that file's, into v; else nothing. */
static int add_name(struct move *m, const struct move_set *s, char *path,
		    struct move_name *v, size_t *n)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	struct move_dir *d;
	struct stat st;
	int err;

	err = find_dir(m, path, &d);
	if (err == -ENOENT || err == -ENOTDIR || err == -EXDEV || err == -ELOOP)
		return 0;
	if (err)
		return err;
	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) ||
	    st.st_ino != s->host_ino || st.st_dev != s->dev) {
		move_dir_put(d);
		return 0;
	}
	v[*n].path = strdup(path);
	if (!v[*n].path) {
		move_dir_put(d);
		return -ENOMEM;
	}
	v[*n].name = v[*n].path + (name - path);
	v[(*n)++].dir = d;
	return 0;
}

static int take_set(struct move *m, const struct move_set *s)
{
	struct move_name *v = calloc(s->n, sizeof(*v));
	size_t n = 0, mark;
	int err = v ? 0 : -ENOMEM;

	for (size_t i = 0; i < s->n && !err; i++)
		err = add_name(m, s, s->paths[i], v, &n);
	if (!err)
		err = path_push(&m->r.path, s->paths[0], &mark);
	if (err || !n) {
		move_names_free(v, n);
		if (!err)
			path_pop(&m->r.path, mark);
		return err;
	}
	err = move_take(m, v, n);
	path_pop(&m->r.path, mark);
	return err;
}

static int take_sets(struct move *m)
{
	int err = 0;

	m->last_pass = true;
	for (size_t i = 0; i < m->sets_cap && !err; i++)
		if (m->sets[i].paths)
			err = take_set(m, &m->sets[i]);
	return err ? err : move_flush(m);
}

/* --- the end --- */

/* Directories that the store has, from the innermost on. Whatever else is there
 * stays. */
static int remove_dirs(struct move *m, int fd, uint64_t dir)
{
	struct names l = { 0 };
	int err = names_read(fd, dir == FS_ROOT_INO, &l);

	for (size_t i = 0; i < l.n && !err; i++) {
		struct fs_attr a;
		struct stat st;
		size_t mark;
		int sub;

		if (fstatat(fd, l.v[i], &st, AT_SYMLINK_NOFOLLOW))
			continue;
		err = path_push(&m->r.path, l.v[i], &mark);
		if (err)
			break;
		sub = -ENOTDIR;
		if (S_ISDIR(st.st_mode) &&
		    !fs_lookup(m->r.to, dir, l.v[i], strlen(l.v[i]), &a) &&
		    S_ISDIR(a.mode))
			sub = plain_open(fd, l.v[i], O_RDONLY | O_DIRECTORY);
		if (sub >= 0) {
			err = remove_dirs(m, sub, a.ino);
			close(sub);
		}
		if (!err && (sub < 0 || unlinkat(fd, l.v[i], AT_REMOVEDIR))) {
			m->out->left++;
			/* What is in it was told. */
			if (sub < 0 || (errno != ENOTEMPTY && errno != EEXIST))
				move_note(m, m->r.path.s, "stays in DIR");
		}
		path_pop(&m->r.path, mark);
	}
	names_free(&l);
	return err;
}

static int forget_notes(struct move *m)
{
	struct plain_stat p = { 0 };
	uint64_t ino = 0;
	int err = 0;

	while (!err) {
		err = plain_next_stat(m->fs, &ino, &p);
		if (!err)
			err = plain_del(m->fs, ino++);
	}
	return err == 1 ? 0 : err;
}

static bool has_commit(struct move *m)
{
	struct commit_info *info = calloc(1, sizeof(*info));
	struct root head;
	bool has;

	if (!info)
		return false; /* the commit will tell */
	store_head(m->store, &head, info);
	root_put(store_tree(m->store), &head);
	has = info->number;
	free(info);
	return has;
}

static int move_files(struct move *m)
{
	static const char message[] = "init";
	uint64_t number;
	int err = 0;

	/* What a crash left in log/ has its names in DIR; then the links of a
	 * file can be counted. */
	if (m->out->resumed)
		err = fs_gc(m->fs, NULL);
	if (!err && !has_commit(m)) {
		err = walk_all(m);
		if (!err)
			err = take_sets(m);
		if (!err && m->garbage)
			err = fs_gc(m->fs, NULL);
		if (!err)
			err = fs_commit(m->fs, getuid(), message,
					strlen(message), &number);
		err = err == 1 ? 0 : err;
	}
	if (!err)
		err = remove_dirs(m, m->dirfd, FS_ROOT_INO);
	/* No name may come back once the mark is gone. */
	if (!err && syncfs(m->dirfd))
		err = -errno;
	if (!err)
		err = forget_notes(m);
	if (!err)
		err = plain_put_mark(m->fs, 0);
	return err ? err : fs_checkpoint(m->fs);
}

/* --- the store --- */

static int make_marked(struct move *m)
{
	const struct catalog_change off = { .op = CATALOG_SET,
					    .setting = STORE_PLAIN,
					    .uid = getuid() };
	struct plain_state none = { 0 };
	int err;

	err = plain_put_state(m->fs, PLAIN_STATE_SHOWN, &none);
	if (!err)
		err = plain_put_mark(m->fs, PLAIN_MARK_MOVE);
	return err ? err
		   : store_change_catalog(m->store, store_working(m->store),
					  &off);
}

static int open_store(struct move *m, struct dev *dev)
{
	struct store_params sp = { .dev = dev,
				   .env = m->p->env,
				   .no_thread = m->p->no_thread,
				   .check_item = fs_check_item };
	uint32_t mark;
	int err;

	err = m->out->resumed ? store_open(&sp, &m->store, m->err)
			      : store_create(&sp, &m->store, m->err);
	if (!err)
		err = fs_open(m->store, NULL, &m->fs);
	if (!err)
		m->fs->whole_sweeps = true;
	if (!err && !m->out->resumed)
		return make_marked(m);
	if (!err)
		err = plain_get_mark(m->fs, &mark);
	if (!err && mark != PLAIN_MARK_MOVE)
		err = home_check_free(m->dirfd, m->p->dir, m->err);
	return err;
}

/* What is durable stays; after an error it is gone on with. Once the mark is
 * gone there is nothing to go on with: all is done. */
static int close_store(struct move *m, int err)
{
	const char *why = NULL;
	bool done = !err;

	if (err && m->store && store_failed(m->store, &why) && why &&
	    !m->err->text[0])
		snprintf(m->err->text, sizeof(m->err->text), "%s", why);
	if (err && m->fs)
		fs_abandon(m->fs);
	else if (m->fs)
		err = fs_close(m->fs);
	if (err && m->store)
		store_abandon(m->store);
	else if (m->store)
		err = store_close(m->store);
	return done ? 0 : err;
}

/* From here on DIR is being moved. */
static int show_store(struct move *m)
{
	if (renameat(m->dirfd, HOME_NEW_NAME, m->dirfd, ".txn") ||
	    fsync(m->dirfd))
		return -errno;
	return 0;
}

/* storefd -1: the store has no folder that is to be shown. */
static int run(struct move *m, struct dev *dev, int storefd)
{
	int err;

	err = open_store(m, dev);
	if (!err)
		err = plain_reader_init(&m->r, m->fs, fs_working(m->fs));
	if (!err && !m->out->resumed && storefd >= 0)
		err = show_store(m);
	if (!err)
		err = move_files(m);
	if (err && err != -ECANCELED)
		(void)plain_reader_failed(&m->r, err, "cannot be moved");
	move_batch_release(m);
	return close_store(m, err);
}

static int run_on_host(struct move *m, int storefd)
{
	struct dev *dev;
	struct stat st;
	int err;

	if (fstat(storefd, &st))
		return -errno;
	m->store_dev = st.st_dev;
	err = dev_host_new(storefd, false, &dev);
	if (err)
		return err;
	err = run(m, dev, storefd);
	dev->ops->release(dev);
	return err;
}

static int open_again(struct move *m, struct holder **holder, int *storefd)
{
	struct holder_info info;
	int err;

	err = home_open(m->dirfd, m->p->dir, storefd, m->err);
	if (err)
		return plain_reader_failed(&m->r, err, "cannot open .txn");
	err = holder_take(*storefd, false, "", 0, holder, &info);
	if (err)
		return plain_reader_failed(
			&m->r, err, ".txn is in use by process %ld", info.pid);
	return 0;
}

static size_t items_max(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl))
		return 1;
	return max_u64(min_u64(ITEMS_MAX, rl.rlim_cur / ITEMS_PART), 1);
}

static int begin(struct move *m, const struct move_params *params,
		 struct move_result *out, struct store_error *err_out)
{
	*m = (struct move){ .p = params,
			    .r = { .err = err_out,
				   .progress = params->progress,
				   .arg = params->arg,
				   .untracked = true },
			    .err = err_out,
			    .out = out,
			    .items_max = items_max() };
	*out = (struct move_result){ 0 };
	err_out->text[0] = '\0';
	m->dirfd = open(params->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return m->dirfd >= 0
		       ? 0
		       : plain_reader_failed(&m->r, -errno, "cannot open %s",
					     params->dir);
}

static void end(struct move *m)
{
	if (m->dirfd >= 0)
		close(m->dirfd);
	m->out->p = m->r.p;
	sets_free(m);
	free(m->items);
	free(m->dirs);
	plain_reader_release(&m->r);
}

int move_in(const struct move_params *params, struct move_result *out,
	    struct store_error *err_out)
{
	/* What a lease that is being broken sends. */
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;
	struct holder *holder = NULL;
	int storefd = -1, err;
	struct move m;

	err = begin(&m, params, out, err_out);
	if (err)
		return err;
	out->resumed = home_is_there(m.dirfd);
	if (out->resumed)
		err = open_again(&m, &holder, &storefd);
	else
		err = home_check_free(m.dirfd, params->dir, err_out);
	if (!err && !out->resumed)
		err = adopt_make_folder(&m.r, m.dirfd, &holder, &storefd);
	sigaction(SIGIO, &ignore, &old);
	if (!err)
		err = run_on_host(&m, storefd);
	sigaction(SIGIO, &old, NULL);
	if (err && storefd >= 0 && !out->resumed)
		(void)plain_remove_tree(m.dirfd, HOME_NEW_NAME);
	holder_release(holder);
	if (storefd >= 0)
		close(storefd);
	end(&m);
	return err;
}

int move_into(const struct move_params *params, struct dev *dev, bool resume,
	      struct move_result *out, struct store_error *err_out)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;
	struct stat st;
	struct move m;
	int err;

	err = begin(&m, params, out, err_out);
	if (err)
		return err;
	out->resumed = resume;
	err = fstat(m.dirfd, &st) ? -errno : 0;
	m.store_dev = st.st_dev;
	sigaction(SIGIO, &ignore, &old);
	if (!err)
		err = run(&m, dev, -1);
	sigaction(SIGIO, &old, NULL);
	end(&m);
	return err;
}
