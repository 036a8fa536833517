/* SPDX-License-Identifier: GPL-2.0-or-later */
/* init.c - txn init: read a directory into a new store, or move it there. */
#include "tools/tool.h"

#include "fs/adopt.h"
#include "fs/busy.h"
#include "fs/home.h"
#include "fs/move.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
	PROGRESS_NS = 200000000,
	NAMED_MAX = 10,
	FUSE_MAGIC = 0x65735546,
	BTRFS_MAGIC = 0x9123683e
};

struct progress {
	struct env env;
	int64_t last_ns;
	bool shown, quiet, tty;
	unsigned int notes;
};

static int show_progress(void *arg, const struct adopt_progress *p)
{
	struct progress *s = arg;
	int64_t now = s->env.now_ns(&s->env);

	if (s->quiet || now - s->last_ns < (s->tty ? PROGRESS_NS
						   : 25 * (int64_t)PROGRESS_NS))
		return 0;
	s->last_ns = now;
	s->shown = true;
	fprintf(stderr,
		"%s%" PRIu64 " files and directories, %" PRIu64 " MiB read%s",
		s->tty ? "\r" : "", p->objects, p->bytes >> 20,
		s->tty ? "" : "\n");
	fflush(stderr);
	return 0;
}

static int name_process(void *arg, long pid, const char *comm, const char *how,
			const char *path)
{
	unsigned int *n = arg;
	char shown[512];

	(void)fs_quote_path(path, shown, sizeof(shown));
	if ((*n)++ < NAMED_MAX)
		tool_fail(0, "process %ld (%s): %s %s", pid, comm, how, shown);
	return 0;
}

/* By us: that is where commands are written to. */
static bool is_mounted(const char *dir)
{
	struct place p = { .mount = (char *)(uintptr_t)dir };
	char *ctl = place_txn(&p, "ctl");
	struct stat st;
	bool yes = ctl && !stat(ctl, &st) && S_ISREG(st.st_mode);

	free(ctl);
	return yes;
}

static int refuse(const char *dir, bool force)
{
	struct statfs sf;
	struct stat st;
	unsigned int n = 0;
	int err;

	if (stat(dir, &st) || statfs(dir, &sf))
		return tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return tool_fail(EXIT_FAILURE, "%s is not a directory", dir);
	if (!strcmp(dir, "/"))
		return tool_fail(
			EXIT_REFUSED,
			"/ cannot be made transactional: what runs "
			"from it would be in the way; take a directory");
	if (sf.f_type == FUSE_MAGIC && is_mounted(dir))
		return tool_fail(EXIT_REFUSED,
				 "%s: it has a store already, and is mounted",
				 dir);
	if (sf.f_type == FUSE_MAGIC)
		return tool_fail(
			EXIT_REFUSED,
			"%s lies on a FUSE mount, which cannot promise "
			"that flushed data is durable",
			dir);
	if (access(dir, W_OK))
		return tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(errno));
	if (sf.f_type == BTRFS_MAGIC)
		tool_fail(0,
			  "note: on this filesystem space cannot be promised "
			  "ahead; when it is full, commits may fail");
	if (force)
		return 0;
	err = busy_find(dir, true, name_process, &n);
	if (err)
		return tool_fail(EXIT_FAILURE, "/proc: %s", strerror(-err));
	if (n)
		return tool_fail(EXIT_REFUSED,
				 "%u process(es) write below %s; end them, or "
				 "use --force",
				 n, dir);
	return 0;
}

