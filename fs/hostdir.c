/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hostdir.c - see hostdir.h. */
#include "fs/hostdir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

DIR *hostdir_open(int dirfd, const char *name)
{
	int fd = openat(dirfd, name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0) {
		int err = errno;

		(void)close(fd);
		errno = err;
	}
	return d;
}

int hostdir_next(DIR *d, const char **name_out)
{
	const struct dirent *de;

	do {
		errno = 0;
		de = readdir(d);
	} while (de && (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..")));
	*name_out = de ? de->d_name : NULL;
	return de ? 0 : -errno;
}
