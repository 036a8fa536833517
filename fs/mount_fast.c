/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_fast.c - open=fast: the kernel opens files without asking us.
 *
 * It does so after one answer ENOSYS to OPEN, for all files of a connection,
 * for good. What .txn shows is made when it is opened, so .txn is mounted on a
 * connection of its own, and a link leads there. And nobody tells us any more
 * who has a file open: a node takes a file into use with the first request that
 * needs it, and one that loses its name keeps it until the kernel forgets the
 * node. fs/DESIGN.md 6.
 */
#include "fs/mount_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	FILES_MAX = 1024 /* in use by nodes; each flip looks at them */
};

/* --- files that nodes have in use; nodes_lock --- */

static void files_append(struct mount *m, struct knode *n)
{
	n->file_next = NULL;
	n->file_prev = m->files_end;
	if (n->file_prev)
		n->file_prev->file_next = n;
	else
		m->files = n;
	m->files_end = n;
	m->nfiles++;
}

static void files_remove(struct mount *m, struct knode *n)
{
	if (n->file_prev)
		n->file_prev->file_next = n->file_next;
	else
		m->files = n->file_next;
	if (n->file_next)
		n->file_next->file_prev = n->file_prev;
	else
		m->files_end = n->file_prev;
	m->nfiles--;
}

struct fs_file *node_take_file(struct mount *m, struct knode *n)
{
	struct fs_file *f = n->file;

	if (f && !n->file_kept)
		files_remove(m, n);
	n->file = NULL;
	return f;
}

/* Of the one that was not used for the longest time, when there are many. */
static struct fs_file *take_oldest(struct mount *m)
{
	struct knode *n;

	if (m->nfiles <= FILES_MAX)
		return NULL;
	while (m->files->file_used) {
		n = m->files;
		n->file_used = false;
		files_remove(m, n);
		files_append(m, n);
	}
	return node_take_file(m, m->files);
}

/* Takes over f, or puts it when the node has one meanwhile; keep: until the
 * kernel forgets the node. The node's file, in use once more. */
static struct fs_file *set_file(struct mount *m, struct knode *n,
				struct fs_file *f, bool keep)
{
	struct fs_file *old = NULL, *mine = f;

	pthread_mutex_lock(&m->nodes_lock);
	if (!n->file) {
		n->file = f;
		mine = NULL;
		n->file_kept = false;
		n->file_used = true; /* not the one that is taken */
		files_append(m, n);
		old = take_oldest(m);
	}
	n->file_used = true;
	if (keep && !n->file_kept) {
		files_remove(m, n);
		n->file_kept = true;
	}
	f = fs_file_get(n->file);
	pthread_mutex_unlock(&m->nodes_lock);
	fs_file_put(mine);
	fs_file_put(old);
	return f;
}

struct fs_file *peek_file(struct mount *m, struct knode *n,
			  const struct handle *h)
{
	struct fs_file *f = NULL;

	if (h)
		return h->f;
	if (!m->opt.fast)
		return NULL;
	pthread_mutex_lock(&m->nodes_lock);
	if (n->file) {
		n->file_used = true;
		f = fs_file_get(n->file);
	}
	pthread_mutex_unlock(&m->nodes_lock);
	return f;
}

static int open_file(struct mount *m, struct knode *n, bool keep,
		     struct fs_file **out)
{
	struct fs_file *f;
	bool was_stale;
	int err;

	do {
		was_stale = knode_is_stale(n);
		err = fs_file_open(knode_view(n), n->ino, &f);
		if (err)
			return err;
		/* A switch in between: this may be the file of that number
		 * in the new state. */
		if (was_stale || !knode_is_stale(n))
			break;
		fs_file_put(f);
	} while (true);
	*out = set_file(m, n, f, keep);
	return 0;
}

int get_file(struct mount *m, struct knode *n, const struct handle *h,
	     struct fs_file **out)
{
	*out = peek_file(m, n, h);
	return *out ? 0 : open_file(m, n, false, out);
}

void put_file(const struct handle *h, struct fs_file *f)
{
	if (!h)
		fs_file_put(f);
}

void node_set_file(struct mount *m, struct knode *n, struct fs_file *f,
		   bool keep)
{
	fs_file_put(set_file(m, n, f, keep));
}

