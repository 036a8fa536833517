/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sync.c - txn sync: the plain files show the last commit when it returns. */
#include "tools/tool.h"

#include "fs/plain.h"

#include <getopt.h>
#include <inttypes.h>
#include <unistd.h>

/* What the daemon had to tell comes before its last line. */
static int sync_mounted(const struct place *p)
{
	char *answer = NULL;
	int status = ctl_ask(p, "sync", &answer);

	for (char *s = answer, *next; s && *s; s = next) {
		next = strchr(s, '\n');
		if (next)
			*next++ = '\0';
		else
			next = s + strlen(s);
		if (*s != '{' && strchr(s, '\t')) {
			*strchr(s, '\t') = ' ';
			tool_fail(0, "%s", s);
		}
	}
	free(answer);
	return status;
}

/* Unmounted: they follow, but for what cannot be made, which is told. */
static int check_in_step(const struct place *p)
{
	json_t *j = plain_json(p);
	const char *state = json_string_value(json_object_get(j, "state"));
	int status = 0;

	if (!j)
		status = EXIT_FAILURE;
	else if (state && (!strcmp(state, "in step") || !strcmp(state, "off")))
		(void)plain_missing(j);
	else
		status = tool_fail(EXIT_FAILURE,
				   "the plain files of %s do not show the last "
				   "commit; the system log tells why",
				   p->dir);
	json_decref(j);
	return status;
}

int tool_sync(const struct place *p)
{
	int fd, status;

	if (p->mount)
		return sync_mounted(p);
	/* A mount finishes what is due, stages edits, and lets the files follow
	 * when it ends. */
	status = mount_aside(p, false, &fd);
	if (!status)
		status = mount_aside_end(p, fd);
	return status ? status : check_in_step(p);
}

json_t *plain_json_of(struct reader *r)
{
	bool on = store_get_setting(r->store, STORE_PLAIN), behind, half;
	uint64_t number, missing;

	if (plain_is_behind(r->fs, &behind, &number, &half) ||
	    plain_get_missing(r->fs, &missing))
		return NULL;
	return json_pack("{s:s s:I s:I}", "state",
			 !on	  ? (behind || half ? "going away" : "off")
			 : half	  ? "between two commits"
			 : behind ? "behind"
				  : "in step",
			 "commit", (json_int_t)number, "missing",
			 (json_int_t)missing);
}

json_t *plain_json(const struct place *p)
{
	json_t *j = NULL, *all;
	struct reader r;
	char *path, *text;

	if (!p->mount) {
		if (reader_open(p, &r))
			return NULL;
		j = plain_json_of(&r);
		reader_close(&r);
		return j;
	}
	path = place_txn(p, "status");
	text = path ? read_text(path) : NULL;
	all = text ? json_loads(text, 0, NULL) : NULL;
	j = json_incref(json_object_get(all, "plain"));
	json_decref(all);
	free(text);
	free(path);
	return j;
}

void plain_words(const json_t *j, char *buf, size_t size)
{
	const char *state = json_string_value(json_object_get(j, "state"));
	json_int_t n = json_integer_value(json_object_get(j, "commit"));
	json_int_t unlike = json_integer_value(json_object_get(j, "unlike"));
	json_int_t missing = json_integer_value(json_object_get(j, "missing"));
	json_int_t kept = json_integer_value(json_object_get(j, "kept"));
	const char *error = json_string_value(json_object_get(j, "error"));
	const json_t *compared = json_object_get(j, "compared");
	size_t len;

	if (!state)
		snprintf(buf, size, "unknown");
	else if (!strcmp(state, "off") || !strcmp(state, "going away"))
		snprintf(buf, size, "are %s", state);
	else if (n)
		snprintf(buf, size, "show @%" PRId64 ", %s", (int64_t)n, state);
	else
		snprintf(buf, size, "show @1 or later with edits, %s", state);
	len = strlen(buf);
	if (compared)
		len += (size_t)snprintf(buf + len, size - len,
					" (%" PRId64 " so far)",
					(int64_t)json_integer_value(compared));
	if (unlike)
		len += (size_t)snprintf(buf + len, size - len,
					"; %" PRId64 " not as committed",
					(int64_t)unlike);
	if (missing && len < size)
		len += (size_t)snprintf(buf + len, size - len,
					"; %" PRId64 " missing",
					(int64_t)missing);
	if (kept && len < size)
		len += (size_t)snprintf(buf + len, size - len,
					"; %" PRId64 " edit(s) kept beside",
					(int64_t)kept);
	if (error && *error && len < size)
		snprintf(buf + len, size - len, "; %s", error);
}

int plain_missing(const json_t *j)
{
	return json_integer_value(json_object_get(j, "missing"))
		       ? tool_fail(EXIT_FAILURE,
				   "what is missing cannot be made there; it "
				   "is in the store (txn ls, txn cat)")
		       : 0;
}

int cmd_sync(int argc, char **argv)
{
	char words[1024];
	struct place p;
	json_t *j = NULL;
	int status;

	if (tool_parse_none(argc, argv) || argc - optind > 1)
		return tool_usage(argv[0]);
	status = place_find(optind < argc ? argv[optind] : tool_start_dir, &p);
	if (!status)
		status = tool_sync(&p);
	if (!status) {
		j = plain_json(&p);
		status = j ? 0 : EXIT_FAILURE;
	}
	if (j) {
		plain_words(j, words, sizeof(words));
		printf("plain files %s\n", words);
	}
	/* Unmounted: told. */
	if (!status && p.mount)
		status = plain_missing(j);
	else if (!status && json_integer_value(json_object_get(j, "missing")))
		status = EXIT_FAILURE;
	json_decref(j);
	place_release(&p);
	return status;
}
