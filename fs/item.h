/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * item.h - what files look like in the tree: the values of an inode's items,
 * encoded and decoded. Bytes: txn/FORMAT.md 6, constants: txn/format.h.
 *
 * Decoders take any bytes: 0, or -EFSCORRUPTED with the output untouched.
 * Pointers in their outputs point into the input.
 */
#ifndef FS_ITEM_H
#define FS_ITEM_H

#include "txn/format.h"
#include "txn/tree.h"

/* An inode. Back-reference: (parent, cookie) is the entry that its first name
 * is; further names are LINK items. cookie 0: no name (root, orphans). */
struct item_attr {
	uint64_t size, blocks, rdev, data_version, parent, cookie;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	uint32_t mode, nlink, uid, gid, flags;
};

void item_attr_encode(const struct item_attr *a, uint8_t buf[ATTR_BYTES]);
int item_attr_decode(const struct val *v, struct item_attr *out);

/* A directory's entry. */
struct item_entry {
	uint64_t ino;
	uint32_t type; /* S_IFMT bits */
	const char *name; /* not NUL-terminated */
	size_t len;
};

enum { ITEM_ENTRY_MAX = ENTRY_OFF_NAME + ENTRY_NAME_MAX };

size_t item_entry_encode(const struct item_entry *e,
			 uint8_t buf[ITEM_ENTRY_MAX]);
int item_entry_decode(const struct val *v, struct item_entry *out);

/* First chunk of an extended attribute; value holds its first bytes. */
struct item_xattr {
	const char *name;
	size_t name_len;
	const uint8_t *value;
	size_t here_len; /* bytes of the value in this chunk */
	uint32_t value_len;
};

size_t item_xattr_encode(const struct item_xattr *x,
			 uint8_t buf[TREE_VALUE_MAX]);
int item_xattr_decode(const struct val *v, struct item_xattr *out);
/* How many bytes of a value the first chunk takes. */
size_t item_xattr_first(size_t name_len, size_t value_len);

/*
 * 256 KiB of a file: where its blocks lie in the log, and their sums. Blocks
 * that are not in mask are holes. Of a block len bytes lie there; what follows
 * is zeros, and the sum is that of the bytes which lie there. A block that is
 * shorter than that, or does not begin with a page of the log, is packed: only
 * the first EXTENT_PACKED_MAX of a file may be.
 */
struct item_window {
	uint64_t mask;
	uint64_t pos[EXTENT_BLOCKS_MAX];
	uint64_t sum[EXTENT_BLOCKS_MAX];
	uint16_t len[EXTENT_BLOCKS_MAX];
};

enum {
	ITEM_WINDOW_BYTES = EXTENT_BLOCKS_MAX * EXTENT_BLOCK_BYTES,
	ITEM_EXTENT_MAX =
		EXTENT_HEADER_BYTES +
		(EXTENT_RUN_BYTES + 8) * EXTENT_BLOCKS_MAX +
		(EXTENT_PACKED_BYTES - EXTENT_RUN_BYTES) * EXTENT_PACKED_MAX
};

/* The extent that begins at or after block *i: a run of blocks that lie one
 * behind the other in the file and in the log. Its first block in *i, its
 * length is returned; 0: none. Only the last block of one may be short. */
unsigned int item_window_extent(const struct item_window *w, unsigned int *i);
/* What n blocks of an extent take in the log, from block i on. */
static inline size_t item_window_bytes(const struct item_window *w,
				       unsigned int i, unsigned int n)
{
	return (size_t)(n - 1) * EXTENT_BLOCK_BYTES + w->len[i + n - 1];
}

static inline bool item_is_packed(const struct item_window *w, unsigned int i)
{
	return w->pos[i] % EXTENT_BLOCK_BYTES ||
	       w->len[i] != EXTENT_BLOCK_BYTES;
}

/* mask is not 0. */
size_t item_window_encode(const struct item_window *w,
			  uint8_t buf[ITEM_EXTENT_MAX]);
int item_window_decode(const struct val *v, uint64_t off,
		       struct item_window *out);

/* One more name of an inode: the entry that it is. */
struct item_link {
	uint64_t parent, cookie;
};

void item_link_encode(const struct item_link *l, uint8_t buf[LINK_BYTES]);
int item_link_decode(const struct val *v, struct item_link *out);

/* The sum of a block of contents, of all of it. */
uint64_t item_block_sum(const void *block);
/* Are the bytes of a block that lie in the log the right ones? */
bool item_stored_matches(const struct item_window *w, unsigned int i,
			 const void *stored);
/* Are these all the bytes of a block that is there? */
bool item_block_matches(const struct item_window *w, unsigned int i,
			const uint8_t block[EXTENT_BLOCK_BYTES]);

/* Check any item of a file by its key's kind; for fs_check and fuzzing. */
int item_check(const struct key *key, const struct val *v);

#endif
