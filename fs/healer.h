/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * healer.h - contents of files that do not match their checksum: the right
 * blocks from elsewhere in the log, from DIR's own files, or by turning a bit
 * back. The checksum decides; txn/repair.h writes. Used by fs_verify(); one
 * thread. A healer may be NULL wherever one is taken: then nothing happens.
 */
#ifndef FS_HEALER_H
#define FS_HEALER_H

#include "fs/fs_internal.h"

struct healer;

int healer_new(struct fs *fs, const struct fs_verify_params *p,
	       struct healer **out);
void healer_free(struct healer *h);
/* A state whose paths are looked for in DIR; borrowed. */
int healer_add_state(struct healer *h, struct fs_view *fv);

/* Block i of the window's item, at an offset of its file. */
int healer_want(struct healer *h, const struct key *key, uint64_t off,
		const struct item_window *w, unsigned int i);
/* Heal what can be, nodes too, durable on return. *any_out: something was. */
int healer_run(struct healer *h, bool *any_out);
/* params->healed for what was healed and this state has. */
int healer_tell(struct healer *h, const char *state, struct fs_view *fv);
void healer_forget(struct healer *h); /* what was wanted */
void healer_get_stats(const struct healer *h, struct fs_verify_stats *st);

/* Does a state's window item, of that key, have a block at pos? */
bool healer_state_has(struct fs_view *fv, const struct key *key, uint64_t pos);

#endif
