/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapshot.c - txn snapshot, snapshots, tag, delete, gc, set. */
#include "tools/tool.h"

#include <getopt.h>
#include <inttypes.h>

/* Is it one word? Else it is told what it is not. */
static int check_word(const char *verb, const char *s, const char *what)
{
	char shown[4 * STORE_NAME_MAX];

	return *s && !strpbrk(s, " \t\n")
		       ? 0
		       : tool_fail(EXIT_FAILURE, "%s: %s is no %s", verb,
				   shorten(s, shown), what);
}

/* A ctl line of words, which were checked. */
static int run_line(const char *verb, const char *a, const char *b)
{
	size_t size = strlen(verb) + strlen(a) + strlen(b) + 3;
	char *line = malloc(size);
	uint64_t head;
	bool nothing;
	struct place p;
	int status;

	if (!line)
		return EXIT_FAILURE;
	snprintf(line, size, "%s%s%s%s%s", verb, *a ? " " : "", a,
		 *b ? " " : "", b);
	status = place_find(tool_start_dir, &p);
	if (!status)
		status = ctl_command(&p, line, &head, &nothing);
	free(line);
	place_release(&p);
	return status;
}

int cmd_snapshot(int argc, char **argv)
{
	const char *message = "";
	int opt, status;

	while ((opt = getopt(argc, argv, "m:")) != -1) {
		if (opt != 'm')
			return tool_usage(argv[0]);
		message = optarg;
	}
	if (argc - optind != 1)
		return tool_usage(argv[0]);
	status = tool_check_message(message);
	if (!status)
		status = check_word("snapshot", argv[optind], "name");
	return status ? status : run_line("snapshot", argv[optind], message);
}

int cmd_tag(int argc, char **argv)
{
	int status;

	if (tool_parse_none(argc, argv) || argc - optind != 2)
		return tool_usage(argv[0]);
	status = check_word("tag", argv[optind], "name");
	if (!status)
		status = check_word("tag", argv[optind + 1], "commit");
	return status ? status
		      : run_line("tag", argv[optind], argv[optind + 1]);
}

int cmd_delete(int argc, char **argv)
{
	int status;

	if (tool_parse_none(argc, argv) || argc - optind != 1)
		return tool_usage(argv[0]);
	status = check_word("delete", argv[optind], "name");
	return status ? status : run_line("delete", argv[optind], "");
}

int cmd_set(int argc, char **argv)
{
	int status;

	if (tool_parse_none(argc, argv) || argc - optind != 2)
		return tool_usage(argv[0]);
	status = check_word("set", argv[optind], "key");
	if (!status)
		status = check_word("set", argv[optind + 1], "value");
	return status ? status
		      : run_line("set", argv[optind], argv[optind + 1]);
}

int cmd_gc(int argc, char **argv)
{
	if (tool_parse_none(argc, argv) || optind < argc)
		return tool_usage(argv[0]);
	return run_line("gc", "", "");
}

/* --- the list --- */

struct names {
	bool as_json;
	json_t *list;
};

static int show(struct names *n, const char *name, const char *kind,
		uint64_t number, int64_t time_ns, unsigned int uid,
		const char *message)
{
	json_t *j, *raw;
	char when[32];

	time_text(time_ns, when);
	if (!n->as_json) {
		printf("%-20s %-9s @%-6" PRIu64 " %s  uid %u%s", name, kind,
		       number, when, uid, *message ? "  " : "");
		print_quoted(message);
		putchar('\n');
		return 0;
	}
	j = json_pack("{s:s s:s s:I s:s s:I s:o}", "name", name, "kind", kind,
		      "number", (json_int_t)number, "time", when, "uid",
		      (json_int_t)uid, "message", json_path(message, &raw));
	if (j && raw)
		json_object_set_new(j, "message_base64", raw);
	return json_array_append_new(n->list, j) ? -ENOMEM : 0;
}

static int show_info(void *arg, const struct name_info *i)
{
	static const char *const kinds[] = { "?", "snapshot", "tag",
					     "discarded" };

	return show(arg, i->name, kinds[i->kind], i->number, i->time_ns, i->uid,
		    i->message);
}

static int mounted_names(const struct place *p, struct names *n)
{
	char *answer, *next, *f[6];
	int status, err = 0;

	status = ctl_ask(p, "names", &answer);
	if (status)
		return status;
	for (char *line = answer; *line && *line != '{' && !err; line = next) {
		tool_fields(line, 6, f, &next);
		(void)fs_unquote_path(f[5]);
		err = show(n, f[0], f[1], strtoull(f[2], NULL, 10),
			   strtoll(f[3], NULL, 10),
			   (unsigned int)strtoul(f[4], NULL, 10), f[5]);
	}
	free(answer);
	return tool_status(err);
}

static int unmounted_names(const struct place *p, struct names *n)
{
	struct reader r;
	int status = reader_open(p, &r), err;

	if (status)
		return status;
	err = store_each_name(r.store, show_info, n);
	reader_close(&r);
	return err ? tool_fail(tool_status(err), "snapshots: %s",
			       strerror(-err))
		   : 0;
}

int cmd_snapshots(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { 0 }
	};
	struct names n = { 0 };
	struct place p;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'j')
			return tool_usage(argv[0]);
		n.as_json = true;
	}
	if (optind < argc)
		return tool_usage(argv[0]);
	n.list = json_array();
	status = place_find(tool_start_dir, &p);
	if (!status)
		status = p.mount ? mounted_names(&p, &n)
				 : unmounted_names(&p, &n);
	if (!status && n.as_json)
		status = json_print(json_pack("{s:i s:O}", "format",
					      JSON_FORMAT, "names", n.list));
	json_decref(n.list);
	place_release(&p);
	return status;
}
