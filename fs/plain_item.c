/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain_item.c - the plain directory's table. Bytes: txn/FORMAT.md 7. */
#include "fs/plain_internal.h"

int64_t plain_ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

struct timespec plain_time(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000,
			       .tv_nsec = ns % 1000000000 };

	if (ts.tv_nsec < 0) {
		ts.tv_nsec += 1000000000;
		ts.tv_sec--;
	}
	return ts;
}

struct plain_stat plain_of_stat(const struct stat *st)
{
	return (struct plain_stat){ .host_ino = st->st_ino,
				    .size = S_ISDIR(st->st_mode)
						    ? 0
						    : (uint64_t)st->st_size,
				    .mtime_ns = plain_ns(&st->st_mtim),
				    .ctime_ns = plain_ns(&st->st_ctim),
				    .mode = st->st_mode,
				    .uid = st->st_uid,
				    .gid = st->st_gid };
}

bool plain_is_recent(const struct plain_stat *p, int64_t since_ns)
{
	/* Some hosts have whole seconds, or two; else the kernel's tick. */
	enum { SECOND_NS = 1000000000, TICK_NS = SECOND_NS / 50 };
	int64_t tick = p->ctime_ns % SECOND_NS ? TICK_NS : 2LL * SECOND_NS;

	return p->ctime_ns > since_ns - tick;
}

/* --- items --- */

struct item_op {
	struct key key;
	uint8_t buf[PLAIN_STAT_BYTES];
	size_t len;
};

static int put_fn(struct vtx *tx, void *arg)
{
	struct item_op *o = arg;

	return vtx_put(tx, &o->key, o->buf, o->len);
}

static int del_fn(struct vtx *tx, void *arg)
{
	struct item_op *o = arg;

	return vtx_del(tx, &o->key);
}

static int get_fn(struct vtx *tx, void *arg)
{
	struct item_op *o = arg;
	struct val val;
	int err;

	err = vtx_get(tx, &o->key, &val);
	if (!err && val.len != o->len)
		err = -EFSCORRUPTED;
	if (!err)
		memcpy(o->buf, val.p, val.len);
	return err;
}

static int update(struct fs *fs, view_fn fn, void *arg)
{
	return view_update(store_plain(fs->store), VIEW_PRIVILEGED, fn, NULL,
			   arg);
}

int plain_put(struct fs *fs, uint64_t ino, const struct plain_stat *p)
{
	struct item_op o = { .key = KEY(ino, PLAIN_KIND_STAT, 0),
			     .len = PLAIN_STAT_BYTES };

	put_le64(o.buf + PLAIN_OFF_HOST_INO, p->host_ino);
	put_le64(o.buf + PLAIN_OFF_SIZE, p->size);
	put_le64(o.buf + PLAIN_OFF_MTIME, (uint64_t)p->mtime_ns);
	put_le64(o.buf + PLAIN_OFF_CTIME, (uint64_t)p->ctime_ns);
	put_le32(o.buf + PLAIN_OFF_MODE, p->mode);
	put_le32(o.buf + PLAIN_OFF_UID, p->uid);
	put_le32(o.buf + PLAIN_OFF_GID, p->gid);
	put_le32(o.buf + PLAIN_OFF_FLAGS, p->flags);
	return update(fs, put_fn, &o);
}

static void decode(const uint8_t *p, struct plain_stat *out)
{
	*out = (struct plain_stat){
		.host_ino = get_le64(p + PLAIN_OFF_HOST_INO),
		.size = get_le64(p + PLAIN_OFF_SIZE),
		.mtime_ns = (int64_t)get_le64(p + PLAIN_OFF_MTIME),
		.ctime_ns = (int64_t)get_le64(p + PLAIN_OFF_CTIME),
		.mode = get_le32(p + PLAIN_OFF_MODE),
		.uid = get_le32(p + PLAIN_OFF_UID),
		.gid = get_le32(p + PLAIN_OFF_GID),
		.flags = get_le32(p + PLAIN_OFF_FLAGS)
	};
}

