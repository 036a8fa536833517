/* SPDX-License-Identifier: GPL-2.0-or-later */
/* main.c - txn: finds the command. */
#include "tools/tool.h"

#include "fs/version.h"

#include <errno.h>
#include <getopt.h>
#include <unistd.h>

const char *tool_start_dir = ".";

const struct tool_command tool_commands[] = {
	{ "init", "DIR", "make DIR transactional: read it into a new store",
	  "  --store PATH  the store lies there; DIR/.txn is a link to it\n"
	  "  --relink    a store elsewhere belongs to this DIR from now on\n"
	  "  --force     although programs have files of DIR open for writing\n"
	  "  --move      move the files, so that nothing is held twice\n"
	  "  --quiet     no progress\n",
	  cmd_init },
	{ "mount", "[DIR [MOUNTPOINT]]", "mount it, over DIR itself by default",
	  "  -o OPTIONS  for txnfs: ro, staged=discard, ctldir=visible, ...\n"
	  "  --force     although programs use files of DIR\n"
	  "  --at @N     a damaged store at commit N; what came later goes\n",
	  cmd_mount },
	{ "umount", "[DIR]", "unmount it; staged changes are kept", "",
	  cmd_umount },
	{ "status", "", "what is staged, the last commit, health",
	  "  --json      for programs\n", cmd_status },
	{ "diff", "[A [B]]", "head against staged, or two states, by path",
	  "  --json      for programs\n", cmd_diff },
	{ "commit", "", "make what is staged permanent, all of it at once",
	  "  -m MESSAGE  one line for the history\n", cmd_commit },
	{ "abort", "", "drop what is staged, all of it at once",
	  "  --force     do not ask when programs hold changed files\n",
	  cmd_abort },
	{ "log", "", "the history, newest first",
	  "  -n COUNT    at most so many commits\n"
	  "  --json      for programs\n",
	  cmd_log },
	{ "snapshot", "NAME", "name what is shown now, staged changes too",
	  "  -m MESSAGE  one line\n", cmd_snapshot },
	{ "snapshots", "", "states with names", "  --json      for programs\n",
	  cmd_snapshots },
	{ "tag", "NAME @N", "name a commit, which is then kept", "", cmd_tag },
	{ "delete", "NAME", "take a name away", "", cmd_delete },
	{ "restore", "STATE [PATH...]", "stage a state, or paths of it",
	  "  --commit    and commit\n"
	  "  --skip-damaged  what can be read, when some cannot\n"
	  "  --force     do not ask when programs hold changed files\n",
	  cmd_restore },
	{ "rollback", "STATE", "commit a state again, at one instant",
	  "  --force     do not ask when programs hold changed files\n",
	  cmd_rollback },
	{ "undo", "", "stage what the last abort, restore, rollback replaced",
	  "  --force     do not ask when programs hold changed files\n",
	  cmd_undo },
	{ "ls", "STATE[:PATH]", "look into a state", "", cmd_ls },
	{ "cat", "STATE:PATH", "a file of a state", "", cmd_cat },
	{ "verify", "", "read and check every state that is kept",
	  "  --repair    heal what can be (not while it is mounted)\n",
	  cmd_verify },
	{ "export", "STATE DEST", "a state as plain files", "", cmd_export },
	{ "sync", "[DIR]", "let DIR's own files show the last commit now", "",
	  cmd_sync },
	{ "eject", "[DIR]", "DIR is a plain directory again; the store goes",
	  "  --yes       do not ask\n"
	  "  --force     give up what cannot be a plain file here\n",
	  cmd_eject },
	{ "rescue", "[DIR] DEST",
	  "what the mount shows, elsewhere, when the store has stopped",
	  "  --staged    only what is staged: DEST/files, and DEST/deleted, a "
	  "list\n",
	  cmd_rescue },
	{ "gc", "", "give space back to the host now", "", cmd_gc },
	{ "set", "KEY VALUE",
	  "keep.last, keep.discarded N; push-maps, plain on|off", "", cmd_set },
	{ NULL, NULL, NULL, NULL, NULL }
};

static void print_help(FILE *f)
{
	fprintf(f, "usage: txn [-C DIR] COMMAND [ARGUMENTS]\n\n");
	for (const struct tool_command *c = tool_commands; c->name; c++)
		fprintf(f, "  %-9s %-18s %s\n", c->name, c->args, c->summary);
	fprintf(f,
		"\nThe store is looked for from the working directory upwards, "
		"or from DIR.\n"
		"txn COMMAND --help tells more; so do txn(1) and txnfs(8).\n"
		"Exit status: 0 done, 1 failed, 2 usage, 3 refused or in "
		"conflict, 4 damage.\n");
}

static void print_command(FILE *f, const struct tool_command *c)
{
	fprintf(f, "usage: txn [-C DIR] %s%s%s%s\n\n%s\n%s%s", c->name,
		*c->help ? " [OPTIONS]" : "", *c->args ? " " : "", c->args,
		c->summary, *c->help ? "\n" : "", c->help);
}

static const struct tool_command *find_command(const char *name)
{
	const struct tool_command *c = tool_commands;

	while (c->name && strcmp(c->name, name) != 0)
		c++;
	return c->name ? c : NULL;
}

/* Is its output what it is for? */
static bool shows(const struct tool_command *c)
{
	static int (*const v[])(int, char **) = {
		cmd_status, cmd_diff, cmd_log,	 cmd_snapshots,
		cmd_ls,	    cmd_cat,  cmd_verify
	};
	bool found = !c;

	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		found |= c && c->run == v[i];
	return found;
}

/* Output that could not be written is told; a command that did something has
 * done it all the same. */
static int finish(const struct tool_command *c, int status)
{
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	tool_fail(0, "cannot write the output%s%s", errno ? ": " : "",
		  errno ? strerror(errno) : "");
	return status || !shows(c) ? status : EXIT_FAILURE;
}

int tool_usage(const char *name)
{
	print_command(stderr, find_command(name));
	return EXIT_USAGE;
}

/* What follows is its value, whatever that looks like. Of all commands. */
static bool takes_value(const char *option)
{
	static const char *const all[] = { "-m", "-n", "-o", "--at",
					   "--store" };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (!strcmp(option, all[i]))
			return true;
	return false;
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--"))
			return false;
		if (takes_value(argv[i])) {
			i++;
			continue;
		}
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 }
	};
	const struct tool_command *c;
	int opt;

	if (process_begin())
		return EXIT_FAILURE;
	while ((opt = getopt_long(argc, argv, "+C:hV", options, NULL)) != -1) {
		switch (opt) {
		case 'C':
			tool_start_dir = optarg;
			break;
		case 'h':
			print_help(stdout);
			return finish(NULL, 0);
		case 'V':
			printf("txn %s, store format %d\n", TXNFS_VERSION,
			       STORE_FORMAT_VERSION);
			return finish(NULL, 0);
		default:
			print_help(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	argc -= optind;
	argv += optind;
	optind = 0; /* scan anew */
	c = find_command(argv[0]);
	if (!c)
		return tool_fail(EXIT_USAGE,
				 "%s is not a command; see txn "
				 "--help",
				 argv[0]);
	if (wants_help(argc, argv)) {
		print_command(stdout, c);
		return finish(NULL, 0);
	}
	return finish(c, c->run(argc, argv));
}
