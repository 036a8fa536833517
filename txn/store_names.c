/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_names.c - the rest of the catalog: snapshots, tags, discarded states,
 * settings, and which commits are dropped. FORMAT.md 5.
 */
#include "txn/store_internal.h"

#include "txn/format.h"
#include "txn/sum.h"

#define DISCARDED_PREFIX "@discarded-"

enum { NAME_SPAN = 1 << 16, PIECES = 1 << 8 };

/* --- names --- */

static bool is_word_char(char c, bool first)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9'))
		return true;
	return !first && (c == '.' || c == '_' || c == '-');
}

bool store_name_is_valid(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > STORE_NAME_MAX || !strcmp(name, "head") ||
	    !strcmp(name, "staged") || !strcmp(name, "working"))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_word_char(name[i], !i))
			return false;
	return true;
}

/* "@discarded-12" */
static bool discarded_number(const char *name, uint64_t *number)
{
	size_t n = strlen(DISCARDED_PREFIX);
	char *end;

	if (strncmp(name, DISCARDED_PREFIX, n) != 0 || name[n] < '1' ||
	    name[n] > '9')
		return false;
	errno = 0;
	*number = strtoull(name + n, &end, 10);
	return !*end && !errno && *number < UINT64_MAX >> 8;
}

static size_t encode_named(const struct name_info *i, bool with_name,
			   uint8_t buf[TREE_VALUE_MAX])
{
	size_t len = with_name ? strlen(i->name) : 0;

	put_le64(buf + CAT_NAMED_OFF_PTR_POS, i->root.pos);
	put_le64(buf + CAT_NAMED_OFF_PTR_SUM, i->root.sum);
	put_le32(buf + CAT_NAMED_OFF_PTR_LEN, i->root.len);
	put_le32(buf + CAT_NAMED_OFF_UID, i->uid);
	put_le64(buf + CAT_NAMED_OFF_TIME, (uint64_t)i->time_ns);
	put_le64(buf + CAT_NAMED_OFF_NUMBER, i->number);
	put_le32(buf + CAT_NAMED_OFF_MESSAGE_BYTES, (uint32_t)i->message_bytes);
	buf[CAT_NAMED_OFF_KIND] = (uint8_t)i->kind;
	buf[CAT_NAMED_OFF_NAME_LEN] = (uint8_t)len;
	memcpy(buf + CAT_NAMED_OFF_NAME, i->name, len);
	return CAT_NAMED_OFF_NAME + len;
}

static int decode_named(const struct key *key, const struct val *v,
			struct name_info *out)
{
	const uint8_t *p = v->p;
	size_t len;

	if (v->len < CAT_NAMED_OFF_NAME)
		return -EFSCORRUPTED;
	len = p[CAT_NAMED_OFF_NAME_LEN];
	if (len != v->len - CAT_NAMED_OFF_NAME || len > STORE_NAME_MAX)
		return -EFSCORRUPTED;
	out->root.pos = get_le64(p + CAT_NAMED_OFF_PTR_POS);
	out->root.sum = get_le64(p + CAT_NAMED_OFF_PTR_SUM);
	out->root.len = get_le32(p + CAT_NAMED_OFF_PTR_LEN);
	out->uid = get_le32(p + CAT_NAMED_OFF_UID);
	out->time_ns = (int64_t)get_le64(p + CAT_NAMED_OFF_TIME);
	out->number = get_le64(p + CAT_NAMED_OFF_NUMBER);
	out->message_bytes = get_le32(p + CAT_NAMED_OFF_MESSAGE_BYTES);
	out->kind = p[CAT_NAMED_OFF_KIND];
	if (out->message_bytes > STORE_MESSAGE_MAX ||
	    out->kind < STORE_SNAPSHOT || out->kind > STORE_DISCARDED)
		return -EFSCORRUPTED;
	memcpy(out->name, p + CAT_NAMED_OFF_NAME, len);
	out->name[len] = '\0';
	if (key->obj == CAT_OBJ_DISCARDED)
		snprintf(out->name, sizeof(out->name), DISCARDED_PREFIX "%llu",
			 (unsigned long long)(key->off >> 8));
	return 0;
}

