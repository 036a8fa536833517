/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aside.c - a store that is not mounted, mounted for us alone: out of sight as
 * soon as it is there, and there for as long as we have a descriptor of it.
 * Whatever ends us, and what we run, ends it: an interrupted command leaves
 * nothing behind.
 */
#include "tools/tool.h"

#include "fs/fusermount.h"
#include "fs/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 10, TELL_MS = 2000 };

static int detach(const char *dir, int *fd_out)
{
	/* Programs that we run have it, too. */
	int fd = open(dir, O_PATH | O_DIRECTORY), err;

	err = fd < 0 ? -errno : 0;
	if (umount2(dir, MNT_DETACH) && fusermount(dir, true) && !err)
		err = -EBUSY;
	if (err && fd >= 0)
		close(fd);
	*fd_out = fd;
	return err ? tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(-err)) : 0;
}

/* Until it is out of sight nothing interrupts us; those that we run are no
 * terminal's, so that its signals do not reach them. */
static void hold_signals(sigset_t *old)
{
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGHUP);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGQUIT);
	sigaddset(&ends, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &ends, old);
}

int mount_aside(const struct place *p, bool read_only, int *fd_out)
{
	static char txn[] = "/proc/self/exe", mnt[] = "mount", o[] = "-oro";
	char dir[] = "/tmp/txn-aside.XXXXXX", *store = strdup(p->dir);
	sigset_t old;
	int status;

	*fd_out = -1;
	hold_signals(&old);
	if (!store || !mkdtemp(dir)) {
		status =
			tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(errno));
	} else {
		status = tool_run_alone(
			read_only ? (char *[]){ txn, mnt, o, store, dir, NULL }
				  : (char *[]){ txn, mnt, store, dir, NULL });
		if (!status)
			status = detach(dir, fd_out);
		(void)rmdir(dir);
	}
	free(store);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return status;
}

int mount_aside_end(const struct place *p, int mount_fd)
{
	const struct timespec tick = { .tv_nsec = TICK_MS * 1000000 };
	struct holder_info info = { 0 };
	int dirfd, fd = place_open_store(p, &dirfd), err = fd < 0 ? fd : 0;

	close(mount_fd);
	for (unsigned int ms = 0; !err; ms += TICK_MS) {
		err = holder_probe(fd, &info);
		if (!err && ms == TELL_MS)
			tool_fail(0,
				  "process %ld is finishing; the plain files "
				  "may be many",
				  info.pid);
		if (!err)
			nanosleep(&tick, NULL);
	}
	if (fd >= 0)
		close(fd);
	if (dirfd >= 0)
		close(dirfd);
	return err < 0 ? tool_fail(EXIT_FAILURE, "%s/.txn/lock: %s", p->dir,
				   strerror(-err))
		       : 0;
}
