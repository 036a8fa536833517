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

static void files_append(struct mount *m, struct knode_use *use)
{
	use->file_next = NULL;
	use->file_prev = m->files_end;
	if (use->file_prev)
		use->file_prev->file_next = use;
	else
		m->files = use;
	m->files_end = use;
	m->nfiles++;
}

static void files_remove(struct mount *m, struct knode_use *use)
{
	if (use->file_prev)
		use->file_prev->file_next = use->file_next;
	else
		m->files = use->file_next;
	if (use->file_next)
		use->file_next->file_prev = use->file_prev;
	else
		m->files_end = use->file_prev;
	m->nfiles--;
}

struct fs_file *node_take_file(struct mount *m, struct knode *n)
{
	struct fs_file *f = n->use ? n->use->file : NULL;

	if (!f)
		return NULL;
	if (!n->use->file_kept)
		files_remove(m, n->use);
	n->use->file = NULL;
	knode_unuse(n);
	return f;
}

/* Of the one that was not used for the longest time, when there are many. */
static struct fs_file *take_oldest(struct mount *m)
{
	struct knode_use *use;

	if (m->nfiles <= FILES_MAX)
		return NULL;
	while (m->files->file_used) {
		use = m->files;
		use->file_used = false;
		files_remove(m, use);
		files_append(m, use);
	}
	return node_take_file(m, m->files->node);
}

/* Takes over f, or puts it when the node has one meanwhile; keep: until the
 * kernel forgets the node. The node's file, in use once more. */
static int set_file(struct mount *m, struct knode *n, struct fs_file *f,
		    bool keep, struct fs_file **out)
{
	struct fs_file *old = NULL, *mine = f;
	struct knode_use *use;

	pthread_mutex_lock(&m->nodes_lock);
	use = knode_use(n);
	if (use && !use->file) {
		use->file = f;
		mine = NULL;
		use->file_kept = false;
		use->file_used = true; /* not the one that is taken */
		files_append(m, use);
		old = take_oldest(m);
	}
	if (use) {
		use->file_used = true;
		if (keep && !use->file_kept) {
			files_remove(m, use);
			use->file_kept = true;
		}
		*out = fs_file_get(use->file);
	}
	pthread_mutex_unlock(&m->nodes_lock);
	fs_file_put(mine);
	fs_file_put(old);
	return use ? 0 : -ENOMEM;
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
	if (n->use && n->use->file) {
		n->use->file_used = true;
		f = fs_file_get(n->use->file);
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

	for (;;) {
		was_stale = knode_is_stale(n);
		err = fs_file_open(knode_view(n), n->ino, &f);
		/* A switch in between: this may be the file of that number
		 * in the new state, or there is none. */
		if (was_stale || !knode_is_stale(n))
			break;
		if (!err)
			fs_file_put(f);
	}
	return err ? err : set_file(m, n, f, keep, out);
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

int node_set_file(struct mount *m, struct knode *n, struct fs_file *f,
		  bool keep)
{
	struct fs_file *again;
	int err = set_file(m, n, f, keep, &again);

	if (!err)
		fs_file_put(again);
	return err;
}

void node_keep_named(struct mount *m, const struct knode *dir, const char *name)
{
	struct fs_file *f = NULL;
	struct fs_attr attr;
	struct knode *n;

	if (fs_lookup(knode_view(dir), dir->ino, name, strlen(name), &attr) ||
	    !S_ISREG(attr.mode) || attr.nlink > 1)
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
		gate_ops(m, &ops);
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
