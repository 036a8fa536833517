/* SPDX-License-Identifier: GPL-2.0-or-later */
/* store.c - making, opening and closing a store, and its accessors; store.h. */
#include "txn/store_internal.h"

#include <stdarg.h>

#include "txn/format.h"

#define MIB ((uint64_t)1 << 20)

enum { CACHE_DEFAULT_BYTES = 48 << 20 };

static const char guard_note[] =
	"This folder stands where the control file of a txnfs mount is, so "
	"that\n"
	"\"echo commit > .txn/ctl\" fails while the directory is not mounted.\n"
	"Mount it with: txn mount DIR\n";

void store_error_set(struct store_error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
}

/* --- the handle --- */

static int new_view(struct store *s, uint64_t id, const struct ptr *ptr,
		    struct view **out)
{
	struct root root = { .ptr = *ptr };

	return view_new(s, id, &root, s->read_only, out);
}

static int store_new(const struct store_params *p, struct store **out)
{
	struct store *s;
	int err;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->dev = p->dev;
	s->env = p->env;
	s->read_only = p->read_only;
	s->no_thread = p->no_thread;
	s->check_item = p->check_item;
	s->check_arg = p->check_arg;
	s->queue_last = &s->queue_first;
	s->next_obj = STORE_FIRST_OBJ;
	s->next_view = STORE_FIRST_VIEW_ID;
	pthread_mutex_init(&s->queue_lock, NULL);
	pthread_cond_init(&s->queue_cond, NULL);
	pthread_mutex_init(&s->head_lock, NULL);
	pthread_mutex_init(&s->views_lock, NULL);
	pthread_mutex_init(&s->gc_lock, NULL);
	err = cache_new(p->cache_bytes ? p->cache_bytes : CACHE_DEFAULT_BYTES,
			&s->cache);
	if (err) {
		store_abandon(s);
		return err;
	}
	s->env->random(s->env, &s->lineage, sizeof(s->lineage));
	*out = s;
	return 0;
}

static void forget_record(struct store *s)
{
	view_free(s->working);
	view_free(s->plain);
	view_free(s->catalog);
	view_free(s->shown);
	s->working = s->plain = s->catalog = s->shown = NULL;
	root_put(&s->tree, &s->head);
	record_release(&s->last);
}

static void store_free(struct store *s, bool tidy)
{
	if (!s)
		return;
	forget_record(s);
	repair_free(s->repair);
	cache_free(s->cache);
	tree_release(&s->tree);
	log_close(s->log, tidy);
	pthread_mutex_destroy(&s->gc_lock);
	pthread_mutex_destroy(&s->views_lock);
	pthread_mutex_destroy(&s->head_lock);
	pthread_cond_destroy(&s->queue_cond);
	pthread_mutex_destroy(&s->queue_lock);
	free(s);
}

void store_abandon(struct store *s)
{
	store_free(s, false);
}

static int open_log(struct store *s)
{
	struct log_params lp = {
		.dev = s->dev,
		.env = s->env,
		.read_only = s->read_only,
		.small_segment_bytes = s->format.small_segment_bytes,
		.bulk_segment_bytes = s->format.bulk_segment_bytes,
		.reserve_bytes = s->format.reserve_bytes,
		.no_thread = s->no_thread,
	};
	int err;

	err = log_open(&lp, &s->log);
	if (err)
		return err;
	return tree_init(&s->tree, s->log, s->cache);
}

/* Views and head as the record says. */
static int adopt_record(struct store *s, struct record *rec)
{
	struct ptr ptr;
	int err;

	ptr = record_find_root(rec, ROOT_CATALOG, 0);
	err = new_view(s, STORE_CATALOG_ID, &ptr, &s->catalog);
	if (!err)
		err = new_view(s, STORE_CATALOG_ID, &ptr, &s->shown);
	ptr = record_find_root(rec, ROOT_PLAIN, 0);
	if (!err)
		err = new_view(s, STORE_PLAIN_ID, &ptr, &s->plain);
	ptr = record_find_root(rec, ROOT_VIEW, STORE_WORKING_ID);
	if (!err)
		err = new_view(s, STORE_WORKING_ID, &ptr, &s->working);
	if (err)
		return err;
	s->head.ptr = record_find_root(rec, ROOT_HEAD, 0);
	s->next_obj = max_u64(rec->next_obj, STORE_FIRST_OBJ);
	s->next_view = max_u64(rec->next_view, STORE_FIRST_VIEW_ID);
	s->small_flushed = rec->small_flushed;
	s->bulk_flushed = rec->bulk_flushed;
	s->recovered = !(rec->flags & REC_FLAG_CLOSING);
	if (s->recovered)
		s->next_obj += STORE_OBJ_SKIP;
	s->last = *rec;
	*rec = (struct record){ 0 };
	return 0;
}

