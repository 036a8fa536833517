/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record.h - records: the superblocks appended to the log. Encoding, decoding,
 * and finding them in small segments. Bytes: FORMAT.md 3; when a record may be
 * appended and what it promises: DESIGN.md, "Commit" and "Recovery".
 *
 * No locks; a struct record belongs to one thread.
 */
#ifndef TXN_RECORD_H
#define TXN_RECORD_H

#include "txn/log.h"
#include "txn/tree.h"

enum root_kind {
	ROOT_HEAD = 1, /* the last commit */
	ROOT_CATALOG = 2,
	ROOT_PLAIN = 3, /* stats of the plain directory */
	ROOT_VIEW = 4 /* id: the view; STORE_WORKING_ID is the working view */
};

struct record_root {
	uint32_t kind; /* unknown kinds are kept */
	uint64_t id;
	struct ptr ptr; /* pos 0: the empty tree */
};

struct record {
	uint64_t seq;
	uint64_t pos; /* its own */
	uint64_t sum; /* its own, set by encode and decode */
	uint64_t prev_pos, prev_sum; /* 0: the store's first record */
	uint8_t uuid[16];
	uint64_t lineage;
	/* Everything below was durable before the record was appended. */
	uint64_t small_flushed, bulk_flushed;
	uint64_t next_obj, next_view;
	uint64_t head_number;
	int64_t time_ns;
	uint16_t flags; /* REC_FLAG_* */
	struct record_root *roots; /* owned */
	size_t nroots;
};

void record_release(struct record *rec);
int record_add_root(struct record *rec, uint32_t kind, uint64_t id,
		    const struct ptr *ptr);
/* Empty pointer when there is none. */
struct ptr record_find_root(const struct record *rec, uint32_t kind,
			    uint64_t id);

/* Do both show the same states? */
bool record_same_state(const struct record *a, const struct record *b);
/* A copy with roots of its own. */
int record_copy(const struct record *rec, struct record *out);

size_t record_bytes(const struct record *rec);
/* buf holds record_bytes(rec); sets rec->sum. */
void record_encode(struct record *rec, uint8_t *buf);
/*
 * Any bytes. -EFSCORRUPTED: not a record of this place, or impossible;
 * -EFSBADCRC; -EPROTONOSUPPORT: intact, of a newer version; -ENOMEM.
 * *rec_out is filled on success only; record_release() it. A record longer
 * than len: -EAGAIN and its length in *need_out, from a header that looks
 * right (pos and uuid match).
 */
int record_decode(const uint8_t *buf, size_t len, uint64_t pos,
		  const uint8_t uuid[16], struct record *rec_out,
		  size_t *need_out);

/* The record at pos; -ENXIO when there is no such place. */
int record_read(struct log *log, uint64_t pos, const uint8_t uuid[16],
		struct record *rec_out);

/*
 * The youngest intact record below a position (UINT64_MAX: of all), by stepping
 * backwards over the pages of small segments. 1: none. An unreadable page is
 * an error: taking it for an empty one would choose an older state.
 */
int record_find_last(struct log *log, const uint8_t uuid[16], uint64_t below,
		     struct record *rec_out);

#endif
