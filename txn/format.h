/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format.h - every byte on disk, as offsets and constants. The text is
 * FORMAT.md, whose sections the comments here number; the code follows it.
 * Integers are little-endian; read and write them with get_le32() and kin.
 */
#ifndef TXN_FORMAT_H
#define TXN_FORMAT_H

/* --- 3. Records --- */

#define REC_MAGIC 0x434e5854u /* "TXNC" */

enum {
	REC_OFF_MAGIC = 0, /* u32 */
	REC_OFF_VERSION = 4, /* u16 */
	REC_OFF_FLAGS = 6, /* u16 */
	REC_OFF_LEN = 8, /* u32, header and roots */
	REC_OFF_NROOTS = 12, /* u32 */
	REC_OFF_SUM = 16, /* u64, see FORMAT.md 3.2 */
	REC_OFF_SEQ = 24, /* u64 */
	REC_OFF_POS = 32, /* u64, the record's own position */
	REC_OFF_PREV_POS = 40, /* u64, 0: the first record of a store */
	REC_OFF_PREV_SUM = 48, /* u64 */
	REC_OFF_UUID = 56, /* 16 bytes */
	REC_OFF_LINEAGE = 72, /* u64 */
	REC_OFF_SMALL_FLUSHED = 80, /* u64 */
	REC_OFF_BULK_FLUSHED = 88, /* u64 */
	REC_OFF_NEXT_OBJ = 96, /* u64 */
	REC_OFF_NEXT_VIEW = 104, /* u64 */
	REC_OFF_HEAD_NUMBER = 112, /* u64 */
	REC_OFF_TIME = 120, /* i64, ns since 1970 */
	REC_HEADER_BYTES = 128,

	/* one root */
	REC_ROOT_OFF_KIND = 0, /* u32 */
	REC_ROOT_OFF_PTR_LEN = 4, /* u32 */
	REC_ROOT_OFF_ID = 8, /* u64 */
	REC_ROOT_OFF_PTR_POS = 16, /* u64 */
	REC_ROOT_OFF_PTR_SUM = 24, /* u64 */
	REC_ROOT_BYTES = 32,

	REC_VERSION = 1,
	REC_FLAG_CLOSING = 1, /* written at a clean close */
	REC_ALIGN = 4096
};

/* --- 4. Tree nodes --- */

#define NODE_MAGIC 0x4e54u /* "TN" */

enum {
	NODE_OFF_MAGIC = 0, /* u16 */
	NODE_OFF_LEVEL = 2, /* u8, 0: leaf */
	NODE_OFF_ZERO = 3, /* u8 */
	NODE_OFF_COUNT = 4, /* u16 */
	NODE_OFF_LEN = 6, /* u16, header and items */
	NODE_OFF_POS = 8, /* u64, the node's own position */
	NODE_HEADER_BYTES = 16,

	/* one item */
	ITEM_OFF_OBJ = 0, /* u64 */
	ITEM_OFF_KIND = 8, /* u8 */
	ITEM_OFF_OFF = 9, /* u64 */
	ITEM_OFF_VALUE_LEN = 17, /* u16 */
	ITEM_HEADER_BYTES = 19,

	/* the value of an item of an internal node */
	PTR_OFF_POS = 0, /* u64 */
	PTR_OFF_SUM = 8, /* u64 */
	PTR_OFF_LEN = 16, /* u32 */
	PTR_BYTES = 20
};

/* --- 5. Items of the catalog --- */

enum {
	CAT_OBJ_COMMITS = 1,
	CAT_KIND_COMMIT = 1, /* off: the commit's number */
	CAT_KIND_MESSAGE = 2, /* off: number << 8 | index of the chunk */

	CAT_COMMIT_OFF_PTR_POS = 0, /* u64 */
	CAT_COMMIT_OFF_PTR_SUM = 8, /* u64 */
	CAT_COMMIT_OFF_PTR_LEN = 16, /* u32 */
	CAT_COMMIT_OFF_UID = 20, /* u32 */
	CAT_COMMIT_OFF_TIME = 24, /* i64, ns since 1970 */
	CAT_COMMIT_OFF_CHANGES = 32, /* u64 */
	CAT_COMMIT_OFF_BYTES = 40, /* u64 */
	CAT_COMMIT_OFF_MESSAGE_BYTES = 48, /* u32 */
	CAT_COMMIT_OFF_NAMES = 52, /* u32, tags that name it */
	CAT_COMMIT_BYTES = 56,
	CAT_MESSAGE_CHUNK_BYTES = 1000,

