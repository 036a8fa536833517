/* SPDX-License-Identifier: GPL-2.0-or-later */
/* holders.c - who has open what a switch would change. */
#include "tools/tool.h"

#include "fs/busy.h"

#include <unistd.h>

enum { NAMED_MAX = 10 };

struct holders {
	const char *mount;
	char **paths; /* that would change, sorted */
	size_t n, cap;
	unsigned int found;
};

static int path_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_path(struct holders *h, const char *path)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? h->cap * 2 : 64;
		char **p = realloc(h->paths, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		h->paths = p;
		h->cap = cap;
	}
	h->paths[h->n] = strdup(path);
	return h->paths[h->n++] ? 0 : -ENOMEM;
}

static bool is_below(const char *path, const char *top)
{
	size_t n = top ? strlen(top) : 0;

	return !n || (!strncmp(path, top, n) && (!path[n] || path[n] == '/'));
}

/* What differs between what is shown and the state. 0, or a status (told). */
static int list_changes(struct holders *h, const struct place *p,
			const char *state, const char *below)
{
	char ask[STORE_NAME_MAX + 32], *answer, *next, *f[7];
	int err = 0, status;

	snprintf(ask, sizeof(ask), "diff staged %s", state ? state : "head");
	status = ctl_ask(p, ask, &answer);
	if (status)
		return status;
	for (char *line = answer; *line && *line != '{' && !err; line = next) {
		tool_fields(line, 7, f, &next);
		(void)fs_unquote_path(f[5]);
		(void)fs_unquote_path(f[6]);
		if (is_below(f[5], below))
			err = add_path(h, *f[6] ? f[6] : f[5]);
	}
	free(answer);
	if (h->n)
		qsort(h->paths, h->n, sizeof(*h->paths), path_cmp);
	return err ? tool_fail(EXIT_FAILURE, "%s", strerror(-err)) : 0;
}

static bool is_wanted(void *arg, const char *path)
{
	const struct holders *h = arg;
	size_t n = strlen(h->mount);
	const char *rel;

	if (strncmp(path, h->mount, n) != 0 || path[n] != '/')
		return false;
	rel = path + n + 1;
	return h->n &&
	       bsearch(&rel, h->paths, h->n, sizeof(*h->paths), path_cmp);
}

static int name_process(void *arg, long pid, const char *comm, const char *how,
			const char *path)
{
	struct holders *h = arg;

	if (h->found++ < NAMED_MAX)
		tool_fail(0, "process %ld (%s): %s %s", pid, comm, how, path);
	return 0;
}

int tool_confirm(void)
{
	char answer[16] = "";

	fputs(" Go on? [y/N] ", stderr);
	if (!fgets(answer, sizeof(answer), stdin) ||
	    (answer[0] != 'y' && answer[0] != 'Y'))
		return tool_fail(EXIT_REFUSED, "nothing was changed");
	return 0;
}

int tool_ask_holders(const struct place *p, const char *state, const char *path,
		     bool force)
{
	struct holders h = { .mount = p->mount };
	int status, err = 0;

	if (force)
		return 0;
	status = list_changes(&h, p, state, path);
	if (!status)
		err = busy_find_wanted(p->mount, is_wanted, name_process, &h);
	for (size_t i = 0; i < h.n; i++)
		free(h.paths[i]);
	free(h.paths);
	if (status)
		return status;
	if (err)
		return tool_fail(EXIT_FAILURE, "/proc: %s", strerror(-err));
	if (!h.found || !isatty(0))
		return 0;
	fprintf(stderr,
		"they read on what they have and cannot write any more.");
	return tool_confirm();
}
