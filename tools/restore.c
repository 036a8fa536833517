/* SPDX-License-Identifier: GPL-2.0-or-later */
/* restore.c - txn restore, rollback, undo: going back. */
#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* --- databases that are more than one file --- */

/* Or that cannot be told. */
static bool exists_in(const char *dir, const char *path, const char *suffix)
{
	size_t n = strlen(dir) + strlen(path) + strlen(suffix) + 2;
	char *full = malloc(n);
	struct stat st;
	bool there;

	if (!full)
		return false;
	snprintf(full, n, "%s/%s%s", dir, path, suffix);
	there = !lstat(full, &st) || errno == EIO || errno == EACCES;
	free(full);
	return there;
}

static bool is_given(char **paths, const char *path, const char *suffix)
{
	size_t len = strlen(path);

	for (; *paths; paths++)
		if (!strncmp(*paths, path, len) &&
		    !strcmp(*paths + len, suffix))
			return true;
	return false;
}

static void warn_companions(const struct place *p, const char *state,
			    char **paths)
{
	static const char *const suffixes[] = { "-wal", "-shm", "-journal" };
	char *dir = place_state(p, state);

	for (char **path = paths; *path && dir; path++)
		for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
			if ((exists_in(dir, *path, suffixes[i]) ||
			     exists_in(p->mount, *path, suffixes[i])) &&
			    !is_given(paths, *path, suffixes[i]))
				tool_fail(0,
					  "warning: %s has a companion %s%s "
					  "that is not restored with it",
					  *path, *path, suffixes[i]);
	free(dir);
}

/* --- damage --- */

/* What a restore would change: paths, and which of them cannot be read. */
struct plan {
	struct step {
		char *path;
		bool gone; /* the state does not have it */
		bool is_dir; /* in the state */
		bool damaged;
	} * v;
	size_t n, cap;
	size_t ndamaged;
};

static void plan_release(struct plan *pl)
{
	for (size_t i = 0; i < pl->n; i++)
		free(pl->v[i].path);
	free(pl->v);
}

/* From where something is up to the next hole. 1: there is no more. */
static int read_piece(int fd, off_t *at)
{
	static char buf[1 << 20];
	off_t from = lseek(fd, *at, SEEK_DATA), to;

	if (from < 0)
		return errno == ENXIO ? 1 : -errno;
	to = lseek(fd, from, SEEK_HOLE);
	if (to < 0)
		return -errno;
	while (from < to) {
		size_t len = sizeof(buf);
		ssize_t n;

		if (to - from < (off_t)len)
			len = (size_t)(to - from);
		n = pread(fd, buf, len, from);
		if (n < 0)
			return -errno;
		if (!n)
			return 1;
		from += n;
	}
	*at = to;
	return 0;
}

/* Reading is what verifies. Holes are none of it: they may be many GiB. */
static int read_whole(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), err = 0;
	off_t at = 0;

	if (fd < 0)
		return errno == ELOOP ? 0 : -errno;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	while (!err)
		err = read_piece(fd, &at);
	close(fd);
	return err == 1 ? 0 : err;
}

static int plan_add(struct plan *pl, const char *dir, const char *path,
		    bool gone, uint32_t mode)
{
	struct step *v;
	char *full;
	size_t size;
	int err = 0;

	if (pl->n == pl->cap) {
		size_t cap = pl->cap ? pl->cap * 2 : 64;

		v = realloc(pl->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		pl->v = v;
		pl->cap = cap;
	}
	size = strlen(dir) + strlen(path) + 2;
	full = malloc(size);
	v = &pl->v[pl->n];
	*v = (struct step){ .path = strdup(path),
			    .gone = gone,
			    .is_dir = S_ISDIR(mode) };
	if (!full || !v->path) {
		free(full);
		free(v->path);
		return -ENOMEM;
	}
	pl->n++;
	snprintf(full, size, "%s/%s", dir, path);
	if (S_ISREG(mode))
		err = read_whole(full);
	free(full);
	v->damaged = err == -EIO;
	pl->ndamaged += v->damaged;
	return err == -EIO ? 0 : err;
}

static bool is_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	return !n || (!strncmp(path, top, n) && (!path[n] || path[n] == '/'));
}

