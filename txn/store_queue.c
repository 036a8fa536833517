/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_queue.c - the queue through which states become durable. DESIGN.md 5.
 *
 * Callers line up; the first of them leads: it takes at most one commit and
 * every checkpoint that waits, freezes their views, writes out what is dirty,
 * appends one record and flushes it. Those who arrive meanwhile wait for the
 * next turn. So at most one record is unflushed (I7).
 *
 * The commit point is the return of the record's flush. Nothing that can fail
 * follows it. What fails before the record is appended leaves the store as it
 * was; what fails from there on stops the store.
 */
#include "txn/store_internal.h"

#include <time.h>

#include "txn/format.h"

enum {
	/* Beyond the dirty nodes, which are claimed one by one: catalog path,
	 * record, page rounding. */
	QUEUE_ROOM_BYTES = 32 * TREE_NODE_MAX
};

/* What one turn works on. */
struct turn {
	struct queue_req *reqs; /* list */
	/* The one among them that is more than a checkpoint; may be NULL. */
	struct queue_req *commit;
	int commit_err; /* refused, or 1: nothing was staged */
	struct frozen {
		struct view *view;
		struct root root;
		uint64_t version;
	} * frozen;
	size_t nfrozen;
	struct commit_info *info; /* of the commit */
	struct root old_state; /* what a switch replaced */
	bool switched;
	struct root old_catalog;
	bool catalog_changed, dropped;
	struct record rec;
};

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct frozen *turn_find(struct turn *t, const struct view *v)
{
	for (size_t i = 0; i < t->nfrozen; i++)
		if (t->frozen[i].view == v)
			return &t->frozen[i];
	return NULL;
}

/* The version that a freeze shows is read in the same hold of the lock. */
struct freeze_arg {
	const struct queue_req *req;
	struct frozen *f;
};

static int freeze_fn(struct vtx *tx, void *arg)
{
	const struct freeze_arg *a = arg;
	const struct queue_req *r = a->req;

	if (r && r->commit && r->commit->enter)
		return r->commit->enter(tx, r->commit->arg);
	if (r && r->change && r->change->enter)
		return r->change->enter(tx, r->change->arg);
	return 0;
}

static void freeze_done(void *arg)
{
	const struct freeze_arg *a = arg;
	const struct queue_req *r = a->req;

	a->f->version = a->f->view->version;
	if (r && r->commit && r->commit->entered)
		r->commit->entered(r->commit->arg);
	if (r && r->change && r->change->entered)
		r->change->entered(r->change->arg);
}

static int turn_freeze(struct turn *t, struct view *v,
		       const struct queue_req *req)
{
	struct frozen *f = &t->frozen[t->nfrozen];
	struct freeze_arg a = { req, f };
	int err;

	f->view = v;
	err = view_update_freeze(v, freeze_fn, freeze_done, &a, &f->root);
	if (!err)
		t->nfrozen++;
	return err;
}

/* A name keeps what would be freed: it leaves something to what ends, commits
 * or deletes. */
static bool adds_name(const struct queue_req *r)
{
	return r->change && (r->change->op == CATALOG_SNAPSHOT ||
			     r->change->op == CATALOG_TAG);
}

/* Freeze the commit's view first, with what it enters; then the others. */
static int turn_freeze_all(struct store *store, struct turn *t)
{
	size_t n = 2;
	int err = 0;

	for (struct queue_req *r = t->reqs; r; r = r->next)
		n++;
	t->frozen = calloc(n, sizeof(*t->frozen));
	if (!t->frozen)
		return -ENOMEM;
	if (t->commit && adds_name(t->commit))
		t->commit_err = log_room(store->log, QUEUE_ROOM_BYTES, 0,
					 LOG_USE_TO_KEEP);
	if (t->commit && t->commit->sw) {
		/* Before the flip, which cannot be taken back. */
		t->commit_err = log_room(store->log, QUEUE_ROOM_BYTES, 0,
					 LOG_USE_TO_FINISH);
		if (!t->commit_err)
			t->commit_err = t->commit->sw->flip(t->commit->sw->arg,
							    &t->old_state);
		t->switched = !t->commit_err;
	}
	if (t->commit && !t->commit_err)
		t->commit_err = turn_freeze(t, t->commit->view, t->commit);
	for (struct queue_req *r = t->reqs; r && !err; r = r->next)
		if (r->view && !turn_find(t, r->view))
			err = turn_freeze(t, r->view, NULL);
	if (!err && !turn_find(t, store->plain))
		err = turn_freeze(t, store->plain, NULL);
	return err;
}

