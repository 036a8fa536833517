/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_catalog.c - the catalog: a tree of its own with one item for each
 * commit, and its message in chunks beside it. FORMAT.md 5.
 */
#include "txn/store_internal.h"

#include "txn/format.h"

static struct key commit_key(uint64_t number)
{
	return KEY(CAT_OBJ_COMMITS, CAT_KIND_COMMIT, number);
}

static struct key message_key(uint64_t number, size_t chunk)
{
	return KEY(CAT_OBJ_COMMITS, CAT_KIND_MESSAGE, number << 8 | chunk);
}

/* A number as read: messages' keys have to hold it. */
static bool number_is_possible(uint64_t number)
{
	return number && number <= UINT64_MAX >> 8;
}

static void encode_commit(const struct commit_info *info,
			  uint8_t buf[CAT_COMMIT_BYTES])
{
	put_le64(buf + CAT_COMMIT_OFF_PTR_POS, info->root.pos);
	put_le64(buf + CAT_COMMIT_OFF_PTR_SUM, info->root.sum);
	put_le32(buf + CAT_COMMIT_OFF_PTR_LEN, info->root.len);
	put_le32(buf + CAT_COMMIT_OFF_UID, info->uid);
	put_le64(buf + CAT_COMMIT_OFF_TIME, (uint64_t)info->time_ns);
	put_le64(buf + CAT_COMMIT_OFF_CHANGES, info->changes);
	put_le64(buf + CAT_COMMIT_OFF_BYTES, info->bytes);
	put_le32(buf + CAT_COMMIT_OFF_MESSAGE_BYTES,
		 (uint32_t)info->message_bytes);
	put_le32(buf + CAT_COMMIT_OFF_NAMES, info->names);
}

static int decode_commit(const struct val *val, struct commit_info *info)
{
	const uint8_t *p = val->p;
	size_t message_bytes;

	if (val->len != CAT_COMMIT_BYTES)
		return -EFSCORRUPTED;
	message_bytes = get_le32(p + CAT_COMMIT_OFF_MESSAGE_BYTES);
	if (message_bytes > STORE_MESSAGE_MAX)
		return -EFSCORRUPTED;
	info->root.pos = get_le64(p + CAT_COMMIT_OFF_PTR_POS);
	info->root.sum = get_le64(p + CAT_COMMIT_OFF_PTR_SUM);
	info->root.len = get_le32(p + CAT_COMMIT_OFF_PTR_LEN);
	info->uid = get_le32(p + CAT_COMMIT_OFF_UID);
	info->time_ns = (int64_t)get_le64(p + CAT_COMMIT_OFF_TIME);
	info->changes = get_le64(p + CAT_COMMIT_OFF_CHANGES);
	info->bytes = get_le64(p + CAT_COMMIT_OFF_BYTES);
	info->message_bytes = message_bytes;
	info->names = get_le32(p + CAT_COMMIT_OFF_NAMES);
	return 0;
}

int catalog_check_commit(const struct val *val)
{
	struct commit_info *info = malloc(sizeof(*info));
	int err = info ? decode_commit(val, info) : -ENOMEM;

	free(info);
	return err;
}

int tx_put_commit_item(struct vtx *tx, const struct commit_info *info)
{
	struct key key = commit_key(info->number);
	uint8_t buf[CAT_COMMIT_BYTES];

	encode_commit(info, buf);
	return vtx_put(tx, &key, buf, sizeof(buf));
}

int tx_put_commit(struct vtx *tx, const struct commit_info *info)
{
	struct key key;
	size_t done = 0;
	int err;

	err = tx_put_commit_item(tx, info);
	for (size_t i = 0; !err && done < info->message_bytes; i++) {
		size_t n = min_u64(info->message_bytes - done,
				   CAT_MESSAGE_CHUNK_BYTES);

		key = message_key(info->number, i);
		err = vtx_put(tx, &key, info->message + done, n);
		done += n;
	}
	return err;
}

int tx_del_commit(struct vtx *tx, uint64_t number)
{
	struct key key = commit_key(number);
	struct key from = message_key(number, 0);
	struct key to = message_key(number, 0xff);
	int err;

	err = vtx_del(tx, &key);
	return err ? err : vtx_del_range(tx, &from, &to);
}

int tx_next_commit(struct vtx *tx, uint64_t from_number,
		   struct commit_info *info)
{
	struct key from = commit_key(from_number);
	struct key to = commit_key(UINT64_MAX), key;
	struct val val;
	int err;

	err = vtx_next(tx, &from, &to, &key, &val);
	if (err)
		return err;
	if (!number_is_possible(key.off))
		return -EFSCORRUPTED;
	info->number = key.off;
	return decode_commit(&val, info);
}

struct get_arg {
	uint64_t number;
	bool at_or_below;
	struct commit_info *info;
};

static int read_message(struct vtx *tx, struct commit_info *info)
{
	size_t done = 0;

	for (size_t i = 0; done < info->message_bytes; i++) {
		struct key key = message_key(info->number, i);
		struct val val;
		int err = vtx_get(tx, &key, &val);

		if (err < 0)
			return err;
		if (err || !val.len || val.len > info->message_bytes - done)
			return -EFSCORRUPTED;
		memcpy(info->message + done, val.p, val.len);
		done += val.len;
	}
	info->message[done] = '\0';
	return 0;
}

static int get_fn(struct vtx *tx, void *arg)
{
	struct get_arg *g = arg;
	struct key from = commit_key(g->at_or_below ? 0 : g->number);
	struct key to = commit_key(g->number), key;
	struct val val;
	int err;

	err = vtx_prev(tx, &from, &to, &key, &val);
	if (err)
		return err;
	if (!number_is_possible(key.off))
		return -EFSCORRUPTED;
	g->info->number = key.off;
	err = decode_commit(&val, g->info);
	if (err)
		return err;
	return read_message(tx, g->info);
}

int catalog_get_commit(struct view *catalog, uint64_t number,
		       struct commit_info *info)
{
	struct get_arg g = { .number = number, .info = info };

	return view_read(catalog, get_fn, &g);
}

int store_get_commit(struct store *store, uint64_t number,
		     struct commit_info *info_out)
{
	return catalog_get_commit(store->shown, number, info_out);
}

int catalog_prev_commit(struct view *catalog, uint64_t number,
			struct commit_info *info)
{
	struct get_arg g = { .number = number,
			     .at_or_below = true,
			     .info = info };

	return view_read(catalog, get_fn, &g);
}

static int next_fn(struct vtx *tx, void *arg)
{
	struct get_arg *g = arg;
	int err = tx_next_commit(tx, g->number, g->info);

	return err ? err : read_message(tx, g->info);
}

int store_next_commit(struct store *store, uint64_t from,
		      struct commit_info *info_out)
{
	struct get_arg g = { .number = from, .info = info_out };

	return view_read(store->shown, next_fn, &g);
}

int store_each_commit(struct store *store, uint64_t from,
		      int (*fn)(void *arg, const struct commit_info *info),
		      void *arg)
{
	struct commit_info *info;
	struct get_arg g = { .number = from, .at_or_below = true };
	int err = 0;

	info = malloc(sizeof(*info));
	if (!info)
		return -ENOMEM;
	g.info = info;
	while (g.number && !err) {
		err = view_read(store->shown, get_fn, &g);
		if (err)
			break;
		g.number = info->number - 1;
		err = fn(arg, info);
	}
	free(info);
	return err == 1 ? 0 : err;
}
