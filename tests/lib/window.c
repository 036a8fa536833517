/* SPDX-License-Identifier: GPL-2.0-or-later */
/* window.c - see window.h. */
#include "tests/lib/window.h"

struct map_op {
	struct fs_op op;
	struct item_window *w;
};

static int map_fn(struct vtx *tx, void *arg)
{
	struct map_op *m = arg;

	return fmap_load(tx, m->op.ino, 0, m->w);
}

int window_get(struct fs_view *fv, uint64_t ino, struct item_window *out)
{
	struct map_op m = { .op = { .fn = map_fn, .ino = ino }, .w = out };

	return fv_read(fv, &m.op);
}
