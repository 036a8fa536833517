/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * export.c - txn export: a state as plain files, copied by cp(1) from where a
 * mount shows it, with owners, modes, times, extended attributes, hard links
 * and holes, as far as the caller may. An unmounted store is mounted read-only
 * for the time.
 */
#include "tools/tool.h"

#include <getopt.h>
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
			      NULL);
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

static int copy_unmounted(const struct place *p, const char *state,
			  const char *dest)
{
	char at[32];
	struct place place = { .dir = p->dir, .mount = at };
	int fd, status = mount_aside(p, true, &fd);

	if (!status) {
		snprintf(at, sizeof(at), "/proc/self/fd/%d", fd);
		status = copy(&place, state, dest);
		close(fd);
	}
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
