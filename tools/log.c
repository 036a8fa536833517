/* SPDX-License-Identifier: GPL-2.0-or-later */
/* log.c - txn log: the history, newest first. */
#include "tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>

struct out {
	bool as_json;
	uint64_t left;
	json_t *list;
};

struct line {
	uint64_t number, changes, bytes;
	unsigned int uid;
	const char *time, *message;
};

static int show(struct out *o, const struct line *l)
{
	json_t *raw = NULL, *j;

	if (!o->left)
		return 1;
	o->left--;
	if (!o->as_json) {
		printf("@%" PRIu64 "  %s  uid %u  %" PRIu64 " changes  %" PRIu64
		       " bytes%s",
		       l->number, l->time, l->uid, l->changes, l->bytes,
		       *l->message ? "  " : "");
		print_quoted(l->message);
		putchar('\n');
		return 0;
	}
	j = json_pack("{s:I s:s s:I s:I s:I s:o}", "number",
		      (json_int_t)l->number, "time", l->time, "uid",
		      (json_int_t)l->uid, "changes", (json_int_t)l->changes,
		      "bytes", (json_int_t)l->bytes, "message",
		      json_path(l->message, &raw));
	if (j && raw)
		json_object_set_new(j, "message_base64", raw);
	return j && !json_array_append_new(o->list, j) ? 0 : -ENOMEM;
}

/* "@N \t time \t uid \t changes \t bytes \t message", fields by tabs. */
static int show_text_line(struct out *o, char *s)
{
	char *field[6];
	struct line l;

	for (int i = 0; i < 6; i++) {
		field[i] = s;
		s += strcspn(s, i < 5 ? "\t\n" : "\n");
		if (i < 5 && *s != '\t')
			return -EPROTO;
		if (*s)
			*s++ = '\0';
	}
	(void)fs_unquote_path(field[5]);
	l = (struct line){ .number = strtoull(field[0] + 1, NULL, 10),
			   .time = field[1],
			   .uid = (unsigned int)strtoul(field[2], NULL, 10),
			   .changes = strtoull(field[3], NULL, 10),
			   .bytes = strtoull(field[4], NULL, 10),
			   .message = field[5] };
	return show(o, &l);
}

static int mounted_log(const struct place *p, struct out *o)
{
	char *path = place_txn(p, "log"), *line = NULL;
	FILE *f = path ? fopen(path, "re") : NULL;
	size_t cap = 0;
	int err = f ? 0 : -errno;

	while (!err && getline(&line, &cap, f) > 0)
		err = show_text_line(o, line);
	if (!err && f && ferror(f))
		err = -EIO;
	if (f)
		fclose(f);
	free(line);
	free(path);
	return err;
}

static int show_commit(void *arg, const struct commit_info *info)
{
	struct line l = { .number = info->number,
			  .changes = info->changes,
			  .bytes = info->bytes,
			  .uid = info->uid,
			  .message = info->message };
	char when[32];

	time_text(info->time_ns, when);
	l.time = when;
	return show(arg, &l);
}

static int unmounted_log(const struct place *p, struct out *o, int *status)
{
	struct reader r;
	int err;

	*status = reader_open(p, &r);
	if (*status)
		return 0;
	err = store_each_commit(r.store, UINT64_MAX, show_commit, o);
	reader_close(&r);
	return err;
}

int cmd_log(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { 0 }
	};
	struct out o = { .left = UINT64_MAX };
	int opt, err = 0, status;
	struct place p;
	char *end;

	while ((opt = getopt_long(argc, argv, "n:", options, NULL)) != -1) {
		if (opt == 'j') {
			o.as_json = true;
		} else if (opt == 'n') {
			o.left = strtoull(optarg, &end, 10);
			if (*end || *optarg < '0' || *optarg > '9')
				return tool_usage(argv[0]);
		} else {
			return tool_usage(argv[0]);
		}
	}
	if (optind < argc)
		return tool_usage(argv[0]);
	o.list = json_array();
	status = place_find(tool_start_dir, &p);
	if (!status)
		err = p.mount ? mounted_log(&p, &o)
			      : unmounted_log(&p, &o, &status);
	if (err < 0)
		status = tool_fail(tool_status(err), "log: %s", strerror(-err));
	if (!status && o.as_json)
		status = json_print(json_pack("{s:i s:O}", "format",
					      JSON_FORMAT, "commits", o.list));
	json_decref(o.list);
	place_release(&p);
	return status;
}
