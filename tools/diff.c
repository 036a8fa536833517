/* SPDX-License-Identifier: GPL-2.0-or-later */
/* diff.c - txn diff: head against what is staged, by path. */
#include "tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

struct out {
	bool as_json;
	json_t *list;
	struct fs_change_totals t;
	int err;
};

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFBLK:
	case S_IFCHR:
		return "device";
	default:
		return "none";
	}
}

/* --- showing --- */

static void count(struct out *o, const struct fs_change *c)
{
	switch (c->op) {
	case 'A':
		o->t.added++;
		break;
	case 'D':
		o->t.deleted++;
		return;
	case 'R':
		o->t.renamed++;
		return;
	case 'T':
		o->t.retyped++;
		break;
	default:
		o->t.modified++;
		break;
	}
	o->t.bytes += c->new_size;
}

static int add_json(struct out *o, const struct fs_change *c)
{
	char op[2] = { c->op, '\0' };
	json_t *raw, *j = json_pack("{s:s}", "op", op);

	if (!j)
		return -ENOMEM;
	json_object_set_new(j, "path", json_path(c->path, &raw));
	if (raw)
		json_object_set_new(j, "path_base64", raw);
	if (c->from) {
		json_object_set_new(j, "from", json_path(c->from, &raw));
		if (raw)
			json_object_set_new(j, "from_base64", raw);
	}
	if (c->old_mode) {
		json_object_set_new(j, "old_type",
				    json_string(type_name(c->old_mode)));
		json_object_set_new(j, "old_size",
				    json_integer((json_int_t)c->old_size));
	}
	if (c->new_mode) {
		json_object_set_new(j, "new_type",
				    json_string(type_name(c->new_mode)));
		json_object_set_new(j, "new_size",
				    json_integer((json_int_t)c->new_size));
	}
	return json_array_append_new(o->list, j) ? -ENOMEM : 0;
}

static int print_quoted(const char *path)
{
	size_t size = 4 * strlen(path) + 3;
	char *buf = malloc(size);

	if (!buf)
		return -ENOMEM;
	(void)fs_quote_path(path, buf, size);
	fputs(buf, stdout);
	free(buf);
	return 0;
}

static int print_line(const struct fs_change *c)
{
	int err;

	printf("%c ", c->op);
	if (c->from) {
		err = print_quoted(c->from);
		if (err)
			return err;
		printf(" -> ");
	}
	err = print_quoted(c->path);
	if (c->op == 'T')
		printf("  (%s -> %s)", type_name(c->old_mode),
		       type_name(c->new_mode));
	else if (c->op == 'M' && !S_ISDIR(c->new_mode))
		printf("  (%" PRIu64 " -> %" PRIu64 " bytes)", c->old_size,
		       c->new_size);
	else if (S_ISDIR(c->new_mode ? c->new_mode : c->old_mode))
		printf("  (directory)");
	else
		printf("  (%" PRIu64 " bytes)",
		       c->op == 'D' ? c->old_size : c->new_size);
	putchar('\n');
	return err;
}

static int show(void *arg, const struct fs_change *c)
{
	struct out *o = arg;

	count(o, c);
	return o->as_json ? add_json(o, c) : print_line(c);
}

static int finish(struct out *o)
{
	uint64_t n = o->t.added + o->t.modified + o->t.deleted + o->t.renamed +
		     o->t.retyped;
	json_t *j;

	if (!o->as_json) {
		printf("%" PRIu64 " changes: %" PRIu64 " added, %" PRIu64
		       " modified, %" PRIu64 " deleted, %" PRIu64
		       " renamed, %" PRIu64 " of another type; %" PRIu64
		       " bytes in added and modified files\n",
		       n, o->t.added, o->t.modified, o->t.deleted, o->t.renamed,
		       o->t.retyped, o->t.bytes);
		return fflush(stdout) ? tool_fail(EXIT_FAILURE,
						  "cannot write the output")
				      : 0;
	}
	j = json_pack("{s:i s:O s:{s:I s:I s:I s:I s:I s:I s:I}}", "format",
		      JSON_FORMAT, "changes", o->list, "totals", "changes",
		      (json_int_t)n, "added", (json_int_t)o->t.added,
		      "modified", (json_int_t)o->t.modified, "deleted",
		      (json_int_t)o->t.deleted, "renamed",
		      (json_int_t)o->t.renamed, "retyped",
		      (json_int_t)o->t.retyped, "bytes",
		      (json_int_t)o->t.bytes);
	return json_print(j);
}