/* What lies in a directory that has another name here is in no difference. */
static int plan_add_tree(struct plan *pl, const char *dir, const char *path)
{
	size_t size = strlen(dir) + strlen(path) + 2, skip = strlen(dir) + 1;
	char *full = malloc(size), *paths[] = { full, NULL };
	FTS *fts = NULL;
	FTSENT *e;
	int err = 0;

	if (!full)
		return -ENOMEM;
	snprintf(full, size, "%s/%s", dir, path);
	fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	if (!fts)
		err = -errno;
	while (!err && (errno = 0, e = fts_read(fts)) != NULL) {
		bool lost = e->fts_info == FTS_DNR || e->fts_info == FTS_NS ||
			    e->fts_info == FTS_ERR;

		if (lost && e->fts_errno != EIO)
			err = -e->fts_errno;
		else if (e->fts_info != FTS_DP)
			err = plan_add(pl, dir, e->fts_path + skip, false,
				       lost ? 0 : e->fts_statp->st_mode);
		if (!err && lost) {
			pl->v[pl->n - 1].damaged = true;
			pl->ndamaged++;
		}
	}
	if (fts) {
		err = err ? err : -errno;
		(void)fts_close(fts);
	}
	free(full);
	return err;
}

static int make_plan(const struct place *p, const char *state,
		     const char *below, struct plan *pl)
{
	char ask[STORE_NAME_MAX + 32], *answer, *next, *f[7], *dir;
	int status, err = 0;

	snprintf(ask, sizeof(ask), "diff staged %s", state);
	status = ctl_ask(p, ask, &answer);
	if (status)
		return status;
	dir = place_state(p, state);
	for (char *line = answer; dir && *line && *line != '{' && !err;
	     line = next) {
		uint32_t mode;

		tool_fields(line, 7, f, &next);
		(void)fs_unquote_path(f[5]);
		(void)fs_unquote_path(f[6]);
		mode = (uint32_t)strtoul(f[3], NULL, 8);
		/* First what it is called here, so that it keeps its number;
		 * unless the state has that name, too. */
		if (*f[6] && is_below(f[6], below) && !exists_in(dir, f[6], ""))
			err = plan_add(pl, dir, f[6], true, 0);
		if (!err && f[0][0] == 'R' && S_ISDIR(mode) &&
		    strcmp(below, f[5]) && is_below(below, f[5]))
			err = plan_add_tree(pl, dir, below);
		if (!err && is_below(f[5], below))
			err = plan_add(pl, dir, f[5], f[0][0] == 'D', mode);
	}
	free(answer);
	free(dir);
	return err ? tool_fail(tool_status(err), "%s: %s", state,
			       strerror(-err))
		   : 0;
}

/* --- restore --- */

static int restore_one(const struct place *p, const char *state,
		       const char *path)
{
	size_t size = strlen(state) + 4 * strlen(path) + 16;
	char *line = malloc(size), *quoted = malloc(size);
	uint64_t head;
	bool nothing;
	int status = EXIT_FAILURE;

	if (line && quoted) {
		(void)fs_quote_path(path, quoted, size);
		snprintf(line, size, "restore %s%s%s", state, *path ? " " : "",
			 quoted);
		status = ctl_command(p, line, &head, &nothing);
		if (status && *path)
			tool_fail(0, "%s is not restored", quoted);
	}
	free(line);
	free(quoted);
	return status;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *at)
{
	return remove(path) && errno != ENOENT ? -1 : 0;
}

/* With all that is in it: a directory that has another name in the state. */
static int remove_tree(const char *path)
{
	enum { DEPTH = 64 };

	return nftw(path, remove_one, DEPTH,
		    FTW_DEPTH | FTW_PHYS | FTW_MOUNT) &&
			       errno != ENOENT
		       ? -1
		       : 0;
}

static int remove_path(const struct place *p, const char *path)
{
	size_t size = strlen(p->mount) + strlen(path) + 2;
	char *full = malloc(size);
	int status = 0;

	if (!full)
		return EXIT_FAILURE;
	snprintf(full, size, "%s/%s", p->mount, path);
	if (remove_tree(full))
		status = tool_fail(EXIT_FAILURE, "%s: %s", full,
				   strerror(errno));
	free(full);
	return status;
}

static int copy_xattrs(int from, int to)
{
	static char names[64 << 10], value[64 << 10], old[64 << 10];
	ssize_t n = flistxattr(to, names, sizeof(names)), len;

	for (const char *s = names; n > 0 && s < names + n; s += strlen(s) + 1)
		if (fgetxattr(from, s, NULL, 0) < 0 && errno == ENODATA &&
		    fremovexattr(to, s))
			return -1;
	n = flistxattr(from, names, sizeof(names));
	for (const char *s = names; n > 0 && s < names + n;
	     s += strlen(s) + 1) {
		len = fgetxattr(from, s, value, sizeof(value));
		if (len >= 0 && fgetxattr(to, s, old, sizeof(old)) == len &&
		    !memcmp(old, value, (size_t)len))
			continue;
		if (len < 0 || fsetxattr(to, s, value, (size_t)len, 0))
			return -1;
	}
	return n < 0 ? -1 : 0;
}