/* The item of a name: 0, or 1 with a free place in *off_out. */
static int find_named(struct vtx *tx, const char *name, uint64_t *off_out,
		      struct name_info *out)
{
	uint64_t first = XXH3_64bits(name, strlen(name)) << 16;
	struct key from = KEY(CAT_OBJ_NAMES, CAT_KIND_NAMED, first);
	struct key to =
		KEY(CAT_OBJ_NAMES, CAT_KIND_NAMED, first + NAME_SPAN - 1);

	*off_out = first;
	for (;;) {
		struct key at;
		struct val val;
		int err = vtx_next(tx, &from, &to, &at, &val);

		if (err == 1)
			return *off_out > to.off ? -ENOSPC : 1;
		if (!err)
			err = decode_named(&at, &val, out);
		if (err)
			return err;
		if (!strcmp(out->name, name)) {
			*off_out = at.off;
			return 0;
		}
		if (at.off == *off_out)
			*off_out += PIECES;
		from.off = (at.off | (PIECES - 1)) + 1;
		if (from.off > to.off)
			return *off_out > to.off ? -ENOSPC : 1;
	}
}

static int put_named(struct vtx *tx, uint64_t obj, uint64_t off,
		     const struct name_info *i, const char *message)
{
	struct key key = KEY(obj, CAT_KIND_NAMED, off);
	uint8_t buf[TREE_VALUE_MAX];
	size_t done = 0;
	int err;

	err = vtx_put(tx, &key, buf,
		      encode_named(i, obj == CAT_OBJ_NAMES, buf));
	while (!err && done < i->message_bytes) {
		size_t n = min_u64(i->message_bytes - done,
				   CAT_MESSAGE_CHUNK_BYTES);

		key.off++;
		err = vtx_put(tx, &key, message + done, n);
		done += n;
	}
	return err;
}

static int del_named(struct vtx *tx, uint64_t obj, uint64_t off)
{
	struct key from = KEY(obj, CAT_KIND_NAMED, off);
	struct key to = KEY(obj, CAT_KIND_NAMED, off | (PIECES - 1));

	return vtx_del_range(tx, &from, &to);
}

static int read_message(struct vtx *tx, uint64_t obj, uint64_t off,
			struct name_info *i)
{
	size_t done = 0;

	while (done < i->message_bytes) {
		struct key key = KEY(obj, CAT_KIND_NAMED, off + 1);
		struct val val;
		int err = vtx_get(tx, &key, &val);

		off++;
		if (err < 0)
			return err;
		if (err || !val.len || val.len > i->message_bytes - done)
			return -EFSCORRUPTED;
		memcpy(i->message + done, val.p, val.len);
		done += val.len;
	}
	i->message[done] = '\0';
	return 0;
}

bool catalog_item_root(const struct key *key, const struct val *val,
		       struct ptr *out)
{
	/* Commits and names begin with the pointer to their root. */
	bool commit =
		key->obj == CAT_OBJ_COMMITS && key->kind == CAT_KIND_COMMIT;
	bool name =
		(key->obj == CAT_OBJ_NAMES || key->obj == CAT_OBJ_DISCARDED) &&
		!(key->off & (PIECES - 1));

	if ((!commit && !name) || val->len < PTR_BYTES)
		return false;
	*out = (struct ptr){ .pos = get_le64(val->p + CAT_NAMED_OFF_PTR_POS),
			     .sum = get_le64(val->p + CAT_NAMED_OFF_PTR_SUM),
			     .len = get_le32(val->p + CAT_NAMED_OFF_PTR_LEN) };
	return true;
}