/* One record for everybody, though nothing may have changed. */
static int write_record(struct store *s, struct view *view, bool closing)
{
	struct queue_req req = { .view = view, .closing = closing };

	return store_queue_run(s, &req);
}

/* --- create --- */

static uint64_t power_of_two_below(uint64_t v)
{
	uint64_t p = 1;

	while (p <= v / 2)
		p *= 2;
	return p;
}

static uint64_t clamp_u64(uint64_t v, uint64_t lo, uint64_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

/* Segments small enough that a small host is not eaten up by prepared ones. */
static int choose_params(const struct store_params *p, struct format_text *f)
{
	uint64_t space, unit;
	int err;

	err = p->dev->ops->space(p->dev, &space);
	if (err)
		return err;
	unit = power_of_two_below(space / 512 + 1);
	f->small_segment_bytes = p->small_segment_bytes
					 ? p->small_segment_bytes
					 : clamp_u64(unit, MIB, 8 * MIB);
	f->bulk_segment_bytes = p->bulk_segment_bytes
					? p->bulk_segment_bytes
					: clamp_u64(unit * 8, MIB, 64 * MIB);
	f->reserve_bytes = p->reserve_bytes ? p->reserve_bytes
					    : clamp_u64(unit, MIB, 8 * MIB);
	return 0;
}

/* tmp/ is there before dev_replace_text() needs it; .txn/format is the last
 * thing to appear: before it the folder is not a store. */
static int create_folders(struct dev *dev)
{
	static const char *const folders[] = { "log", "tmp", "ctl" };
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(folders) && !err; i++) {
		err = dev->ops->mkdir(dev, folders[i]);
		if (err == -EEXIST)
			err = 0;
	}
	if (!err)
		err = dev->ops->sync_dir(dev, "");
	if (!err)
		err = dev_replace_text(dev, "ctl/README", guard_note);
	if (!err)
		err = dev_replace_text(dev, ".gitignore", "*\n");
	return err;
}

static int create_first_record(struct store *s)
{
	struct record rec = { .flags = REC_FLAG_CLOSING };
	int err;

	err = log_start(s->log, LOG_USE);
	if (!err)
		err = adopt_record(s, &rec);
	/* The store begins with this record; nothing was flushed before. */
	if (!err)
		err = write_record(s, s->working, false);
	return err;
}

/* 0: there is none. */
static int refuse_existing(struct dev *dev, const char *name)
{
	struct dev_file *f;
	int err = dev->ops->open(dev, name, false, &f);

	if (err)
		return err == -ENOENT ? 0 : err;
	dev->ops->close(f);
	return -EEXIST;
}

int store_create(const struct store_params *params, struct store **store_out,
		 struct store_error *err_out)
{
	char text[FORMAT_TEXT_MAX_BYTES];
	struct store *s = NULL;
	const char *what = "creating the store";
	int err;