	CAT_OBJ_NAMES = 2, /* off: hash << 16 | collision << 8 | piece */
	CAT_OBJ_DISCARDED = 3, /* off: number << 8 | piece */
	CAT_KIND_NAMED = 1, /* piece 0: below; further ones: the message */

	CAT_NAMED_OFF_PTR_POS = 0, /* u64 */
	CAT_NAMED_OFF_PTR_SUM = 8, /* u64 */
	CAT_NAMED_OFF_PTR_LEN = 16, /* u32 */
	CAT_NAMED_OFF_UID = 20, /* u32 */
	CAT_NAMED_OFF_TIME = 24, /* i64, ns since 1970 */
	CAT_NAMED_OFF_NUMBER = 32, /* u64, a tag's commit; else head then */
	CAT_NAMED_OFF_MESSAGE_BYTES = 40, /* u32 */
	CAT_NAMED_OFF_KIND = 44, /* u8: 1 snapshot, 2 tag, 3 discarded */
	CAT_NAMED_OFF_NAME_LEN = 45, /* u8 */
	CAT_NAMED_OFF_NAME = 46,

	CAT_OBJ_SETTINGS = 4, /* off: which; value: u64 */
	CAT_KIND_SETTING = 1,
	CAT_SETTING_KEEP_LAST = 1,
	CAT_SETTING_KEEP_DISCARDED = 2,
	CAT_SETTING_PUSH_MAPS = 3,
	CAT_SETTING_PLAIN = 4,
	CAT_SETTING_BYTES = 8,
	CAT_SETTING_UNNAMED = 100 /* commits without a tag, counted */
};

/* --- 6. Items of files --- */

enum {
	/* kinds of an inode's items */
	ITEM_KIND_ATTR = 1, /* off 0 */
	ITEM_KIND_ENTRY = 2, /* off: the entry's cookie */
	ITEM_KIND_XATTR = 3, /* off: hash << 16 | collision << 8 | chunk */
	ITEM_KIND_INLINE = 4, /* off: offset in the contents */
	ITEM_KIND_EXTENT = 5, /* off: of a window of 256 KiB in the file */
	ITEM_KIND_LINK = 6, /* off: hash of the reference << 4 | collision */
	ITEM_KIND_ORPHAN = 7, /* of object ITEM_OBJ_ORPHANS; off: the inode */

	ITEM_OBJ_ROOT = 1, /* the root directory */
	ITEM_OBJ_ORPHANS = 2,

	ATTR_OFF_MODE = 0, /* u32 */
	ATTR_OFF_NLINK = 4, /* u32 */
	ATTR_OFF_UID = 8, /* u32 */
	ATTR_OFF_GID = 12, /* u32 */
	ATTR_OFF_FLAGS = 16, /* u32 */
	ATTR_OFF_ZERO = 20, /* u32 */
	ATTR_OFF_SIZE = 24, /* u64 */
	ATTR_OFF_BLOCKS = 32, /* u64, of 4 KiB */
	ATTR_OFF_RDEV = 40, /* u64 */
	ATTR_OFF_DATA_VERSION = 48, /* u64 */
	ATTR_OFF_PARENT = 56, /* u64 */
	ATTR_OFF_COOKIE = 64, /* u64 */
	ATTR_OFF_ATIME = 72, /* i64 */
	ATTR_OFF_MTIME = 80, /* i64 */
	ATTR_OFF_CTIME = 88, /* i64 */
	ATTR_OFF_BTIME = 96, /* i64 */
	ATTR_BYTES = 104,

	ATTR_FLAG_INLINE = 1, /* contents are INLINE items */

