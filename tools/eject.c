/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * eject.c - txn eject: DIR is a plain directory again. Its files are brought
 * to the last commit, then the store gets another name, which is the moment at
 * which DIR is plain, and is removed. An interrupted removal is gone on with
 * by another eject.
 */
#include "tools/tool.h"

#include "fs/home.h"
#include "fs/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* What would be lost is told; nothing staged may be. */
static int look(const struct place *p, bool yes)
{
	uint64_t commits = 0, names = 0;
	struct fs_staged st;
	struct reader r;
	bool behind = true, half, on;
	uint64_t number;
	int status, err;

	status = reader_open(p, &r);
	if (status)
		return status;
	fs_get_staged(r.fs, &st);
	err = store_each_commit(r.store, UINT64_MAX, count_commit, &commits);
	if (!err)
		err = store_each_name(r.store, count_name, &names);
	if (!err)
		err = plain_is_behind(r.fs, &behind, &number, &half);
	on = store_get_setting(r.store, STORE_PLAIN);
	reader_close(&r);
	if (!err && !on)
		return tool_fail(EXIT_REFUSED,
				 "%s has no plain files; mount it, txn set "
				 "plain on, and unmount it first",
				 p->dir);
	if (err)
		return tool_fail(tool_status(err), "%s: %s", p->dir,
				 strerror(-err));
	if (st.any)
		return tool_fail(EXIT_REFUSED,
				 "%s has staged changes; commit or abort them "
				 "first",
				 p->dir);
	if (behind)
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
		" name(s) will be gone for good. Go on? [y/N] ",
		commits, names);
	return getchar() == 'y' ? 0 : EXIT_REFUSED;
}

/* Where a link .txn leads to goes too. */
static int remove_store(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	struct store_error text = { "" };
	struct stat st;

	if (fd < 0)
		return tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(errno));
	if (fstatat(fd, HOME_GONE_NAME, &st, AT_SYMLINK_NOFOLLOW) &&
	    renameat(fd, HOME_NAME, fd, HOME_GONE_NAME))
		err = -errno;
	if (!err && fsync(fd))
		err = -errno;
	if (!err)
		err = home_remove(fd, dir, &text);
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

static int eject(const struct place *p, bool yes)
{
	int status;

	if (p->mount)
		return tool_fail(EXIT_REFUSED,
				 "%s is mounted; unmount it first", p->mount);
	status = tool_sync(p);
	if (!status)
		status = look(p, yes);
	return status ? status : remove_store(p->dir);
}

int cmd_eject(int argc, char **argv)
{
	static const struct option options[] = {
		{ "yes", no_argument, NULL, 'y' }, { 0 }
	};
	bool yes = false;
	struct place p;
	char *dir;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'y')
			return tool_usage(argv[0]);
		yes = true;
	}
	if (argc - optind > 1)
		return tool_usage(argv[0]);
	dir = tool_realpath(optind < argc ? argv[optind] : tool_start_dir);
	if (!dir)
		return EXIT_FAILURE;
	if (was_interrupted(dir)) {
		status = remove_store(dir);
	} else {
		status = place_find(dir, &p);
		if (!status)
			status = eject(&p, yes);
		place_release(&p);
	}
	free(dir);
	return status;
}