static int stop_at_first(void *arg, const struct key *key, const struct val *a,
			 const struct val *b)
{
	return 1;
}

/* 1: the candidate is what head is already. */
static int turn_compare_head(struct store *store, struct turn *t,
			     const struct root *head)
{
	struct root *candidate = &t->frozen[0].root;
	int err;

	if (root_same(head, candidate))
		return 1;
	err = tree_diff(&store->tree, head, candidate, stop_at_first, NULL);
	if (err < 0)
		return err;
	return err ? 0 : 1;
}

static void fill_info(struct commit_info *info, uint32_t uid,
		      const char *message, size_t message_bytes)
{
	info->number++;
	info->uid = uid;
	info->names = 0;
	info->changes = 0;
	info->bytes = 0;
	info->message_bytes = message_bytes;
	if (message_bytes)
		memcpy(info->message, message, message_bytes);
	info->message[message_bytes] = '\0';
}

/* A switch that commits the state it goes to. */
static int turn_prepare_switch(struct store *store, struct turn *t)
{
	const struct switch_req *sw = t->commit->sw;
	struct root head;

	if (!sw->to)
		return 0;
	t->info = calloc(1, sizeof(*t->info));
	if (!t->info)
		return -ENOMEM;
	store_head(store, &head, t->info);
	root_put(&store->tree, &head);
	fill_info(t->info, sw->uid, sw->message, sw->message_bytes);
	t->info->changes = sw->changes;
	t->info->bytes = sw->bytes;
	return 0;
}

/* The commit's part before anything is appended. 1: nothing is staged. */
static int turn_inspect(struct store *store, struct turn *t)
{
	const struct commit_req *c = t->commit->commit;
	struct commit_info *info;
	struct root head;
	int err;

	info = calloc(1, sizeof(*info));
	if (!info)
		return -ENOMEM;
	t->info = info;
	store_head(store, &head, info);
	fill_info(info, c->uid, c->message, c->message_bytes);
	if (info->number > 1)
		err = turn_compare_head(store, t, &head);
	else
		err = 0; /* the first commit may be of the empty tree */
	if (!err && c->inspect)
		err = c->inspect(c->arg, &head, &t->frozen[0].root, info);
	root_put(&store->tree, &head);
	return err;
}

/* The state that a switch replaced. Without memory or space for it the switch
 * happens all the same. */
static bool turn_keep_discarded(struct store *store, struct turn *t)
{
	if (!t->switched || !t->commit->sw->discard)
		return false;
	return !tree_write_out(&store->tree, &t->old_state, NULL);
}

static int turn_change_catalog(struct store *store, struct turn *t)
{
	const struct queue_req *r = t->commit;
	struct catalog_update u = {
		.commit = t->info,
		.change = r && !t->commit_err ? r->change : NULL,
		.head_number =
			t->info ? t->info->number : store->last.head_number,
		.time_ns = store->env->now_ns(store->env)
	};
	int err;

	if (u.change)
		u.state = &t->frozen[0].root.ptr;
	if (turn_keep_discarded(store, t)) {
		u.discarded = &t->old_state.ptr;
		u.uid = r->sw->uid;
	}
	if (!u.commit && !u.change && !u.discarded)
		return 0;
	view_freeze(store->catalog, &t->old_catalog);
	err = catalog_update(store, &u);
	if (err && u.change) {
		/* Refused: what waits beside it goes on. */
		t->commit_err = err;
		root_put(&store->tree, &t->old_catalog);
		return 0;
	}
	if (err)
		return err;
	t->catalog_changed = true;
	t->dropped = u.dropped;
	view_freeze(store->catalog, &t->frozen[t->nfrozen].root);
	t->frozen[t->nfrozen].view = store->catalog;
	t->nfrozen++;
	return tree_write_out(&store->tree, &t->frozen[t->nfrozen - 1].root,
			      NULL);
}

