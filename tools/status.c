/* SPDX-License-Identifier: GPL-2.0-or-later */
/* status.c - txn status. */
#include "tools/tool.h"

#include "fs/plain.h"

#include <getopt.h>
#include <inttypes.h>
#include <unistd.h>

/* What the daemon says, or what the store of an unmounted directory holds. */
static int mounted_status(const struct place *p, json_t **out)
{
	char *path = place_txn(p, "status"), *text;

	text = path ? read_text(path) : NULL;
	*out = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	free(path);
	if (!*out)
		return tool_fail(EXIT_FAILURE, "%s/.txn/status is not readable",
				 p->mount);
	json_object_set_new(*out, "mounted", json_true());
	return 0;
}

static int staged_totals(struct reader *r, const struct root *head,
			 struct fs_change_totals *t)
{
	struct root now = ROOT_EMPTY;
	int err;

	err = fs_freeze(r->fs, &now);
	if (!err)
		err = fs_change_totals(r->fs, head, &now, t);
	root_put(store_tree(r->store), &now);
	return err;
}

static json_t *space_json(const struct place *p, struct reader *r)
{
	uint64_t store = 0, plain = 0;
	int dirfd = -1, fd = place_open_store(p, &dirfd), err;
	json_t *j = json_null();

	err = fd < 0 ? fd : plain_store_bytes(fd, &store);
	if (!err)
		err = plain_get_bytes(r->fs, &plain);
	if (!err)
		j = json_pack("{s:I s:I s:b}", "store_bytes", (json_int_t)store,
			      "plain_bytes", (json_int_t)plain, "shared",
			      (int)plain_shares(dirfd, fd));
	if (fd >= 0)
		close(fd);
	if (dirfd >= 0)
		close(dirfd);
	return j;
}

static int unmounted_status(const struct place *p, json_t **out)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct fs_change_totals t = { 0 };
	struct root head = ROOT_EMPTY;
	struct reader r;
	json_t *raw;
	char when[32];
	int status, err;

	if (!info)
		return EXIT_FAILURE;
	status = reader_open(p, &r);
	if (status) {
		free(info);
		return status;
	}
	store_head(r.store, &head, info);
	err = staged_totals(&r, &head, &t);
	time_text(info->time_ns, when);
	*out = json_pack(
		"{s:i s:s s:o s:{s:I s:s} s:{s:I s:I s:I s:I s:I s:I s:I} "
		"s:s s:o s:o s:b}",
		"format", JSON_FORMAT, "uuid", store_uuid(r.store), "dir",
		json_path(p->dir, &raw), "head", "number",
		(json_int_t)info->number, "time", when, "staged", "added",
		(json_int_t)t.added, "modified", (json_int_t)t.modified,
		"deleted", (json_int_t)t.deleted, "renamed",
		(json_int_t)t.renamed, "retyped", (json_int_t)t.retyped,
		"file_bytes", (json_int_t)t.bytes, "error", (json_int_t)-err,
		"health", "ok", "plain", plain_json_of(&r), "space",
		space_json(p, &r), "mounted", 0);
	if (raw)
		json_object_set_new(*out, "dir_base64", raw);
	root_put(store_tree(r.store), &head);
	reader_close(&r);
	free(info);
	if (!*out && !status)
		status = tool_fail(EXIT_FAILURE, "%s", strerror(ENOMEM));
	return status;
}

static json_int_t number(const json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

static const char *text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "?";
}

/* What is not known is not "nothing". */
static int staged_error(const json_t *j)
{
	return -(int)number(json_object_get(j, "staged"), "error");
}

static void print_staged(const json_t *s)
{
	static const char *const keys[] = { "added", "modified", "deleted",
					    "renamed", "retyped" };
	bool any = false;

	printf("staged:  ");
	if (number(s, "error")) {
		printf("unknown\n");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (!number(s, keys[i]))
			continue;
		printf("%s%" PRId64 " %s", any ? ", " : "",
		       (int64_t)number(s, keys[i]), keys[i]);
		any = true;
	}
	if (any)
		printf("; %" PRId64 " bytes in added and modified files\n",
		       (int64_t)number(s, "file_bytes"));
	else
		printf("nothing\n");
}

static void print_space(const json_t *s)
{
	json_int_t plain = number(s, "plain_bytes");

	if (!json_is_object(s))
		return;
	printf("space:   the store takes %" PRId64 " MiB; ",
	       (int64_t)(number(s, "store_bytes") >> 20));
	if (!plain)
		printf("nothing is held twice\n");
	else if (json_is_true(json_object_get(s, "shared")))
		printf("%" PRId64 " MiB of plain files share what the host "
		       "can\n",
		       (int64_t)(plain >> 20));
	else
		printf("%" PRId64 " MiB of plain files hold the last commit "
		       "a second time\n",
		       (int64_t)(plain >> 20));
}

static int print_status(const json_t *j)
{
	const json_t *head = json_object_get(j, "head");
	bool mounted = json_is_true(json_object_get(j, "mounted"));
	char words[1024];

	printf("dir:     %s\n", text(j, "dir"));
	if (mounted)
		printf("mounted: at %s, %s, process %" PRId64 "\n",
		       text(j, "mountpoint"), text(j, "mode"),
		       (int64_t)number(j, "pid"));
	else
		printf("mounted: no\n");
	printf("head:    @%" PRId64 " of %s\n", (int64_t)number(head, "number"),
	       text(head, "time"));
	print_staged(json_object_get(j, "staged"));
	plain_words(json_object_get(j, "plain"), words, sizeof(words));
	printf("plain:   %s\n", words);
	print_space(json_object_get(j, "space"));
	printf("health:  %s\n", text(j, "health"));
	return 0;
}

/* Of what was shown. */
static int result(const json_t *j)
{
	int err = staged_error(j);

	if (err)
		return tool_fail(tool_status(err),
				 "what is staged cannot be told: %s",
				 tool_status(err) == EXIT_DAMAGE
					 ? "the store is damaged: txn verify "
					   "names what"
					 : strerror(-err));
	return strcmp(text(j, "health"), "ok") ? EXIT_FAILURE : 0;
}

int cmd_status(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { 0 }
	};
	bool as_json = false;
	json_t *j = NULL;
	struct place p;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'j')
			return tool_usage(argv[0]);
		as_json = true;
	}
	if (optind < argc)
		return tool_usage(argv[0]);
	status = place_find(tool_start_dir, &p);
	if (!status)
		status = p.mount ? mounted_status(&p, &j)
				 : unmounted_status(&p, &j);
	if (!status && as_json)
		status = json_print(json_incref(j));
	else if (!status)
		status = print_status(j);
	if (!status)
		status = result(j);
	json_decref(j);
	place_release(&p);
	return status;
}
