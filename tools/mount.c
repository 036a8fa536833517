/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount.c - txn mount: clear a dead mount away, then txnfs. */
#include "tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { DEAD_MAX = 16 /* mounts over one another */ };

/* A mount whose daemon is gone answers so to everything; one whose daemon is
 * just going, with the second. */
static bool is_dead(int err)
{
	return err == ENOTCONN || err == ECONNABORTED;
}

static int clear_dead(const char *path)
{
	struct statfs sf;

	for (int i = 0; i < DEAD_MAX; i++) {
		/* Not stat: the kernel may know the answer to that. */
		if (!statfs(path, &sf) || !is_dead(errno))
			return 0;
		if (umount2(path, MNT_DETACH) && tool_fusermount(path, true))
			return tool_fail(
				EXIT_FAILURE,
				"%s: the mount of a dead daemon cannot "
				"be removed: %s",
				path, strerror(errno));
		tool_fail(0, "%s: removed the mount of a daemon that is gone",
			  path);
	}
	return tool_fail(EXIT_FAILURE, "%s: %s", path, strerror(ENOTCONN));
}

/* The txnfs that lies beside us, or the one in PATH. */
static void exec_txnfs(char **argv)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 8);
	char *slash;

	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		memcpy(slash + 1, "txnfs", 6);
		execv(path, argv);
	}
	execvp("txnfs", argv);
}

int cmd_mount(int argc, char **argv)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'F' }, { 0 }
	};
	/* txnfs, two places, "-o" and its value for each option given */
	char **args = calloc((size_t)argc * 2 + 8, sizeof(char *));
	static char txnfs[] = "txnfs", o[] = "-o", force[] = "force";
	static char here[4096];
	int opt, n = 0, places, status = 0;

	if (!args)
		return EXIT_FAILURE;
	args[n++] = txnfs;
	while ((opt = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (opt == '?') {
			free(args);
			return tool_usage(argv[0]);
		}
		args[n++] = o;
		args[n++] = opt == 'F' ? force : optarg;
	}
	places = argc - optind;
	if (places > 2) {
		free(args);
		return tool_usage(argv[0]);
	}
	snprintf(here, sizeof(here), "%s", tool_start_dir);
	if (!places)
		args[n++] = here;
	for (int i = optind; i < argc; i++)
		args[n++] = argv[i];
	for (int i = n - (places ? places : 1); i < n && !status; i++)
		status = clear_dead(args[i]);
	if (!status) {
		exec_txnfs(args);
		status = tool_fail(EXIT_FAILURE, "txnfs: %s", strerror(errno));
	}
	free(args);
	return status;
}