bool plain_item_root(const struct key *key, const struct val *val,
		     struct ptr *out)
{
	if (key->obj != PLAIN_OBJ_STATES || key->kind != PLAIN_KIND_STATE ||
	    val->len != PLAIN_STATE_BYTES)
		return false;
	*out = (struct ptr){ .pos = get_le64(val->p + PLAIN_STATE_OFF_PTR_POS),
			     .sum = get_le64(val->p + PLAIN_STATE_OFF_PTR_SUM),
			     .len = get_le32(val->p +
					     PLAIN_STATE_OFF_PTR_LEN) };
	return true;
}

static int check_named(const struct key *key, const struct val *val)
{
	struct name_info *info;
	int err;

	if (key->off & (PIECES - 1)) /* a piece of the message */
		return val->len && val->len <= CAT_MESSAGE_CHUNK_BYTES
			       ? 0
			       : -EFSCORRUPTED;
	info = malloc(sizeof(*info));
	err = info ? decode_named(key, val, info) : -ENOMEM;
	if (!err && key->obj == CAT_OBJ_NAMES &&
	    !store_name_is_valid(info->name))
		err = -EFSCORRUPTED;
	free(info);
	return err;
}

int catalog_check_item(const struct key *key, const struct val *val)
{
	switch (key->obj) {
	case CAT_OBJ_COMMITS:
		if (key->kind == CAT_KIND_COMMIT)
			return catalog_check_commit(val);
		return key->kind == CAT_KIND_MESSAGE && val->len &&
				       val->len <= CAT_MESSAGE_CHUNK_BYTES
			       ? 0
			       : -EFSCORRUPTED;
	case CAT_OBJ_NAMES:
	case CAT_OBJ_DISCARDED:
		return key->kind == CAT_KIND_NAMED ? check_named(key, val)
						   : -EFSCORRUPTED;
	case CAT_OBJ_SETTINGS:
		return key->kind == CAT_KIND_SETTING &&
				       val->len == CAT_SETTING_BYTES
			       ? 0
			       : -EFSCORRUPTED;
	default:
		return -EFSCORRUPTED;
	}
}

int store_item_state(const struct key *key, const struct val *val,
		     char name_out[STORE_NAME_MAX + 1], struct ptr *root_out)
{
	struct name_info *info;
	int err;

	if (!catalog_item_root(key, val, root_out))
		return 1;
	err = catalog_check_item(key, val);
	if (err)
		return err;
	if (key->obj == CAT_OBJ_COMMITS) {
		snprintf(name_out, STORE_NAME_MAX + 1, "@%llu",
			 (unsigned long long)key->off);
		return 0;
	}
	info = malloc(sizeof(*info));
	if (!info)
		return -ENOMEM;
	err = decode_named(key, val, info);
	if (!err)
		memcpy(name_out, info->name, sizeof(info->name));
	free(info);
	return err;
}

struct get_name {
	const char *name;
	struct name_info *out;
};

static int get_name_fn(struct vtx *tx, void *arg)
{
	struct get_name *g = arg;
	uint64_t off, number;
	struct key key;
	struct val val;
	int err;

	if (discarded_number(g->name, &number)) {
		key = KEY(CAT_OBJ_DISCARDED, CAT_KIND_NAMED, number << 8);
		err = vtx_get(tx, &key, &val);
		if (!err)
			err = decode_named(&key, &val, g->out);
		if (!err)
			g->out->message[0] = '\0';
		return err;
	}
	err = find_named(tx, g->name, &off, g->out);
	return err ? err : read_message(tx, CAT_OBJ_NAMES, off, g->out);
}

int store_get_name(struct store *store, const char *name, struct name_info *out)
{
	struct get_name g = { .name = name, .out = out };

	return view_read(store->shown, get_name_fn, &g);
}

struct each_name {
	uint64_t obj, off;
	struct name_info *info;
};