	err = refuse_existing(params->dev, "format");
	if (err) {
		store_error_set(err_out,
				err == -EEXIST ? "there is a store already"
					       : "looking for .txn/format: %s",
				strerror(-err));
		return err;
	}
	err = store_new(params, &s);
	if (err)
		goto out;
	s->read_only = false;
	s->format.version = params->format_version ? params->format_version
						   : STORE_FORMAT_VERSION;
	s->env->random(s->env, s->uuid, sizeof(s->uuid));
	/* Random, of the standard variant: RFC 9562, version 4. */
	s->uuid[6] = (uint8_t)((s->uuid[6] & 0x0f) | 0x40);
	s->uuid[8] = (uint8_t)((s->uuid[8] & 0x3f) | 0x80);
	uuid_to_text(s->uuid, s->format.uuid);
	err = choose_params(params, &s->format);
	if (!err)
		err = create_folders(params->dev);
	if (err)
		goto out;
	what = "creating the log";
	err = open_log(s);
	if (!err)
		err = create_first_record(s);
	if (!err)
		err = catalog_load_settings(s);
	if (err)
		goto out;
	what = "writing .txn/format";
	format_text_write(&s->format, text);
	/* Read back what others will read, so that get() works here too. */
	err = format_text_parse(text, strlen(text), &s->format);
	if (!err)
		err = dev_replace_text(params->dev, "format", text);
out:
	if (err) {
		store_error_set(err_out, "%s: %s", what, strerror(-err));
		store_abandon(s);
		return err;
	}
	*store_out = s;
	return 0;
}

/* --- open --- */

static bool is_damage(int err)
{
	return err == -EFSCORRUPTED || err == -EFSBADCRC;
}

/* The bit that was flipped is turned back, on the disk as well. */
static int heal_format(struct store *s, char *text, size_t len)
{
	int err = format_text_heal(text, len, &s->format);

	if (!err)
		err = dev_replace(s->dev, "format", text, len);
	if (!err)
		env_logf(s->env, ENV_WARNING,
			 ".txn/format: a bit that was flipped is turned back");
	return err;
}

static int read_format(struct store *s, bool repair,
		       struct store_error *err_out)
{
	char *text = NULL;
	size_t len;
	int err;

	err = dev_read_all(s->dev, "format", FORMAT_TEXT_MAX_BYTES, &text,
			   &len);
	if (err) {
		store_error_set(err_out, "reading .txn/format: %s",
				strerror(-err));
		return err == -EFBIG ? -EFSCORRUPTED : err;
	}
	err = format_text_parse(text, len, &s->format);
	if (repair && is_damage(err))
		err = heal_format(s, text, len);
	free(text);
	if (err == -EPROTONOSUPPORT)
		store_error_set(err_out,
				"the store has format version %u, this program "
				"knows 1 to %u: use a newer txnfs",
				s->format.version, STORE_FORMAT_VERSION);
	else if (is_damage(err))
		store_error_set(err_out,
				"damage: .txn/format is not readable as a "
				"store's description; %s",
				repair ? "it is more than one flipped bit: "
					 "txn/FORMAT.md 1 says what belongs "
					 "there"
				       : "txn verify --repair turns a flipped "
					 "bit back");
	else if (err)
		store_error_set(err_out, "writing .txn/format: %s",
				strerror(-err));
	else
		err = uuid_from_text(s->format.uuid, s->uuid);
	return err;
}

/*
 * Go on writing after the chosen record: in new segments, so that nothing that
 * a crash left half written is ever appended to. What lies beyond the record
 * goes once the first new record is durable; when the host has no space for
 * the new segments it goes before: recovery has refused it, and would again.
 */
static int start_writing(struct store *s, struct view *changed,
			 struct store_error *err_out)
{
	bool at =
		changed == s->catalog; /* what follows is kept until a sweep */
	uint64_t small_end = s->last.pos + record_bytes(&s->last);
	uint64_t bulk_end = s->last.bulk_flushed;
	bool discarded = false;
	const char *what = "flushing what was read";
	int err;

	err = at ? log_sync_old(s->log, 0, 0)
		 : log_sync_old(s->log, s->last.small_flushed,
				s->last.bulk_flushed);
	if (err)
		goto out;
	what = "preparing the log";
	err = log_start(s->log, LOG_USE);
	if (err == -ENOSPC && !at) {
		err = log_discard_after(s->log, small_end, bulk_end);
		discarded = !err;
		if (!err)
			err = log_start(s->log, LOG_USE);
	}
	/* With less than the reserve: what is there can be deleted. */
	if (err == -ENOSPC)
		err = log_start(s->log, LOG_USE_TO_FINISH);
	if (err)
		goto out;
	/* All that exists is durable, and what comes lies above it. */
	s->small_flushed = log_tail(s->log, LOG_SMALL);
	s->bulk_flushed = log_tail(s->log, LOG_BULK);
	what = "writing the first record";
	changed->version++; /* there is something to say */
	err = write_record(s, changed, false);
	if (!err && at)
		store_keep_copy(s);
	if (err || discarded || at)
		goto out;
	what = "discarding the unfinished end of the log";
	err = log_discard_after(s->log, small_end, bulk_end);
out:
	if (err)
		store_error_set(err_out, "%s: %s%s", what, strerror(-err),
				err == -ENOSPC ? "; free some space on the host"
					       : "");
	return err;
}

