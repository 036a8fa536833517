/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base.c - see base.h. */
#include "txn/base.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

static int hold_stdio(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			return errno ? -errno : -EBADF;
	return 0;
}

/* What is left of it by a limit that is not ours to lift is an error of the
 * call, EFBIG. */
static void lift_file_size(void)
{
	struct rlimit rl;

	if (!getrlimit(RLIMIT_FSIZE, &rl)) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_FSIZE, &rl);
	}
	(void)signal(SIGXFSZ, SIG_IGN);
}

int process_begin(void)
{
	sigset_t none;
	int err = hold_stdio();

	if (err)
		return err;
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGCHLD, SIG_DFL);
	(void)umask(022);
	lift_file_size();
	return 0;
}
