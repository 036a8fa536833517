/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verify.c - reading every node and block of every retained state once. What is
 * damaged is told by path, with all states that hold it.
 */
#include "fs/fs_internal.h"

#include <inttypes.h>

struct state {
	char name[STORE_NAME_MAX + 1];
	struct root root;
	struct fs_view *fv;
};

/* A damaged place: an extent's item, or a node (key.kind 0). */
struct bad_place {
	struct key key;
	uint64_t pos;
	size_t state; /* in which it was met */
};

struct verifier {
	struct fs *fs;
	const struct fs_verify_params *p;
	struct fs_verify_stats st;
	struct state *states;
	size_t nstates, states_cap;
	size_t at; /* the state that is looked at */
	struct bad_place *bad;
	size_t nbad, bad_cap;
	int err; /* no memory to note a place */
	uint8_t *buf;
};

/* --- the states --- */

static int add_state(struct verifier *v, const char *name,
		     const struct root *root)
{
	struct state *s;
	int err;

	err = array_grow((void **)&v->states, &v->states_cap, v->nstates + 1,
			 sizeof(*v->states));
	if (err)
		return err;
	s = &v->states[v->nstates];
	*s = (struct state){ .root = root_get(root) };
	snprintf(s->name, sizeof(s->name), "%s", name);
	v->nstates++;
	return fs_view_new(v->fs, root, &s->fv);
}

static int add_commit(void *arg, const struct commit_info *info)
{
	struct root root = { .ptr = info->root };
	char name[32];

	snprintf(name, sizeof(name), "@%" PRIu64, info->number);
	return add_state(arg, name, &root);
}

static int add_name(void *arg, const struct name_info *info)
{
	struct root root = { .ptr = info->root };

	return add_state(arg, info->name, &root);
}

static int list_states(struct verifier *v)
{
	unsigned int pin = store_pin(v->fs->store);
	struct root now = ROOT_EMPTY;
	int err;

	err = store_each_commit(v->fs->store, UINT64_MAX, add_commit, v);
	if (!err)
		err = store_each_name(v->fs->store, add_name, v);
	if (!err)
		err = fs_freeze(v->fs, &now);
	if (!err)
		err = add_state(v, "staged", &now);
	root_put(store_tree(v->fs->store), &now);
	/* They are views now: a sweep knows them. */
	store_unpin(v->fs->store, pin);
	return err;
}

/* --- looking --- */

static void note_bad(struct verifier *v, const struct key *key, uint64_t pos)
{
	if (array_grow((void **)&v->bad, &v->bad_cap, v->nbad + 1,
		       sizeof(*v->bad)))
		v->err = -ENOMEM;
	else
		v->bad[v->nbad++] = (struct bad_place){ *key, pos, v->at };
}

static int tell_progress(struct verifier *v)
{
	return v->p->progress ? v->p->progress(v->p->arg, &v->st) : 0;
}

static int on_progress(void *arg, uint64_t bytes)
{
	struct verifier *v = arg;

	v->st.nodes++;
	v->st.bytes += bytes;
	return v->st.nodes % 64 ? 0 : tell_progress(v);
}

static void on_damaged(void *arg, const struct ptr *ptr, int err)
{
	struct key none = KEY(0, 0, 0);

	note_bad(arg, &none, ptr->pos);
}

/* n blocks of a window from i on, as far as one of them is new. */
static int verify_extent(struct verifier *v, struct scan *scan,
			 const struct item_window *w, unsigned int i,
			 unsigned int n, bool *damaged)
{
	bool fresh = false;
	int err;

	for (unsigned int k = 0; k < n; k++)
		fresh |= !store_scan_meet(scan, w->pos[i + k]);
	if (!fresh)
		return 0;
	err = log_read(v->fs->log, w->pos[i], v->buf,
		       (size_t)n * FS_BLOCK_BYTES);
	if (err && err != -ENXIO && err != -EIO)
		return err;
	for (unsigned int k = 0; k < n && !err; k++)
		if (item_block_sum(v->buf + (size_t)k * FS_BLOCK_BYTES) !=
		    w->sum[i + k])
			err = -EFSBADCRC;
	*damaged |= err != 0;
	v->st.blocks += n;
	v->st.bytes += (uint64_t)n * FS_BLOCK_BYTES;
	return 0;
}

static int on_item(void *arg, struct scan *scan, const struct key *key,
		   const struct val *val)
{
	struct verifier *v = arg;
	bool damaged = false;
	struct item_window w;
	unsigned int n;
	int err = 0;

	if (key->kind != ITEM_KIND_EXTENT || key->obj == ITEM_OBJ_ORPHANS)
		return 0;
	if (item_window_decode(val, key->off, &w)) {
		note_bad(v, key, 0);
		return 0;
	}
	for (unsigned int i = 0; !err && (n = item_window_extent(&w, &i));
	     i += n) {
		damaged = false;
		err = verify_extent(v, scan, &w, i, n, &damaged);
		if (damaged)
			note_bad(v, key, w.pos[i]);
	}
	return err ? err : tell_progress(v);
}

/* --- telling --- */

struct has_op {
	struct fs_op op;
	const struct bad_place *b;
	bool has;
};

