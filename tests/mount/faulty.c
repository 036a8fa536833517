/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LDFLAGS: -shared -fPIC */
/*
 * faulty - preloaded into the daemon: while the file that FAULT names exists,
 * calls on segments of the store fail. It holds a line "CALL ERRNO"; CALL is
 * write, short (half of it is written), sync or read.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t off);
ssize_t pread64(int fd, void *buf, size_t len, off_t off);

static void *next(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p)
		abort();
	return p;
}

static bool is_segment(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return strstr(path, "/.txn/log/") != NULL;
}

/* The errno that the call is to fail with; 0: none. */
static int fault(int fd, const char *call)
{
	const char *name = getenv("FAULT");
	char what[16] = "";
	int err = 0;
	FILE *f;

	if (!name || !is_segment(fd))
		return 0;
	f = fopen(name, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%15s %d", what, &err) != 2 || strcmp(what, call) != 0)
		err = 0;
	(void)fclose(f);
	return err;
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t off)
{
	ssize_t (*call)(int, const struct iovec *, int, off_t) = (ssize_t(*)(
		int, const struct iovec *, int, off_t))next("pwritev64");
	int err = fault(fd, "short");

	if (err)
		(void)call(fd, iov, (n + 1) / 2, off);
	else
		err = fault(fd, "write");
	errno = err;
	return err ? -1 : call(fd, iov, n, off);
}

int fdatasync(int fd)
{
	int (*call)(int) = (int (*)(int))next("fdatasync");
	int err = fault(fd, "sync");

	errno = err;
	return err ? -1 : call(fd);
}

ssize_t pread64(int fd, void *buf, size_t len, off_t off)
{
	ssize_t (*call)(int, void *, size_t, off_t) =
		(ssize_t(*)(int, void *, size_t, off_t))next("pread64");
	int err = fault(fd, "read");

	errno = err;
	return err ? -1 : call(fd, buf, len, off);
}