int plain_get(struct fs *fs, uint64_t ino, struct plain_stat *out)
{
	struct item_op o = { .key = KEY(ino, PLAIN_KIND_STAT, 0),
			     .len = PLAIN_STAT_BYTES };
	int err;

	err = view_read(store_plain(fs->store), get_fn, &o);
	if (!err)
		decode(o.buf, out);
	return err;
}

struct next_stat_op {
	uint64_t ino;
	struct plain_stat *out;
};

/* Entries of directories lie between: they are passed over. */
static int next_stat_fn(struct vtx *tx, void *arg)
{
	struct next_stat_op *n = arg;
	struct key from = KEY(n->ino, PLAIN_KIND_STAT, 0), at;
	struct val val;
	int err;

	for (;;) {
		err = vtx_next(tx, &from, &KEY_LAST, &at, &val);
		if (err)
			return err;
		if (at.kind == PLAIN_KIND_STAT)
			break;
		from = KEY(at.obj + 1, PLAIN_KIND_STAT, 0);
	}
	if (val.len != PLAIN_STAT_BYTES)
		return -EFSCORRUPTED;
	n->ino = at.obj;
	decode(val.p, n->out);
	return 0;
}

int plain_next_stat(struct fs *fs, uint64_t *ino, struct plain_stat *out)
{
	struct next_stat_op n = { *ino, out };
	int err = view_read(store_plain(fs->store), next_stat_fn, &n);

	if (!err)
		*ino = n.ino;
	return err;
}

/* --- how much is held twice, how much is missing --- */

static uint64_t bytes_of(const struct plain_stat *p)
{
	return S_ISREG(p->mode) && !(p->flags & PLAIN_ABSENT)
		       ? round_up_u64(p->size, FS_BLOCK_BYTES)
		       : 0;
}

bool plain_knows_bytes(const struct fs *fs)
{
	return __atomic_load_n(&fs->plain_bytes, __ATOMIC_ACQUIRE) >= 0;
}

void plain_count(struct fs *fs, const struct plain_stat *p, int sign)
{
	if (!plain_knows_bytes(fs))
		return;
	__atomic_add_fetch(&fs->plain_bytes, sign * (int64_t)bytes_of(p),
			   __ATOMIC_RELAXED);
	if (p->flags & PLAIN_ABSENT)
		__atomic_add_fetch(&fs->plain_missing, sign, __ATOMIC_RELAXED);
}

/* Read it all, unless it is known. */
static int count_all(struct fs *fs)
{
	struct plain_stat p = { 0 };
	int64_t sum = 0, missing = 0;
	uint64_t ino = 0;
	int err = 0;

	if (plain_knows_bytes(fs))
		return 0;
	while (!err) {
		err = plain_next_stat(fs, &ino, &p);
		if (!err) {
			sum += (int64_t)bytes_of(&p);
			missing += p.flags & PLAIN_ABSENT ? 1 : 0;
		}
		ino++;
	}
	if (err < 0)
		return err;
	__atomic_store_n(&fs->plain_missing, missing, __ATOMIC_RELAXED);
	__atomic_store_n(&fs->plain_bytes, sum, __ATOMIC_RELEASE);
	return 0;
}

int plain_get_bytes(struct fs *fs, uint64_t *bytes_out)
{
	int err = count_all(fs);

	if (!err)
		*bytes_out = (uint64_t)__atomic_load_n(&fs->plain_bytes,
						       __ATOMIC_RELAXED);
	return err;
}

int plain_get_missing(struct fs *fs, uint64_t *n_out)
{
	int err = count_all(fs);

	if (!err)
		*n_out = (uint64_t)__atomic_load_n(&fs->plain_missing,
						   __ATOMIC_RELAXED);
	return err;
}