static void raise_limits(void)
{
	struct rlimit rl;

	/* One descriptor for each level of directories. */
	if (!getrlimit(RLIMIT_NOFILE, &rl)) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static void log_quiet(struct env *env, enum env_level level, const char *msg)
{
	if (level <= ENV_WARNING)
		fprintf(stderr, "txn: %s\n", msg);
}

static void begin(struct progress *s, bool quiet)
{
	*s = (struct progress){ .quiet = quiet, .tty = isatty(2) };
	env_init_host(&s->env);
	s->env.log = log_quiet;
	s->last_ns = s->env.now_ns(&s->env);
	raise_limits();
}

static void end(struct progress *s)
{
	if (s->shown && s->tty)
		fputc('\n', stderr);
	s->shown = false;
}

static void tell_odd(const struct adopt_progress *got)
{
	if (got->reread)
		tool_fail(0,
			  "%" PRIu64 " file(s) changed while they were read "
			  "and were read again",
			  got->reread);
	if (got->mounts)
		tool_fail(0, "%" PRIu64 " other mount(s) inside are left out",
			  got->mounts);
}

static void tell_note(void *arg, const char *path, const char *why)
{
	struct progress *s = arg;
	char shown[512];

	end(s);
	(void)fs_quote_path(path, shown, sizeof(shown));
	if (s->notes++ < NAMED_MAX)
		tool_fail(0, "%s: %s", shown, why);
}

int tool_move_in(const char *dir, bool quiet, bool *resumed_out)
{
	struct progress s;
	struct move_params p = { .dir = dir,
				 .env = &s.env,
				 .progress = show_progress,
				 .note = tell_note,
				 .arg = &s };
	struct move_result got;
	struct store_error text;
	int err;

	begin(&s, quiet);
	err = move_in(&p, &got, &text);
	end(&s);
	if (s.notes > NAMED_MAX)
		tool_fail(0, "and %u more", s.notes - NAMED_MAX);
	*resumed_out = got.resumed;
	if (err)
		return tool_fail(tool_status(err), "%s: %s%s", dir, text.text,
				 err == -EEXIST || err == -EBUSY
					 ? ""
					 : "; every file is in the directory "
					   "or in the store: run txn init "
					   "--move again");
	tell_odd(&got.p);
	printf("%s: commit @1 holds its files; %" PRIu64 " of them (%" PRIu64
	       " bytes) as they were\n",
	       dir, got.moved, got.moved_bytes);
	if (got.left)
		tool_fail(0,
			  "%" PRIu64 " name(s) are still in %s and hidden by "
			  "a mount",
			  got.left, dir);
	return 0;
}

static int run_move(const char *dir, bool force, bool quiet)
{
	bool resumed;
	int status = refuse(dir, force);

	if (!status)
		status = tool_move_in(dir, quiet, &resumed);
	if (!status)
		printf("mount it with: txn mount %s\n", dir);
	return status;
}

/* The same folder by an absolute path without symlinks; it may be new. */
static char *new_path(const char *path)
{
	char *whole = realpath(path, NULL), *copy, *parent, *abs = NULL;
	const char *name;
	size_t len = strlen(path);

	if (whole || errno != ENOENT || !len)
		return whole;
	copy = strdup(path);
	while (copy && len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	name = copy ? strrchr(copy, '/') : NULL;
	parent = !copy	 ? NULL
		 : !name ? realpath(".", NULL)
			 : strndup(copy, (size_t)(name - copy) + 1);
	if (parent && name) {
		char *up = realpath(parent, NULL);

		free(parent);
		parent = up;
	}
	name = name ? name + 1 : copy;
	if (parent) {
		size_t size = strlen(parent) + strlen(name) + 2;

		abs = malloc(size);
		if (abs)
			snprintf(abs, size, "%s/%s",
				 strcmp(parent, "/") ? parent : "", name);
	}
	free(parent);
	free(copy);
	return abs;
}

static int relink(const char *dir, const char *store)
{
	struct store_error text = { "" };
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (fd < 0)
		return tool_fail(EXIT_FAILURE, "%s: %s", dir, strerror(errno));
	err = home_relink(fd, dir, store, &text);
	close(fd);
	if (err)
		return tool_fail(tool_status(err), "%s", text.text);
	printf("%s: the store is its own now\nmount it with: txn mount %s\n",
	       dir, dir);
	return 0;
}

static int run_init(const char *dir, const char *store, bool force, bool quiet)
{
	struct progress s;
	struct adopt_params p = { .dir = dir,
				  .store = store,
				  .env = &s.env,
				  .progress = show_progress,
				  .arg = &s };
	struct adopt_progress got = { 0 };
	struct store_error text;
	int status, err;

	status = refuse(dir, force);
	if (status)
		return status;
	begin(&s, quiet);
	err = adopt(&p, &got, &text);
	end(&s);
	if (err < 0)
		return tool_fail(tool_status(err), "%s: %s", dir, text.text);
	if (err == 1) {
		printf("%s: an init that was interrupted is finished; its "
		       "store is %s\nmount it with: txn mount %s\n",
		       dir, store, dir);
		return 0;
	}
	tell_odd(&got);
	printf("%s: commit @1 holds %" PRIu64 " files and directories, %" PRIu64
	       " bytes\nmount it with: txn mount %s\n",
	       dir, got.objects, got.bytes, dir);
	return 0;
}

int cmd_init(int argc, char **argv)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'f' },
		{ "move", no_argument, NULL, 'm' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "store", required_argument, NULL, 'S' },
		{ "relink", no_argument, NULL, 'R' },
		{ 0 }
	};
	bool force = false, quiet = false, again = false, move = false;
	char *dir, *store = NULL;
	const char *path = NULL;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "fq", options, NULL)) != -1) {
		if (opt == 'f')
			force = true;
		else if (opt == 'q')
			quiet = true;
		else if (opt == 'S')
			path = optarg;
		else if (opt == 'R')
			again = true;
		else if (opt == 'm')
			move = true;
		else
			return tool_usage(argv[0]);
	}
	if (optind == argc)
		tool_fail(0, "init: DIR is missing; take . for this one");
	/* What is moved keeps its place on the host: that is DIR's. */
	if (argc - optind != 1 || (move && (path || again)))
		return tool_usage(argv[0]);
	dir = tool_realpath(argv[optind]);
	if (!dir)
		return EXIT_FAILURE;
	if (path)
		store = new_path(path);
	if (path && !store)
		status = tool_fail(EXIT_FAILURE, "%s: %s", path,
				   strerror(errno));
	else
		status = again	? relink(dir, store)
			 : move ? run_move(dir, force, quiet)
				: run_init(dir, store, force, quiet);
	free(store);
	free(dir);
	return status;
}