static int load_head_info(struct store *s, struct store_error *err_out)
{
	int err;

	if (!s->last.head_number)
		return 0;
	err = catalog_get_commit(s->catalog, s->last.head_number,
				 &s->head_info);
	if (err == 1)
		err = -EFSCORRUPTED;
	if (!err && !ptr_eq(&s->head_info.root, &s->head.ptr))
		err = -EFSCORRUPTED;
	if (err)
		store_error_set(err_out,
				"damage: commit @%llu in the catalog: %s",
				(unsigned long long)s->last.head_number,
				strerror(-err));
	return err;
}

static int open_newest(struct store *s, struct store_error *err_out)
{
	struct record rec = { 0 };
	int err;

	err = store_recover(s, &rec, err_out);
	if (!err)
		err = adopt_record(s, &rec);
	if (!err)
		err = load_head_info(s, err_out);
	if (!err)
		err = catalog_load_settings(s);
	if (err && !err_out->text[0])
		store_error_set(err_out, "damage: settings in the catalog: %s",
				strerror(-err));
	record_release(&rec);
	return err;
}

/* As open_newest; what is wanted and was not found is searched for, as long as
 * that brings something. */
static int open_repairing(struct store *s, struct store_error *err_out)
{
	uint64_t healed = 1;
	int err, err2 = 0;

	err = repair_new(s->log, &s->repair);
	if (err)
		return err;
	s->tree.repair = s->repair;
	for (;;) {
		err = open_newest(s, err_out);
		if (!is_damage(err))
			return err;
		err2 = repair_search(s->repair, &healed);
		if (err2 || !healed)
			return err2 ? err2 : err;
		forget_record(s);
		err_out->text[0] = '\0';
	}
}

/* The catalog as it was entered, though no record has it yet. */
static int show_catalog(struct store *s)
{
	struct root root, old = ROOT_EMPTY;
	int err;

	view_freeze(s->catalog, &root);
	err = view_flip(s->shown, &root, NULL, NULL, NULL, &old);
	root_put(&s->tree, &old);
	root_put(&s->tree, &root);
	return err;
}

static int open_at(struct store *s, uint64_t number,
		   struct store_error *err_out)
{
	struct at_choice *c = NULL;
	struct record rec = { 0 };
	int err;

	err = store_at_choose(s, number, &c, err_out);
	if (!err)
		err = store_at_record(c, &rec);
	if (!err)
		err = adopt_record(s, &rec);
	if (!err)
		err = store_at_apply(s, c);
	if (!err)
		err = show_catalog(s);
	if (!err)
		err = load_head_info(s, err_out);
	if (!err)
		err = catalog_load_settings(s);
	record_release(&rec);
	store_at_free(c);
	return err;
}

int store_open(const struct store_params *params, struct store **store_out,
	       struct store_error *err_out)
{
	struct store *s = NULL;
	int err;

	err_out->text[0] = '\0';
	err = store_new(params, &s);
	if (err)
		goto out;
	err = read_format(s, params->repair, err_out);
	if (err)
		goto out;
	err = open_log(s);
	if (err) {
		store_error_set(err_out, "opening .txn/log: %s",
				strerror(-err));
		goto out;
	}
	if (params->at_commit) {
		err = open_at(s, params->at_commit, err_out);
	} else {
		err = params->repair ? open_repairing(s, err_out)
				     : open_newest(s, err_out);
		if (is_damage(err))
			store_suggest(s, err_out);
	}
	if (!err && !s->read_only)
		err = start_writing(s,
				    params->at_commit ? s->catalog : s->working,
				    err_out);
out:
	if (err) {
		if (!err_out->text[0])
			store_error_set(err_out, "%s", strerror(-err));
		store_abandon(s);
		return err;
	}
	*store_out = s;
	return 0;
}

