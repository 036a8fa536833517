/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LDFLAGS: -shared -fPIC -ldl */
/*
 * late.c - preloaded into the daemon: while the file $LATE exists, the next
 * answer that is as long as a listing takes it away and waits for a moment
 * before it goes to the kernel.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LISTING_BYTES = 400, LATE_US = 400000 };

ssize_t writev(int fd, const struct iovec *iov, int n);

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	static ssize_t (*next)(int, const struct iovec *, int);
	const char *late = getenv("LATE");
	size_t len = 0;

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "writev");
	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (late && len >= LISTING_BYTES && !unlink(late))
		(void)usleep(LATE_US);
	return next(fd, iov, n);
}
