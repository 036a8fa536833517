/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * move_internal.h - what move.c (walking DIR) and move_batch.c (files on their
 * way) share.
 */
#ifndef FS_MOVE_INTERNAL_H
#define FS_MOVE_INTERNAL_H

#include "fs/move.h"
#include "fs/plain_internal.h"

/* A directory in DIR and in the store. */
struct move_dir {
	int refs;
	int fd;
	uint64_t ino;
	struct stat st; /* times: as they were before anything was taken out */
	bool touched; /* in the batch: its times in the store are to be mended
		       */
};

struct move_name {
	struct move_dir *dir;
	char *path; /* from DIR */
	const char *name; /* its last component */
};

/* An object on its way: in the view, its names still in DIR. */
struct move_item {
	struct move_name *names;
	size_t nnames;
	int fd;
	uint64_t ino;
	struct stat st; /* as it was read */
	bool leased; /* nobody else has it open for writing */
	bool moved; /* it has a name in log/ */
	bool stays; /* its names are not removed now */
	bool named; /* a name could not be removed */
	bool late; /* to be copied after all, its names gone */
};

/* Names of one file: those with several names, and what has to wait. */
struct move_set {
	uint64_t dev, host_ino;
	char **paths; /* NULL: a free place of the table */
	size_t n, cap;
};

struct move {
	const struct move_params *p;
	struct plain_reader r; /* its path: what is being looked at */
	struct fs *fs;
	struct store *store;
	int dirfd;
	uint64_t store_dev; /* st_dev of the store's folder */
	struct store_error *err;
	struct move_result *out;

	struct move_item *items;
	size_t nitems, items_cap, items_max;
	struct move_dir **dirs; /* touched */
	size_t ndirs, dirs_cap;
	uint64_t copied_bytes, moved_bytes; /* of the batch */

	struct move_set *sets; /* a hash table */
	size_t nsets, sets_cap;
	bool last_pass; /* nothing is put off any more */
	bool garbage; /* there may be names in log/ that nothing reaches */
};

void move_note(struct move *m, const char *path, const char *why);
/* Put a name off until the rest is done; st: of the file. */
int move_put_off(struct move *m, const char *path, const struct stat *st);

struct move_dir *move_dir_new(int fd, uint64_t ino, const struct stat *st);
void move_dir_put(struct move_dir *d); /* NULL is fine */
/* Its entries change in the view. */
int move_touch(struct move *m, struct move_dir *d);

/* A name that the store can give it: the same, or NAME@offline-N when there is
 * another object by that. */
int move_free_name(struct move *m, uint64_t dir, const char *path,
		   const char *name, char as[FS_NAME_MAX + 1]);

/*
 * All names of an object that is not a directory. The object comes into the
 * view; its names go with the batch. Takes the names over.
 */
int move_take(struct move *m, struct move_name *names, size_t n);
void move_names_free(struct move_name *names, size_t n);
/* What was taken is made durable, and its names are removed. */
int move_flush(struct move *m);
void move_batch_release(struct move *m);

#endif
