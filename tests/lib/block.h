/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block.h - files of a simulated disk by blocks of 4 KiB: for damage. */
#ifndef TESTS_LIB_BLOCK_H
#define TESTS_LIB_BLOCK_H

#include "tests/lib/simdev.h"

enum { BLOCK = 4096 };

/* Is it one of the log? */
bool is_segment(struct simdev *sim, size_t file);
/* The last one may be a part. */
uint64_t blocks_of(struct simdev *sim, size_t file);
/* Filled up with zeros at the end of the file. */
void get_block(struct simdev *sim, size_t file, uint64_t block,
	       uint8_t buf[BLOCK]);
/* What lies past the end is left out. */
void set_block(struct simdev *sim, size_t file, uint64_t block,
	       const uint8_t buf[BLOCK]);
bool is_zero_block(struct simdev *sim, size_t file, uint64_t block);
void truncate_file(struct simdev *sim, const char *name, uint64_t size);

#endif
