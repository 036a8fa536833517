/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base.c - see base.h. */
#include "txn/base.h"

#include <fcntl.h>
#include <syslog.h>

_Noreturn void assert_failed(const char *file, int line, const char *func,
			     const char *cond)
{
	fprintf(stderr, "txnfs: %s:%d: %s: assertion failed: %s\n", file, line,
		func, cond);
	fflush(stderr);
	syslog(LOG_DAEMON | LOG_CRIT, "%s:%d: %s: assertion failed: %s", file,
	       line, func, cond);
	abort();
}

int hold_stdio(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			return errno ? -errno : -EBADF;
	return 0;
}
