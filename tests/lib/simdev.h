/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * simdev.h - a disk in memory that can lose power and fail. It keeps a journal
 * of everything that changes it, so one recorded run yields the disk after a
 * power cut at any point of it, with what was not synced kept, dropped,
 * reordered or torn:
 *
 *	sim = simdev_new();
 *	... run ...
 *	cut = simcut_new(sim);
 *	do {
 *		for (pick = 0; pick < simcut_picks(cut); pick++)
 *			img = simcut_image(cut, pick);
 *	} while (simcut_next(cut));
 *
 * A file's sync makes its bytes and size durable, a folder's sync its names.
 * Names that were not synced reach the disk in their order: some first ones of
 * them. Threads: any; simcut: one, and the disk is at rest.
 */
#ifndef TESTS_LIB_SIMDEV_H
#define TESTS_LIB_SIMDEV_H

#include "txn/dev.h"

enum sim_mode {
	SIM_KEEP, /* everything reached the disk */
	SIM_DROP, /* nothing that was not synced did */
	SIM_REORDER, /* each 4 KiB block of a write by itself, at random */
	SIM_TORN, /* each 512 byte sector by itself, at random */
	SIM_MODES
};

/* Kinds of calls, as bits. */
enum {
	SIM_CREATE = 1,
	SIM_OPEN = 2,
	SIM_READ = 4,
	SIM_WRITE = 8,
	SIM_SYNC = 16,
	SIM_ALLOCATE = 32,
	SIM_TRUNCATE = 64,
	SIM_PUNCH = 128,
	SIM_RENAME = 256,
	SIM_REMOVE = 512,
	SIM_MKDIR = 1024,
	SIM_SYNC_DIR = 2048,
	SIM_LIST = 4096,
	SIM_SIZE = 8192,
	SIM_SPACE = 16384,
	SIM_LINK = 32768,
	SIM_ALL = 65535
};

struct simdev;

struct simdev *simdev_new(void);
void simdev_free(struct simdev *sim);
struct dev *simdev_dev(struct simdev *sim);

/* The disk as a new one, without a journal. cut: how many of the recorded
 * changes happened before the power went. */
struct simdev *simdev_image(struct simdev *sim, size_t cut, enum sim_mode mode,
			    uint64_t seed);
/*
 * The same for every point in turn, from nothing on. A pick says what becomes
 * of the changes that are pending: made and not synced. 0: all of them reached
 * the disk, 1: none; those below simcut_picks() are every case of
 *  - some first ones of the names, with all or none of the writes;
 *  - any choice among the writes: by sectors when they are few, else by 4 KiB
 *    blocks, else whole ones, as long as they are few;
 *  - one write torn at a sector, its beginning or its end on the disk, with all
 *    or none of the others;
 * and every other number is a choice by chance, the same each time; in some of
 * them the pages of what did not reach the disk hold anything.
 */
struct simcut;
struct simcut *simcut_new(struct simdev *sim);
void simcut_free(struct simcut *c);
bool simcut_next(struct simcut *c); /* false: that was the last */
size_t simcut_at(const struct simcut *c); /* how many changes happened */
size_t simcut_pending(const struct simcut *c);
uint64_t simcut_picks(const struct simcut *c);
struct simdev *simcut_image(const struct simcut *c, uint64_t pick);
/* The disk as the next daemon finds it when this one was killed here: nothing
 * is lost, and what was pending still is. */
struct simdev *simcut_death(const struct simcut *c);

/* Equal sums: the same names and bytes. */
uint64_t simdev_sum(struct simdev *sim);

/* Changes recorded so far (writes, names, syncs). */
size_t simdev_ops(struct simdev *sim);
/* Start the journal from here: what is there counts as synced. */
void simdev_settle(struct simdev *sim);

/* Calls of the kinds in mask, counted from now: the nth (1, ...) fails with
 * -err, once or for ever after. nth 0: none. */
void simdev_fail(struct simdev *sim, unsigned int mask, uint64_t nth, int err,
		 bool for_ever);
/* A write that is to fail leaves its first half on the disk. */
void simdev_set_short(struct simdev *sim, bool is_short);
bool simdev_has_failed(struct simdev *sim);
/* Is this thread in a call of a device? It allocates, and must not fail. */
bool simdev_is_inside(void);
/* Before the nth call of the kinds in mask, once: fn, in the calling thread; it
 * may use the disk. nth 0: not any more. */
void simdev_interrupt(struct simdev *sim, unsigned int mask, uint64_t nth,
		      void (*fn)(void *arg), void *arg);

/* Total bytes of files; 0: no limit. */
void simdev_set_capacity(struct simdev *sim, uint64_t bytes);
/* What is there now is all that there may be. */
void simdev_fill(struct simdev *sim);
/* Blocks are shared with real files (really they are copied). Not of images. */
void simdev_set_clones(struct simdev *sim, bool clones);

/* For damage: number of files, their names, sizes, and a byte of one. */
size_t simdev_file_count(struct simdev *sim);
const char *simdev_file_name(struct simdev *sim, size_t i);
uint64_t simdev_file_bytes(struct simdev *sim, size_t i);
uint8_t simdev_get_byte(struct simdev *sim, size_t i, uint64_t off);
void simdev_set_byte(struct simdev *sim, size_t i, uint64_t off, uint8_t v);

struct simdev_counts {
	uint64_t syncs, dir_syncs, writes, reads, bytes_written, bytes_read;
};
struct simdev_counts simdev_counts(struct simdev *sim);

#endif
