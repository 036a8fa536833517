/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repair.h - bytes of the log that do not match their checksum: the right ones
 * are looked for, and written where they belong.
 *
 * The checksum decides alone: bytes that have it are the right ones, wherever
 * they come from. They are written in place: appended bytes never change (I1),
 * and this makes that true again. Everything that points there is right again
 * with it, without a new record. What a crash in the middle leaves still does
 * not match, as before; nothing else is touched.
 *
 * Sources: another place of the log (a block with the same contents; a page
 * that was written to a wrong place), what the caller offers (plain files), and
 * the bytes themselves with one bit turned: a flipped bit is found by trying
 * all.
 *
 * One thread.
 */
#ifndef TXN_REPAIR_H
#define TXN_REPAIR_H

#include "txn/log.h"
#include "txn/record.h"

enum {
	REPAIR_BLOCK_BYTES = LOG_PAGE_BYTES,
	/* Packed blocks may lie anywhere: a sum at each place, for each length.
	 * So many lengths are searched for at once; of others only what the
	 * caller offers, and flipped bits, are tried. */
	REPAIR_LENGTHS_MAX = 8
};

struct repair;

/* The log may be open read-only; the device must not be. */
int repair_new(struct log *log, struct repair **out);
void repair_free(struct repair *r); /* NULL is fine */

/* A node whose bytes do not match, or cannot be read: 0: buf has them now, and
 * so has the log. -EFSBADCRC: not yet, see repair_search(). Other errors. */
int repair_node(struct repair *r, const struct ptr *ptr, uint8_t *buf);
/* A block of file data, as much of it as lies there. Noted, for what follows.
 */
int repair_want_block(struct repair *r, uint64_t pos, uint64_t sum,
		      uint32_t len);
bool repair_is_wanted(const struct repair *r, uint64_t pos);

/* Look through all of the log for what is wanted. *healed_out: how much was
 * found and written. */
int repair_search(struct repair *r, uint64_t *healed_out);
/* Are these a wanted block's bytes, made whole? 0: written; 1: no. */
int repair_offer(struct repair *r, uint64_t pos,
		 const uint8_t block[REPAIR_BLOCK_BYTES]);
/* Try each bit of a wanted block. 0: written; 1: it is not that. */
int repair_flip(struct repair *r, uint64_t pos);

/* A record at its place, which is not there (any more). */
int repair_put_record(struct repair *r, const struct record *rec);
/* Records above a position with one flipped bit. */
int repair_records(struct repair *r, uint64_t above, const uint8_t uuid[16]);

/* Make durable what was written. */
int repair_sync(struct repair *r);

struct repair_stats {
	uint64_t nodes, blocks, records; /* written */
};
void repair_get_stats(const struct repair *r, struct repair_stats *out);

#endif
