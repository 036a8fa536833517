/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * eject.c - txn eject: DIR is a plain directory again. Its files are brought
 * to the last commit (where there are none they come out of the store), then
 * the store gets another name, which is the moment at which DIR is plain, and
 * is removed. An interrupted eject is gone on with by another.
 */
#include "tools/tool.h"

#include "fs/home.h"
#include "fs/move.h"
#include "fs/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMED_MAX = 10 };

static int count_name(void *arg, const struct name_info *info)
{
	++*(uint64_t *)arg;
	return 0;
}

static int count_commit(void *arg, const struct commit_info *info)
{
	++*(uint64_t *)arg;
	return 0;
}

/* What is to be done about the plain files first. */
struct need {
	bool off; /* there are none: they come out of the store */
	bool move_in; /* they were being moved into it */
	bool going; /* this was interrupted */
	bool sync; /* they follow the last commit */
};

static int find_need(const struct place *p, struct need *out)
{
	bool behind = false, half;
	uint64_t number;
	uint32_t mark = 0;
	struct reader r;
	int status, err;

	*out = (struct need){ 0 };
	status = reader_open(p, &r);
	if (status)
		return status;
	err = move_mark(r.fs, &mark);
	if (!err)
		err = plain_is_behind(r.fs, &behind, &number, &half);
	out->move_in = mark == MOVE_MARK_IN;
	out->going = mark == MOVE_MARK_OUT;
	out->off = mark || !store_get_setting(r.store, STORE_PLAIN);
	out->sync = !mark && (behind || !out->off);
	reader_close(&r);
	return err ? tool_fail(tool_status(err), "%s: %s", p->dir,
			       strerror(-err))
		   : 0;
}

/* What would be lost is told; nothing staged may be. Afterwards the store is
 * open: nobody else mounts it to write until that is closed. */
static int look(const struct place *p, bool yes, bool off, struct reader *r)
{
	uint64_t commits = 0, names = 0;
	bool staged = true;
	bool behind = true, half;
	uint64_t number;
	int status, err;

	status = reader_open(p, r);
	if (status)
		return status;
	err = fs_has_changes(r->fs, &staged);
	if (!err)
		err = store_each_commit(r->store, UINT64_MAX, count_commit,
					&commits);
	if (!err)
		err = store_each_name(r->store, count_name, &names);
	if (!err)
		err = plain_is_behind(r->fs, &behind, &number, &half);
	if (err)
		return tool_fail(tool_status(err), "%s: %s", p->dir,
				 strerror(-err));
	if (staged)
		return tool_fail(EXIT_REFUSED,
				 "%s has staged changes; commit or abort them "
				 "first",
				 p->dir);
	if (behind && !off)
		return tool_fail(EXIT_REFUSED,
				 "the plain files of %s do not show the last "
				 "commit; the system log tells why",
				 p->dir);
	if (yes)
		return 0;
	if (!isatty(0))
		return tool_fail(EXIT_REFUSED,
				 "%" PRIu64 " commit(s) and %" PRIu64
				 " name(s) would be gone for good; --yes to do "
				 "it",
				 commits, names);
	fprintf(stderr,
		"%" PRIu64 " commit(s) and %" PRIu64
		" name(s) will be gone for good.",
		commits, names);
	return tool_confirm();
}

static int name_missing(void *arg, const char *path)
{
	unsigned int *n = arg;
	char shown[512];

	(void)fs_quote_path(path, shown, sizeof(shown));
	if ((*n)++ < NAMED_MAX)
		tool_fail(0, "%s cannot be made among the plain files", shown);
	return 0;
}

/* What only the store has must not go with it by the way. */
static int look_for_missing(const struct place *p, bool force)
{
	unsigned int n = 0;
	struct reader r;
	int status = reader_open(p, &r), err;

	if (status)
		return status;
	err = plain_each_missing(r.fs, name_missing, &n);
	reader_close(&r);
	if (err)
		return tool_fail(tool_status(err), "%s: %s", p->dir,
				 strerror(-err));
	return n && !force
		       ? tool_fail(EXIT_REFUSED,
				   "%u file(s) and directories of the last "
				   "commit are in the store alone: copy them "
				   "with txn cat first; --force gives them up",
				   n)
		       : 0;
}

