/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base.c - see base.h. */
#include "txn/base.h"

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
