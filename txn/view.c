/* SPDX-License-Identifier: GPL-2.0-or-later */
/* view.c - see view.h. */
#include "txn/store_internal.h"

enum {
	/* What one update may dirty, asked for before it is accepted and taken
	 * while it is applied: the nodes on the paths of a few keys. Exact
	 * claims follow in tree_apply. */
	UPDATE_ROOM_BYTES = 32 * TREE_NODE_MAX,
	/* Nodes not yet written out, of all views; past this the updating
	 * thread makes a checkpoint itself. */
	DIRTY_NODES_MAX_BYTES = 128 << 20,
	LACKS_ROOM = -ENOBUFS /* from update_try() */
};


struct vtx {
	struct cursor cursor;
	struct batch batch;
	bool update;
};

int view_new(struct store *store, uint64_t id, const struct root *root,
	     bool read_only, struct view **view_out)
{
	struct view *v;

	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	rwlock_init(&v->lock);
	rwlock_init(&v->data_lock);
	v->store = store;
	v->id = id;
	v->read_only = read_only;
	v->root = root_get(root);
	v->gen = __atomic_add_fetch(&store->next_gen, 1, __ATOMIC_RELAXED);
	v->recorded = root->ptr;
	if (read_only) {
		pthread_mutex_lock(&store->views_lock);
		v->next = store->views;
		if (v->next)
			v->next->prev = v;
		store->views = v;
		pthread_mutex_unlock(&store->views_lock);
	}
	*view_out = v;
	return 0;
}

void view_free(struct view *v)
{
	if (!v)
		return;
	if (v->read_only) {
		pthread_mutex_lock(&v->store->views_lock);
		if (v->prev)
			v->prev->next = v->next;
		else
			v->store->views = v->next;
		if (v->next)
			v->next->prev = v->prev;
		pthread_mutex_unlock(&v->store->views_lock);
	}
	root_put(&v->store->tree, &v->root);
	rwlock_destroy(&v->data_lock);
	rwlock_destroy(&v->lock);
	free(v);
}

uint64_t view_id(const struct view *v)
{
	return v->id;
}

bool view_is_read_only(const struct view *v)
{
	return v->read_only;
}

/* beside: instead of all that is beside the tree, what this guards. */
static void lock_exclusive(struct view *v, pthread_mutex_t *beside)
{
	rwlock_lock_exclusive(&v->lock);
	if (beside)
		pthread_mutex_lock(beside);
	else
		rwlock_lock_exclusive(&v->data_lock);
}

static void unlock_exclusive(struct view *v, pthread_mutex_t *beside)
{
	if (beside)
		pthread_mutex_unlock(beside);
	else
		rwlock_unlock_exclusive(&v->data_lock);
	rwlock_unlock_exclusive(&v->lock);
}

uint64_t view_version(struct view *v)
{
	uint64_t version;

	rwlock_lock_shared(&v->lock);
	version = v->version;
	rwlock_unlock_shared(&v->lock);
	return version;
}

void view_lock_data(struct view *v)
{
	rwlock_lock_shared(&v->data_lock);
}

void view_unlock_data(struct view *v)
{
	rwlock_unlock_shared(&v->data_lock);
}

void view_lock_tree(struct view *v)
{
	rwlock_lock_exclusive(&v->lock);
}

void view_unlock_tree(struct view *v)
{
	rwlock_unlock_exclusive(&v->lock);
}

void view_lock_exclusive(struct view *v)
{
	lock_exclusive(v, NULL);
}

void view_unlock_exclusive(struct view *v)
{
	unlock_exclusive(v, NULL);
}

void view_adopt(struct view *v, const struct root *root)
{
	ASSERT(!v->root.node && !v->root.ptr.pos);
	pthread_mutex_lock(&v->store->views_lock);
	v->root = root_get(root);
	pthread_mutex_unlock(&v->store->views_lock);
}

int vtx_get(struct vtx *tx, const struct key *key, struct val *val_out)
{
	return tree_get(&tx->cursor, key, val_out);
}

