/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verify.c - reading every node and block of every retained state once. What is
 * damaged is told by path, with all states that hold it.
 */
#include "fs/healer.h"

#include <inttypes.h>

struct state {
	char name[STORE_NAME_MAX + 1];
	struct root root;
	struct fs_view *fv;
};

/* A damaged place: an extent's item, or a node. */
struct bad_place {
	struct key key; /* of the item; of a node the first that it may hold */
	uint64_t pos;
	bool is_node;
	bool is_own; /* of the catalog or the plain directory's table */
};

struct verifier {
	struct fs *fs;
	const struct fs_verify_params *p;
	struct fs_verify_stats st;
	struct state *states;
	size_t nstates, states_cap;
	size_t head; /* which of them it is */
	bool is_own; /* the store's own trees are looked at */
	bool no_catalog; /* not all states could be listed */
	struct bad_place *bad;
	size_t nbad, bad_cap;
	int err; /* no memory to note a place */
	struct healer *healer; /* NULL: only look */
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

static int add_item(void *arg, struct scan *scan, const struct key *key,
		    const struct val *val)
{
	struct verifier *v = arg;
	char name[STORE_NAME_MAX + 1];
	struct root root = ROOT_EMPTY;
	int err;

	err = store_item_state(key, val, name, &root.ptr);
	if (err == -EFSCORRUPTED) {
		v->no_catalog = true;
		return 0;
	}
	return err == 1 ? 0 : err ? err : add_state(v, name, &root);
}

static void no_catalog(void *arg, const struct ptr *ptr, const struct key *low,
		       int err)
{
	struct verifier *v = arg;

	v->no_catalog = true;
}

/* What the catalog does not name is known from the record. */
static int add_head(struct verifier *v)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct root root;
	char name[32];
	int err = 0;

	if (!info)
		return -ENOMEM;
	store_head(v->fs->store, &root, info);
	v->head = SIZE_MAX;
	if (!info->number)
		goto out; /* no commit yet */
	snprintf(name, sizeof(name), "@%" PRIu64, info->number);
	for (v->head = 0; v->head < v->nstates; v->head++)
		if (!strcmp(v->states[v->head].name, name))
			break;
	if (v->head == v->nstates)
		err = add_state(v, name, &root);
out:
	root_put(store_tree(v->fs->store), &root);
	free(info);
	return err;
}

/* Damage in the catalog hides some: what is beside it is looked at. */
static int list_named(struct verifier *v)
{
	struct scan_params sp = { .item = add_item,
				  .damaged = no_catalog,
				  .arg = v };
	struct scan *scan;
	int err;

	err = store_scan_new(v->fs->store, &sp, &scan);
	if (err)
		return err;
	err = store_scan_catalog(scan);
	store_scan_free(scan);
	return err ? err : add_head(v);
}