static int each_name_fn(struct vtx *tx, void *arg)
{
	struct each_name *e = arg;
	struct key from = KEY(e->obj, CAT_KIND_NAMED, e->off);
	struct key to = KEY(e->obj, CAT_KIND_NAMED, UINT64_MAX), at;
	struct val val;
	int err;

	err = vtx_next(tx, &from, &to, &at, &val);
	if (!err)
		err = decode_named(&at, &val, e->info);
	if (err)
		return err;
	e->off = at.off;
	return read_message(tx, e->obj, at.off, e->info);
}

int store_each_name(struct store *store,
		    int (*fn)(void *arg, const struct name_info *info),
		    void *arg)
{
	struct each_name e = { .info = malloc(sizeof(*e.info)) };
	int err = e.info ? 0 : -ENOMEM;

	for (e.obj = CAT_OBJ_NAMES; !err && e.obj <= CAT_OBJ_DISCARDED;
	     e.obj++) {
		e.off = 0;
		for (;;) {
			err = view_read(store->shown, each_name_fn, &e);
			if (!err)
				err = fn(arg, e.info);
			if (err)
				break;
			e.off = (e.off | (PIECES - 1)) + 1;
			if (!e.off)
				break; /* that was the last place */
		}
		if (err == 1)
			err = 0;
	}
	free(e.info);
	return err;
}

/* --- settings --- */

_Static_assert((int)STORE_KEEP_LAST == CAT_SETTING_KEEP_LAST &&
		       (int)STORE_KEEP_DISCARDED ==
			       CAT_SETTING_KEEP_DISCARDED &&
		       (int)STORE_PUSH_MAPS == CAT_SETTING_PUSH_MAPS &&
		       (int)STORE_PLAIN == CAT_SETTING_PLAIN,
	       "they are numbered as on the disk");

static int tx_get_setting(struct vtx *tx, uint64_t which, uint64_t *out)
{
	struct key key = KEY(CAT_OBJ_SETTINGS, CAT_KIND_SETTING, which);
	struct val val;
	int err;

	err = vtx_get(tx, &key, &val);
	if (!err && val.len != CAT_SETTING_BYTES)
		err = -EFSCORRUPTED;
	if (!err)
		*out = get_le64(val.p);
	return err;
}

static int tx_put_setting(struct vtx *tx, uint64_t which, uint64_t value)
{
	struct key key = KEY(CAT_OBJ_SETTINGS, CAT_KIND_SETTING, which);
	uint8_t buf[CAT_SETTING_BYTES];

	put_le64(buf, value);
	return vtx_put(tx, &key, buf, sizeof(buf));
}

struct load_settings {
	uint64_t v[STORE_SETTINGS];
};

static int load_settings_fn(struct vtx *tx, void *arg)
{
	struct load_settings *l = arg;

	l->v[STORE_KEEP_LAST] = STORE_KEEP_LAST_DEFAULT;
	l->v[STORE_KEEP_DISCARDED] = STORE_KEEP_DISCARDED_DEFAULT;
	l->v[STORE_PUSH_MAPS] = 1;
	l->v[STORE_PLAIN] = 1;
	for (uint64_t i = 1; i < STORE_SETTINGS; i++) {
		int err = tx_get_setting(tx, i, &l->v[i]);

		if (err < 0)
			return err;
	}
	return 0;
}

int catalog_load_settings(struct store *store)
{
	struct load_settings l;
	int err = view_read(store->catalog, load_settings_fn, &l);

	for (size_t i = 1; !err && i < STORE_SETTINGS; i++)
		__atomic_store_n(&store->settings[i], l.v[i], __ATOMIC_RELAXED);
	return err;
}

uint64_t store_get_setting(struct store *store, enum store_setting which)
{
	return __atomic_load_n(&store->settings[which], __ATOMIC_RELAXED);
}

/* --- what one turn changes --- */

struct update_arg {
	struct catalog_update *u;
	struct name_info *name; /* room */
	struct commit_info *info; /* room */
	uint64_t unnamed; /* commits without a tag, as it will be */
	bool unnamed_changed;
};