/* --- from the mount: .txn/changes tells the paths, stat the rest --- */

static int stat_side(const char *root, const char *path, uint32_t *mode,
		     uint64_t *size)
{
	size_t n = strlen(root) + strlen(path) + 2;
	char *full = malloc(n);
	struct stat st;
	int err;

	if (!full)
		return -ENOMEM;
	snprintf(full, n, "%s/%s", root, path);
	err = lstat(full, &st) ? -errno : 0;
	free(full);
	*mode = 0;
	*size = 0;
	if (err)
		return err == -ENOENT ? 0 : err;
	*mode = st.st_mode;
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
		*size = (uint64_t)st.st_size;
	return 0;
}

static int show_line(struct out *o, const struct place *p, const char *head,
		     char *line)
{
	struct fs_change c = { .op = line[0], .path = line + 2 };
	char *end = fs_unquote_path(line + 2);
	int err = 0;

	if (*end == '\t') {
		*end = '\0';
		c.from = line + 2;
		c.path = end + 1;
		end = fs_unquote_path(end + 1);
	}
	*end = '\0';
	if (c.op != 'A')
		err = stat_side(head, c.from ? c.from : c.path, &c.old_mode,
				&c.old_size);
	if (!err && c.op != 'D')
		err = stat_side(p->mount, c.path, &c.new_mode, &c.new_size);
	return err ? err : show(o, &c);
}

static int mounted_diff(const struct place *p, struct out *o)
{
	char *link = place_txn(p, "head"), *changes = place_txn(p, "changes");
	char *text = NULL, *line, *next, *head = NULL, target[128];
	ssize_t n;
	int err = -ENOMEM;

	if (!link || !changes)
		goto out;
	/* The very commit: head may move while we look. */
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0) {
		err = -errno;
		goto out;
	}
	target[n] = '\0';
	head = place_txn(p, target);
	text = read_text(changes);
	err = head && text ? 0 : -EIO;
	for (line = text; !err && line && *line; line = next) {
		next = line + strcspn(line, "\n");
		next += *next == '\n';
		err = show_line(o, p, head, line);
	}
out:
	free(link);
	free(changes);
	free(text);
	free(head);
	return err;
}

static int unmounted_diff(const struct place *p, struct out *o, int *status)
{
	struct root head = ROOT_EMPTY, now = ROOT_EMPTY;
	struct reader r;
	int err;

	*status = reader_open(p, &r);
	if (*status)
		return 0;
	store_head(r.store, &head, NULL);
	err = fs_freeze(r.fs, &now);
	if (!err)
		err = fs_changes(r.fs, &head, &now, show, o);
	root_put(store_tree(r.store), &head);
	root_put(store_tree(r.store), &now);
	reader_close(&r);
	return err;
}

int cmd_diff(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { 0 }
	};
	struct out o = { 0 };
	struct place p;
	int opt, err = 0, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'j')
			return tool_usage(argv[0]);
		o.as_json = true;
	}
	if (optind < argc)
		return tool_usage(argv[0]);
	o.list = json_array();
	status = place_find(tool_start_dir, &p);
	if (!status)
		err = p.mount ? mounted_diff(&p, &o)
			      : unmounted_diff(&p, &o, &status);
	if (err)
		status =
			tool_fail(tool_status(err), "diff: %s", strerror(-err));
	if (!status)
		status = finish(&o);
	json_decref(o.list);
	place_release(&p);
	return status;
}
