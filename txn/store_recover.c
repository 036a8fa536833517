/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_recover.c - which record is the state of the store? DESIGN.md 6.
 *
 * The youngest intact record is taken if everything new in its roots is whole.
 * If not, it was the one unflushed record that a crash may leave, and the one
 * before it, which was durable before this one was appended, must be whole:
 * when it is not, that is damage, and nothing older is taken. Nor is anything
 * older than the copy of a record that lies beside the log (store_copy.c).
 * Nothing is written here.
 */
#include "txn/store_internal.h"

#include "txn/format.h"

struct verify {
	struct store *store;
	uint64_t small_limit;
};

static int verify_item(void *arg, const struct key *key, const struct val *val)
{
	struct verify *v = arg;
	struct store *s = v->store;

	return s->check_item(s->check_arg, s->log, v->small_limit, key, val);
}

/* States that the catalog and the plain directory's table name are as much of
 * the record as its roots. */
static int verify_state(struct verify *v, const struct ptr *ptr)
{
	struct store *s = v->store;

	if (!ptr->pos)
		return 0;
	return tree_walk_new(&s->tree, ptr, v->small_limit,
			     s->check_item ? verify_item : NULL, v);
}

static int verify_catalog_item(void *arg, const struct key *key,
			       const struct val *val)
{
	struct ptr ptr;

	return catalog_item_root(key, val, &ptr) ? verify_state(arg, &ptr) : 0;
}

static int verify_plain_item(void *arg, const struct key *key,
			     const struct val *val)
{
	struct ptr ptr;

	return plain_item_root(key, val, &ptr) ? verify_state(arg, &ptr) : 0;
}

/*
 * Read all that is new in a record's roots: what lies below its flushed
 * position was durable before it and is not read.
 */
static int verify_record(struct store *store, const struct record *rec,
			 const struct record_root **bad_out)
{
	struct verify v = { store, rec->small_flushed };

	for (size_t i = 0; i < rec->nroots; i++) {
		const struct record_root *r = &rec->roots[i];
		bool files = r->kind == ROOT_HEAD || r->kind == ROOT_VIEW;
		tree_item_fn fn = NULL;
		int err;

		*bad_out = r;
		if (!r->ptr.pos)
			continue;
		if (r->kind == ROOT_CATALOG)
			fn = verify_catalog_item;
		else if (r->kind == ROOT_PLAIN)
			fn = verify_plain_item;
		else if (files && store->check_item)
			fn = verify_item;
		err = tree_walk_new(&store->tree, &r->ptr, rec->small_flushed,
				    fn, &v);
		if (err)
			return err;
	}
	return 0;
}

static bool is_damage(int err)
{
	return err == -EFSCORRUPTED || err == -EFSBADCRC || err == -ENXIO;
}

static const char *root_name(uint32_t kind)
{
	switch (kind) {
	case ROOT_HEAD:
		return "head";
	case ROOT_CATALOG:
		return "the catalog";
	case ROOT_PLAIN:
		return "the plain directory's table";
	case ROOT_VIEW:
		return "staged changes";
	default:
		return "a state of unknown kind";
	}
}

/*
 * A segment has its full length from the first append on. It is cut behind its
 * last record: a recovery does so right there, a clean close at the end of that
 * page. Anywhere else there was more in it.
 */
static bool is_cut_short(struct store *store, const struct record *rec)
{
	uint64_t made, end = log_segment_end(store->log, rec->pos, &made);
	uint64_t rec_end = rec->pos + record_bytes(rec);

	if (rec->flags & REC_FLAG_CLOSING &&
	    end == round_up_u64(rec_end, LOG_PAGE_BYTES))
		return false;
	return end < made && end != rec_end;
}

/* The record before `young`, which did not verify. */
static int recover_previous(struct store *store, const struct record *young,
			    struct record *rec_out, struct store_error *err_out)
{
	const struct record_root *bad = NULL;
	struct record prev = { 0 };
	int err;

	if (!young->prev_pos) {
		store_error_set(err_out,
				"damage: the only record of the store (log "
				"position %#llx) is not whole",
				(unsigned long long)young->pos);
		return -EFSCORRUPTED;
	}
	err = record_read(store->log, young->prev_pos, store->uuid, &prev);
	if (!err && prev.sum != young->prev_sum)
		err = -EFSBADCRC;
	/* Then it was refused, and the young one began to open the store at
	 * an older commit. */
	if (!err && is_cut_short(store, &prev))
		err = -EFSCORRUPTED;
	if (!err)
		err = verify_record(store, &prev, &bad);
	if (!err) {
		env_logf(store->env, ENV_NOTICE,
			 "record %llu was not complete when the last run "
			 "ended; going on from record %llu",
			 (unsigned long long)young->seq,
			 (unsigned long long)prev.seq);
		*rec_out = prev;
		return 0;
	}
	store_error_set(err_out,
			"damage: the last two records of the store cannot be "
			"read (log positions %#llx, %#llx: %s)",
			(unsigned long long)young->pos,
			(unsigned long long)young->prev_pos, strerror(-err));
	record_release(&prev);
	return is_damage(err) ? -EFSCORRUPTED : err;
}

