/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * simdev_internal.h - what simdev.c (the disk) and simdev_cut.c (the disk after
 * a power cut) share. Copies of a disk share the bytes of files, and files the
 * pages, until somebody changes them: a copy costs what differs.
 */
#ifndef TESTS_LIB_SIMDEV_INTERNAL_H
#define TESTS_LIB_SIMDEV_INTERNAL_H

#include <pthread.h>

#include "tests/lib/simdev.h"

enum { SIM_PAGE = 4096, SIM_SECTOR = 512 };

struct sim_page {
	int refs; /* atomic */
	uint64_t sum; /* 0: not known, 1: of zeros */
	uint8_t data[SIM_PAGE];
};

struct sim_bytes {
	int refs; /* atomic: files, also of other disks */
	uint64_t size;
	struct sim_page **pages; /* NULL: a hole */
	size_t npages, nspace; /* nspace: not holes */
	uint64_t sum;
	bool summed;
};

struct sim_file {
	int refs; /* names and handles */
	size_t idx; /* in the journal's numbering */
	struct sim_bytes *b;
};

struct sim_name {
	char name[DEV_NAME_MAX];
	struct sim_file *file; /* NULL: a folder */
};

struct sim_op {
	unsigned int kind;
	size_t file;
	uint64_t off, len;
	uint8_t *data; /* NULL: zeros */
	char name[DEV_NAME_MAX], to[DEV_NAME_MAX];
};

struct simdev {
	struct dev dev;
	pthread_mutex_t lock;
	struct sim_name *names;
	size_t nnames;
	struct sim_op *ops;
	size_t nops, cap_ops;
	size_t nfiles; /* numbers given */
	struct simdev *base; /* state when the journal began */
	bool clones;
	uint64_t capacity, used; /* used: bytes of pages */
	unsigned int fail_mask;
	uint64_t fail_in;
	int fail_err;
	bool fail_for_ever, failed, is_short;
	unsigned int interrupt_mask;
	uint64_t interrupt_in;
	void (*interrupt)(void *arg);
	void *interrupt_arg;
	struct simdev_counts counts;
};

/* share: the bytes that it begins with, or NULL */
struct sim_file *sim_file_new(size_t idx, struct sim_bytes *share);
void sim_file_put(struct simdev *sim, struct sim_file *f);
/* kind: SIM_WRITE (data NULL: zeros), ALLOCATE, TRUNCATE (to off), PUNCH. */
void sim_file_apply(struct simdev *sim, struct sim_file *f, unsigned int kind,
		    uint64_t off, const uint8_t *data, uint64_t len);

struct sim_name *sim_find(struct simdev *sim, const char *name);
/* Takes the reference. file NULL: a folder. */
void sim_name_add(struct simdev *sim, const char *name, struct sim_file *file);
void sim_name_remove(struct simdev *sim, struct sim_name *n);
void sim_name_rename(struct simdev *sim, const char *from, const char *to);
void sim_folder_of(const char *name, char out[DEV_NAME_MAX]);

/* A copy of what is there, without a journal. Under sim->lock. */
struct simdev *sim_copy(const struct simdev *sim);
/* An empty operation at the end of the journal. Under sim->lock. */
struct sim_op *sim_op_add(struct simdev *sim, unsigned int kind, size_t file);
void *sim_must(void *p);

#endif
