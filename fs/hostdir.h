/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostdir.h - the names in a directory of the host, one after the other:
 *
 *	d = hostdir_open(dirfd, name);
 *	if (!d)
 *		return -errno;
 *	while (!err && !(err = hostdir_next(d, &entry)) && entry)
 *		err = ...;
 *	closedir(d);
 *
 * One thread at a time for each listing.
 */
#ifndef FS_HOSTDIR_H
#define FS_HOSTDIR_H

#include <dirent.h>

/* No symlink is followed at its end; "." is dirfd itself, from its first name
 * on, whoever else reads that. NULL: errno says why. */
DIR *hostdir_open(int dirfd, const char *name);

/* NULL: there are no more; . and .. are left out. It is good until the next
 * call. 0 or the error of the host. */
int hostdir_next(DIR *d, const char **name_out);

#endif
