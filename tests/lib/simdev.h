/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * simdev.h - a disk in memory that can lose power and fail. It keeps a journal
 * of everything that changes it, so one recorded run yields the disk after a
 * power cut at any point of it, with what was not synced kept, dropped,
 * reordered or torn:
 *
 *	sim = simdev_new();
 *	... run ...
 *	for (cut = 0; cut <= simdev_ops(sim); cut++)
 *		img = simdev_image(sim, cut, SIM_TORN, seed);
 *
 * A file's sync makes its bytes and size durable, a folder's sync its names.
 * Threads: any.
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
	SIM_ALL = 32767
};

struct simdev;

struct simdev *simdev_new(void);
void simdev_free(struct simdev *sim);
struct dev *simdev_dev(struct simdev *sim);

/* The disk as a new one, without a journal. cut: how many of the recorded
 * changes happened before the power went. */
struct simdev *simdev_image(struct simdev *sim, size_t cut, enum sim_mode mode,
			    uint64_t seed);
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

/* Total bytes of files; 0: no limit. */
void simdev_set_capacity(struct simdev *sim, uint64_t bytes);
void simdev_set_read_only(struct simdev *sim, bool read_only);

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
