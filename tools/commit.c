/* SPDX-License-Identifier: GPL-2.0-or-later */
/* commit.c - txn commit. */
#include "tools/tool.h"

#include <getopt.h>
#include <inttypes.h>

int cmd_commit(int argc, char **argv)
{
	const char *message = "";
	char *line;
	struct place p;
	uint64_t head = 0;
	bool nothing = false;
	int opt, status;
	size_t size;

	while ((opt = getopt(argc, argv, "m:")) != -1) {
		if (opt != 'm')
			return tool_usage(argv[0]);
		message = optarg;
	}
	if (optind < argc)
		return tool_usage(argv[0]);
	status = tool_check_message(message);
	if (status)
		return status;
	status = place_find(tool_start_dir, &p);
	size = strlen(message) + 8;
	line = malloc(size);
	if (!status && !line)
		status = EXIT_FAILURE;
	if (!status) {
		snprintf(line, size, "commit%s%s", *message ? " " : "",
			 message);
		status = ctl_command(&p, line, &head, &nothing);
	}
	if (!status)
		printf(nothing ? "nothing is staged; head is @%" PRIu64 "\n"
			       : "committed @%" PRIu64 "\n",
		       head);
	free(line);
	place_release(&p);
	return status;
}
