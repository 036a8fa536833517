/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount_ask.c - commands that only ask: their answer is lines of fields that
 * are separated by tabs, before the line of JSON. */
#include "fs/mount_internal.h"

#include <inttypes.h>

static int put_path(FILE *f, const char *path)
{
	size_t size = 4 * strlen(path) + 3;
	char *buf = malloc(size);

	if (!buf)
		return -ENOMEM;
	(void)fs_quote_path(path, buf, size);
	fputs(buf, f);
	free(buf);
	return 0;
}

/* op, old mode, old size, new mode, new size, path, old path */
static int put_change(void *arg, const struct fs_change *c)
{
	FILE *f = arg;
	int err;

	fprintf(f, "%c\t%o\t%" PRIu64 "\t%o\t%" PRIu64 "\t", c->op, c->old_mode,
		c->old_size, c->new_mode, c->new_size);
	err = put_path(f, c->path);
	fputc('\t', f);
	if (!err && c->from)
		err = put_path(f, c->from);
	fputc('\n', f);
	return ferror(f) ? -ENOMEM : err;
}

int ask_state(struct mount *m, const char *name, struct root *out, char *why,
	      size_t size)
{
	int err = fs_resolve(m->fs, name, out);

	if (err == -ENOENT || err == -EINVAL)
		snprintf(why, size,
			 "there is no state %s; txn log and txn snapshots list "
			 "them",
			 name);
	return err;
}

int ask_diff(struct mount *m, const struct ctl_command *c, FILE *f, char *why,
	     size_t size)
{
	struct root a = ROOT_EMPTY, b = ROOT_EMPTY;
	char *na = strndup(c->word, c->word_len);
	char *nb = strndup(c->arg, c->arg_len);
	int err = na && nb ? 0 : -ENOMEM;

	if (!err)
		err = ask_state(m, na, &a, why, size);
	if (!err)
		err = ask_state(m, nb, &b, why, size);
	if (!err)
		err = fs_changes(m->fs, &a, &b, put_change, f);
	root_put(store_tree(m->store), &a);
	root_put(store_tree(m->store), &b);
	free(na);
	free(nb);
	return err;
}

/* name, kind, commit, time in ns, uid, message */
static int put_name(void *arg, const struct name_info *i)
{
	static const char *const kinds[] = { "?", "snapshot", "tag",
					     "discarded" };
	FILE *f = arg;
	int err;

	fprintf(f, "%s\t%s\t%" PRIu64 "\t%" PRId64 "\t%u\t", i->name,
		kinds[i->kind], i->number, i->time_ns, i->uid);
	err = put_path(f, i->message);
	fputc('\n', f);
	return ferror(f) ? -ENOMEM : err;
}

int ask_names(struct mount *m, FILE *f)
{
	return store_each_name(m->store, put_name, f);
}

struct asking {
	struct mount *m;
	FILE *f;
};

/* "damaged", state, path, what */
static void put_damaged(void *arg, const char *state, const char *path,
			const char *what)
{
	struct asking *a = arg;

	fprintf(a->f, "damaged\t%s\t", state);
	/* Without memory the path is missing, the state is named. */
	if (path && put_path(a->f, path))
		fputs("?", a->f);
	fprintf(a->f, "\t%s\n", what);
}

static int note_progress(void *arg, const struct fs_verify_stats *st)
{
	struct asking *a = arg;

	__atomic_store_n(&a->m->verify_bytes, st->bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&a->m->verify_total, st->total_bytes,
			 __ATOMIC_RELAXED);
	return __atomic_load_n(&a->m->ctl_stop, __ATOMIC_RELAXED) ? -ECANCELED
								  : 0;
}

int ask_verify(struct mount *m, FILE *f)
{
	struct asking a = { m, f };
	struct fs_verify_params p = { .damaged = put_damaged,
				      .progress = note_progress,
				      .arg = &a };
	struct fs_verify_stats st = { 0 };
	int err;

	err = fs_verify(m->fs, &p, &st);
	__atomic_store_n(&m->verify_total, 0, __ATOMIC_RELAXED);
	if (!err)
		fprintf(f,
			"verified\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
			"\t%" PRIu64 "\t%" PRIu64 "\n",
			st.states, st.nodes, st.blocks, st.bytes, st.damaged);
	return err;
}