/* What is the same already need not be allowed. */
static int copy_attributes(int from, int to)
{
	struct timespec times[2];
	struct stat st, was;

	if (from < 0 || to < 0 || fstat(from, &st) || fstat(to, &was))
		return -1;
	if ((st.st_uid != was.st_uid || st.st_gid != was.st_gid) &&
	    fchown(to, st.st_uid, st.st_gid))
		return -1;
	if (st.st_mode != was.st_mode && fchmod(to, st.st_mode & 07777))
		return -1;
	if (copy_xattrs(from, to))
		return -1;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return st.st_mtim.tv_sec == was.st_mtim.tv_sec &&
			       st.st_mtim.tv_nsec == was.st_mtim.tv_nsec
		       ? 0
		       : futimens(to, times);
}

/* A directory's own. */
static int restore_attributes(const struct place *p, const char *state,
			      const char *path)
{
	enum { FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };
	char *dir = place_state(p, state);
	int top = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	int mount = open(p->mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int from = openat(top, path, FLAGS), to = openat(mount, path, FLAGS);
	int status = 0;

	if (copy_attributes(from, to))
		status = tool_fail(EXIT_FAILURE, "%s: %s", path,
				   strerror(errno));
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	if (top >= 0)
		close(top);
	if (mount >= 0)
		close(mount);
	free(dir);
	return status;
}

static bool is_dir_in(const char *dir, const char *path)
{
	int top = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	bool yes = top >= 0 && !fstatat(top, path, &st, AT_SYMLINK_NOFOLLOW) &&
		   S_ISDIR(st.st_mode);

	if (top >= 0)
		close(top);
	return yes;
}

/* A directory in which something is damaged: what is there instead stays, and
 * nothing comes where nothing is. */
static int restore_around(const struct place *p, const char *state,
			  const struct plan *pl, const char *path)
{
	int status;

	if (is_dir_in(p->mount, path))
		return 0;
	status = restore_one(p, state, path);
	for (size_t i = 0; i < pl->n && !status; i++)
		if (pl->v[i].damaged && is_below(pl->v[i].path, path))
			status = remove_path(p, pl->v[i].path);
	return status;
}

static bool has_damage(const struct plan *pl, const char *path)
{
	for (size_t i = 0; i < pl->n; i++)
		if (pl->v[i].damaged && is_below(pl->v[i].path, path))
			return true;
	return false;
}

/* Everything but what is damaged, path by path. */
static int restore_plan(const struct place *p, const char *state,
			const struct plan *pl)
{
	int status = 0;

	for (size_t i = 0; i < pl->n && !status; i++) {
		const struct step *s = &pl->v[i];

		if (s->damaged)
			continue;
		if (s->gone)
			status = remove_path(p, s->path);
		else if (s->is_dir && has_damage(pl, s->path))
			status = restore_around(p, state, pl, s->path);
		else
			status = restore_one(p, state, s->path);
	}
	/* Below first: what happened in a directory changed its times. */
	for (size_t i = pl->n; i-- > 0 && !status;)
		if (pl->v[i].is_dir && !pl->v[i].gone)
			status = restore_attributes(p, state, pl->v[i].path);
	return status;
}

/* Is it there, and can every byte of it be read? */
static int check(const struct place *p, const char *state, const char *path,
		 struct plan *pl)
{
	char *dir = place_state(p, state);
	bool missing = dir && *path && !exists_in(dir, path, "");
	char shown[4 * PATH_MAX];
	int status;

	free(dir);
	if (missing) {
		(void)fs_quote_path(path, shown, sizeof(shown));
		return tool_fail(EXIT_FAILURE,
				 "restore: %s has no %s; a path is relative to "
				 "the directory",
				 state, shown);
	}
	status = make_plan(p, state, path, pl);
	for (size_t i = 0; i < pl->n && !status; i++)
		if (pl->v[i].damaged)
			tool_fail(0, "damaged: %s:%s", state, pl->v[i].path);
	return status;
}

/* All of them were looked at, and read, before anything changes. */
static int restore_checked(const struct place *p, const char *state,
			   char **paths, bool skip)
{
	size_t n = 0, damaged = 0;
	struct plan *plans;
	int status = 0;

	while (paths[n])
		n++;
	plans = calloc(n + 1, sizeof(*plans));
	if (!plans)
		return tool_fail(EXIT_FAILURE, "%s", strerror(ENOMEM));
	for (size_t i = 0; i < n && !status; i++) {
		status = check(p, state, paths[i], &plans[i]);
		damaged += plans[i].ndamaged;
	}
	if (status && n > 1)
		tool_fail(0, "nothing is restored");
	if (!status && damaged && !skip)
		status = tool_fail(EXIT_DAMAGE,
				   "nothing is restored; with --skip-damaged "
				   "the rest is");
	for (size_t i = 0; i < n && !status; i++)
		status = plans[i].ndamaged ? restore_plan(p, state, &plans[i])
					   : restore_one(p, state, paths[i]);
	for (size_t i = 0; i < n; i++)
		plan_release(&plans[i]);
	free(plans);
	return status;
}

static int restore(const struct place *p, const char *state, char **paths,
		   bool force, bool commit, bool skip)
{
	char line[STORE_NAME_MAX + 32], whole[] = "";
	char *all[] = { whole, NULL };
	uint64_t head;
	bool nothing;
	int status = 0;

	if (!tool_may_be_state(state))
		return tool_no_state(state);
	if (!*paths)
		status = tool_ask_holders(p, state, NULL, force);
	for (char **path = paths; *path && !status; path++)
		status = tool_ask_holders(p, state, *path, force);
	if (status)
		return status;
	warn_companions(p, state, paths);
	status = restore_checked(p, state, *paths ? paths : all, skip);
	if (status || !commit)
		return status;
	snprintf(line, sizeof(line), "commit restore from %s", state);
	status = ctl_command(p, line, &head, &nothing);
	if (!status)
		printf(nothing ? "nothing is staged; head is @%" PRIu64 "\n"
			       : "committed @%" PRIu64 "\n",
		       head);
	return status;
}

int cmd_restore(int argc, char **argv)
{
	static const struct option options[] = {
		{ "commit", no_argument, NULL, 'c' },
		{ "force", no_argument, NULL, 'f' },
		{ "skip-damaged", no_argument, NULL, 's' },
		{ 0 }
	};
	bool commit = false, force = false, skip = false;
	struct place p;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'c')
			commit = true;
		else if (opt == 'f')
			force = true;
		else if (opt == 's')
			skip = true;
		else
			return tool_usage(argv[0]);
	}
	if (optind == argc)
		return tool_usage(argv[0]);
	for (int i = optind + 1; i < argc; i++)
		if (!tool_tidy_path(argv[i]) || !*argv[i])
			return tool_fail(
				EXIT_USAGE,
				"\"%s\": a path below the directory is "
				"wanted; without any, all of it is "
				"restored",
				argv[i]);
	status = place_find(tool_start_dir, &p);
	if (!status && !p.mount)
		status = tool_not_mounted(&p);
	if (!status)
		status = restore(&p, argv[optind], argv + optind + 1, force,
				 commit, skip);
	place_release(&p);
	return status;
}