/* The record that is newer than all in the log is known by its copy. */
static int use_copy(struct store *store, const struct record *copy,
		    struct store_error *err_out)
{
	if (!(copy->flags & REC_FLAG_CLOSING)) {
		store_error_set(err_out,
				"damage: the end of the log is missing, from "
				"record %llu (log position %#llx) or before, "
				"which was durable; there may have been later "
				"ones",
				(unsigned long long)copy->seq,
				(unsigned long long)copy->pos);
		return -EFSCORRUPTED;
	}
	/* A run ended with it: there was none after it. */
	env_logf(store->env, ENV_ERROR,
		 "damage: record %llu is missing in the log; its copy in "
		 ".txn/last is used",
		 (unsigned long long)copy->seq);
	return 0;
}

/* Records that can be made whole: the last one of a run by its copy, and those
 * that have one flipped bit. */
static int heal_records(struct store *store, const struct record *copy,
			bool has_copy, struct record *young)
{
	int found =
		record_find_last(store->log, store->uuid, UINT64_MAX, young);
	uint64_t above = found ? 0 : young->pos;
	int err;

	if (found < 0)
		return found;
	/* Its segment may be gone: then it is told below. One that no run ended
	 * with would hide that later ones are lost. */
	if (has_copy && copy->flags & REC_FLAG_CLOSING &&
	    (found || copy->seq > young->seq))
		(void)repair_put_record(store->repair, copy);
	record_release(young);
	err = repair_records(store->repair, above, store->uuid);
	return err;
}

/* The youngest record of the log, or the copy beside it where the log has lost
 * what that says. copied: that very record is known to have been durable. */
static int find_youngest(struct store *store, struct record *young,
			 bool *copied, struct store_error *err_out)
{
	struct record copy = { 0 };
	int no_copy = store_read_copy(store, &copy), err;

	*copied = false;
	if (no_copy < 0)
		return no_copy;
	err = store->repair ? heal_records(store, &copy, !no_copy, young) : 0;
	if (!err)
		err = record_find_last(store->log, store->uuid, UINT64_MAX,
				       young);
	if (err < 0) {
		store_error_set(err_out, "reading .txn/log: %s",
				strerror(-err));
	} else if (!no_copy && (err || copy.seq > young->seq)) {
		err = use_copy(store, &copy, err_out);
		record_release(young);
		*young = copy;
		copy.roots = NULL;
		*copied = true;
	} else if (err) {
		store_error_set(err_out, "damage: no record found in .txn/log");
		err = -EFSCORRUPTED;
	} else if (is_cut_short(store, young)) {
		store_error_set(err_out,
				"damage: the segment of record %llu (log "
				"position %#llx) is cut short; there may have "
				"been later ones",
				(unsigned long long)young->seq,
				(unsigned long long)young->pos);
		err = -EFSCORRUPTED;
	} else {
		*copied = !no_copy && copy.seq == young->seq;
	}
	record_release(&copy);
	if (err)
		record_release(young);
	return err;
}

int store_recover(struct store *store, struct record *rec_out,
		  struct store_error *err_out)
{
	const struct record_root *bad = NULL;
	struct record young = { 0 };
	bool copied;
	int err;

	err = find_youngest(store, &young, &copied, err_out);
	if (err)
		return err;
	err = verify_record(store, &young, &bad);
	if (!err) {
		*rec_out = young;
		return 0;
	}
	if (!is_damage(err)) {
		store_error_set(err_out, "reading %s: %s", root_name(bad->kind),
				strerror(-err));
	} else if (copied) {
		/* Not a tail that a crash left: it was durable, and is the
		 * state, like one that is damaged further down. */
		env_logf(store->env, ENV_ERROR,
			 "damage: a part of %s cannot be read (%s): run txn "
			 "verify",
			 root_name(bad->kind), strerror(-err));
		*rec_out = young;
		return 0;
	} else {
		env_logf(store->env, ENV_NOTICE,
			 "record %llu: %s is not whole (%s)",
			 (unsigned long long)young.seq, root_name(bad->kind),
			 strerror(-err));
		err = recover_previous(store, &young, rec_out, err_out);
	}
	record_release(&young);
	return err;
}