	ENTRY_OFF_INO = 0, /* u64 */
	ENTRY_OFF_TYPE = 8, /* u8, the S_IFMT bits >> 12 */
	ENTRY_OFF_NAME = 9,
	ENTRY_NAME_MAX = 255,
	ENTRY_HASH_BITS = 56,
	ENTRY_COLLISION_BITS = 7,

	XATTR_OFF_VALUE_LEN = 0, /* u32 */
	XATTR_OFF_NAME_LEN = 4, /* u8 */
	XATTR_OFF_NAME = 5,
	XATTR_ITEM_NAME_MAX = 255,
	XATTR_ITEM_VALUE_MAX = 65536,
	XATTR_CHUNK_BYTES = 1000, /* of chunks after the first */

	INLINE_FILE_MAX = 900,
	INLINE_CHUNK_BYTES = 1000,

	EXTENT_OFF_MASK = 0, /* u64, bit for each block that is there */
	EXTENT_OFF_RUNS = 8, /* u8, number of runs, which follow */
	EXTENT_HEADER_BYTES = 9,
	EXTENT_RUN_BYTES = 7, /* u8 blocks, u48 position / 4096 */
	/* A packed one: u8 blocks | EXTENT_PACKED, u64: position / EXTENT_UNIT
	 * << EXTENT_TAIL_BITS | length of its last block - 1 */
	EXTENT_PACKED = 0x80,
	EXTENT_PACKED_BYTES = 9,
	EXTENT_TAIL_BITS = 12,
	EXTENT_UNIT_BYTES = 64,
	EXTENT_PACKED_MAX = 15, /* only the first blocks of a file */
	/* then: u64 sum of each block */
	EXTENT_BLOCK_BYTES = 4096,
	EXTENT_BLOCKS_MAX = 64,

	LINK_OFF_PARENT = 0, /* u64 */
	LINK_OFF_COOKIE = 8, /* u64 */
	LINK_BYTES = 16,
	LINK_COLLISION_BITS = 4
};

/* --- 7. Items of the plain directory --- */

enum {
	PLAIN_KIND_STAT = 1, /* obj: the inode, off 0 */
	PLAIN_KIND_ENTRY = 2, /* as ITEM_KIND_ENTRY */
	PLAIN_KIND_STATE = 3, /* obj PLAIN_OBJ_STATES, off PLAIN_STATE_* */
	PLAIN_KIND_MARK = 4, /* obj PLAIN_OBJ_STATES, off 0 */
	PLAIN_OBJ_STATES = 0,

	PLAIN_OFF_HOST_INO = 0, /* u64 */
	PLAIN_OFF_SIZE = 8, /* u64, of directories 0 */
	PLAIN_OFF_MTIME = 16, /* i64, ns since 1970 */
	PLAIN_OFF_CTIME = 24, /* i64 */
	PLAIN_OFF_MODE = 32, /* u32 */
	PLAIN_OFF_UID = 36, /* u32 */
	PLAIN_OFF_GID = 40, /* u32 */
	PLAIN_OFF_FLAGS = 44, /* u32, PLAIN_* */
	PLAIN_STAT_BYTES = 48,

	PLAIN_UNLIKE = 1, /* owner or attributes could not be given */
	PLAIN_ABSENT = 2, /* it could not be made */
	PLAIN_LEFT = 4, /* it could not be removed */
	PLAIN_MOVED = 8, /* its file has a name in log/, too */

	PLAIN_STATE_SHOWN = 0, /* what the files are */
	PLAIN_STATE_TARGET = 1, /* what they are being made, if anything */

	PLAIN_STATE_OFF_PTR_POS = 0, /* u64 */
	PLAIN_STATE_OFF_PTR_SUM = 8, /* u64 */
	PLAIN_STATE_OFF_PTR_LEN = 16, /* u32 */
	PLAIN_STATE_OFF_PHASE = 20, /* u32, of a target */
	PLAIN_STATE_OFF_NUMBER = 24, /* u64, the commit; 0: it is none */
	PLAIN_STATE_BYTES = 32,

	/* u32: what is being done with all of the directory */
	PLAIN_MARK_BYTES = 4,
	PLAIN_MARK_MOVE = 1, /* its files are moved into the store */
	PLAIN_MARK_EJECT = 2 /* and out of it */
};

#endif
