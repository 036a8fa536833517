/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rescue.c - txn rescue: what a mount shows now, with all that is staged and
 * could not be written to the store, as plain files elsewhere, copied by
 * cp(1). For a store that has stopped, which is read on from memory and disk.
 * What cannot be read is named by cp, with the cause; the rest is saved.
 */
#include "tools/tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH_BYTES = 64 << 10 };

/* Extended attributes are named: without them cp says so. */
static char cp[] = "cp", dr[] = "-dR", dashes[] = "--",
	    sparse[] = "--sparse=auto",
	    keep[] = "--preserve=mode,ownership,timestamps,links,xattr";

struct rescue {
	const char *mount;
	char *dest; /* absolute */
	char *files; /* where the files go, of --staged */
	FILE *deleted;
	bool incomplete; /* cp could not save something */
	/* Paths below the mount's root, for the next call of cp. */
	char **paths;
	size_t n, cap, bytes;
	char *whole; /* a directory that goes with all below it */
};

static int no_memory(void)
{
	return tool_fail(EXIT_FAILURE, "%s", strerror(ENOMEM));
}

static int copied(struct rescue *r, int status)
{
	if (status == EXIT_NOT_RUN)
		return tool_fail(EXIT_FAILURE, "cp cannot be run");
	r->incomplete |= status != 0;
	return 0;
}

/* --- some paths --- */

static int batch_run(struct rescue *r)
{
	static char parents[] = "--parents", target[] = "-t";
	char **argv = calloc(r->n + 9, sizeof(*argv));
	size_t n = 0;
	int status = 0;

	if (!argv)
		return no_memory();
	if (r->n) {
		argv[n++] = cp;
		argv[n++] = dr;
		argv[n++] = keep;
		argv[n++] = sparse;
		argv[n++] = parents;
		argv[n++] = target;
		argv[n++] = r->files;
		argv[n++] = dashes;
		memcpy(argv + n, r->paths, r->n * sizeof(*argv));
		status = copied(r, tool_run(argv, r->mount));
	}
	while (r->n)
		free(r->paths[--r->n]);
	r->bytes = 0;
	free(argv);
	return status;
}

static int batch_add(struct rescue *r, const char *path)
{
	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 64;
		char **v = realloc(r->paths, cap * sizeof(*v));

		if (!v)
			return no_memory();
		r->paths = v;
		r->cap = cap;
	}
	r->paths[r->n] = strdup(path);
	if (!r->paths[r->n])
		return no_memory();
	r->n++;
	r->bytes += strlen(path) + 1;
	return r->bytes < BATCH_BYTES ? 0 : batch_run(r);
}

/* --- everything --- */

/* Each name but .txn, where that is listed. */
static int save_names(struct rescue *r, DIR *dir)
{
	const struct dirent *de;
	int status = 0;

	while (!status && (errno = 0, de = readdir(dir)) != NULL)
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
		    strcmp(de->d_name, ".txn"))
			status = batch_add(r, de->d_name);
	if (!status && errno)
		status = tool_fail(EXIT_FAILURE, "%s: %s", r->mount,
				   strerror(errno));
	return status ? status : batch_run(r);
}

static int save_all(struct rescue *r, const struct place *p)
{
	static char whole[] = "-T", dot[] = ".";
	DIR *dir = opendir(r->mount);
	int status;

	if (!dir)
		return tool_fail(EXIT_FAILURE, "%s: %s", r->mount,
				 strerror(errno));
	if (place_lists_txn(p))
		status = save_names(r, dir);
	else
		status = copied(r, tool_run((char *[]){ cp, dr, keep, sparse,
							whole, dashes, dot,
							r->dest, NULL },
					    r->mount));
	closedir(dir);
	return status;
}

/* --- what is staged --- */

static bool is_below(const char *path, const char *dir)
{
	size_t len = dir ? strlen(dir) : 0;

	return len && !strncmp(path, dir, len) && path[len] == '/';
}

/* fields: op, old mode, old size, new mode, new size, path, old path; quoted.
 * Of a new or moved directory everything below is part of it. A directory of
 * which only the attributes changed is not saved by itself. */
