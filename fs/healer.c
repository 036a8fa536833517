/* SPDX-License-Identifier: GPL-2.0-or-later */
/* healer.c - see healer.h. */
#include "fs/healer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "fs/plain.h"
#include "txn/repair.h"

struct wanted {
	struct key key; /* of the window's item */
	uint64_t off, pos;
	const char *from; /* where its bytes were; NULL: not yet */
};

struct healer {
	struct fs *fs;
	const struct fs_verify_params *p;
	struct repair *r;
	struct wanted *v;
	size_t n, cap;
	struct fs_view **states;
	size_t nstates, states_cap;
	uint64_t healed; /* as counted by repair, before */
};

int healer_new(struct fs *fs, const struct fs_verify_params *p,
	       struct healer **out)
{
	struct healer *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->fs = fs;
	h->p = p;
	h->r = store_repair(fs->store);
	*out = h;
	return 0;
}

void healer_free(struct healer *h)
{
	if (!h)
		return;
	free(h->v);
	free(h->states);
	free(h);
}

int healer_add_state(struct healer *h, struct fs_view *fv)
{
	int err;

	if (!h)
		return 0;
	err = array_grow((void **)&h->states, &h->states_cap, h->nstates + 1,
			 sizeof(struct fs_view *));
	if (!err)
		h->states[h->nstates++] = fv;
	return err;
}

int healer_want(struct healer *h, const struct key *key, uint64_t off,
		const struct item_window *w, unsigned int i)
{
	int err;

	if (!h)
		return 0;
	err = array_grow((void **)&h->v, &h->cap, h->n + 1, sizeof(*h->v));
	if (!err)
		err = repair_want_block(h->r, w->pos[i], w->sum[i], w->len[i]);
	if (!err)
		h->v[h->n++] = (struct wanted){ *key, off, w->pos[i], NULL };
	return err;
}

void healer_forget(struct healer *h)
{
	if (h)
		h->n = 0;
}

void healer_get_stats(const struct healer *h, struct fs_verify_stats *st)
{
	struct repair_stats rs;

	if (!h)
		return;
	repair_get_stats(h->r, &rs);
	st->healed_blocks = rs.blocks;
	st->healed_nodes = rs.nodes;
	st->healed_records = rs.records;
}

/* --- which states have it --- */

struct has_op {
	struct fs_op op;
	const struct key *key;
	uint64_t pos;
	bool has;
};

static int has_fn(struct vtx *tx, void *arg)
{
	struct has_op *h = arg;
	struct item_window w;
	struct val val;
	int err;

	h->has = false;
	err = vtx_get(tx, h->key, &val);
	if (!err && !h->pos)
		h->has = true;
	else if (!err && !item_window_decode(&val, h->key->off, &w))
		for (unsigned int i = 0; i < WINDOW_BLOCKS; i++)
			h->has |= w.mask >> i & 1 && w.pos[i] == h->pos;
	return err == 1 ? 0 : err;
}

bool healer_state_has(struct fs_view *fv, const struct key *key, uint64_t pos)
{
	struct has_op h = { .op = { .fn = has_fn, .ino = key->obj },
			    .key = key,
			    .pos = pos };

	op_start(fv, &h.op);
	return !view_read(fv->view, op_run, &h.op) && h.has;
}

/* --- the plain files --- */

/* The plain file of that name may be a FIFO by now. */
static int read_plain(struct healer *h, const char *path, uint64_t off,
		      uint8_t buf[FS_BLOCK_BYTES])
{
	int fd = plain_open(h->p->plain_fd, path, O_RDONLY | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return 1;
	memset(buf, 0, FS_BLOCK_BYTES);
	n = pread(fd, buf, FS_BLOCK_BYTES, (off_t)off);
	close(fd);
	return n > 0 ? 0 : 1;
}

/* By the path that a state has for it. */
static int heal_from_plain(struct healer *h, struct wanted *w)
{
	uint8_t buf[FS_BLOCK_BYTES];

	for (size_t i = 0; i < h->nstates; i++) {
		char *path = NULL;
		int err = 1;

		if (!healer_state_has(h->states[i], &w->key, w->pos) ||
		    fs_path(h->states[i], w->key.obj, &path))
			continue;
		if (!read_plain(h, path, w->off, buf))
			err = repair_offer(h->r, w->pos, buf);
		free(path);
		if (err <= 0)
			return err;
	}
	return 1;
}

/* --- healing --- */

static uint64_t count(const struct healer *h)
{
	struct repair_stats rs;

	repair_get_stats(h->r, &rs);
	return rs.blocks + rs.nodes;
}

static void note_healed(struct healer *h, const char *from)
{
	for (size_t i = 0; i < h->n; i++)
		if (!h->v[i].from && !repair_is_wanted(h->r, h->v[i].pos))
			h->v[i].from = from;
}

int healer_run(struct healer *h, bool *any_out)
{
	uint64_t found;
	int err = repair_search(h->r, &found);

	note_healed(h, "from another place of the log");
	for (size_t i = 0; i < h->n && err >= 0; i++)
		if (h->p->plain_fd >= 0 && !h->v[i].from)
			err = heal_from_plain(h, &h->v[i]);
	note_healed(h, "from the plain file");
	for (size_t i = 0; i < h->n && err >= 0; i++)
		if (!h->v[i].from)
			err = repair_flip(h->r, h->v[i].pos);
	note_healed(h, "a flipped bit");
	if (err >= 0)
		err = repair_sync(h->r);
	/* Nodes are also healed while they are read. */
	*any_out = count(h) > h->healed;
	h->healed = count(h);
	return err < 0 ? err : 0;
}

/* Once for each file and source; they were met window by window. */
int healer_tell(struct healer *h, const char *state, struct fs_view *fv)
{
	const struct wanted *last = NULL;

	for (size_t i = 0; h && i < h->n; i++) {
		const struct wanted *w = &h->v[i];
		char *path = NULL;

		if (!w->from || !h->p->healed ||
		    (last && last->key.obj == w->key.obj &&
		     last->from == w->from) ||
		    !healer_state_has(fv, &w->key, w->pos))
			continue;
		last = w;
		(void)fs_path(fv, w->key.obj, &path);
		h->p->healed(h->p->arg, state, path, w->from);
		free(path);
	}
	return 0;
}
