/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dump.h - everything that a state of files shows, remembered, and compared
 * with what a store shows later, be it damaged: what differs is a failure, what
 * cannot be read is counted. Contents are remembered as sums of 64 KiB.
 */
#ifndef TESTS_LIB_DUMP_H
#define TESTS_LIB_DUMP_H

#include "fs/fs.h"

struct dump;

/* All of a state, which can be read. */
struct dump *dump_new(struct fs_view *v);
void dump_free(struct dump *d); /* NULL is fine */

struct dump_result {
	uint64_t checked; /* objects that are what they were */
	uint64_t errors; /* answers that were errors: damage, EIO */
	/* Contents that could not be read: the path of the last such file, and
	 * how many names it has. */
	char bad_path[512];
	unsigned int bad_names;
	char wrong[640]; /* what is not as it was; "": nothing */
};

/* Compare a state with d; *r is filled. An error is one of those that stand for
 * damage; any other answer must be right. */
void dump_compare(const struct dump *d, struct fs_view *v,
		  struct dump_result *r);

#endif
