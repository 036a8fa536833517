/* SPDX-License-Identifier: GPL-2.0-or-later */
/* diff.c - txn diff: head against what is staged, by path. */
#include "tools/tool.h"

#include <getopt.h>
#include <inttypes.h>
#include <sys/stat.h>

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

static void print_line(const struct fs_change *c)
{
	printf("%c ", c->op);
	if (c->from) {
		print_quoted(c->from);
		printf(" -> ");
	}
	print_quoted(c->path);
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
}

static int show(void *arg, const struct fs_change *c)
{
	struct out *o = arg;

	count(o, c);
	if (o->as_json)
		return add_json(o, c);
	print_line(c);
	return 0;
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
		return 0;
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

/* --- from the mount, or from the store --- */

static int show_line(struct out *o, char **f)
{
	struct fs_change c = { .op = f[0][0],
			       .old_mode = (uint32_t)strtoul(f[1], NULL, 8),
			       .old_size = strtoull(f[2], NULL, 10),
			       .new_mode = (uint32_t)strtoul(f[3], NULL, 8),
			       .new_size = strtoull(f[4], NULL, 10),
			       .path = f[5] };

	(void)fs_unquote_path(f[5]);
	if (*f[6]) {
		(void)fs_unquote_path(f[6]);
		c.from = f[6];
	}
	return show(o, &c);
}

static int mounted_diff(const struct place *p, struct out *o, const char *a,
			const char *b, int *status)
{
	char ask[2 * STORE_NAME_MAX + 64], *answer, *line, *next;
	char *fields[7];
	int err = 0;

	if (!tool_may_be_state(a) || !tool_may_be_state(b)) {
		*status = tool_no_state(tool_may_be_state(a) ? b : a);
		return 0;
	}
	snprintf(ask, sizeof(ask), "diff %s %s", a, b);
	*status = ctl_ask(p, ask, &answer);
	if (*status)
		return 0;
	for (line = answer; !err && *line && *line != '{'; line = next) {
		tool_fields(line, 7, fields, &next);
		err = show_line(o, fields);
	}
	free(answer);
	return err;
}

static int unmounted_diff(const struct place *p, struct out *o, const char *a,
			  const char *b, int *status)
{
	struct root ra = ROOT_EMPTY, rb = ROOT_EMPTY;
	struct reader r;
	int err;

	*status = reader_open(p, &r);
	if (*status)
		return 0;
	err = fs_resolve(r.fs, a, &ra);
	if (!err) {
		a = b; /* whichever is not there is told */
		err = fs_resolve(r.fs, b, &rb);
	}
	if (err == -ENOENT || err == -EINVAL) {
		*status = tool_no_state(a);
		err = 0;
	} else if (!err) {
		err = fs_changes(r.fs, &ra, &rb, show, o);
	}
	root_put(store_tree(r.store), &ra);
	root_put(store_tree(r.store), &rb);
	reader_close(&r);
	return err;
}

int cmd_diff(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { 0 }
	};
	const char *a = "head", *b = "staged";
	struct out o = { 0 };
	struct place p;
	int opt, err = 0, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'j')
			return tool_usage(argv[0]);
		o.as_json = true;
	}
	if (argc - optind > 2)
		return tool_usage(argv[0]);
	if (optind < argc)
		a = argv[optind];
	if (argc - optind == 2)
		b = argv[optind + 1];
	o.list = json_array();
	status = place_find(tool_start_dir, &p);
	if (!status && p.mount)
		err = mounted_diff(&p, &o, a, b, &status);
	else if (!status)
		err = unmounted_diff(&p, &o, a, b, &status);
	if (err)
		status =
			tool_fail(tool_status(err), "diff: %s", strerror(-err));
	if (!status)
		status = finish(&o);
	json_decref(o.list);
	place_release(&p);
	return status;
}