static int turn_write_trees(struct store *store, struct turn *t)
{
	int err;

	for (size_t i = 0; i < t->nfrozen; i++) {
		err = tree_write_out(&store->tree, &t->frozen[i].root, NULL);
		if (err)
			return err;
	}
	if (t->info) {
		t->info->root = t->switched ? t->commit->sw->to->ptr
					    : t->frozen[0].root.ptr;
		t->info->time_ns = store->env->now_ns(store->env);
	}
	return turn_change_catalog(store, t);
}

/* Roots of the record before, replaced by what was frozen. */
static int turn_fill_record(struct store *store, struct turn *t)
{
	struct record *rec = &t->rec;
	struct ptr head, ptr;
	int err;

	*rec = (struct record){ .seq = store->last.seq + 1,
				.prev_pos = store->last.pos,
				.prev_sum = store->last.sum,
				.lineage = store->lineage,
				.small_flushed = store->small_flushed,
				.bulk_flushed = store->bulk_flushed };
	memcpy(rec->uuid, store->uuid, sizeof(rec->uuid));
	rec->next_obj = __atomic_load_n(&store->next_obj, __ATOMIC_SEQ_CST);
	rec->next_view = __atomic_load_n(&store->next_view, __ATOMIC_SEQ_CST);
	rec->time_ns = store->env->now_ns(store->env);
	rec->head_number = store->last.head_number;
	head = record_find_root(&store->last, ROOT_HEAD, 0);
	if (t->info) {
		rec->head_number = t->info->number;
		head = t->info->root;
	}
	for (struct queue_req *r = t->reqs; r; r = r->next)
		if (r->closing)
			rec->flags |= REC_FLAG_CLOSING;
	err = record_add_root(rec, ROOT_HEAD, 0, &head);
	for (size_t i = 0; i < 3 && !err; i++) {
		struct view *v = i == 0	  ? store->catalog
				 : i == 1 ? store->plain
					  : store->working;
		struct frozen *f = turn_find(t, v);

		ptr = f ? f->root.ptr : v->recorded;
		err = record_add_root(rec,
				      i == 0   ? ROOT_CATALOG
				      : i == 1 ? ROOT_PLAIN
					       : ROOT_VIEW,
				      i == 2 ? v->id : 0, &ptr);
	}
	return err;
}

static void seal_record(void *arg, uint64_t pos, struct lbuf *buf)
{
	struct record *rec = arg;

	rec->pos = pos;
	record_encode(rec, buf->data);
}

/* From the append on, a failure stops the store: the outcome is settled by
 * the next recovery (I9). */
static int turn_append_record(struct store *store, struct turn *t)
{
	struct lbuf *buf;
	uint64_t pos;
	int err;

	buf = lbuf_new(record_bytes(&t->rec));
	if (!buf)
		return -ENOMEM;
	err = log_append_sealed(store->log, LOG_SMALL, REC_ALIGN, buf,
				seal_record, &t->rec, &pos);
	if (err) {
		lbuf_put(buf);
		return err;
	}
	err = log_flush(store->log, LOG_SMALL, &store->small_flushed);
	if (err) {
		log_stop(store->log, err, "a record could not be made durable");
		return -EIO;
	}
	return 0;
}

/* Bulk data that the frozen states refer to comes first: a record never
 * points at bulk bytes that are not durable. */
static int turn_flush_bulk(struct store *store)
{
	uint64_t need =
		__atomic_load_n(&store->bulk_required, __ATOMIC_SEQ_CST);
	int err;

	store->bulk_flushed = log_flushed(store->log, LOG_BULK);
	if (need <= store->bulk_flushed)
		return 0;
	err = log_flush(store->log, LOG_BULK, &store->bulk_flushed);
	return err ? -EIO : 0;
}

