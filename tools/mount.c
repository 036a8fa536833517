/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount.c - txn mount: the txnfs that belongs to this txn. */
#include "tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <unistd.h>

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
		{ "force", no_argument, NULL, 'F' },
		{ "at", required_argument, NULL, 'A' },
		{ 0 }
	};
	/* txnfs, "--", two places, "-o" and its value for each option given */
	char **args = calloc((size_t)argc * 2 + 8, sizeof(char *));
	static char txnfs[] = "txnfs", o[] = "-o", force[] = "force",
		    dashes[] = "--";
	static char here[4096], at[64];
	int opt, n = 0, places;

	if (!args)
		return EXIT_FAILURE;
	args[n++] = txnfs;
	while ((opt = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (opt == '?') {
			free(args);
			return tool_usage(argv[0]);
		}
		args[n++] = o;
		if (opt == 'A')
			snprintf(at, sizeof(at), "at=%s", optarg);
		args[n++] = opt == 'F' ? force : opt == 'A' ? at : optarg;
	}
	places = argc - optind;
	if (places > 2) {
		free(args);
		return tool_usage(argv[0]);
	}
	snprintf(here, sizeof(here), "%s", tool_start_dir);
	if (!places)
		args[n++] = here;
	else if (argv[optind][0] == '-' || argv[argc - 1][0] == '-')
		args[n++] = dashes;
	for (int i = optind; i < argc; i++)
		args[n++] = argv[i];
	exec_txnfs(args);
	free(args);
	return tool_fail(EXIT_FAILURE, "txnfs: %s", strerror(errno));
}