/* Does a state hold that very extent? */
static int has_fn(struct vtx *tx, void *arg)
{
	struct has_op *h = arg;
	struct item_window w;
	struct val val;
	int err;

	h->has = false;
	err = vtx_get(tx, &h->b->key, &val);
	if (!err && !h->b->pos)
		h->has = true;
	else if (!err && !item_window_decode(&val, h->b->key.off, &w))
		for (unsigned int i = 0; i < WINDOW_BLOCKS; i++)
			h->has |= w.mask >> i & 1 && w.pos[i] == h->b->pos;
	return err == 1 ? 0 : err;
}

static void tell_extent(struct verifier *v, const struct bad_place *b)
{
	for (size_t i = 0; i < v->nstates; i++) {
		struct has_op h = { .op = { .fn = has_fn, .ino = b->key.obj },
				    .b = b };
		struct fs_view *fv = v->states[i].fv;
		char *path = NULL;

		op_start(fv, &h.op);
		if (view_read(fv->view, op_run, &h.op) || !h.has)
			continue;
		(void)fs_path(fv, b->key.obj, &path);
		v->p->damaged(v->p->arg, v->states[i].name, path,
			      "contents do not match their checksum");
		free(path);
	}
}

static int ignore_item(void *arg, struct scan *scan, const struct key *key,
		       const struct val *val)
{
	return 0;
}

struct seek_node {
	uint64_t pos;
	bool met;
};

static void seek_damaged(void *arg, const struct ptr *ptr, int err)
{
	struct seek_node *s = arg;

	s->met |= ptr->pos == s->pos;
}

/* A damaged node: each state is walked again, to know whether it has it. */
static int tell_node(struct verifier *v, const struct bad_place *b)
{
	int err = 0;

	for (size_t i = 0; i < v->nstates && !err; i++) {
		struct seek_node seek = { .pos = b->pos };
		struct scan_params sp = { .item = ignore_item,
					  .damaged = seek_damaged,
					  .arg = &seek };
		struct scan *scan;

		err = store_scan_new(v->fs->store, &sp, &scan);
		if (err)
			break;
		err = store_scan_state(scan, &v->states[i].root);
		store_scan_free(scan);
		if (!err && seek.met)
			v->p->damaged(v->p->arg, v->states[i].name, NULL,
				      "a part of its directory tree cannot be "
				      "read");
	}
	return err;
}

static int tell_all(struct verifier *v)
{
	int err = v->err;

	for (size_t i = 0; i < v->nbad && !err; i++) {
		if (v->bad[i].key.kind)
			tell_extent(v, &v->bad[i]);
		else
			err = tell_node(v, &v->bad[i]);
	}
	v->st.damaged = v->nbad;
	return err;
}

static int scan_states(struct verifier *v)
{
	struct scan_params sp = { .item = on_item,
				  .damaged = on_damaged,
				  .progress = on_progress,
				  .arg = v };
	struct scan *scan;
	int err;

	err = store_scan_new(v->fs->store, &sp, &scan);
	if (err)
		return err;
	for (v->at = 0; v->at < v->nstates && !err; v->at++)
		err = store_scan_state(scan, &v->states[v->at].root);
	if (!err)
		err = store_scan_own(scan);
	store_scan_free(scan);
	return err;
}

/* The invariants of files, of the newest commit and of what is staged: older
 * commits were the newest once. */
static int check_states(struct verifier *v)
{
	char why[256];
	int err = 0;

	for (size_t i = 0; i < v->nstates && !err; i++) {
		if (i && i + 1 != v->nstates)
			continue;
		err = fs_check(v->states[i].fv, false, why, sizeof(why));
		if (err == -EFSCORRUPTED || err == -EFSBADCRC) {
			v->p->damaged(v->p->arg, v->states[i].name, NULL, why);
			v->st.damaged++;
			err = 0;
		}
	}
	return err;
}

static int check_store(struct verifier *v)
{
	char why[256];
	int err = store_check(v->fs->store, why, sizeof(why));

	if (err != -EFSCORRUPTED && err != -EFSBADCRC)
		return err;
	v->p->damaged(v->p->arg, "the store", NULL, why);
	v->st.damaged++;
	return 0;
}

int fs_verify(struct fs *fs, const struct fs_verify_params *params,
	      struct fs_verify_stats *out)
{
	struct verifier v = { .fs = fs, .p = params };
	struct log_stats ls;
	int err;

	log_get_stats(fs->log, &ls);
	v.st.total_bytes = ls.segment_file_bytes;
	v.buf = malloc(WINDOW_BYTES);
	err = v.buf ? list_states(&v) : -ENOMEM;
	v.st.states = v.nstates;
	if (!err)
		err = scan_states(&v);
	if (!err)
		err = tell_all(&v);
	if (!err && !v.nbad)
		err = check_states(&v);
	if (!err && !v.nbad)
		err = check_store(&v);
	for (size_t i = 0; i < v.nstates; i++) {
		fs_view_put(v.states[i].fv);
		root_put(store_tree(fs->store), &v.states[i].root);
	}
	free(v.states);
	free(v.bad);
	free(v.buf);
	*out = v.st;
	return err;
}