/* A commit that has more or fewer tags, or none any more. */
static int change_tags(struct vtx *tx, struct update_arg *a, uint64_t number,
		       bool more)
{
	int err = tx_next_commit(tx, number, a->info);
	bool was_named;

	if (!err && a->info->number != number)
		err = 1;
	if (err)
		return err == 1 ? (more ? -ENOENT : 0) : err;
	was_named = a->info->names;
	if (!more && !was_named)
		return -EFSCORRUPTED;
	a->info->names += more ? 1u : -1u;
	if (was_named != (a->info->names != 0)) {
		a->unnamed += more ? -1ull : 1ull;
		a->unnamed_changed = true;
	}
	return tx_put_commit_item(tx, a->info);
}

static int add_name(struct vtx *tx, struct update_arg *a)
{
	const struct catalog_change *c = a->u->change;
	struct name_info *n = a->name;
	uint64_t off;
	int err;

	if (!store_name_is_valid(c->name))
		return -EINVAL;
	err = find_named(tx, c->name, &off, n);
	if (err != 1)
		return err ? err : -EEXIST;
	*n = (struct name_info){ .kind = c->op == CATALOG_TAG ? STORE_TAG
							      : STORE_SNAPSHOT,
				 .number = a->u->head_number,
				 .time_ns = a->u->time_ns,
				 .uid = c->uid,
				 .message_bytes = c->message_bytes };
	snprintf(n->name, sizeof(n->name), "%s", c->name);
	if (c->op == CATALOG_TAG) {
		err = change_tags(tx, a, c->number, true);
		if (err)
			return err;
		n->number = c->number;
		n->root = a->info->root;
	} else {
		n->root = *a->u->state;
	}
	return put_named(tx, CAT_OBJ_NAMES, off, n, c->message);
}

static int delete_name(struct vtx *tx, struct update_arg *a)
{
	const struct catalog_change *c = a->u->change;
	uint64_t off, number;
	struct key key;
	struct val val;
	int err;

	a->u->dropped = true;
	if (discarded_number(c->name, &number)) {
		key = KEY(CAT_OBJ_DISCARDED, CAT_KIND_NAMED, number << 8);
		err = vtx_get(tx, &key, &val);
		if (err)
			return err == 1 ? -ENOENT : err;
		return del_named(tx, CAT_OBJ_DISCARDED, key.off);
	}
	err = find_named(tx, c->name, &off, a->name);
	if (err)
		return err == 1 ? -ENOENT : err;
	if (a->name->kind == STORE_TAG) {
		err = change_tags(tx, a, a->name->number, false);
		if (err)
			return err;
	}
	return del_named(tx, CAT_OBJ_NAMES, off);
}

/* Keep a state that a switch replaced, and drop the oldest of them. */
static int add_discarded(struct vtx *tx, struct update_arg *a)
{
	struct key from = KEY(CAT_OBJ_DISCARDED, CAT_KIND_NAMED, 0);
	struct key to = KEY(CAT_OBJ_DISCARDED, CAT_KIND_NAMED, UINT64_MAX);
	uint64_t keep = store_get_setting(a->u->store, STORE_KEEP_DISCARDED);
	uint64_t number = 1, oldest, have = 0;
	struct key at;
	struct val val;
	int err;

	err = vtx_prev(tx, &from, &to, &at, &val);
	if (err < 0)
		return err;
	if (!err)
		number = (at.off >> 8) + 1;
	*a->name = (struct name_info){ .kind = STORE_DISCARDED,
				       .root = *a->u->discarded,
				       .number = a->u->head_number,
				       .time_ns = a->u->time_ns,
				       .uid = a->u->uid };
	err = put_named(tx, CAT_OBJ_DISCARDED, number << 8, a->name, NULL);
	/* Numbers grow by one: those below are what is too many. */
	oldest = keep && number > keep ? number - keep : 0;
	while (!err && keep && from.off <= oldest << 8) {
		err = vtx_next(tx, &from, &to, &at, &val);
		if (err || at.off > oldest << 8)
			break;
		have++;
		err = del_named(tx, CAT_OBJ_DISCARDED, at.off);
		from.off = (at.off | (PIECES - 1)) + 1;
	}
	if (have)
		a->u->dropped = true;
	return err == 1 ? 0 : err;
}