int plain_each_missing(struct fs *fs, int (*fn)(void *arg, const char *path),
		       void *arg)
{
	struct fs_view *shown;
	uint64_t ino = 0;
	int err = plain_view(fs, PLAIN_STATE_SHOWN, &shown, NULL);

	if (err)
		return err == 1 ? 0 : err;
	for (; !err; ino++) {
		struct plain_stat p = { 0 };
		char *path = NULL;

		err = plain_next_stat(fs, &ino, &p);
		if (err || !(p.flags & PLAIN_ABSENT))
			continue;
		err = fs_path(shown, ino, &path);
		err = err == -ENOENT ? 0 : err ? err : fn(arg, path);
		free(path);
	}
	fs_view_put(shown);
	return err == 1 ? 0 : err;
}

int plain_del(struct fs *fs, uint64_t ino)
{
	struct item_op o = { .key = KEY(ino, PLAIN_KIND_STAT, 0) };

	return update(fs, del_fn, &o);
}

/* --- names --- */

struct name_op {
	const struct fs *fs;
	uint64_t dir, ino;
	uint32_t type;
	const char *name;
	size_t len;
};

static int put_name_fn(struct vtx *tx, void *arg)
{
	const struct name_op *n = arg;
	struct dir_slot slot;
	int err;

	err = tx_find(tx, n->fs, n->dir, n->name, n->len, &slot);
	if (!err && !slot.cookie)
		err = -ENOSPC;
	return err ? err
		   : tx_put_entry(tx, n->dir, slot.cookie, n->ino, n->type,
				  n->name, n->len);
}

static int del_name_fn(struct vtx *tx, void *arg)
{
	const struct name_op *n = arg;
	struct dir_slot slot;
	int err;

	err = tx_find(tx, n->fs, n->dir, n->name, n->len, &slot);
	if (err || !slot.ino)
		return err;
	return tx_del_entry(tx, n->dir, slot.cookie);
}

static int find_name_fn(struct vtx *tx, void *arg)
{
	struct name_op *n = arg;
	struct dir_slot slot;
	int err;

	err = tx_find(tx, n->fs, n->dir, n->name, n->len, &slot);
	n->ino = slot.ino;
	n->type = slot.type;
	return err;
}

int plain_put_name(struct fs *fs, uint64_t dir, const char *name, size_t len,
		   uint64_t ino, uint32_t type)
{
	struct name_op n = { fs, dir, ino, type, name, len };

	return update(fs, put_name_fn, &n);
}

int plain_del_name(struct fs *fs, uint64_t dir, const char *name, size_t len)
{
	struct name_op n = { .fs = fs, .dir = dir, .name = name, .len = len };

	return update(fs, del_name_fn, &n);
}

