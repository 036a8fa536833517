/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cuts.h - what a store promises, at every point at which the power may go.
 *
 * A run is a chain of lives on one simulated disk. In each the store is opened,
 * a few random steps are made, and the daemon is gone; then the disk is looked
 * at as a power cut after each of its changes would have left it, in many ways
 * (simdev.h: picks). Each such state is recovered and read whole; what it shows
 * must be what the last acknowledged step left, or the one that was under way.
 * Some states are opened for writing too, and the power goes again: at each
 * change that recovery and the first steps after it make. The chain goes on
 * from a state by chance: after a power cut, or after a death of the daemon
 * with all of its writes in the host's cache.
 *
 * All of it follows from the seed. A failure prints the variables that show it
 * again at once:
 *
 *	SEED=7 LIFE=3 CUT=120 PICK=15 [CUT2=4 PICK2=1] build/tests/crash/...
 *
 * A disk that is equal to one that was recovered before is not recovered again
 * (its result is judged anew), and not counted.
 */
#ifndef TESTS_LIB_CUTS_H
#define TESTS_LIB_CUTS_H

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"
#include "txn/env.h"

/* What a store shows, as digests. */
struct shown {
	uint64_t head; /* the last commit, with its number */
	uint64_t staged; /* the working view */
	uint64_t names; /* history, names, settings */
};

struct life;

/* What is under test; one store at a time. */
struct cuts_world {
	/* 0, or why[256] says why not. -ENOENT: there is no store. */
	int (*open)(struct cuts_world *w, struct simdev *disk, struct env *env,
		    bool read_only, char *why);
	/* Read everything; every invariant holds. As open. */
	int (*look)(struct cuts_world *w, struct shown *out, char *why);
	/* What a record says now; after open and what life_done() follows. */
	void (*shown)(struct cuts_world *w, struct shown *out);
	/* As after kill -9. */
	void (*close)(struct cuts_world *w);
	/* Something random. What makes a state durable is between
	 * life_begin() and life_done(). */
	void (*step)(struct cuts_world *w, struct life *life, struct rng *rng);
	/* A new run: what was remembered of states goes. */
	void (*forget)(struct cuts_world *w);
};

void life_begin(struct life *life);
void life_done(struct life *life, const struct shown *now);
/* The store gave out a number for a new object: no life before had it. */
void life_new_number(struct life *life, uint64_t number);

/* Of a test: where it failed, however it did. */
int cuts_teardown(void **state);

struct cuts_params {
	uint64_t seed; /* of the first run */
	uint64_t states; /* end when so many different ones were recovered */
	uint64_t lives; /* of one run */
	uint64_t steps; /* of a life, at most */
	/* At each point: every case when there are so few, else as many by
	 * chance. In the lives after a state: see again. */
	uint64_t picks, picks_again;
	uint64_t again; /* one of so many states is opened for writing */
};

/* One life that begins on an empty disk: fn makes the store, between
 * life_begin() and life_done(). Disks without a store, or without a commit in
 * it, show nothing: all zeros. */
void cuts_first_life(struct cuts_world *w, const struct cuts_params *p,
		     void (*fn)(struct cuts_world *w, struct life *life,
				struct simdev *disk, struct env *env));

/* Starts from a disk with a store in it, opened and settled by `make`. */
void cuts_run(struct cuts_world *w, const struct cuts_params *p,
	      struct simdev *(*make)(struct cuts_world *w, struct env *env));

#endif