int vtx_next(struct vtx *tx, const struct key *from, const struct key *to,
	     struct key *key_out, struct val *val_out)
{
	return tree_next(&tx->cursor, from, to, key_out, val_out);
}

int vtx_prev(struct vtx *tx, const struct key *from, const struct key *to,
	     struct key *key_out, struct val *val_out)
{
	return tree_prev(&tx->cursor, from, to, key_out, val_out);
}

int vtx_put(struct vtx *tx, const struct key *key, const void *val, size_t len)
{
	ASSERT(tx->update);
	return batch_put(&tx->batch, key, val, len);
}

int vtx_del(struct vtx *tx, const struct key *key)
{
	ASSERT(tx->update);
	return batch_del(&tx->batch, key);
}

int vtx_del_range(struct vtx *tx, const struct key *from, const struct key *to)
{
	ASSERT(tx->update);
	return batch_del_range(&tx->batch, from, to);
}

/* Was err the tree asking for a node? */
static bool is_miss(const struct vtx *tx, int err)
{
	return err == -EAGAIN && tx->cursor.miss.pos;
}

int view_read(struct view *v, view_fn fn, void *arg)
{
	struct vtx tx;
	unsigned int pin = store_pin(v->store);
	int err;

	tx.update = false;
	cursor_init(&tx.cursor, &v->store->tree, &v->root);
	for (;;) {
		rwlock_lock_shared(&v->lock);
		cursor_reset(&tx.cursor, &v->root);
		err = fn(&tx, arg);
		rwlock_unlock_shared(&v->lock);
		if (!is_miss(&tx, err))
			break;
		err = tree_load(&tx.cursor);
		if (err)
			break;
	}
	cursor_release(&tx.cursor);
	store_unpin(v->store, pin);
	return err;
}

/* How an update ends, in the same hold of the lock as its changes. */
struct update {
	view_fn fn;
	view_done_fn done;
	void *arg;
	pthread_mutex_t *beside; /* may be NULL: see lock_exclusive() */
	struct root *freeze_out; /* may be NULL: the state with the changes */
	const struct root *flip_to; /* may be NULL: then the view shows this */
	/* It was admitted: there has to be room still. What enters in a freeze
	 * or a flip has its claims. */
	bool takes_room;
	unsigned int flags;
};

static void update_finish(struct view *v, const struct update *u, bool changed)
{
	if (changed)
		v->version++;
	if (u->freeze_out) {
		*u->freeze_out = u->flip_to ? v->root : root_get(&v->root);
		v->gen = __atomic_add_fetch(&v->store->next_gen, 1,
					    __ATOMIC_RELAXED);
	}
	if (u->flip_to) {
		v->root = root_get(u->flip_to);
		v->version++;
	}
	if (u->done)
		u->done(u->arg);
}

static enum log_use use_of(unsigned int flags)
{
	if (flags & VIEW_FINISHES)
		return LOG_USE_TO_FINISH;
	return flags & VIEW_PRIVILEGED ? LOG_USE_TO_FREE : LOG_USE;
}

/* Those who were told that there is room wait for the lock together: here they
 * are one after the other. */
static int apply(struct view *v, struct vtx *tx, const struct update *u)
{
	struct log *log = v->store->log;
	int err;

	if (u->takes_room &&
	    !log_try_room(log, UPDATE_ROOM_BYTES, use_of(u->flags)))
		return LACKS_ROOM;
	err = tree_apply(&tx->cursor, &v->root, v->gen, &tx->batch);
	if (u->takes_room)
		log_give_room(log, UPDATE_ROOM_BYTES, 0);
	return err;
}

/* One try under the lock. */
static int update_try(struct view *v, struct vtx *tx, const struct update *u)
{
	bool changed;
	int err = 0;

	batch_reset(&tx->batch);
	cursor_reset(&tx->cursor, &v->root);
	if (u->fn)
		err = u->fn(tx, u->arg);
	if (err)
		return err;
	changed = tx->batch.n > 0;
	if (changed)
		err = apply(v, tx, u);
	if (!err)
		update_finish(v, u, changed);
	return err;
}

