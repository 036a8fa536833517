/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LDFLAGS: -shared -fPIC -fno-sanitize=all */
/*
 * slowdev.c - to be preloaded into the daemon: holds its calls on the store for
 * as long as a file lies in the folder $SLOWDEV: "sync" holds fdatasync and
 * fsync, "write" pwritev, "read" pread, "punch" what gives space and takes it
 * back. "KIND.held" appears there when a call is being held. And of DIR's own
 * files, when they are compared: "list" holds the listing of a directory with
 * the name "held", with "list-fails" it ends with EIO; "plain" holds reading
 * the files in it.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int path_of(char *buf, size_t size, const char *kind, const char *suffix)
{
	const char *dir = getenv("SLOWDEV");
	int n = dir ? snprintf(buf, size, "%s/%s%s", dir, kind, suffix) : -1;

	return n > 0 && (size_t)n < size;
}

static void hold(const char *kind)
{
	const struct timespec tick = { .tv_nsec = 2000000 };
	char path[512], held[512];
	int fd;

	if (!path_of(path, sizeof(path), kind, "") || access(path, F_OK) ||
	    !path_of(held, sizeof(held), kind, ".held"))
		return;
	fd = open(held, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	while (!access(path, F_OK))
		nanosleep(&tick, NULL);
}

static int path_has(int fd, const char *part)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	return strstr(path, part) != NULL;
}

/* The address of what this one hides. */
static void next(const char *name, void *fn_out)
{
	void **to = fn_out;

	*to = dlsym(RTLD_NEXT, name);
	if (!*to)
		abort();
}

int fdatasync(int fd)
{
	int (*real)(int);

	next("fdatasync", &real);
	hold("sync");
	return real(fd);
}

int fsync(int fd)
{
	int (*real)(int);

	next("fsync", &real);
	hold("sync");
	return real(fd);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t off)
{
	ssize_t (*real)(int, const struct iovec *, int, off_t);

	next("pwritev64", &real);
	hold("write");
	return real(fd, iov, n, off);
}

ssize_t pread64(int fd, void *buf, size_t len, off_t off)
{
	ssize_t (*real)(int, void *, size_t, off_t);

	next("pread64", &real);
	if (path_has(fd, "/held/"))
		hold("plain");
	hold("read");
	return real(fd, buf, len, off);
}

int fallocate64(int fd, int mode, off_t off, off_t len)
{
	int (*real)(int, int, off_t, off_t);

	next("fallocate64", &real);
	hold("punch");
	return real(fd, mode, off, len);
}

ssize_t getdents64(int fd, void *buf, size_t len)
{
	ssize_t (*real)(int, void *, size_t);
	char path[512];

	next("getdents64", &real);
	if (!path_has(fd, "/held"))
		return real(fd, buf, len);
	hold("list");
	if (!path_of(path, sizeof(path), "list-fails", "") ||
	    access(path, F_OK))
		return real(fd, buf, len);
	errno = EIO;
	return -1;
}
