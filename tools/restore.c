/* SPDX-License-Identifier: GPL-2.0-or-later */
/* restore.c - txn restore, rollback, undo: going back. */
#include "tools/tool.h"

#include <getopt.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- databases that are more than one file --- */

static bool exists_in(const char *dir, const char *path, const char *suffix)
{
	size_t n = strlen(dir) + strlen(path) + strlen(suffix) + 2;
	char *full = malloc(n);
	struct stat st;
	bool there;

	if (!full)
		return false;
	snprintf(full, n, "%s/%s%s", dir, path, suffix);
	there = !lstat(full, &st);
	free(full);
	return there;
}

static bool is_given(char **paths, const char *path, const char *suffix)
{
	size_t len = strlen(path);

	for (; *paths; paths++)
		if (!strncmp(*paths, path, len) &&
		    !strcmp(*paths + len, suffix))
			return true;
	return false;
}

static void warn_companions(const struct place *p, const char *state,
			    char **paths)
{
	static const char *const suffixes[] = { "-wal", "-shm", "-journal" };
	char *dir = place_state(p, state);

	for (char **path = paths; *path && dir; path++)
		for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
			if ((exists_in(dir, *path, suffixes[i]) ||
			     exists_in(p->mount, *path, suffixes[i])) &&
			    !is_given(paths, *path, suffixes[i]))
				tool_fail(0,
					  "warning: %s has a companion %s%s "
					  "that is not restored with it",
					  *path, *path, suffixes[i]);
	free(dir);
}

/* --- restore --- */

static int restore_one(const struct place *p, const char *state,
		       const char *path)
{
	size_t size = strlen(state) + 4 * strlen(path) + 16;
	char *line = malloc(size), *quoted = malloc(size);
	uint64_t head;
	bool nothing;
	int status = EXIT_FAILURE;

	if (line && quoted) {
		(void)fs_quote_path(path, quoted, size);
		snprintf(line, size, "restore %s%s%s", state, *path ? " " : "",
			 quoted);
		status = ctl_command(p, line, &head, &nothing);
		if (status && *path)
			tool_fail(0, "%s is not restored", path);
	}
	free(line);
	free(quoted);
	return status;
}

static int restore(const struct place *p, const char *state, char **paths,
		   bool force, bool commit)
{
	char line[STORE_NAME_MAX + 32];
	uint64_t head;
	bool nothing;
	int status = 0;

	if (!*paths)
		status = tool_ask_holders(p, state, NULL, force);
	for (char **path = paths; *path && !status; path++)
		status = tool_ask_holders(p, state, *path, force);
	if (status)
		return status;
	warn_companions(p, state, paths);
	if (!*paths)
		status = restore_one(p, state, "");
	for (char **path = paths; *path && !status; path++)
		status = restore_one(p, state, *path);
	if (status || !commit)
		return status;
	snprintf(line, sizeof(line), "commit restore from %s", state);
	status = ctl_command(p, line, &head, &nothing);
	if (!status)
		printf("committed @%" PRIu64 "\n", head);
	return status;
}

int cmd_restore(int argc, char **argv)
{
	static const struct option options[] = {
		{ "commit", no_argument, NULL, 'c' },
		{ "force", no_argument, NULL, 'f' },
		{ 0 }
	};
	bool commit = false, force = false;
	struct place p;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'c')
			commit = true;
		else if (opt == 'f')
			force = true;
		else
			return tool_usage(argv[0]);
	}
	if (optind == argc || strlen(argv[optind]) > STORE_NAME_MAX ||
	    strpbrk(argv[optind], " \t\n"))
		return tool_usage(argv[0]);
	status = place_find(tool_start_dir, &p);
	if (!status && !p.mount)
		status = tool_fail(EXIT_FAILURE, "%s is not mounted", p.dir);
	if (!status)
		status = restore(&p, argv[optind], argv + optind + 1, force,
				 commit);
	place_release(&p);
	return status;
}

/* --- rollback, undo --- */

static int whole(const char *name, const char *line, const char *state,
		 bool force)
{
	uint64_t head = 0;
	bool nothing;
	struct place p;
	int status;

	status = place_find(tool_start_dir, &p);
	if (!status && p.mount)
		status = tool_ask_holders(&p, state, NULL, force);
	if (!status)
		status = ctl_command(&p, line, &head, &nothing);
	if (!status)
		printf("%s: head is @%" PRIu64 "\n", name, head);
	place_release(&p);
	return status;
}

int tool_parse_force(int argc, char **argv, bool *force)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'f' }, { 0 }
	};
	int opt;

	*force = false;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'f')
			return -1;
		*force = true;
	}
	return 0;
}

int cmd_rollback(int argc, char **argv)
{
	char line[STORE_NAME_MAX + 32];
	bool force;

	if (tool_parse_force(argc, argv, &force) || argc - optind != 1 ||
	    strlen(argv[optind]) > STORE_NAME_MAX)
		return tool_usage(argv[0]);
	snprintf(line, sizeof(line), "rollback %s", argv[optind]);
	return whole("rollback", line, argv[optind], force);
}

int cmd_undo(int argc, char **argv)
{
	bool force;

	if (tool_parse_force(argc, argv, &force) || argc != optind)
		return tool_usage(argv[0]);
	return whole("undo", "undo", NULL, force);
}