static int save_change(struct rescue *r, char **f)
{
	uint32_t old_mode = (uint32_t)strtoul(f[1], NULL, 8);
	uint32_t new_mode = (uint32_t)strtoul(f[3], NULL, 8);
	char op = f[0][0];

	if (op == 'D' || op == 'R')
		fprintf(r->deleted, "%s\n", op == 'D' ? f[5] : f[6]);
	if (op == 'D' || (S_ISDIR(new_mode) && op == 'M'))
		return 0;
	(void)fs_unquote_path(f[5]);
	if (is_below(f[5], r->whole))
		return 0;
	if (S_ISDIR(new_mode) && (op == 'R' || !S_ISDIR(old_mode))) {
		free(r->whole);
		r->whole = strdup(f[5]);
		if (!r->whole)
			return no_memory();
	}
	return batch_add(r, f[5]);
}

static int save_changes(struct rescue *r, const struct place *p)
{
	char *answer, *line, *next, *fields[7];
	int status = ctl_ask(p, "diff head staged", &answer);

	if (status)
		return tool_fail(status, "what is staged cannot be told apart; "
					 "without --staged everything is "
					 "saved");
	for (line = answer; !status && *line && *line != '{'; line = next) {
		tool_fields(line, 7, fields, &next);
		status = save_change(r, fields);
	}
	free(answer);
	return status ? status : batch_run(r);
}

static int save_staged(struct rescue *r, const struct place *p)
{
	size_t size = strlen(r->dest) + sizeof("/deleted");
	char *deleted = malloc(size);
	int status = EXIT_FAILURE;

	r->files = malloc(size);
	if (!r->files || !deleted) {
		free(deleted);
		return no_memory();
	}
	snprintf(r->files, size, "%s/files", r->dest);
	snprintf(deleted, size, "%s/deleted", r->dest);
	r->deleted = fopen(deleted, "wxe");
	if (!r->deleted || mkdir(r->files, 0700))
		tool_fail(0, "%s: %s", r->deleted ? r->files : deleted,
			  strerror(errno));
	else
		status = save_changes(r, p);
	if (r->deleted && (fclose(r->deleted) && !status))
		status = tool_fail(EXIT_FAILURE, "%s: %s", deleted,
				   strerror(errno));
	free(deleted);
	return status;
}

/* --- the command --- */

/* A new directory, outside of the mount. */
static int make_dest(struct rescue *r, const char *dest)
{
	int status = 0;

	if (mkdir(dest, 0700))
		return tool_fail(errno == EEXIST ? EXIT_REFUSED : EXIT_FAILURE,
				 "%s: %s", dest, strerror(errno));
	r->dest = tool_realpath(dest);
	if (!r->dest)
		return EXIT_FAILURE;
	if (is_below(r->dest, r->mount)) {
		(void)rmdir(dest);
		status = tool_fail(EXIT_REFUSED,
				   "%s is in the mount itself; take another "
				   "filesystem",
				   dest);
	}
	return status;
}

/* The machine may be about to fail as a whole. */
static int flush(const struct rescue *r)
{
	int fd = open(r->dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC), status = 0;

	if (fd < 0 || syncfs(fd))
		status = tool_fail(EXIT_FAILURE, "flushing %s: %s", r->dest,
				   strerror(errno));
	if (fd >= 0)
		close(fd);
	return status;
}

static int rescue(const struct place *p, const char *dest, bool staged)
{
	struct rescue r = { .mount = p->mount };
	int status = make_dest(&r, dest);

	if (!status && staged)
		status = save_staged(&r, p);
	else if (!status) {
		r.files = strdup(r.dest);
		status = r.files ? save_all(&r, p) : no_memory();
	}
	if (!status)
		status = flush(&r);
	if (!status && r.incomplete)
		status = tool_fail(EXIT_FAILURE,
				   "what cp named above is not saved, or not "
				   "whole; everything else is in %s",
				   r.dest);
	for (size_t i = 0; i < r.n; i++)
		free(r.paths[i]);
	free(r.paths);
	free(r.whole);
	free(r.files);
	free(r.dest);
	return status;
}

int cmd_rescue(int argc, char **argv)
{
	static const struct option options[] = {
		{ "staged", no_argument, NULL, 's' }, { 0 }
	};
	bool staged = false;
	struct place p;
	int opt, n, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 's')
			return tool_usage(argv[0]);
		staged = true;
	}
	n = argc - optind;
	if (n != 1 && n != 2)
		return tool_usage(argv[0]);
	status = place_find(n == 2 ? argv[optind] : tool_start_dir, &p);
	if (!status && !p.mount)
		status = tool_fail(EXIT_REFUSED,
				   "%s is not mounted: what was staged and "
				   "durable is saved by: txn -C %s export "
				   "staged DEST",
				   p.dir, p.dir);
	else if (!status)
		status = rescue(&p, argv[argc - 1], staged);
	place_release(&p);
	return status;
}
