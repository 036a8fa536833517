/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slab.c - see slab.h. A block begins at a multiple of its size, so an object's
 * address leads to it.
 */
#include "fs/slab.h"

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

struct object {
	struct object *next;
};

struct slab_block {
	struct slab_block *prev, *next; /* among those with room */
	struct object *freed;
	char *fresh; /* never used from here on */
	size_t used;
};

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* One that is not where it should be is cut out of two. Linux maps from above
 * downwards: below a block that begins right the next one does too. */
static void *map_block(void)
{
	const uintptr_t mask = SLAB_BLOCK_BYTES - 1;
	char *p = map(SLAB_BLOCK_BYTES), *at;

	if (!p || !((uintptr_t)p & mask))
		return p;
	munmap(p, SLAB_BLOCK_BYTES);
	p = map(2 * SLAB_BLOCK_BYTES);
	if (!p)
		return NULL;
	at = p + SLAB_BLOCK_BYTES - ((uintptr_t)p & mask);
	munmap(p, (size_t)(at - p));
	if ((uintptr_t)p & mask)
		munmap(at + SLAB_BLOCK_BYTES, (uintptr_t)p & mask);
	return at;
}

static struct slab_block *block_of(void *object)
{
	return (struct slab_block *)((uintptr_t)object &
				     ~(uintptr_t)(SLAB_BLOCK_BYTES - 1));
}

static void link_block(struct slab *s, struct slab_block *b)
{
	b->prev = NULL;
	b->next = s->free;
	if (b->next)
		b->next->prev = b;
	s->free = b;
}

static void unlink_block(struct slab *s, struct slab_block *b)
{
	if (b->prev)
		b->prev->next = b->next;
	else
		s->free = b->next;
	if (b->next)
		b->next->prev = b->prev;
}

static bool is_full(const struct slab *s, const struct slab_block *b)
{
	const char *end = (const char *)b + SLAB_BLOCK_BYTES;

	return !b->freed && (size_t)(end - b->fresh) < s->size;
}

static struct slab_block *new_block(struct slab *s)
{
	struct slab_block *b = s->spare;

	s->spare = NULL;
	if (!b) {
		b = map_block();
		if (!b)
			return NULL;
		s->nblocks++;
	}
	b->freed = NULL;
	b->fresh = (char *)(b + 1);
	b->used = 0;
	link_block(s, b);
	return b;
}

static void drop_block(struct slab *s, struct slab_block *b)
{
	ASAN_UNPOISON_MEMORY_REGION(b, SLAB_BLOCK_BYTES);
	munmap(b, SLAB_BLOCK_BYTES);
	s->nblocks--;
}

void *slab_alloc(struct slab *s)
{
	struct slab_block *b = s->free;
	void *object;

	ASSERT(s->size >= sizeof(struct object));
	if (!b)
		b = new_block(s);
	if (!b)
		return NULL;
	object = b->freed;
	if (object) {
		ASAN_UNPOISON_MEMORY_REGION(object, s->size);
		b->freed = b->freed->next;
	} else {
		object = b->fresh;
		ASAN_UNPOISON_MEMORY_REGION(object, s->size);
		b->fresh += s->size;
	}
	b->used++;
	if (is_full(s, b))
		unlink_block(s, b);
	return object;
}

void slab_free(struct slab *s, void *object)
{
	struct slab_block *b = block_of(object);
	struct object *o = object;

	ASSERT(b->used);
	if (is_full(s, b))
		link_block(s, b);
	o->next = b->freed;
	b->freed = o;
	ASAN_POISON_MEMORY_REGION(object, s->size);
	if (--b->used)
		return;
	unlink_block(s, b);
	if (s->spare)
		drop_block(s, b);
	else
		s->spare = b;
}

void slab_release(struct slab *s)
{
	if (s->spare)
		drop_block(s, s->spare);
	s->spare = NULL;
	ASSERT(!s->nblocks);
}
