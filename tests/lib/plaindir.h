/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plaindir.h - a real directory with its store, on the simulated disk: nothing
 * is in either, and the files show that. */
#ifndef TESTS_LIB_PLAINDIR_H
#define TESTS_LIB_PLAINDIR_H

#include "fs/plain.h"
#include "tests/lib/simfs.h"

struct plaindir {
	struct simfs s;
	char dir[64];
	int dirfd, storefd; /* of it, and of its .txn */
};

/* What cannot fail fails the test. */
struct plaindir *plaindir_new(void);
/* With all in it. */
void plaindir_free(struct plaindir *f);

/* What is staged is committed, and the files follow. How many edits were kept
 * beside. */
uint64_t plaindir_follow(struct plaindir *f);

#endif