/* --- rollback, undo --- */

static int whole(const struct place *p, const char *name, const char *line)
{
	uint64_t head = 0;
	bool nothing;
	int status = ctl_command(p, line, &head, &nothing);

	if (!status)
		printf("%s: head is @%" PRIu64 "\n", name, head);
	return status;
}

int tool_parse_force(int argc, char **argv, bool *force)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'f' }, { 0 }
	};
	int opt;

	*force = false;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'f')
			return -1;
		*force = true;
	}
	return 0;
}

int tool_parse_none(int argc, char **argv)
{
	static const struct option options[] = { { 0 } };

	return getopt_long(argc, argv, "+", options, NULL) == -1 ? 0 : -1;
}

int cmd_rollback(int argc, char **argv)
{
	char line[STORE_NAME_MAX + 32];
	struct place p;
	bool force;
	int status;

	if (tool_parse_force(argc, argv, &force) || argc - optind != 1)
		return tool_usage(argv[0]);
	status = place_find(tool_start_dir, &p);
	if (!status && !tool_may_be_state(argv[optind]))
		status = tool_no_state(argv[optind]);
	if (!status && p.mount)
		status = tool_ask_holders(&p, argv[optind], NULL, force);
	if (!status) {
		snprintf(line, sizeof(line), "rollback %s", argv[optind]);
		status = whole(&p, "rollback", line);
	}
	place_release(&p);
	return status;
}

/* The state that undo goes back to; *name "": there is none. */
static int last_discarded(const struct place *p, char name[STORE_NAME_MAX + 1])
{
	char *answer, *next, *f[2];
	int status = ctl_ask(p, "names", &answer);

	*name = '\0';
	if (status)
		return status;
	for (char *line = answer; *line && *line != '{'; line = next) {
		tool_fields(line, 2, f, &next);
		if (!strcmp(f[1], "discarded"))
			snprintf(name, STORE_NAME_MAX + 1, "%s", f[0]);
	}
	free(answer);
	return 0;
}

int cmd_undo(int argc, char **argv)
{
	char state[STORE_NAME_MAX + 1] = "";
	struct place p;
	bool force;
	int status;

	if (tool_parse_force(argc, argv, &force) || argc != optind)
		return tool_usage(argv[0]);
	status = place_find(tool_start_dir, &p);
	if (!status && p.mount && !force)
		status = last_discarded(&p, state);
	if (!status && *state)
		status = tool_ask_holders(&p, state, NULL, force);
	if (!status)
		status = whole(&p, "undo", "undo");
	place_release(&p);
	return status;
}
