/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fusermount.c - see fusermount.h. */
#include "fs/fusermount.h"

#include <sys/wait.h>
#include <unistd.h>

int fusermount(const char *path, bool lazy)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid) {
		execlp("fusermount3", "fusermount3", lazy ? "-uz" : "-u", "--",
		       path, (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status ? -EBUSY : 0;
}