/* The oldest commits without a tag go, until no more than keep.last are left;
 * never the newest one. */
static int drop_commits(struct vtx *tx, struct update_arg *a, uint64_t newest)
{
	uint64_t keep = store_get_setting(a->u->store, STORE_KEEP_LAST);
	uint64_t from = 1;
	int err = 0;

	while (keep && a->unnamed > keep && !err) {
		err = tx_next_commit(tx, from, a->info);
		if (err || a->info->number >= newest)
			break;
		from = a->info->number + 1;
		if (a->info->names)
			continue;
		err = tx_del_commit(tx, a->info->number);
		a->unnamed--;
		a->unnamed_changed = true;
		a->u->dropped = true;
	}
	return err == 1 ? 0 : err;
}

static int apply_change(struct vtx *tx, struct update_arg *a)
{
	const struct catalog_change *c = a->u->change;

	switch (c->op) {
	case CATALOG_SNAPSHOT:
	case CATALOG_TAG:
		return add_name(tx, a);
	case CATALOG_DELETE:
		return delete_name(tx, a);
	case CATALOG_SET:
		return tx_put_setting(tx, c->setting, c->number);
	default:
		return -EINVAL;
	}
}

static int apply_at(struct vtx *tx, struct update_arg *a)
{
	const struct catalog_at *at = a->u->at;
	int err = 0;

	for (size_t i = 0; i < at->ndrop && !err; i++) {
		const struct key *k = &at->drop[i];

		err = k->obj == CAT_OBJ_COMMITS ? tx_del_commit(tx, k->off)
						: del_named(tx, k->obj, k->off);
		a->u->dropped = true;
	}
	if (!err && at->commit)
		err = tx_put_commit(tx, at->commit);
	a->unnamed = at->unnamed;
	a->unnamed_changed = true;
	return err;
}

static int update_fn(struct vtx *tx, void *arg)
{
	struct update_arg *a = arg;
	struct catalog_update *u = a->u;
	int err;

	u->dropped = false;
	a->unnamed = 0;
	a->unnamed_changed = false;
	err = tx_get_setting(tx, CAT_SETTING_UNNAMED, &a->unnamed);
	if (err < 0)
		return err;
	err = u->at ? apply_at(tx, a) : 0;
	if (!err && u->commit) {
		err = tx_put_commit(tx, u->commit);
		a->unnamed++;
		a->unnamed_changed = true;
		if (!err)
			err = drop_commits(tx, a, u->commit->number);
	}
	if (!err && u->change)
		err = apply_change(tx, a);
	if (!err && u->discarded)
		err = add_discarded(tx, a);
	if (!err && a->unnamed_changed)
		err = tx_put_setting(tx, CAT_SETTING_UNNAMED, a->unnamed);
	return err;
}

int catalog_update(struct store *store, struct catalog_update *u)
{
	struct update_arg a = { .u = u,
				.name = malloc(sizeof(*a.name)),
				.info = malloc(sizeof(*a.info)) };
	struct root root = ROOT_EMPTY;
	int err = -ENOMEM;

	u->store = store;
	if (!a.name || !a.info)
		goto out;
	if (u->at) { /* in memory: before anything is written, or will be */
		err = view_update_freeze(store->catalog, update_fn, NULL, &a,
					 &root);
		root_put(&store->tree, &root);
	} else {
		err = view_update(store->catalog, VIEW_FINISHES, update_fn,
				  NULL, &a);
	}
out:
	free(a.name);
	free(a.info);
	return err;
}