int plain_find_name(struct fs *fs, uint64_t dir, const char *name,
		    uint64_t *ino_out, uint32_t *type_out)
{
	struct name_op n = {
		.fs = fs, .dir = dir, .name = name, .len = strlen(name)
	};
	int err;

	if (n.len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	err = view_read(store_plain(fs->store), find_name_fn, &n);
	*ino_out = n.ino;
	*type_out = n.type;
	return err;
}

/* What was read is copied: a run after a node was missed goes on from there. */
struct part_op {
	uint64_t dir, cookie;
	struct plain_part *p;
	uint32_t used; /* of p->names */
	size_t nstats;
};

static int part_names_fn(struct vtx *tx, void *arg)
{
	struct part_op *o = arg;
	struct key from = KEY(o->dir, PLAIN_KIND_ENTRY, o->cookie), at;
	struct key to = KEY(o->dir, PLAIN_KIND_ENTRY, UINT64_MAX);
	struct plain_part *p = o->p;

	while (p->n < PLAIN_PART_NAMES &&
	       o->used + FS_NAME_MAX < PLAIN_PART_BYTES) {
		struct item_entry e;
		struct val val;
		int err;

		err = vtx_next(tx, &from, &to, &at, &val);
		if (err == 1)
			return 0;
		if (!err)
			err = item_entry_decode(&val, &e);
		if (!err && at.off > INT64_MAX)
			err = -EFSCORRUPTED; /* no hash gives that */
		if (err)
			return err;
		p->v[p->n++] = (struct plain_noted){ e.ino, e.type, o->used };
		memcpy(p->names + o->used, e.name, e.len);
		p->names[o->used + e.len] = '\0';
		o->used += (uint32_t)e.len + 1;
		from.off = o->cookie = at.off + 1;
	}
	return 0;
}

static int part_stats_fn(struct vtx *tx, void *arg)
{
	struct part_op *o = arg;
	struct plain_part *p = o->p;

	for (; o->nstats < p->n; o->nstats++) {
		const struct key key =
			KEY(p->v[o->nstats].ino, PLAIN_KIND_STAT, 0);
		struct plain_stat *was = &p->was[o->nstats];
		struct val val;
		int err;

		*was = (struct plain_stat){ 0 };
		err = vtx_get(tx, &key, &val);
		if (err == 1)
			continue;
		if (!err && val.len != PLAIN_STAT_BYTES)
			err = -EFSCORRUPTED;
		if (err)
			return err;
		decode(val.p, was);
	}
	return 0;
}

static int noted_cmp(const void *pa, const void *pb)
{
	const struct plain_noted *a = pa, *b = pb;

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

int plain_next_part(struct fs *fs, uint64_t dir, uint64_t *cookie,
		    struct plain_part *out)
{
	struct part_op o = { .dir = dir, .cookie = *cookie, .p = out };
	int err;

	out->n = 0;
	err = view_read(store_plain(fs->store), part_names_fn, &o);
	if (err || !out->n)
		return err;
	*cookie = o.cookie;
	qsort(out->v, out->n, sizeof(*out->v), noted_cmp);
	return view_read(store_plain(fs->store), part_stats_fn, &o);
}

/* --- states --- */

int plain_get_state(struct fs *fs, uint64_t which, struct plain_state *out)
{
	struct item_op o = { .key = KEY(PLAIN_OBJ_STATES, PLAIN_KIND_STATE,
					which),
			     .len = PLAIN_STATE_BYTES };
	int err;

	err = view_read(store_plain(fs->store), get_fn, &o);
	if (err)
		return err;
	*out = (struct plain_state){
		.root = { .pos = get_le64(o.buf + PLAIN_STATE_OFF_PTR_POS),
			  .sum = get_le64(o.buf + PLAIN_STATE_OFF_PTR_SUM),
			  .len = get_le32(o.buf + PLAIN_STATE_OFF_PTR_LEN) },
		.number = get_le64(o.buf + PLAIN_STATE_OFF_NUMBER),
		.phase = get_le32(o.buf + PLAIN_STATE_OFF_PHASE)
	};
	return 0;
}

int plain_put_state(struct fs *fs, uint64_t which,
		    const struct plain_state *state)
{
	struct item_op o = { .key = KEY(PLAIN_OBJ_STATES, PLAIN_KIND_STATE,
					which),
			     .len = PLAIN_STATE_BYTES };

	put_le64(o.buf + PLAIN_STATE_OFF_PTR_POS, state->root.pos);
	put_le64(o.buf + PLAIN_STATE_OFF_PTR_SUM, state->root.sum);
	put_le32(o.buf + PLAIN_STATE_OFF_PTR_LEN, state->root.len);
	put_le32(o.buf + PLAIN_STATE_OFF_PHASE, state->phase);
	put_le64(o.buf + PLAIN_STATE_OFF_NUMBER, state->number);
	return update(fs, put_fn, &o);
}

int plain_del_state(struct fs *fs, uint64_t which)
{
	struct item_op o = { .key = KEY(PLAIN_OBJ_STATES, PLAIN_KIND_STATE,
					which) };

	return update(fs, del_fn, &o);
}

/* --- the mark --- */

int plain_get_mark(struct fs *fs, uint32_t *mark_out)
{
	struct item_op o = { .key = KEY(PLAIN_OBJ_STATES, PLAIN_KIND_MARK, 0),
			     .len = PLAIN_MARK_BYTES };
	int err = view_read(store_plain(fs->store), get_fn, &o);

	*mark_out = err ? 0 : get_le32(o.buf);
	return err == 1 ? 0 : err;
}

int plain_put_mark(struct fs *fs, uint32_t mark)
{
	struct item_op o = { .key = KEY(PLAIN_OBJ_STATES, PLAIN_KIND_MARK, 0),
			     .len = PLAIN_MARK_BYTES };

	put_le32(o.buf, mark);
	return update(fs, mark ? put_fn : del_fn, &o);
}

int plain_unfinished(struct fs *fs, const char **what_out)
{
	uint32_t mark;
	int err = plain_get_mark(fs, &mark);

	*what_out = NULL;
	if (mark == PLAIN_MARK_MOVE)
		*what_out = "its files were being moved into the store when "
			    "that was interrupted: txn init --move goes on, "
			    "txn eject puts them back";
	else if (mark)
		*what_out = "it was being made a plain directory when that was "
			    "interrupted: txn eject goes on";
	return err;
}

/* --- anew --- */

struct renew {
	struct fs *fs;
	struct fs_view *fv;
	uint64_t dir;
};

/* Nothing on the host has the number 0: what is there is looked at. */
static int note_attr(struct fs *fs, const struct fs_attr *a)
{
	struct plain_stat p = { .size = S_ISDIR(a->mode) ? 0 : a->size,
				.mtime_ns = a->mtime_ns,
				.ctime_ns = a->ctime_ns,
				.mode = a->mode,
				.uid = a->uid,
				.gid = a->gid };

	return plain_put(fs, a->ino, &p);
}

static int renew_entry(void *arg, const struct fs_dirent *e)
{
	struct renew *r = arg;
	uint64_t dir = r->dir;
	int err;

	err = plain_put_name(r->fs, dir, e->name, e->len, e->ino,
			     e->attr->mode);
	if (!err)
		err = note_attr(r->fs, e->attr);
	if (err || !S_ISDIR(e->attr->mode))
		return err;
	r->dir = e->ino;
	err = fs_readdir(r->fv, e->ino, 0, true, renew_entry, r);
	r->dir = dir;
	return err;
}

static int del_all_fn(struct vtx *tx, void *arg)
{
	return vtx_del_range(tx, &KEY(0, 0, 0), &KEY_LAST);
}

int plain_renew(struct fs *fs)
{
	struct renew r = { .fs = fs, .dir = FS_ROOT_INO };
	struct plain_state shown = { 0 };
	struct commit_info *info = malloc(sizeof(*info));
	struct root head = ROOT_EMPTY;
	struct fs_attr a;
	int err;

	if (!info)
		return -ENOMEM;
	store_head(fs->store, &head, info);
	shown.root = head.ptr;
	shown.number = info->number;
	err = fs_view_new(fs, &head, &r.fv);
	if (!err)
		err = update(fs, del_all_fn, NULL);
	if (!err)
		err = fs_getattr(r.fv, FS_ROOT_INO, &a);
	if (!err)
		err = note_attr(fs, &a);
	if (!err)
		err = fs_readdir(r.fv, FS_ROOT_INO, 0, true, renew_entry, &r);
	if (!err)
		err = plain_put_state(fs, PLAIN_STATE_SHOWN, &shown);
	fs_view_put(r.fv);
	root_put(store_tree(fs->store), &head);
	free(info);
	return err;
}

/* --- paths --- */

int path_push(struct plain_path *p, const char *name, size_t *mark)
{
	size_t n = strlen(name);

	*mark = p->len;
	if (p->len + n + 2 > p->cap) {
		size_t cap = (p->len + n + 2) * 2;
		char *s = realloc(p->s, cap);

		if (!s)
			return -ENOMEM;
		p->s = s;
		p->cap = cap;
	}
	if (p->len)
		p->s[p->len++] = '/';
	memcpy(p->s + p->len, name, n + 1);
	p->len += n;
	return 0;
}

void path_pop(struct plain_path *p, size_t mark)
{
	p->len = mark;
	if (p->s)
		p->s[mark] = '\0';
}
