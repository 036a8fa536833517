/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain_space.c - what the store takes of the host, and whether the plain files
 * share it. */
#include "fs/hostdir.h"
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { XFS_MAGIC = 0x58465342 };
static const uint32_t btrfs_magic = 0x9123683e;

static int add_folder(int at, const char *folder, uint64_t *bytes)
{
	DIR *d = hostdir_open(at, folder);
	const char *name;
	struct stat st;
	int err = 0;

	if (!d)
		return -errno;
	while (!err && !(err = hostdir_next(d, &name)) && name) {
		if (fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW)) {
			err = errno == ENOENT ? 0 : -errno; /* it went */
			continue;
		}
		*bytes += (uint64_t)st.st_blocks * 512;
		/* What is on its way to the plain files is not the store's. */
		if (S_ISDIR(st.st_mode) && strcmp(name, "sync"))
			err = add_folder(dirfd(d), name, bytes);
	}
	closedir(d);
	return err == -ENOENT ? 0 : err;
}

int plain_store_bytes(int storefd, uint64_t *bytes_out)
{
	*bytes_out = 0;
	return add_folder(storefd, ".", bytes_out);
}

bool plain_shares(int dirfd, int storefd)
{
	struct stat dir, store;
	struct statfs sf;

	return !fstat(dirfd, &dir) && !fstat(storefd, &store) &&
	       dir.st_dev == store.st_dev && !fstatfs(dirfd, &sf) &&
	       ((uint32_t)sf.f_type == btrfs_magic || sf.f_type == XFS_MAGIC);
}
