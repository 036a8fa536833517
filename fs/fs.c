/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs.c - a store presented as files: opening and closing, views, how every
 * operation reads and changes a view, objects left without a name, and the
 * telling of damage.
 */
#include "fs/fs_internal.h"

#include "txn/sum.h"

#include <unistd.h>

enum { VIEW_BUCKETS = 64 };

int array_grow(void **v, size_t *cap, size_t need, size_t size)
{
	size_t n = *cap ? *cap : 16;
	void *p;

	if (need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	p = realloc(*v, n * size);
	if (!p)
		return -ENOMEM;
	*v = p;
	*cap = n;
	return 0;
}

int64_t fs_now(struct fs *fs)
{
	return fs->env->now_ns(fs->env);
}

struct fs_view *fs_working(struct fs *fs)
{
	return fs->working;
}

/* --- operations --- */

void op_start(struct fs_view *fv, struct fs_op *op)
{
	op->fv = fv;
	op->now_ns = fs_now(fv->fs);
	op->ntouched = 0;
	op->gone.target = NULL;
}

static void drop_gone(struct fs_op *op)
{
	op->gone_ino = 0;
	free(op->gone.target);
	op->gone.target = NULL;
}

int op_run(struct vtx *tx, void *arg)
{
	struct fs_op *op = arg;

	op->ntouched = 0;
	drop_gone(op);
	return op->fn(tx, op);
}

void op_finish(void *arg)
{
	struct fs_op *op = arg;
	struct fs *fs = op->fv->fs;
	uint64_t now;
	bool tells;

	/* Entering shows nothing new: the write was counted. */
	if (op->fv->is_working && op->ntouched && !op->enters) {
		now = __atomic_add_fetch(&fs->clock, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&fs->op_clock, now, __ATOMIC_SEQ_CST);
		for (unsigned int i = 0; i < op->ntouched; i++)
			fs_track(fs, op->touched[i]);
	}
	/* What is still buffered counts: looked at before it is dropped. */
	tells = op->gone_ino && op->fv->is_working && fs->gone;
	if (tells)
		fv_show(op->fv, op->gone_ino, &op->gone_attr, &op->gone.attr);
	if (op->done)
		op->done(op);
	if (tells)
		fs->gone(fs->gone_arg, &op->gone);
}

static bool is_damage(int err)
{
	return err == -EFSCORRUPTED || err == -EFSBADCRC;
}

int fv_read(struct fs_view *fv, struct fs_op *op)
{
	int err;

	op_start(fv, op);
	err = view_read(fv->view, op_run, op);
	if (is_damage(err))
		fs_tell_damage(fv, op->ino, 0, err, "metadata");
	return err;
}

int fv_update(struct fs_view *fv, unsigned int flags, struct fs_op *op)
{
	int err;

	op_start(fv, op);
	err = view_update_beside(fv->view, flags, op->beside, op_run, op_finish,
				 op);
	if (err == -ENOSPC && fv->is_working && !flags && fs_find_space(fv->fs))
		err = view_update_beside(fv->view, flags, op->beside, op_run,
					 op_finish, op);
	drop_gone(op);
	if (is_damage(err))
		fs_tell_damage(fv, op->ino, 0, err, "metadata");
	return err;
}

/* True the first time that this place is met. */
static bool told_first(struct fs *fs, uint64_t what)
{
	bool first = true;

	pthread_mutex_lock(&fs->told_lock);
	for (unsigned int i = 0; i < TOLD_MAX && i < fs->ntold; i++)
		if (fs->told[i] == what)
			first = false;
	if (first)
		fs->told[fs->ntold++ % TOLD_MAX] = what;
	pthread_mutex_unlock(&fs->told_lock);
	return first;
}

void fs_tell_damage(struct fs_view *fv, uint64_t ino, uint64_t pos, int err,
		    const char *what)
{
	struct fs *fs = fv->fs;
	uint64_t place[2] = { ino, pos };
	char *path = NULL;
	char quoted[512];

	if (!told_first(fs, XXH3_64bits(place, sizeof(place))))
		return;
	if (fs_path(fv, ino, &path))
		path = NULL;
	(void)fs_quote_path(path ? path : "?", quoted, sizeof(quoted));
	env_logf(fs->env, ENV_ERROR,
		 "damage: %s of inode %llu (%s), log position %#llx: %s", what,
		 (unsigned long long)ino, quoted, (unsigned long long)pos,
		 err == -EFSBADCRC ? "checksum does not match"
				   : "impossible contents");
	free(path);
}

/* --- views --- */

/* A view of which fv becomes the owner (working: the store stays it). */
static int fv_new(struct fs *fs, struct view *view, bool working,
		  struct fs_view **out)
{
	struct fs_view *fv;

	fv = calloc(1, sizeof(*fv));
	if (!fv)
		return -ENOMEM;
	fv->buckets = calloc(VIEW_BUCKETS, sizeof(struct fs_file *));
	if (!fv->buckets) {
		free(fv);
		return -ENOMEM;
	}
	fv->nbuckets = VIEW_BUCKETS;
	fv->fs = fs;
	fv->view = view;
	fv->is_working = working;
	fv->refs = 1;
	pthread_mutex_init(&fv->files_lock, NULL);
	*out = fv;
	return 0;
}

static int new_view(struct fs *fs, const struct root *root, bool read_only,
		    struct fs_view **out)
{
	struct view *view = NULL;
	int err;

	err = view_new(fs->store, store_new_view_id(fs->store), root, read_only,
		       &view);
	if (err)
		return err;
	err = fv_new(fs, view, false, out);
	if (err)
		view_free(view);
	return err;
}

int fs_view_new(struct fs *fs, const struct root *root, struct fs_view **out)
{
	return new_view(fs, root, true, out);
}

int fv_new_private(struct fs *fs, const struct root *root, struct fs_view **out)
{
	return new_view(fs, root, false, out);
}

struct fs_view *fs_view_get(struct fs_view *fv)
{
	if (!fv->is_working)
		__atomic_add_fetch(&fv->refs, 1, __ATOMIC_RELAXED);
	return fv;
}

static void fv_free(struct fs_view *fv)
{
	pthread_mutex_destroy(&fv->files_lock);
	free(fv->buckets);
	free(fv);
}

void fs_view_put(struct fs_view *fv)
{
	if (!fv || fv->is_working)
		return;
	if (__atomic_sub_fetch(&fv->refs, 1, __ATOMIC_ACQ_REL))
		return;
	ASSERT(!fv->nfiles);
	view_free(fv->view);
	fv_free(fv);
}

bool fs_view_is_read_only(const struct fs_view *fv)
{
	return view_is_read_only(fv->view) || store_is_read_only(fv->fs->store);
}

bool fs_view_is_working(const struct fs_view *fv)
{
	return fv->is_working;
}

uint64_t fs_view_id(const struct fs_view *fv)
{
	return view_id(fv->view);
}

/* --- objects without a name --- */

struct orphan_op {
	struct fs_op op;
	uint64_t from; /* in: where to look; out: the next one found */
	uint64_t ino;
	bool sweep; /* leave those that are in use */
};

static int orphan_next(struct vtx *tx, void *arg)
{
	struct orphan_op *o = arg;
	struct key from = KEY(ITEM_OBJ_ORPHANS, ITEM_KIND_ORPHAN, o->from);
	struct key to = KEY(ITEM_OBJ_ORPHANS, ITEM_KIND_ORPHAN, UINT64_MAX);
	struct key key;
	struct val val;
	int err;

	err = vtx_next(tx, &from, &to, &key, &val);
	if (!err)
		o->ino = key.off;
	return err;
}

static int orphan_del(struct vtx *tx, void *arg)
{
	struct orphan_op *o = arg;
	struct key key = KEY(ITEM_OBJ_ORPHANS, ITEM_KIND_ORPHAN, o->ino);
	struct item_attr a;
	struct val val;
	int err;

	if (o->sweep && file_is_used(o->op.fv, o->ino))
		return 0;
	/* A link may have given it a name again. */
	err = vtx_get(tx, &key, &val);
	if (err)
		return err == 1 ? 0 : err;
	err = vtx_del(tx, &key);
	if (!err)
		err = tx_get_attr(tx, o->ino, &a);
	if (err)
		return err == -ENOENT ? -EFSCORRUPTED : err;
	return tx_del_object(tx, &o->op, o->ino, &a);
}

static void orphan_deleted(void *arg)
{
	struct orphan_op *o = arg;
	struct fs_file *f;

	if (!o->op.ntouched)
		return;
	f = file_peek(o->op.fv, o->ino);
	if (f) {
		f->gone = true;
		file_discard(f);
	}
}

int orphan_remove(struct fs_file *f)
{
	struct orphan_op o = {
		.op = { .fn = orphan_del,
			.done = orphan_deleted,
			.ino = f->ino },
		.ino = f->ino,
	};
	struct fs_view *fv = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE);

	if (fs_view_is_read_only(fv))
		return 0;
	return fv_update(fv, VIEW_PRIVILEGED, &o.op);
}

