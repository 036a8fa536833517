/* SPDX-License-Identifier: GPL-2.0-or-later */
/* abort.c - txn abort. */
#include "tools/tool.h"

#include <getopt.h>
#include <inttypes.h>

int cmd_abort(int argc, char **argv)
{
	uint64_t head = 0;
	bool nothing = false, force;
	struct place p;
	int status;

	if (tool_parse_force(argc, argv, &force) || optind < argc)
		return tool_usage(argv[0]);
	status = place_find(tool_start_dir, &p);
	if (!status && p.mount)
		status = tool_ask_holders(&p, NULL, NULL, force);
	if (!status)
		status = ctl_command(&p, "abort", &head, &nothing);
	if (!status)
		printf(nothing ? "nothing is staged; head is @%" PRIu64 "\n"
			       : "back at @%" PRIu64 "\n",
		       head);
	place_release(&p);
	return status;
}