/* Its other name, durable, is what makes DIR a plain directory. */
static int remove_present(int fd, const char *dir, struct store_error *text)
{
	if (renameat(fd, HOME_NAME, fd, HOME_GONE_NAME) || fsync(fd))
		return -errno;
	return home_remove(fd, dir, text);
}

/* Where a link .txn leads to goes too. */
static int remove_store(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	struct store_error text = { "" };
	struct stat st;

	if (fd < 0)
		return tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(errno));
	/* What an eject left, of this store or of one before. */
	if (!fstatat(fd, HOME_GONE_NAME, &st, AT_SYMLINK_NOFOLLOW))
		err = fsync(fd) ? -errno : home_remove(fd, dir, &text);
	if (!err && !fstatat(fd, HOME_NAME, &st, AT_SYMLINK_NOFOLLOW))
		err = remove_present(fd, dir, &text);
	close(fd);
	if (err)
		return tool_fail(EXIT_FAILURE,
				 "the store of %s cannot be removed: %s", dir,
				 text.text[0] ? text.text : strerror(-err));
	printf("%s is a plain directory\n", dir);
	return 0;
}

static bool was_interrupted(const char *dir)
{
	struct stat st;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool yes = fd >= 0 &&
		   !fstatat(fd, HOME_GONE_NAME, &st, AT_SYMLINK_NOFOLLOW) &&
		   fstatat(fd, HOME_NAME, &st, AT_SYMLINK_NOFOLLOW);

	if (fd >= 0)
		close(fd);
	return yes;
}

static void name_note(void *arg, const char *path, const char *why)
{
	char shown[512];

	(void)fs_quote_path(path, shown, sizeof(shown));
	tool_fail(0, "%s: %s", shown, why);
}

static void log_quiet(struct env *env, enum env_level level, const char *msg)
{
	if (level <= ENV_WARNING)
		fprintf(stderr, "txn: %s\n", msg);
}

static int bring_out(const struct place *p)
{
	struct env env;
	struct move_params mp = { .dir = p->dir,
				  .env = &env,
				  .note = name_note };
	struct store_error text;
	int err;

	env_init_host(&env);
	env.log = log_quiet;
	err = move_out(&mp, &text);
	return err ? tool_fail(tool_status(err),
			       "%s: %s; nothing is lost: run txn eject again",
			       p->dir, text.text)
		   : 0;
}

static int eject(const struct place *p, bool yes, bool force)
{
	struct need need;
	struct reader r = { 0 };
	bool resumed;
	int status;

	if (p->mount)
		return tool_fail(EXIT_REFUSED,
				 "%s is mounted; unmount it first", p->mount);
	status = find_need(p, &need);
	if (!status && need.sync)
		status = tool_sync(p);
	if (!status && !need.off)
		status = look_for_missing(p, force);
	/* What it was asked the first time need not be asked again. */
	if (!status && !need.move_in && !need.going)
		status = look(p, yes, need.off, &r);
	/* What brings them out has it alone, and it is marked first. */
	if (need.off)
		reader_close(&r);
	if (!status && need.move_in)
		status = tool_move_in(p->dir, true, &resumed);
	if (!status && need.off)
		status = bring_out(p);
	if (!status && need.off)
		status = look_for_missing(p, force);
	if (!status)
		status = remove_store(p->dir);
	reader_close(&r);
	return status;
}

int cmd_eject(int argc, char **argv)
{
	static const struct option options[] = {
		{ "yes", no_argument, NULL, 'y' },
		{ "force", no_argument, NULL, 'f' },
		{ 0 }
	};
	bool yes = false, force = false;
	const char *given;
	struct place p;
	char *dir;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == '?')
			return tool_usage(argv[0]);
		yes |= opt == 'y';
		force |= opt == 'f';
	}
	if (argc - optind > 1)
		return tool_usage(argv[0]);
	given = optind < argc ? argv[optind] : NULL;
	dir = tool_realpath(given ? given : tool_start_dir);
	if (!dir)
		return EXIT_FAILURE;
	if (was_interrupted(dir)) {
		status = remove_store(dir);
	} else {
		status = place_find_dir(given, &p);
		if (!status)
			status = eject(&p, yes, force);
		place_release(&p);
	}
	free(dir);
	return status;
}
