/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * export.c - txn export: a state as plain files, copied by cp(1) from where a
 * mount shows it, with owners, modes, times, extended attributes, hard links
 * and holes, as far as the caller may. An unmounted store is mounted read-only
 * for the time.
 */
#include "tools/tool.h"

#include "fs/fusermount.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy(const struct place *p, const char *state, const char *dest)
{
	static char cp[] = "cp", a[] = "-a", sparse[] = "--sparse=auto",
		    reflink[] = "--reflink=auto", t[] = "-T", dash[] = "--";
	char *from = place_state(p, state), *dot = NULL, *to;
	size_t size;
	int rc = 1;

	if (!from)
		return tool_no_state(state);
	/* The history would be in it, and what is written to ctl. */
	if (!strcmp(from, p->mount) && place_lists_txn(p)) {
		free(from);
		return tool_fail(EXIT_REFUSED,
				 "%s: this mount lists .txn "
				 "(ctldir=visible), which is not to be copied: "
				 "take a snapshot, and export that",
				 state);
	}
	/* What a symlink (head) leads to, not the link. */
	size = strlen(from) + 3;
	dot = malloc(size);
	to = strdup(dest);
	if (dot && to) {
		snprintf(dot, size, "%s/.", from);
		rc = tool_run((char *[]){ cp, a, sparse, reflink, t, dash, dot,
					  to, NULL },
			      NULL, false);
	}
	free(from);
	free(dot);
	free(to);
	if (rc == EXIT_NOT_RUN)
		return tool_fail(EXIT_FAILURE, "cp cannot be run");
	return rc ? tool_fail(EXIT_FAILURE,
			      "cp, which said why above, ended with status "
			      "%d: %s is missing or not complete",
			      rc, dest)
		  : 0;
}

/* Out of sight: from here on it is there for as long as somebody has this
 * descriptor, so it goes with us and cp(1), whatever ends us. */
static int detach(const char *dir, int *fd_out)
{
	int fd = open(dir, O_PATH | O_DIRECTORY), err;

	err = fd < 0 ? -errno : 0;
	if (umount2(dir, MNT_DETACH) && fusermount(dir, true) && !err)
		err = -EBUSY;
	if (err && fd >= 0)
		close(fd);
	*fd_out = fd;
	return err ? tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(-err)) : 0;
}

/* Mounted read-only at a place of our own. */
static int copy_unmounted(const struct place *p, const char *state,
			  const char *dest)
{
	static char txn[] = "/proc/self/exe", mnt[] = "mount", o[] = "-o",
		    ro[] = "ro";
	char dir[] = "/tmp/txn-export.XXXXXX", at[32], *store = strdup(p->dir);
	struct place place = { .dir = p->dir, .mount = at };
	int status, fd;

	if (!store || !mkdtemp(dir)) {
		free(store);
		return tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(errno));
	}
	status = tool_run((char *[]){ txn, mnt, o, ro, store, dir, NULL }, NULL,
			  false);
	if (!status)
		status = detach(dir, &fd);
	(void)rmdir(dir);
	if (!status) {
		snprintf(at, sizeof(at), "/proc/self/fd/%d", fd);
		status = copy(&place, state, dest);
		close(fd);
	}
	free(store);
	return status;
}

int cmd_export(int argc, char **argv)
{
	const char *state, *dest;
	struct place p;
	struct stat st;
	int status;

	if (tool_parse_none(argc, argv) || argc - optind != 2)
		return tool_usage(argv[0]);
	state = argv[optind];
	dest = argv[optind + 1];
	if (!lstat(dest, &st))
		return tool_fail(EXIT_REFUSED, "%s is there already", dest);
	status = place_find(tool_start_dir, &p);
	if (!status)
		status = p.mount ? copy(&p, state, dest)
				 : copy_unmounted(&p, state, dest);
	place_release(&p);
	return status;
}