int orphans_remove(struct fs *fs)
{
	struct orphan_op o = { .sweep = true };
	int err;

	for (;;) {
		o.op = (struct fs_op){ .fn = orphan_next };
		err = fv_read(fs->working, &o.op);
		if (err)
			return err == 1 ? 0 : err;
		o.op = (struct fs_op){ .fn = orphan_del,
				       .done = orphan_deleted,
				       .ino = o.ino };
		err = fv_update(fs->working, VIEW_PRIVILEGED, &o.op);
		/* On a full host a later mount removes them. */
		if (err)
			return err == -ENOSPC ? 0 : err;
		if (o.ino == UINT64_MAX)
			return 0;
		o.from = o.ino + 1;
	}
}

/* --- open and close --- */

static int make_root(struct vtx *tx, void *arg)
{
	struct fs_op *op = arg;
	struct item_attr a;
	int err;

	err = tx_get_attr(tx, FS_ROOT_INO, &a);
	if (err != -ENOENT)
		return err;
	a = (struct item_attr){
		.mode = S_IFDIR | 0755,
		.nlink = 2,
		.uid = geteuid(),
		.gid = getegid(),
		.atime_ns = op->now_ns,
		.mtime_ns = op->now_ns,
		.ctime_ns = op->now_ns,
		.btime_ns = op->now_ns,
	};
	return tx_put_attr(tx, op, FS_ROOT_INO, &a);
}

