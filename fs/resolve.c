/* SPDX-License-Identifier: GPL-2.0-or-later */
/* resolve.c - states by their names. */
#include "fs/fs_internal.h"

static int parse_number(const char *s, uint64_t *out)
{
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(s, &end, 10);
	return *end || errno ? -EINVAL : 0;
}

struct count_down {
	uint64_t left;
	struct root *out;
};

static int count_down(void *arg, const struct commit_info *info)
{
	struct count_down *c = arg;

	if (c->left--)
		return 0;
	*c->out = (struct root){ .ptr = info->root };
	return 2;
}

/* "head", "head~N" */
static int resolve_head(struct fs *fs, const char *rest, struct root *out)
{
	struct count_down c = { .out = out };
	int err = 0;

	if (*rest == '~')
		err = parse_number(rest + 1, &c.left);
	else if (*rest)
		err = -EINVAL;
	if (!err)
		err = store_each_commit(fs->store, UINT64_MAX, count_down, &c);
	if (err < 0)
		return err;
	return err == 2 ? 0 : -ENOENT;
}

static int resolve_commit(struct fs *fs, uint64_t number, struct root *out)
{
	struct commit_info *info = malloc(sizeof(*info));
	int err;

	if (!info)
		return -ENOMEM;
	err = store_get_commit(fs->store, number, info);
	if (!err)
		*out = (struct root){ .ptr = info->root };
	free(info);
	return err == 1 ? -ENOENT : err;
}

static int resolve_name(struct fs *fs, const char *name, struct root *out)
{
	struct name_info *info = malloc(sizeof(*info));
	int err;

	if (!info)
		return -ENOMEM;
	err = store_get_name(fs->store, name, info);
	if (!err)
		*out = (struct root){ .ptr = info->root };
	free(info);
	return err == 1 ? -ENOENT : err;
}

int fs_resolve(struct fs *fs, const char *name, struct root *out)
{
	uint64_t number;

	if (!strncmp(name, "head", 4) && (!name[4] || name[4] == '~'))
		return resolve_head(fs, name + 4, out);
	if (!strcmp(name, "staged") || !strcmp(name, "working"))
		return fs_freeze(fs, out);
	/* Not "@01": each commit has one name. */
	if (name[0] == '@' && name[1] != '0' &&
	    !parse_number(name + 1, &number))
		return resolve_commit(fs, number, out);
	if (name[0] != '@' && !store_name_is_valid(name))
		return -EINVAL;
	return resolve_name(fs, name, out);
}