void node_keep_named(struct mount *m, const struct knode *dir, const char *name)
{
	struct fs_file *f = NULL;
	struct fs_attr attr;
	struct knode *n;

	if (fs_lookup(knode_view(dir), dir->ino, name, strlen(name), &attr) ||
	    !S_ISREG(attr.mode))
		return;
	n = knode_hold(m, attr.ino);
	if (!n)
		return;
	/* Failing, whoever has it open gets errors once the name is gone. */
	if (!open_file(m, n, true, &f))
		fs_file_put(f);
	knode_forget(m, n, 1);
}

/* --- .txn on its own --- */

/* Where the folders for it are; free(). NULL: nowhere. */
static char *side_base(void)
{
	const char *run = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
	char *base;

	if (!run || *run != '/' || asprintf(&base, "%s/txnfs", run) < 0)
		return NULL;
	return base;
}

/* What daemons that were killed left there. */
static void side_sweep(const char *base)
{
	DIR *d = opendir(base);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		char *path;

		if (de->d_name[0] == '.' ||
		    asprintf(&path, "%s/%s", base, de->d_name) < 0)
			continue;
		if (dead_is_at(path) && !dead_detach(path))
			(void)rmdir(path);
		free(path);
	}
	if (d)
		closedir(d);
}

static int side_make_place(struct mount *m)
{
	char *base = side_base();
	struct stat st;
	int err = 0;

	if (!base)
		return complain(EXIT_FAILURE,
				"open=fast mounts .txn below the folder of "
				"XDG_RUNTIME_DIR, which is not set");
	if (mkdir(base, 0755) && errno != EEXIST)
		err = errno;
	/* Others must not be able to put another .txn there. */
	if (!err && lstat(base, &st))
		err = errno;
	if (!err && (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
		     st.st_mode & 022))
		err = EPERM;
	if (!err)
		side_sweep(base);
	if (!err && asprintf(&m->side_place, "%s/%.8s-XXXXXX", base,
			     store_uuid(m->store)) < 0) {
		m->side_place = NULL;
		err = ENOMEM;
	}
	if (!err && !mkdtemp(m->side_place)) {
		err = errno;
		free(m->side_place);
		m->side_place = NULL;
	}
	if (err)
		complain(0, "%s, a folder for .txn (open=fast): %s", base,
			 strerror(err));
	free(base);
	return err ? EXIT_FAILURE : 0;
}

static int copy_args(const struct fuse_args *args, struct fuse_args *copy)
{
	int err = 0;

	for (int i = 0; i < args->argc && !err; i++)
		err = fuse_opt_add_arg(copy, args->argv[i]);
	return err ? err : fuse_opt_add_arg(copy, "-osubtype=txnfs-ctl");
}

int side_mount(struct mount *m, const struct fuse_args *args)
{
	struct fuse_args copy = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops ops;
	int status = side_make_place(m);

	if (!status && copy_args(args, &copy))
		status = complain(EXIT_FAILURE, "%s", strerror(ENOMEM));
	if (!status) {
		mount_name_ops(&ops);
		mount_file_ops(&ops);
		m->side.root = &m->virt[NODE_TXN];
		m->side.se =
			fuse_session_new(&copy, &ops, sizeof(ops), &m->side);
		if (!m->side.se)
			status = complain(EXIT_USAGE,
					  "an option is not understood");
	}
	if (!status && fuse_session_mount(m->side.se, m->side_place))
		status = complain(EXIT_FAILURE, "cannot mount .txn at %s",
				  m->side_place);
	fuse_opt_free_args(&copy);
	return status;
}

static void side_lost(struct conn *c)
{
	const struct mount *m = c->m;

	env_logf(&c->m->env, ENV_ERROR,
		 "%s, where .txn of %s is, was unmounted: unmount and mount "
		 "that again to have it back",
		 m->side_place, m->mountpoint);
}

int side_start(struct mount *m)
{
	return m->side.se ? conn_start(&m->side, side_lost) : 0;
}

void side_release(struct mount *m)
{
	if (m->side.se) {
		fuse_session_unmount(m->side.se);
		fuse_session_destroy(m->side.se);
		m->side.se = NULL;
	}
	if (m->side_place)
		(void)rmdir(m->side_place);
	free(m->side_place);
	m->side_place = NULL;
}