/* Put the catalog back as it was before a commit that did not happen. */
static void turn_undo_catalog(struct store *store, struct turn *t)
{
	struct root dropped = ROOT_EMPTY;
	int err;

	if (!t->catalog_changed)
		return;
	err = view_flip(store->catalog, &t->old_catalog, NULL, NULL, NULL,
			&dropped);
	ASSERT(!err); /* nothing to apply, nothing to load */
	root_put(&store->tree, &dropped);
}

struct publish {
	struct store *store;
	struct turn *t;
	struct root old_head;
};

static void publish_record(void *arg)
{
	struct publish *p = arg;
	struct store *store = p->store;
	struct turn *t = p->t;

	pthread_mutex_lock(&store->head_lock);
	record_release(&store->last);
	store->last = t->rec;
	if (t->info) {
		p->old_head = store->head;
		store->head = (struct root){ .ptr = t->info->root };
		store->head_info = *t->info;
	}
	pthread_mutex_unlock(&store->head_lock);
	t->rec = (struct record){ 0 };
}

/* The record is durable. Nothing here can fail. */
static void turn_publish(struct store *store, struct turn *t)
{
	struct publish p = { .store = store, .t = t };
	struct root shown = ROOT_EMPTY, old = ROOT_EMPTY;
	int err = 0;

	if (t->catalog_changed) {
		/* Head and the catalog that has it are seen together. */
		shown.ptr = turn_find(t, store->catalog)->root.ptr;
		err = view_flip(store->shown, &shown, NULL, publish_record, &p,
				&old);
		ASSERT(!err); /* nothing to apply, nothing to load */
		root_put(&store->tree, &old);
	} else {
		publish_record(&p);
	}
	root_put(&store->tree, &p.old_head);
	for (size_t i = 0; i < t->nfrozen; i++) {
		struct frozen *f = &t->frozen[i];

		f->view->recorded = f->root.ptr;
		__atomic_store_n(&f->view->recorded_version, f->version,
				 __ATOMIC_RELAXED);
		view_settle(f->view, &f->root);
	}
	if (t->dropped)
		__atomic_add_fetch(&store->n_dropped, 1, __ATOMIC_RELAXED);
	if (!t->info) {
		__atomic_add_fetch(&store->n_checkpoints, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_add_fetch(&store->n_commits, 1, __ATOMIC_RELAXED);
}

/* Is there anything that the newest record does not say? */
static bool turn_has_work(struct store *store, struct turn *t)
{
	if (t->info || t->switched)
		return true;
	if (t->commit && t->commit->change && !t->commit_err)
		return true;
	for (struct queue_req *r = t->reqs; r; r = r->next)
		if (r->closing && !(store->last.flags & REC_FLAG_CLOSING))
			return true;
	for (size_t i = 0; i < t->nfrozen; i++) {
		struct frozen *f = &t->frozen[i];

		if (f->version != f->view->recorded_version)
			return true;
	}
	return !store->last.pos;
}

static int turn_make_durable(struct store *store, struct turn *t)
{
	bool changed;
	int err;

	if (!turn_has_work(store, t))
		return 0;
	err = log_room(store->log, QUEUE_ROOM_BYTES, 0, LOG_USE_TO_FINISH);
	if (err == -EROFS)
		err = -EIO; /* stopped since the turn began */
	if (!err)
		err = turn_flush_bulk(store);
	if (!err)
		err = turn_write_trees(store, t);
	if (!err)
		err = turn_fill_record(store, t);
	if (!err)
		err = turn_append_record(store, t);
	if (err) {
		turn_undo_catalog(store, t);
		return err;
	}
	changed = !record_same_state(&store->last, &t->rec);
	turn_publish(store, t);
	if (changed)
		store_note_record(store);
	return 0;
}

/* A commit that is refused does not keep what waits beside it from becoming
 * durable. */
static void turn_drop_commit(struct turn *t)
{
	t->commit->number = t->info ? t->info->number - 1 : 0;
	free(t->info);
	t->info = NULL;
}

static int turn_run(struct store *store, struct turn *t)
{
	int err;

	if (store_failed(store, NULL))
		return -EIO;
	err = turn_freeze_all(store, t);
	if (err)
		return err;
	if (t->commit && !t->commit_err && t->commit->commit)
		t->commit_err = turn_inspect(store, t);
	if (t->switched)
		err = turn_prepare_switch(store, t);
	if (err)
		return err;
	if (t->commit_err)
		turn_drop_commit(t);
	return turn_make_durable(store, t);
}

/* The view shows the other state already, and the caller hears that nothing
 * happened: neither a record of this nor the work of others may follow. */
static int turn_stop_switched(struct store *store, int err)
{
	char text[128];

	(void)snprintf(text, sizeof(text),
		       "a switch could not be made durable: %s; what it "
		       "replaced is there after mounting again",
		       strerror(-err));
	log_stop(store->log, err, text);
	return -EIO;
}

static void turn_release(struct store *store, struct turn *t)
{
	for (size_t i = 0; i < t->nfrozen; i++)
		root_put(&store->tree, &t->frozen[i].root);
	free(t->frozen);
	free(t->info);
	root_put(&store->tree, &t->old_catalog);
	root_put(&store->tree, &t->old_state);
	record_release(&t->rec);
}

static void note_commit(struct store *store, uint64_t start_ns,
			uint64_t appended_before)
{
	struct log_stats st;

	log_get_stats(store->log, &st);
	__atomic_store_n(&store->last_commit_ns, monotonic_ns() - start_ns,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&store->last_commit_bytes,
			 st.appended_bytes[LOG_SMALL] - appended_before,
			 __ATOMIC_RELAXED);
}

static void lead(struct store *store, struct turn *t)
{
	uint64_t start = monotonic_ns();
	unsigned int pin = store_pin(store);
	struct log_stats st;
	int err;

	log_get_stats(store->log, &st);
	err = turn_run(store, t);
	if (err && t->switched)
		err = turn_stop_switched(store, err);
	for (struct queue_req *r = t->reqs; r; r = r->next)
		r->result = err;
	if (t->commit && !err) {
		t->commit->result = t->commit_err;
		if (!t->commit_err && t->info) {
			t->commit->number = t->info->number;
			note_commit(store, start, st.appended_bytes[LOG_SMALL]);
		}
	}
	turn_release(store, t);
	store_unpin(store, pin);
}

/* Take from the queue all checkpoints and the first commit. Under the lock. */
static void take_turn(struct store *store, struct turn *t)
{
	struct queue_req **p = &store->queue_first, **tail = &t->reqs;

	while (*p) {
		struct queue_req *r = *p;

		bool special = r->commit || r->change || r->sw;

		if (special && t->commit) {
			p = &r->next;
			continue;
		}
		if (special)
			t->commit = r;
		*p = r->next;
		r->next = NULL;
		*tail = r;
		tail = &r->next;
	}
	store->queue_last = p;
}

int store_queue_run(struct store *store, struct queue_req *req)
{
	pthread_mutex_lock(&store->queue_lock);
	req->next = NULL;
	*store->queue_last = req;
	store->queue_last = &req->next;
	while (!req->done) {
		struct turn t = { 0 };

		if (store->queue_busy) {
			pthread_cond_wait(&store->queue_cond,
					  &store->queue_lock);
			continue;
		}
		store->queue_busy = true;
		take_turn(store, &t);
		pthread_mutex_unlock(&store->queue_lock);
		lead(store, &t);
		pthread_mutex_lock(&store->queue_lock);
		store->queue_busy = false;
		for (struct queue_req *r = t.reqs, *next; r; r = next) {
			next = r->next; /* r may go as soon as it is done */
			r->done = true;
		}
		pthread_cond_broadcast(&store->queue_cond);
	}
	pthread_mutex_unlock(&store->queue_lock);
	return req->result;
}
