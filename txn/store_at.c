/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_at.c - opening a store at an older commit, when its newest record
 * cannot be used or what it shows cannot be read. DESIGN.md 6.
 *
 * The records are looked through from the youngest intact one down. The commit
 * is taken from the first that knows it by a root whose whole tree can be read;
 * the catalog and the plain directory's table from the first that have theirs
 * whole. From this a record is made that follows the newest one: a greater
 * sequence number, a new lineage. So what is given up is never the youngest
 * again; and a crash before the new record is durable leaves the store as it
 * was, refused: the record before the new one is the damaged one.
 *
 * Nothing that lies beyond is removed here: a sweep does so when nothing
 * reaches it.
 */
#include "txn/store_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <unistd.h>

#include "txn/format.h"
#include "txn/node.h"

struct at_choice {
	struct record newest; /* the youngest that is known */
	bool newest_shows_staged; /* it had staged changes */
	struct ptr staged; /* of that: whole, or none */
	uint64_t number; /* of the commit; 0: none found */
	struct ptr root;
	int64_t time_ns; /* not later than the commit */
	struct ptr catalog, plain; /* whole, or none */
	bool has_catalog, has_plain;
	uint64_t catalog_seq; /* of the record that the catalog is from */
	int64_t catalog_time_ns;
	uint64_t last_number, next_obj, next_view;
	/* for store_at_apply */
	struct key *drop;
	size_t ndrop, drop_cap;
	uint64_t unnamed;
	bool listed; /* the catalog has the commit */
};

static bool is_damage(int err)
{
	return err == -EFSCORRUPTED || err == -EFSBADCRC || err == -ENXIO ||
	       err == -EIO;
}

/* 0: every node can be read; 1: not. */
static int is_whole(struct store *s, const struct ptr *ptr)
{
	int err = ptr->pos ? tree_walk_new(&s->tree, ptr, 0, NULL, NULL) : 0;

	return is_damage(err) ? 1 : err;
}

/* --- looking --- */

/* The newest commit of a whole catalog that is whole itself, or that of the
 * number. 0; 1: none. */
static int find_listed(struct store *s, const struct ptr *catalog,
		       uint64_t want, struct at_choice *c)
{
	struct root root = { .ptr = *catalog };
	struct commit_info *info = malloc(sizeof(*info));
	uint64_t from = want ? want : UINT64_MAX;
	struct view *v = NULL;
	int err;

	err = info ? view_new(s, STORE_CATALOG_ID, &root, true, &v) : -ENOMEM;
	while (!err) {
		err = catalog_prev_commit(v, from, info);
		if (!err && want && info->number != want)
			err = 1;
		if (err)
			break;
		err = is_whole(s, &info->root);
		if (!err) {
			c->number = info->number;
			c->root = info->root;
			c->time_ns = info->time_ns;
			break;
		}
		from = info->number - 1;
		if (err == 1 && !want && from)
			err = 0;
	}
	view_free(v);
	free(info);
	return is_damage(err) ? 1 : err;
}

static int look_for_commit(struct store *s, const struct record *rec,
			   bool catalog_whole, uint64_t want,
			   struct at_choice *c)
{
	struct ptr head = record_find_root(rec, ROOT_HEAD, 0);
	struct ptr catalog = record_find_root(rec, ROOT_CATALOG, 0);
	int err = 1;

	if (rec->head_number && (!want || want == rec->head_number))
		err = is_whole(s, &head);
	if (!err) {
		c->number = rec->head_number;
		c->root = head;
		c->time_ns = rec->time_ns;
		return 0;
	}
	if (err == 1 && catalog_whole)
		err = find_listed(s, &catalog, want, c);
	return err == 1 ? 0 : err;
}