int fv_make_root(struct fs_view *fv)
{
	struct fs_op op = { .fn = make_root, .ino = FS_ROOT_INO };

	/* Also for a mount on a full host, where it is compared with. */
	return fv_update(fv, VIEW_FINISHES, &op);
}

/* As far as anybody can see. What cannot be read is taken for another. */
static bool working_shows(struct fs *fs, const struct root *head)
{
	struct root working;
	bool same;

	view_freeze(fs->working->view, &working);
	same = !fs_delta_shows(fs, head, &working);
	root_put(store_tree(fs->store), &working);
	return same;
}

static void fs_init(struct fs *fs, struct store *store,
		    const struct fs_params *params)
{
	const char *uuid = store_uuid(store);

	fs->store = store;
	fs->env = store_env(store);
	fs->log = store_log(store);
	fs->buffer_bytes = params && params->buffer_bytes
				   ? params->buffer_bytes
				   : BUFFER_DEFAULT_BYTES;
	if (params) {
		fs->gone = params->gone;
		fs->gone_arg = params->gone_arg;
		fs->before_sweep = params->before_sweep;
		fs->before_sweep_arg = params->before_sweep_arg;
	}
	fs->packs = store_format_version(store) >= STORE_FORMAT_PACKED;
	fs->name_seed = XXH3_64bits(uuid, strlen(uuid));
	fs->hash_mask = UINT64_MAX;
	fs->clock = 1;
	pthread_mutex_init(&fs->track_lock, NULL);
	pthread_mutex_init(&fs->park_lock, NULL);
	pthread_cond_init(&fs->park_cond, NULL);
	pthread_mutex_init(&fs->told_lock, NULL);
	rwlock_init(&fs->copy_lock);
	fs->plain_bytes = -1;
	fs->moved_at = UINT64_MAX;
	pthread_mutex_init(&fs->thread_lock, NULL);
	fs_thread_init(fs);
}

void fs_open_error(struct store *store, int err, struct store_error *text)
{
	snprintf(text->text, sizeof(text->text), "%s%s",
		 is_damage(err) ? "damage: the root directory cannot be read: "
				: "",
		 strerror(-err));
	if (is_damage(err))
		store_suggest(store, text);
}

static int check_root(struct fs *fs)
{
	struct fs_attr attr;
	int err = fs_getattr(fs->working, FS_ROOT_INO, &attr);

	return err == -ENOENT || (!err && !S_ISDIR(attr.mode)) ? -EFSCORRUPTED
							       : err;
}

int fs_open(struct store *store, const struct fs_params *params,
	    struct fs **fs_out)
{
	struct commit_info *info = NULL;
	struct root head = ROOT_EMPTY;
	struct fs *fs;
	int err;

	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	fs_init(fs, store, params);
	err = fv_new(fs, store_working(store), true, &fs->working);
	info = malloc(sizeof(*info));
	if (!err && !info)
		err = -ENOMEM;
	if (err)
		goto out;
	store_head(store, &head, info);
	if (info->number)
		err = check_root(fs);
	if (!err && !store_is_read_only(store)) {
		if (!info->number)
			err = fv_make_root(fs->working);
		if (!err)
			err = orphans_remove(fs);
	}
	if (!err && working_shows(fs, &head))
		fs->same_clock = fs->clock;
out:
	root_put(store_tree(fs->store), &head);
	free(info);
	if (err)
		fs_release(fs);
	else
		*fs_out = fs;
	return err;
}

void fs_release(struct fs *fs)
{
	if (!fs)
		return;
	fs_thread_stop(fs);
	if (fs->working) {
		fv_drop_all(fs->working);
		fv_free(fs->working);
	}
	pthread_mutex_destroy(&fs->track_lock);
	pthread_mutex_destroy(&fs->park_lock);
	pthread_cond_destroy(&fs->park_cond);
	pthread_mutex_destroy(&fs->told_lock);
	rwlock_destroy(&fs->copy_lock);
	pthread_mutex_destroy(&fs->thread_lock);
	pthread_cond_destroy(&fs->thread_cond);
	pthread_cond_destroy(&fs->sweep_cond);
	pthread_cond_destroy(&fs->space_cond);
	free(fs->track);
	free(fs);
}

void fs_abandon(struct fs *fs)
{
	fs_release(fs);
}

int fs_close(struct fs *fs)
{
	int err = 0;

	if (!fs)
		return 0;
	fs_thread_stop(fs);
	if (!store_is_read_only(fs->store))
		err = fv_enter_all(fs->working, ENTER_WRITTEN);
	fs_release(fs);
	return err;
}
