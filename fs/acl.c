/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acl.c - POSIX access control lists, as far as a filesystem answers for them:
 * what a new object inherits, and keeping list and permission bits in step. The
 * kernel checks access. Bytes: linux/posix_acl_xattr.h; rules: acl(5).
 */
#include "fs/fs_internal.h"

#include <linux/posix_acl_xattr.h>

enum {
	ACL_HEADER = 4,
	ACL_ENTRY = 8,
	ACL_OFF_TAG = 0,
	ACL_OFF_PERM = 2,
	TAG_USER_OBJ = 0x01,
	TAG_USER = 0x02,
	TAG_GROUP_OBJ = 0x04,
	TAG_GROUP = 0x08,
	TAG_MASK = 0x10,
	TAG_OTHER = 0x20
};

static bool acl_is_valid(const uint8_t *acl, size_t len)
{
	return len >= ACL_HEADER + 3 * ACL_ENTRY &&
	       (len - ACL_HEADER) % ACL_ENTRY == 0 &&
	       get_le32(acl) == POSIX_ACL_XATTR_VERSION;
}

/* The permissions of the first entry with a tag; NULL: none. */
static uint8_t *acl_perm(uint8_t *acl, size_t len, unsigned int tag)
{
	for (size_t at = ACL_HEADER; at < len; at += ACL_ENTRY)
		if (get_le16(acl + at + ACL_OFF_TAG) == tag)
			return acl + at + ACL_OFF_PERM;
	return NULL;
}

static bool acl_is_minimal(size_t len)
{
	return len == ACL_HEADER + 3 * ACL_ENTRY;
}

/* The entry that the group bits of the mode stand for. */
static uint8_t *acl_group_class(uint8_t *acl, size_t len)
{
	uint8_t *p = acl_perm(acl, len, TAG_MASK);

	return p ? p : acl_perm(acl, len, TAG_GROUP_OBJ);
}

int acl_to_mode(const uint8_t *acl, size_t len, uint32_t *mode)
{
	uint8_t *a = (uint8_t *)(uintptr_t)acl; /* only read */
	uint8_t *user, *group, *other;

	if (!acl_is_valid(acl, len))
		return -EINVAL;
	user = acl_perm(a, len, TAG_USER_OBJ);
	group = acl_group_class(a, len);
	other = acl_perm(a, len, TAG_OTHER);
	if (!user || !group || !other)
		return -EINVAL;
	*mode = (*mode & ~(uint32_t)0777) | (get_le16(user) & 7u) << 6 |
		(get_le16(group) & 7u) << 3 | (get_le16(other) & 7u);
	return acl_is_minimal(len);
}

/* Entries follow the mode; creating only takes away. */
static void acl_mask_perm(uint8_t *perm, uint32_t bits, bool create)
{
	put_le16(perm, (uint16_t)(create ? get_le16(perm) & bits : bits));
}

static int acl_apply_mode(uint8_t *acl, size_t len, uint32_t mode, bool create)
{
	uint8_t *user, *group, *other;

	if (!acl_is_valid(acl, len))
		return -EFSCORRUPTED;
	user = acl_perm(acl, len, TAG_USER_OBJ);
	group = acl_group_class(acl, len);
	other = acl_perm(acl, len, TAG_OTHER);
	if (!user || !group || !other)
		return -EFSCORRUPTED;
	acl_mask_perm(user, mode >> 6 & 7, create);
	acl_mask_perm(group, mode >> 3 & 7, create);
	acl_mask_perm(other, mode & 7, create);
	return 0;
}

static int put_acl(struct vtx *tx, const struct fs *fs, uint64_t ino,
		   const char *name, const uint8_t *acl, size_t len)
{
	struct item_xattr x;
	uint64_t off;
	int err;

	err = tx_find_xattr(tx, fs, ino, name, strlen(name), &off, &x);
	if (err < 0)
		return err;
	return tx_put_xattr(tx, ino, off, name, strlen(name), acl, len);
}

int tx_inherit_acl(struct vtx *tx, const struct fs *fs, uint64_t dir,
		   uint64_t ino, uint32_t umask_, uint32_t *mode)
{
	uint8_t acl[FS_ACL_MAX], own[FS_ACL_MAX];
	size_t len;
	int err;

	if (S_ISLNK(*mode))
		return 0;
	err = tx_get_xattr(tx, fs, dir, XATTR_ACL_DEFAULT, acl, sizeof(acl),
			   &len);
	if (err == 1) {
		*mode &= ~(umask_ & 0777);
		return 0;
	}
	if (err)
		return err;
	memcpy(own, acl, len);
	err = acl_apply_mode(own, len, *mode, true);
	if (!err)
		err = acl_to_mode(own, len, mode);
	if (err < 0)
		return err;
	if (!err)
		err = put_acl(tx, fs, ino, XATTR_ACL_ACCESS, own, len);
	else
		err = 0;
	if (!err && S_ISDIR(*mode))
		err = put_acl(tx, fs, ino, XATTR_ACL_DEFAULT, acl, len);
	return err;
}

int tx_chmod_acl(struct vtx *tx, const struct fs *fs, uint64_t ino,
		 uint32_t mode)
{
	uint8_t acl[FS_ACL_MAX];
	size_t len;
	int err;

	err = tx_get_xattr(tx, fs, ino, XATTR_ACL_ACCESS, acl, sizeof(acl),
			   &len);
	if (err)
		return err == 1 ? 0 : err;
	err = acl_apply_mode(acl, len, mode, false);
	return err ? err : put_acl(tx, fs, ino, XATTR_ACL_ACCESS, acl, len);
}