int store_close(struct store *store)
{
	int err = 0;

	if (!store)
		return 0;
	if (store_failed(store, NULL))
		err = -EIO;
	else if (!store->read_only)
		err = write_record(store, store->working, true);
	if (!err && !store->read_only)
		store_keep_copy(store);
	store_free(store, !err && !store->read_only);
	return err;
}

/* --- accessors --- */

const struct tree *store_tree(struct store *store)
{
	return &store->tree;
}

struct log *store_log(struct store *store)
{
	return store->log;
}

struct env *store_env(struct store *store)
{
	return store->env;
}

struct repair *store_repair(struct store *store)
{
	return store->repair;
}

struct view *store_working(struct store *store)
{
	return store->working;
}

struct view *store_plain(struct store *store)
{
	return store->plain;
}

bool store_is_read_only(const struct store *store)
{
	return store->read_only;
}

const char *store_uuid(const struct store *store)
{
	return store->format.uuid;
}

unsigned int store_format_version(const struct store *store)
{
	return store->format.version;
}

uint64_t store_new_obj(struct store *store)
{
	return __atomic_fetch_add(&store->next_obj, 1, __ATOMIC_SEQ_CST);
}

uint64_t store_new_view_id(struct store *store)
{
	return __atomic_fetch_add(&store->next_view, 1, __ATOMIC_SEQ_CST);
}

void store_require_bulk(struct store *store, uint64_t end_pos)
{
	uint64_t cur = __atomic_load_n(&store->bulk_required, __ATOMIC_SEQ_CST);

	while (cur < end_pos &&
	       !__atomic_compare_exchange_n(&store->bulk_required, &cur,
					    end_pos, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST))
		;
}

int store_failed(struct store *store, const char **reason_out)
{
	const char *text = NULL;
	int err = log_error(store->log, &text);

	if (reason_out)
		*reason_out = text;
	return err;
}

/* --- making states durable --- */

int store_commit(struct store *store, struct view *view,
		 const struct commit_req *creq, uint64_t *number_out)
{
	struct queue_req req = { .view = view, .commit = creq };
	int err;

	if (store->read_only || view->read_only)
		return -EROFS;
	if (creq->message_bytes > STORE_MESSAGE_MAX)
		return -EINVAL;
	err = store_queue_run(store, &req);
	if (err >= 0)
		*number_out = req.number;
	return err;
}

int store_change_catalog(struct store *store, struct view *view,
			 const struct catalog_change *change)
{
	struct queue_req req = { .view = view, .change = change };
	int err;

	if (store->read_only)
		return -EROFS;
	if (change->message_bytes > STORE_MESSAGE_MAX)
		return -EINVAL;
	err = store_queue_run(store, &req);
	if (!err && change->op == CATALOG_SET)
		__atomic_store_n(&store->settings[change->setting],
				 change->number, __ATOMIC_RELAXED);
	return err;
}

int store_switch(struct store *store, struct view *view,
		 const struct switch_req *sw, uint64_t *number_out)
{
	struct queue_req req = { .view = view, .sw = sw };
	int err;

	if (store->read_only || view->read_only)
		return -EROFS;
	if (sw->message_bytes > STORE_MESSAGE_MAX)
		return -EINVAL;
	err = store_queue_run(store, &req);
	if (!err && number_out)
		*number_out = req.number;
	return err;
}

int store_checkpoint(struct store *store, struct view *view)
{
	struct queue_req req = { .view = view };

	if (store->read_only || view->read_only)
		return -EROFS;
	return store_queue_run(store, &req);
}

bool store_needs_checkpoint(struct store *store, struct view *view)
{
	return view_version(view) !=
	       __atomic_load_n(&view->recorded_version, __ATOMIC_RELAXED);
}

void store_head(struct store *store, struct root *root_out,
		struct commit_info *info_out)
{
	pthread_mutex_lock(&store->head_lock);
	*root_out = root_get(&store->head);
	if (info_out)
		*info_out = store->head_info;
	pthread_mutex_unlock(&store->head_lock);
}

