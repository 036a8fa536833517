/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slab.h - memory for objects of one size, of which there may be millions. They
 * lie in blocks of their own: nothing is kept beside each of them, and a block
 * whose objects are all freed is the host's again, whatever else the process
 * keeps. (With malloc they would share their pages with what lives longer.)
 *
 * The caller locks. SLAB(struct x) is an initial value; nothing is there to
 * release when all objects are freed but what slab_release() takes.
 */
#ifndef FS_SLAB_H
#define FS_SLAB_H

#include "txn/base.h"

enum { SLAB_BLOCK_BYTES = 16 << 10 };

struct slab_block;

struct slab {
	size_t size; /* of an object */
	struct slab_block *free; /* those with room */
	struct slab_block *spare; /* one without objects, for the next */
	size_t nblocks;
};

#define SLAB(type) ((struct slab){ .size = sizeof(type) })

/* Contents are undefined. NULL: no memory. */
void *slab_alloc(struct slab *s);
void slab_free(struct slab *s, void *object);
/* Every object was freed. */
void slab_release(struct slab *s);

#endif