/* Others have taken it since the update was admitted. */
static int find_room(struct view *v, struct update *u)
{
	if (store_failed(v->store, NULL) && u->flags & VIEW_WHEN_STOPPED) {
		u->takes_room = false;
		return 0;
	}
	return log_room(v->store->log, UPDATE_ROOM_BYTES, 0, use_of(u->flags));
}

static int update_run(struct view *v, struct update *u)
{
	struct vtx tx;
	unsigned int pin = store_pin(v->store);
	int err;

	tx.update = true;
	cursor_init(&tx.cursor, &v->store->tree, &v->root);
	batch_init(&tx.batch);
	do {
		lock_exclusive(v, u->beside);
		err = update_try(v, &tx, u);
		unlock_exclusive(v, u->beside);
		if (err == LACKS_ROOM)
			err = find_room(v, u);
		else if (is_miss(&tx, err))
			err = tree_load(&tx.cursor);
		else
			break;
	} while (!err);
	batch_release(&tx.batch);
	cursor_release(&tx.cursor);
	store_unpin(v->store, pin);
	return err;
}

/* Is the store able to take a change now? */
static int update_admit(struct view *v, unsigned int flags)
{
	struct tree_stats stats;

	if (v->read_only || v->store->read_only)
		return -EROFS;
	if (store_failed(v->store, NULL))
		return flags & VIEW_WHEN_STOPPED ? 0 : -EROFS;
	tree_get_stats(&v->store->tree, &stats);
	/* Private views change also while the queue is led: they would wait
	 * for themselves. */
	if (stats.dirty_bytes > DIRTY_NODES_MAX_BYTES &&
	    v == v->store->working && use_of(flags) == LOG_USE) {
		int err = store_checkpoint(v->store, v);

		if (err)
			return err;
	}
	return log_room(v->store->log, UPDATE_ROOM_BYTES, 0, use_of(flags));
}

int view_update(struct view *v, unsigned int flags, view_fn fn,
		view_done_fn done, void *arg)
{
	return view_update_beside(v, flags, NULL, fn, done, arg);
}

int view_update_beside(struct view *v, unsigned int flags,
		       pthread_mutex_t *beside, view_fn fn, view_done_fn done,
		       void *arg)
{
	struct update u = { .fn = fn,
			    .done = done,
			    .arg = arg,
			    .beside = beside,
			    .takes_room = true,
			    .flags = flags };
	int err;

	err = update_admit(v, flags);
	if (err)
		return err;
	return update_run(v, &u);
}

void view_freeze(struct view *v, struct root *out)
{
	rwlock_lock_exclusive(&v->lock);
	*out = root_get(&v->root);
	v->gen = __atomic_add_fetch(&v->store->next_gen, 1, __ATOMIC_RELAXED);
	rwlock_unlock_exclusive(&v->lock);
}

int view_update_freeze(struct view *v, view_fn fn, view_done_fn done, void *arg,
		       struct root *out)
{
	struct update u = {
		.fn = fn, .done = done, .arg = arg, .freeze_out = out
	};

	return update_run(v, &u);
}

int view_flip(struct view *v, const struct root *to, view_fn fn,
	      view_done_fn at, void *arg, struct root *old_out)
{
	struct update u = { .fn = fn,
			    .done = at,
			    .arg = arg,
			    .freeze_out = old_out,
			    .flip_to = to };

	return update_run(v, &u);
}

void view_settle(struct view *v, const struct root *written)
{
	struct root old = ROOT_EMPTY;

	rwlock_lock_exclusive(&v->lock);
	if (v->root.node && v->root.node == written->node) {
		/* Nothing changed since: the clean form is in the cache. */
		old = v->root;
		v->root = (struct root){ .ptr = written->ptr };
	}
	rwlock_unlock_exclusive(&v->lock);
	root_put(&v->store->tree, &old);
}

int view_check(struct view *v, char *why, size_t why_bytes)
{
	struct root root;
	int err;

	view_freeze(v, &root);
	err = tree_check(&v->store->tree, &root, why, why_bytes);
	root_put(&v->store->tree, &root);
	return err;
}