/* One record, younger ones first. */
static int look_at_record(struct store *s, const struct record *rec,
			  uint64_t want, struct at_choice *c)
{
	struct ptr ptr = record_find_root(rec, ROOT_CATALOG, 0);
	bool whole = false;
	int err = 0;

	c->last_number = max_u64(c->last_number, rec->head_number);
	c->next_obj = max_u64(c->next_obj, rec->next_obj);
	c->next_view = max_u64(c->next_view, rec->next_view);
	if (!c->has_catalog || !c->number) {
		err = is_whole(s, &ptr);
		if (err < 0)
			return err;
		whole = !err;
	}
	if (!c->has_catalog && whole) {
		c->has_catalog = true;
		c->catalog = ptr;
		c->catalog_seq = rec->seq;
		c->catalog_time_ns = rec->time_ns;
	}
	ptr = record_find_root(rec, ROOT_PLAIN, 0);
	err = c->has_plain ? 1 : is_whole(s, &ptr);
	if (!err) {
		c->has_plain = true;
		c->plain = ptr;
	}
	if (err >= 0 && !c->number)
		err = look_for_commit(s, rec, whole, want, c);
	return err < 0 ? err : 0;
}

/* What the newest record had staged. */
static int look_at_staged(struct store *s, struct at_choice *c)
{
	struct ptr head = record_find_root(&c->newest, ROOT_HEAD, 0);
	struct ptr now =
		record_find_root(&c->newest, ROOT_VIEW, STORE_WORKING_ID);
	int err;

	c->newest_shows_staged = !ptr_eq(&head, &now);
	if (!now.pos || ptr_eq(&now, &c->root))
		return 0;
	err = is_whole(s, &now);
	if (!err)
		c->staged = now;
	return err < 0 ? err : 0;
}

static int look(struct store *s, uint64_t want, struct at_choice *c)
{
	struct record rec = { 0 };
	uint64_t below = UINT64_MAX;
	int err;

	/* The copy beside the log may be all that is left of the newest. */
	err = store_read_copy(s, &c->newest);
	if (!err)
		err = look_at_record(s, &c->newest, want, c);
	if (err == 1)
		err = 0;
	while (!err && !(c->number && c->has_catalog && c->has_plain)) {
		err = record_find_last(s->log, s->uuid, below, &rec);
		if (err)
			break;
		below = rec.pos;
		err = look_at_record(s, &rec, want, c);
		if (rec.seq > c->newest.seq || !c->newest.pos) {
			record_release(&c->newest);
			c->newest = rec;
			rec = (struct record){ 0 };
		}
		record_release(&rec);
	}
	if (err >= 0 && c->number)
		err = look_at_staged(s, c);
	return err == 1 ? 0 : err;
}

/* --- telling --- */

static void add_text(struct store_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void add_text(struct store_error *err, const char *fmt, ...)
{
	size_t n = strlen(err->text);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err->text + n, sizeof(err->text) - n, fmt, ap);
	va_end(ap);
}

/* "@8", "@8 to @10"; empty: none. */
static void given_up_commits(const struct at_choice *c, char text[64])
{
	text[0] = '\0';
	if (c->last_number > c->number)
		snprintf(text, 64, "@%" PRIu64, c->number + 1);
	if (c->last_number > c->number + 1)
		snprintf(text + strlen(text), 64 - strlen(text),
			 " to @%" PRIu64, c->last_number);
}

static bool catalog_is_old(const struct at_choice *c)
{
	return !c->has_catalog || c->catalog_seq < c->newest.seq;
}

void store_suggest(struct store *store, struct store_error *err_out)
{
	struct at_choice *c = calloc(1, sizeof(*c));
	bool staged;
	char text[64];

	if (!c || look(store, 0, c) || !c->number) {
		add_text(err_out, "; no commit of it is intact");
		store_at_free(c);
		return;
	}
	given_up_commits(c, text);
	staged = c->newest_shows_staged && !c->staged.pos;
	add_text(err_out,
		 "; commit @%" PRIu64 " is intact: txn mount --at @%" PRIu64
		 " opens it and gives up %s%s%s%s%s (txn mount -o ro --at "
		 "@%" PRIu64 " shows it first)",
		 c->number, c->number, *text ? "commit " : "", text,
		 staged ? *text ? ", staged changes" : "staged changes" : "",
		 !catalog_is_old(c) ? ""
		 : *text || staged  ? ", names made since"
				    : "names made lately",
		 *text || staged || catalog_is_old(c) ? "" : "nothing else",
		 c->number);
	store_at_free(c);
}

