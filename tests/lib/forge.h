/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * forge.h - a store whose bytes are changed and whose sums are right all the
 * same: what an attacker, or a bug of ours, could leave on a disk. A byte that
 * is merely flipped is refused by the sum in the pointer to it; this gets at
 * the code behind the sums.
 *
 * A forge is made from a store on a simulated disk once: its nodes, of all
 * states, and its last record. forge_image() makes a copy of the disk with
 * edits, which any bytes describe, FORGE_EDIT_BYTES each: what, where, how and
 * a value. Nodes that changed are sealed again from the leaves up; nodes that
 * grew, or are new, go to a place between the last record and its new place.
 * An edit may also leave sums wrong on purpose.
 *
 * One thread at a time.
 */
#ifndef TESTS_LIB_FORGE_H
#define TESTS_LIB_FORGE_H

#include "tests/lib/simdev.h"

struct forge;

enum { FORGE_EDIT_BYTES = 12 };

/* The last record of the store has to lie in a segment that goes on for
 * 256 KiB behind it. sim is borrowed. */
struct forge *forge_new(struct simdev *sim, const uint8_t uuid[16]);
void forge_free(struct forge *f);

/* simdev_free() it. What does not fill a last edit is ignored. */
struct simdev *forge_image(struct forge *f, const uint8_t *edits, size_t len);

#endif