static int list_states(struct verifier *v)
{
	unsigned int pin = store_pin(v->fs->store);
	struct root now = ROOT_EMPTY;
	int err;

	err = list_named(v);
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

static void note_bad(struct verifier *v, const struct key *key, uint64_t pos,
		     bool is_node)
{
	if (array_grow((void **)&v->bad, &v->bad_cap, v->nbad + 1,
		       sizeof(*v->bad)))
		v->err = -ENOMEM;
	else
		v->bad[v->nbad++] =
			(struct bad_place){ *key, pos, is_node, v->is_own };
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

static void on_damaged(void *arg, const struct ptr *ptr, const struct key *low,
		       int err)
{
	note_bad(arg, low ? low : &KEY(0, 0, 0), ptr->pos, true);
}

/* One block of a window; buf: its bytes, or NULL when it was met before. What
 * files share is told for each of them. */
static int verify_block(struct verifier *v, struct scan *scan,
			const struct key *key, const struct item_window *w,
			unsigned int i, const uint8_t *buf)
{
	uint64_t off = key->off + (uint64_t)i * FS_BLOCK_BYTES;
	int err;

	if (buf ? item_stored_matches(w, i, buf)
		: !store_scan_is_bad(scan, w->pos[i]))
		return 0;
	note_bad(v, key, w->pos[i], false);
	err = store_scan_set_bad(scan, w->pos[i]);
	if (!err)
		err = healer_want(v->healer, key, off, w, i);
	return err;
}

/* n blocks of a window from i on, read as far as one of them is new. */
static int verify_extent(struct verifier *v, struct scan *scan,
			 const struct key *key, const struct item_window *w,
			 unsigned int i, unsigned int n)
{
	static const uint8_t none[FS_BLOCK_BYTES];
	uint64_t met = 0;
	int err = 0, read = 0;

	for (unsigned int k = 0; k < n; k++)
		met |= (uint64_t)store_scan_meet(scan, w->pos[i + k]) << k;
	if (bits_count(met) < n) {
		size_t bytes = item_window_bytes(w, i, n);

		read = log_read(v->fs->log, w->pos[i], v->buf, bytes);
		if (read && read != -ENXIO && read != -EIO)
			return read;
		v->st.blocks += n;
		v->st.bytes += bytes;
	}
	for (unsigned int k = 0; k < n && !err; k++) {
		uint8_t *buf = v->buf + (size_t)k * FS_BLOCK_BYTES;

		if (met >> k & 1)
			buf = NULL;
		else if (read && log_read(v->fs->log, w->pos[i + k], buf,
					  w->len[i + k]))
			/* One by one: a part of them may be readable. */
			memcpy(buf, none, sizeof(none));
		err = verify_block(v, scan, key, w, i + k, buf);
	}
	return err;
}

static int on_item(void *arg, struct scan *scan, const struct key *key,
		   const struct val *val)
{
	struct verifier *v = arg;
	struct item_window w;
	unsigned int n;
	int err = 0;

	if (key->kind != ITEM_KIND_EXTENT || key->obj == ITEM_OBJ_ORPHANS)
		return 0;
	if (item_window_decode(val, key->off, &w)) {
		note_bad(v, key, 0, false);
		return 0;
	}
	for (unsigned int i = 0; !err && (n = item_window_extent(&w, &i));
	     i += n)
		err = verify_extent(v, scan, key, &w, i, n);
	return err ? err : tell_progress(v);
}

/* --- telling --- */

/* The damaged blocks of one file, from v->bad[i] to end: told once for each
 * state that has one of them. */
static void tell_file(struct verifier *v, size_t i, size_t end)
{
	for (size_t s = 0; s < v->nstates; s++) {
		struct fs_view *fv = v->states[s].fv;
		char *path = NULL;
		size_t k = i;

		while (k < end &&
		       !healer_state_has(fv, &v->bad[k].key, v->bad[k].pos))
			k++;
		if (k == end)
			continue;
		(void)fs_path(fv, v->bad[i].key.obj, &path);
		v->p->damaged(v->p->arg, v->states[s].name, path,
			      "contents do not match their checksum");
		free(path);
	}
}

static void tell_files(struct verifier *v)
{
	size_t i = 0, end;

	for (; i < v->nbad && !v->bad[i].is_node; i = end) {
		end = i + 1;
		while (end < v->nbad && !v->bad[end].is_node &&
		       v->bad[end].key.obj == v->bad[i].key.obj)
			end++;
		tell_file(v, i, end);
	}
}

static int ignore_item(void *arg, struct scan *scan, const struct key *key,
		       const struct val *val)
{
	return 0;
}

/* A state that is looked at again, to know which damaged nodes it has. */
struct node_teller {
	struct verifier *v;
	const struct state *state;
	uint64_t *told; /* places */
	size_t ntold, cap;
	int err;
};

/* Inodes are told by the path that they have in that state, if it can be
 * found: of the first that the node may hold. */
static void tell_node(void *arg, const struct ptr *ptr, const struct key *low,
		      int err)
{
	struct node_teller *t = arg;
	char *path = NULL;

	for (size_t i = 0; i < t->ntold; i++)
		if (t->told[i] == ptr->pos)
			return;
	t->err = array_grow((void **)&t->told, &t->cap, t->ntold + 1,
			    sizeof(*t->told));
	if (t->err)
		return;
	t->told[t->ntold++] = ptr->pos;
	if (low && low->obj != ITEM_OBJ_ORPHANS &&
	    fs_path(t->state->fv, low->obj, &path))
		path = NULL;
	t->v->p->damaged(t->v->p->arg, t->state->name, path,
			 low ? "a part of the directory tree cannot be read, "
			       "from here on"
			     : "its directory tree cannot be read");
	free(path);
}

static int tell_nodes(struct verifier *v)
{
	int err = 0;

	for (size_t i = 0; i < v->nstates && !err; i++) {
		struct node_teller t = { .v = v, .state = &v->states[i] };
		struct scan_params sp = { .item = ignore_item,
					  .damaged = tell_node,
					  .arg = &t };
		struct scan *scan;

		err = store_scan_new(v->fs->store, &sp, &scan);
		if (err)
			break;
		err = store_scan_state(scan, &v->states[i].root);
		store_scan_free(scan);
		free(t.told);
		if (!err)
			err = t.err;
	}
	return err;
}

static int bad_cmp(const void *pa, const void *pb)
{
	const struct bad_place *a = pa, *b = pb;

	if (a->is_node != b->is_node)
		return a->is_node - b->is_node;
	if (!a->is_node && key_cmp(&a->key, &b->key))
		return key_cmp(&a->key, &b->key);
	return a->pos < b->pos ? -1 : a->pos > b->pos;
}

/* What is shared was met more than once. */
static void unite_bad(struct verifier *v)
{
	size_t n = 0;

	if (v->nbad)
		qsort(v->bad, v->nbad, sizeof(*v->bad), bad_cmp);
	for (size_t i = 0; i < v->nbad; i++)
		if (!n || bad_cmp(&v->bad[n - 1], &v->bad[i]))
			v->bad[n++] = v->bad[i];
	v->nbad = n;
	v->st.damaged = n;
}

static int tell_all(struct verifier *v)
{
	bool nodes = false, own = v->no_catalog;

	unite_bad(v);
	for (size_t i = 0; i < v->nbad; i++) {
		own |= v->bad[i].is_own;
		nodes |= v->bad[i].is_node && !v->bad[i].is_own;
	}
	tell_files(v);
	if (own)
		v->p->damaged(v->p->arg, "the store", NULL,
			      "a part of its lists (commits, names, plain "
			      "files) cannot be read");
	return v->err ? v->err : nodes ? tell_nodes(v) : 0;
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
	for (size_t i = 0; i < v->nstates && !err; i++)
		err = store_scan_state(scan, &v->states[i].root);
	v->is_own = true;
	if (!err)
		err = store_scan_own(scan);
	store_scan_free(scan);
	return err;
}

/* The scan again, as long as something is healed: below a node that is whole
 * again there is more to see. */
static int scan_healing(struct verifier *v)
{
	bool again = true;
	int err = 0;

	while (!err && again) {
		uint64_t states = v->st.states;

		v->st = (struct fs_verify_stats){ .states = states,
						  .total_bytes =
							  v->st.total_bytes };
		v->nbad = 0;
		v->is_own = false;
		err = scan_states(v);
		again = false;
		if (!err && v->healer)
			err = healer_run(v->healer, &again);
		for (size_t i = 0; i < v->nstates && !err; i++)
			err = healer_tell(v->healer, v->states[i].name,
					  v->states[i].fv);
		healer_forget(v->healer);
	}
	return err;
}

/* The invariants of files, of the newest commit and of what is staged: older
 * commits were the newest once. */
static int check_states(struct verifier *v)
{
	char why[256];
	int err = 0;

	for (size_t i = 0; i < v->nstates && !err; i++) {
		if (i != v->head && i + 1 != v->nstates)
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
	if (!err && store_repair(fs->store))
		err = healer_new(fs, params, &v.healer);
	for (size_t i = 0; i < v.nstates && !err; i++)
		err = healer_add_state(v.healer, v.states[i].fv);
	if (!err)
		err = scan_healing(&v);
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
	healer_get_stats(v.healer, &v.st);
	healer_free(v.healer);
	free(v.states);
	free(v.bad);
	free(v.buf);
	*out = v.st;
	return err;
}