static void tell(struct store *s, const struct at_choice *c)
{
	const char *would = s->read_only ? "would be" : "are";
	char text[64];

	given_up_commits(c, text);
	if (*text)
		env_logf(s->env, ENV_WARNING,
			 "at @%" PRIu64 ": commits after it (%s) %s given up",
			 c->number, text, would);
	if (c->staged.pos)
		env_logf(s->env, ENV_WARNING,
			 "at @%" PRIu64 ": what was last shown, staged changes "
			 "included, %s kept as a discarded state (txn "
			 "snapshots)",
			 c->number, s->read_only ? "would be" : "is");
	else if (c->newest_shows_staged)
		env_logf(s->env, ENV_WARNING,
			 "at @%" PRIu64 ": staged changes %s given up",
			 c->number, would);
	if (!c->has_catalog)
		env_logf(s->env, ENV_WARNING,
			 "at @%" PRIu64 ": all other commits, all names and "
			 "settings %s given up: no list of them can be read",
			 c->number, would);
	else if (c->catalog_seq < c->newest.seq)
		env_logf(s->env, ENV_WARNING,
			 "at @%" PRIu64 ": the list of commits and names is "
			 "that of record %" PRIu64 " (of %" PRIu64 "): names "
			 "and settings changed since %s given up",
			 c->number, c->catalog_seq, c->newest.seq, would);
}

/* --- choosing --- */

/* Would the store open by itself, with everything readable? 0: no; -EEXIST. */
static int refuse_whole(struct store *s, struct store_error *err_out)
{
	struct store_error ignored = { "" };
	struct commit_info *info = NULL;
	struct record rec = { 0 };
	struct root root = ROOT_EMPTY;
	struct view *v = NULL;
	int err;

	err = store_recover(s, &rec, &ignored);
	for (size_t i = 0; i < rec.nroots && !err; i++)
		err = is_whole(s, &rec.roots[i].ptr);
	root.ptr = record_find_root(&rec, ROOT_CATALOG, 0);
	info = malloc(sizeof(*info));
	if (!err)
		err = info ? view_new(s, STORE_CATALOG_ID, &root, true, &v)
			   : -ENOMEM;
	if (!err)
		err = catalog_prev_commit(v, UINT64_MAX, info);
	root.ptr = record_find_root(&rec, ROOT_HEAD, 0);
	if (!err && info->number == rec.head_number &&
	    ptr_eq(&info->root, &root.ptr)) {
		store_error_set(err_out,
				"the store opens by itself, and all of its "
				"newest state can be read: mount it without "
				"--at; to go back: txn rollback");
		err = -EEXIST;
	}
	view_free(v);
	free(info);
	record_release(&rec);
	return err == 1 || is_damage(err) ? 0 : err;
}

int store_at_choose(struct store *store, uint64_t number,
		    struct at_choice **out, struct store_error *err_out)
{
	struct at_choice *c;
	int err;

	err = refuse_whole(store, err_out);
	if (err)
		return err;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	err = look(store, number, c);
	if (!err && !c->number) {
		store_error_set(err_out,
				"commit @%" PRIu64 " is not there, or not all "
				"of it can be read",
				number);
		store_suggest(store, err_out);
		err = -EFSCORRUPTED;
	}
	if (err)
		store_at_free(c);
	else
		*out = c;
	return err;
}

void store_at_free(struct at_choice *c)
{
	if (!c)
		return;
	record_release(&c->newest);
	free(c->drop);
	free(c);
}

/* Stands for the newest: the next record follows it. */
int store_at_record(const struct at_choice *c, struct record *rec_out)
{
	struct record rec = { .seq = c->newest.seq,
			      .pos = c->newest.pos,
			      .sum = c->newest.sum,
			      .next_obj = c->next_obj,
			      .next_view = c->next_view,
			      .head_number = c->last_number > c->number
						     ? c->last_number + 1
						     : c->number };
	struct ptr damaged = record_find_root(&c->newest, ROOT_PLAIN, 0);
	int err;

	err = record_add_root(&rec, ROOT_HEAD, 0, &c->root);
	if (!err)
		err = record_add_root(&rec, ROOT_CATALOG, 0, &c->catalog);
	if (!err)
		err = record_add_root(&rec, ROOT_PLAIN, 0,
				      c->has_plain ? &c->plain : &damaged);
	if (!err)
		err = record_add_root(&rec, ROOT_VIEW, STORE_WORKING_ID,
				      &c->root);
	if (err)
		record_release(&rec);
	else
		*rec_out = rec;
	return err;
}