int store_last_record(struct store *store, struct record *out)
{
	int err;

	pthread_mutex_lock(&store->head_lock);
	err = record_copy(&store->last, out);
	pthread_mutex_unlock(&store->head_lock);
	return err;
}

/* --- statistics and checks --- */

void store_get_stats(struct store *store, struct store_stats *out)
{
	struct tree_stats ts;

	tree_get_stats(&store->tree, &ts);
	*out = (struct store_stats){
		.commits = __atomic_load_n(&store->n_commits, __ATOMIC_RELAXED),
		.checkpoints = __atomic_load_n(&store->n_checkpoints,
					       __ATOMIC_RELAXED),
		.last_commit_ns = __atomic_load_n(&store->last_commit_ns,
						  __ATOMIC_RELAXED),
		.last_commit_bytes = __atomic_load_n(&store->last_commit_bytes,
						     __ATOMIC_RELAXED),
		.dirty_nodes = ts.dirty_nodes,
		.dirty_bytes = ts.dirty_bytes,
		.cached_bytes = cache_bytes(store->cache),
		.recovered = store->recovered,
	};
	pthread_mutex_lock(&store->head_lock);
	out->records = store->last.seq;
	pthread_mutex_unlock(&store->head_lock);
}

/* The catalog of one instant, and the newest commit at it. */
struct catalog_now {
	struct store *store;
	struct root root;
	uint64_t head;
};

static void note_head(void *arg)
{
	struct catalog_now *now = arg;

	pthread_mutex_lock(&now->store->head_lock);
	now->head = now->store->last.head_number;
	pthread_mutex_unlock(&now->store->head_lock);
}

static int check_catalog_item(void *arg, const struct key *key,
			      const struct val *a, const struct val *b)
{
	return catalog_check_item(key, b);
}

/* Commits descend from head, which is the newest. */
static int check_order(const struct catalog_now *now, struct view *v,
		       struct commit_info *info)
{
	uint64_t want = now->head;
	int err;

	err = catalog_prev_commit(v, UINT64_MAX, info);
	if (err == 1)
		return want ? -EFSCORRUPTED : 0;
	if (!err && info->number != want)
		return -EFSCORRUPTED;
	while (!err && info->number > 1) {
		want = info->number;
		err = catalog_prev_commit(v, want - 1, info);
		if (!err && info->number >= want)
			return -EFSCORRUPTED;
	}
	return err == 1 ? 0 : err;
}

static int check_catalog(struct store *store, char *why, size_t why_bytes)
{
	struct catalog_now now = { .store = store };
	struct commit_info *info = malloc(sizeof(*info));
	struct root none = ROOT_EMPTY;
	struct view *v = NULL;
	int err;

	err = info ? view_update_freeze(store->shown, NULL, note_head, &now,
					&now.root)
		   : -ENOMEM;
	if (err) {
		free(info);
		return err;
	}
	/* Every item of it is one that we know. */
	err = tree_diff(&store->tree, &none, &now.root, check_catalog_item,
			NULL);
	if (is_damage(err)) {
		(void)snprintf(why, why_bytes, "catalog: an item is damaged");
		goto out;
	}
	if (!err)
		err = view_new(store, STORE_CATALOG_ID, &now.root, true, &v);
	if (!err)
		err = check_order(&now, v, info);
	if (is_damage(err))
		(void)snprintf(why, why_bytes,
			       "catalog: the newest commit is not head, @%llu",
			       (unsigned long long)now.head);
out:
	view_free(v);
	root_put(&store->tree, &now.root);
	free(info);
	return err;
}

int store_check(struct store *store, char *why, size_t why_bytes)
{
	struct root head;
	int err;

	err = log_check(store->log, why, why_bytes);
	if (err)
		return err;
	store_head(store, &head, NULL);
	err = tree_check(&store->tree, &head, why, why_bytes);
	root_put(&store->tree, &head);
	if (!err)
		err = view_check(store->working, why, why_bytes);
	if (!err)
		err = view_check(store->plain, why, why_bytes);
	if (!err)
		err = view_check(store->catalog, why, why_bytes);
	if (!err)
		err = check_catalog(store, why, why_bytes);
	return err;
}
