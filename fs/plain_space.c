/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain_space.c - what the store takes of the host, and whether the plain files
 * share it. */
#include "fs/plain_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { XFS_MAGIC = 0x58465342 };
static const uint32_t btrfs_magic = 0x9123683e;

static int add_folder(int dirfd, const char *name, uint64_t *bytes)
{
	int fd = openat(dirfd, name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	struct stat st;
	int err = 0;

	if (!d) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (errno = 0, de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
			err = errno == ENOENT ? 0 : -errno; /* it went */
			continue;
		}
		*bytes += (uint64_t)st.st_blocks * 512;
		/* What is on its way to the plain files is not the store's. */
		if (S_ISDIR(st.st_mode) && strcmp(de->d_name, "sync"))
			err = add_folder(fd, de->d_name, bytes);
	}
	if (!err)
		err = -errno;
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