/* --- the catalog --- */

static int drop(struct at_choice *c, const struct key *key)
{
	if (c->ndrop == c->drop_cap) {
		size_t cap = c->drop_cap ? c->drop_cap * 2 : 16;
		struct key *v = realloc(c->drop, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		c->drop = v;
		c->drop_cap = cap;
	}
	c->drop[c->ndrop++] = *key;
	return 0;
}

/* Can anything of a state be read? Its top node says. */
static bool has_top(struct store *s, const struct ptr *ptr)
{
	struct node *node;

	if (!ptr->pos)
		return true;
	if (tree_fetch_node(&s->tree, ptr, -1, &node))
		return false;
	node_free_memory(node);
	return true;
}

struct sort_out {
	struct store *s;
	struct at_choice *c;
};

/* What an item of the catalog comes to. */
static int sort_out(void *arg, const struct key *key, const struct val *val)
{
	struct sort_out *so = arg;
	struct at_choice *c = so->c;
	char name[STORE_NAME_MAX + 1];
	bool commit = key->obj == CAT_OBJ_COMMITS, tag;
	struct ptr ptr;
	int err = store_item_state(key, val, name, &ptr);

	if (err)
		return err == 1 ? 0 : err;
	if (commit && key->off == c->number)
		c->listed = true;
	tag = !commit && val->p[CAT_NAMED_OFF_KIND] == STORE_TAG;
	if (commit && key->off > c->number)
		return drop(c, key); /* told with all of them */
	if (!has_top(so->s, &ptr) ||
	    (tag && get_le64(val->p + CAT_NAMED_OFF_NUMBER) > c->number)) {
		env_logf(so->s->env, ENV_WARNING,
			 "at @%" PRIu64 ": %s %s given up", c->number, name,
			 so->s->read_only ? "would be" : "is");
		return drop(c, key);
	}
	if (commit && !get_le32(val->p + CAT_COMMIT_OFF_NAMES))
		c->unnamed++;
	return 0;
}

static void fill_commit(struct store *s, const struct at_choice *c,
			struct commit_info *info, uint64_t number)
{
	*info = (struct commit_info){ .number = number,
				      .root = c->root,
				      .time_ns = c->time_ns,
				      .uid = (uint32_t)geteuid() };
	if (number == c->number)
		return; /* its message is lost */
	info->time_ns = s->env->now_ns(s->env);
	info->message_bytes = (size_t)snprintf(
		info->message, sizeof(info->message),
		"opened at @%" PRIu64 ": damage; given up: ", c->number);
	given_up_commits(c, info->message + info->message_bytes);
	info->message_bytes = strlen(info->message);
}

int store_at_apply(struct store *store, struct at_choice *c)
{
	struct sort_out so = { store, c };
	struct catalog_at at = { 0 };
	struct catalog_update u = { .at = &at,
				    .uid = (uint32_t)geteuid(),
				    .head_number = c->number,
				    .time_ns = store->env->now_ns(store->env) };
	struct commit_info *missing = malloc(sizeof(*missing));
	struct commit_info *info = malloc(sizeof(*info));
	int err = missing && info ? 0 : -ENOMEM;

	if (!err)
		tell(store, c);
	if (!err && c->catalog.pos)
		err = tree_walk_new(&store->tree, &c->catalog, 0, sort_out,
				    &so);
	if (err)
		goto out;
	at.drop = c->drop;
	at.ndrop = c->ndrop;
	at.unnamed = c->unnamed;
	if (!c->listed) {
		fill_commit(store, c, missing, c->number);
		at.commit = missing;
		at.unnamed++;
	}
	if (c->last_number > c->number) {
		fill_commit(store, c, info, c->last_number + 1);
		u.commit = info;
	}
	if (c->staged.pos)
		u.discarded = &c->staged;
	err = catalog_update(store, &u);
out:
	free(missing);
	free(info);
	return err;
}
