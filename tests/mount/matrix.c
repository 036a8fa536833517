/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * matrix.c - what becomes of what a program holds (a handle, a mapping, a
 * lock, ...) when something happens to the mount (a commit, an abort, ...).
 *
 * matrix DIR: DIR is a mount that nobody else uses. For each cell a file with
 * contents A is committed, changed to B (staged or committed, as the event
 * needs it), held, and the event happens, after which the name shows what the
 * event says. Prints a line for each cell: "changed|read handle|abort|outcome";
 * in the lines with "same" the event leaves the held file alone. Exit status 1:
 * a cell could not be tried, or had an outcome without a name.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, BYTES = 4 * PAGE, BALLAST = 1 << 20 };

enum event { COMMIT, ABORT, RESTORE, ROLLBACK, EVENTS };
static const char *const event_names[EVENTS] = { "commit", "abort", "restore",
						 "rollback" };

static const char *dir, *self;
static sigjmp_buf bus;

#define NEED(cond) need((cond), #cond, __LINE__)

static void need(bool ok, const char *text, int line)
{
	if (ok)
		return;
	fprintf(stderr, "matrix: line %d: %s: %s\n", line, text,
		strerror(errno));
	exit(1);
}

/* --- the mount --- */

static void ctl(const char *command, const char *a, const char *b)
{
	char line[256];
	int fd, len = snprintf(line, sizeof(line), "%s%s%s%s%s\n", command,
			       a ? " " : "", a ? a : "", b ? " " : "",
			       b ? b : "");

	fd = open(".txn/ctl", O_WRONLY);
	NEED(fd >= 0);
	NEED(write(fd, line, (size_t)len) == len);
	close(fd);
}

static void head_name(char buf[32])
{
	char link[64];
	ssize_t n = readlink(".txn/head", link, sizeof(link) - 1);

	NEED(n > 10);
	link[n] = '\0';
	snprintf(buf, 32, "%.31s", link + strlen("snapshots/"));
}

/* --- files: an executable (ourselves) with a letter behind it --- */

/* Read only after the event, when it runs from the mount. */
static const uint8_t ballast[BALLAST] = { 1, 2, 3, [BALLAST / 2] = 4,
					  [BALLAST - 1] = 5 };

static void copy_self(int to)
{
	int from = open(self, O_RDONLY);
	char buf[65536];
	ssize_t n;

	NEED(from >= 0);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		NEED(write(to, buf, (size_t)n) == n);
	close(from);
}

/* The letter is the first byte; executables have it last. */
static void put(const char *name, char letter, bool runs)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	char buf[BYTES];

	NEED(fd >= 0);
	memset(buf, letter, sizeof(buf));
	if (runs)
		copy_self(fd);
	NEED(write(fd, buf, sizeof(buf)) == sizeof(buf));
	close(fd);
}

static char letter_of(int fd)
{
	struct stat st;
	char c = '?';

	NEED(!fstat(fd, &st) && st.st_size >= BYTES);
	NEED(pread(fd, &c, 1, st.st_size - PAGE) == 1);
	return c;
}

static char letter_at(const char *name)
{
	int fd = open(name, O_RDONLY);
	char c = '-';

	if (fd >= 0)
		c = letter_of(fd);
	close(fd);
	return c;
}

/* --- outcomes --- */

static const char goes_on[] = "goes on";
static const char reads_old[] = "reads the old";
static const char stale[] = "ESTALE";
static const char old_stale[] = "reads the old, ESTALE";
static const char sigbus[] = "SIGBUS";
static const char nowhere[] = "reads the old, stores go nowhere";
static const char on_old[] = "on the old only";
static const char unlinked[] = "goes on, unlinked";
static const char unknown[] = "?";

/* A mark that a program leaves through what it holds, and looks for by name. */
static char mark = '0';

static bool marked(const char *name, off_t off)
{
	int fd = open(name, O_RDONLY);
	char c = '?';

	NEED(fd >= 0 && pread(fd, &c, 1, off) == 1);
	close(fd);
	return c == mark;
}

static const char *try_write(int fd, const char *name, bool append)
{
	struct stat st;
	off_t at = PAGE + 1;

	if (append) {
		NEED(!fstat(fd, &st));
		at = st.st_size;
	}
	mark++;
	if ((append ? write(fd, &mark, 1) : pwrite(fd, &mark, 1, at)) != 1)
		return errno == ESTALE ? stale : unknown;
	return marked(name, at) ? goes_on : unknown;
}

static const char *try_read(int fd, const char *name)
{
	char c = letter_of(fd);

	if (c == letter_at(name))
		return goes_on;
	return c == 'B' ? reads_old : unknown;
}

static void on_bus(int sig)
{
	siglongjmp(bus, 1);
}

/* --- what is held --- */

struct held {
	const char *name; /* the file */
	bool runs; /* it is an executable */
	int fd, out; /* handle; pipes of a child */
	char *map;
	pid_t pid;
};

static void hold_read(struct held *h)
{
	h->fd = open(h->name, O_RDONLY);
	NEED(h->fd >= 0);
}

static const char *probe_read(struct held *h)
{
	return try_read(h->fd, h->name);
}

static void hold_write(struct held *h)
{
	h->fd = open(h->name, O_RDWR);
	NEED(h->fd >= 0);
}

static const char *probe_write(struct held *h)
{
	const char *r = try_read(h->fd, h->name);
	const char *w = try_write(h->fd, h->name, false);

	if (r == reads_old && w == stale)
		return old_stale;
	return r == w ? r : unknown;
}

static void hold_append(struct held *h)
{
	h->fd = open(h->name, O_WRONLY | O_APPEND);
	NEED(h->fd >= 0);
}

static const char *probe_append(struct held *h)
{
	return try_write(h->fd, h->name, true);
}

/* The directory that the file is in; its listing changes too. */
static void hold_dir(struct held *h)
{
	h->fd = open(".", O_RDONLY | O_DIRECTORY);
	NEED(h->fd >= 0);
}

static const char *probe_dir(struct held *h)
{
	int fd = openat(h->fd, h->name, O_RDONLY);
	bool same = fd >= 0 && letter_of(fd) == letter_at(h->name);

	close(fd);
	fd = openat(h->fd, "created", O_CREAT | O_WRONLY | O_EXCL, 0644);
	same = same && fd >= 0 && !access("created", F_OK);
	close(fd);
	NEED(!unlink("created"));
	return same ? goes_on : unknown;
}

static void hold_cwd(struct held *h)
{
	int to_child[2], from_child[2];
	char c;

	NEED(!pipe(to_child) && !pipe(from_child));
	h->pid = fork();
	if (!h->pid) {
		/* in the directory from before the event until after it */
		if (read(to_child[0], &c, 1) != 1)
			_exit(1);
		close(open("by-cwd", O_CREAT | O_WRONLY, 0644));
		c = letter_at(h->name);
		_exit(write(from_child[1], &c, 1) != 1);
	}
	h->fd = to_child[1];
	h->out = from_child[0];
	close(to_child[0]);
	close(from_child[1]);
}

static const char *probe_cwd(struct held *h)
{
	char path[4096], c = '?';

	NEED(write(h->fd, "x", 1) == 1 && read(h->out, &c, 1) == 1);
	snprintf(path, sizeof(path), "%s/cell/by-cwd", dir);
	if (c != letter_at(h->name) || access(path, F_OK))
		return unknown;
	NEED(!unlink("by-cwd"));
	return goes_on;
}

static void hold_map(struct held *h, int prot)
{
	h->fd = open(h->name, prot & PROT_WRITE ? O_RDWR : O_RDONLY);
	NEED(h->fd >= 0);
	h->map = mmap(NULL, BYTES, prot, MAP_SHARED, h->fd, 0);
	NEED(h->map != MAP_FAILED);
	NEED(*(volatile char *)h->map == letter_at(h->name));
}

static const char *look_at_map(struct held *h)
{
	char first, last;

	if (sigsetjmp(bus, 1))
		return sigbus;
	first = *(volatile char *)h->map;
	last = ((volatile char *)h->map)[BYTES - 1]; /* not touched before */
	if (first != last)
		return unknown;
	if (first == letter_at(h->name))
		return goes_on;
	return first == 'B' ? reads_old : unknown;
}

static void hold_map_read(struct held *h)
{
	hold_map(h, PROT_READ);
	close(h->fd);
	h->fd = -1;
}

static void hold_map_write(struct held *h)
{
	hold_map(h, PROT_READ | PROT_WRITE);
}

static const char *probe_map_write(struct held *h)
{
	const char *r = look_at_map(h);

	if (r == sigbus || r == unknown)
		return r;
	mark++;
	if (sigsetjmp(bus, 1))
		return sigbus;
	((volatile char *)h->map)[PAGE + 1] = mark;
	(void)msync(h->map, BYTES, MS_SYNC); /* it may say so */
	if (r == goes_on)
		return marked(h->name, PAGE + 1) ? r : unknown;
	return marked(h->name, PAGE + 1) ? unknown : nowhere;
}

static void hold_run(struct held *h)
{
	int to_child[2], from_child[2];
	char c;

	NEED(!pipe(to_child) && !pipe(from_child));
	h->pid = fork();
	if (!h->pid) {
		dup2(to_child[0], 0);
		dup2(from_child[1], 1);
		close(to_child[1]);
		close(from_child[0]);
		execl(h->name, h->name, "--run", NULL);
		_exit(127);
	}
	h->fd = to_child[1];
	h->out = from_child[0];
	close(to_child[0]);
	close(from_child[1]);
	NEED(read(h->out, &c, 1) == 1 && c == 'r');
}

static const char *probe_run(struct held *h)
{
	char c = '?';

	NEED(write(h->fd, "x", 1) == 1);
	return read(h->out, &c, 1) == 1 && c == '=' ? goes_on : unknown;
}

static int run_here(void)
{
	unsigned int sum = 0;
	char c;

	if (write(1, "r", 1) != 1 || read(0, &c, 1) != 1)
		return 1;
	for (size_t i = 0; i < BALLAST; i++)
		sum += ((const volatile uint8_t *)ballast)[i];
	return write(1, sum == 15 ? "=" : "!", 1) != 1;
}

static void hold_locks(struct held *h)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	h->fd = open(h->name, O_RDWR);
	NEED(h->fd >= 0 && !flock(h->fd, LOCK_EX));
	/* Of the open file: one of the process goes with any close. */
	NEED(!fcntl(h->fd, F_OFD_SETLK, &l));
}

static const char *probe_locks(struct held *h)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int status;
	pid_t pid = fork();

	if (!pid) {
		int fd = open(h->name, O_RDWR);
		bool bsd = flock(fd, LOCK_EX | LOCK_NB) == 0;
		bool posix = fcntl(fd, F_SETLK, &l) == 0;

		_exit((bsd ? 1 : 0) | (posix ? 2 : 0));
	}
	NEED(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	switch (WEXITSTATUS(status)) {
	case 0:
		return goes_on;
	case 3:
		return on_old;
	default:
		return unknown;
	}
}

static void hold_unlinked(struct held *h)
{
	hold_write(h);
	NEED(!unlink(h->name));
}

static const char *probe_unlinked(struct held *h)
{
	bool named = !access(h->name, F_OK);
	char c = letter_of(h->fd);
	struct stat st;

	NEED(!fstat(h->fd, &st));
	if (named && st.st_nlink)
		return probe_write(h); /* it has its name again */
	if (st.st_nlink)
		return unknown;
	mark++;
	if (pwrite(h->fd, &mark, 1, PAGE + 1) == 1)
		return named && marked(h->name, PAGE + 1) ? unknown : unlinked;
	return c == 'B' && errno == ESTALE ? old_stale : unknown;
}

static const struct holder {
	const char *name;
	void (*hold)(struct held *h);
	const char *(*probe)(struct held *h);
	bool runs;
} holders[] = {
	{ "read handle", hold_read, probe_read, false },
	{ "read-write handle", hold_write, probe_write, false },
	{ "O_APPEND handle", hold_append, probe_append, false },
	{ "directory handle", hold_dir, probe_dir, false },
	{ "working directory", hold_cwd, probe_cwd, false },
	{ "read-only mapping", hold_map_read, look_at_map, false },
	{ "writable mapping", hold_map_write, probe_map_write, false },
	{ "running executable", hold_run, probe_run, true },
	{ "flock and fcntl locks", hold_locks, probe_locks, false },
	{ "unlinked, still open", hold_unlinked, probe_unlinked, false },
};

static void let_go(struct held *h)
{
	int status;

	if (h->map)
		munmap(h->map, BYTES);
	if (h->fd >= 0)
		close(h->fd);
	if (h->out >= 0)
		close(h->out);
	if (h->pid > 0) {
		kill(h->pid, SIGKILL);
		waitpid(h->pid, &status, 0);
	}
}

/* --- a cell --- */

static void cell(const struct holder *holder, enum event event, bool changed)
{
	struct held h = { .name = changed ? "f" : "g",
			  .fd = -1,
			  .out = -1,
			  .runs = holder->runs };
	char before[32];
	const char *outcome;

	NEED(!mkdir("cell", 0755) && !chdir("cell"));
	put("f", 'A', holder->runs);
	put("g", 'A', holder->runs);
	NEED(!chdir(dir));
	ctl("commit", NULL, NULL);
	head_name(before);
	NEED(!chdir("cell"));
	put("f", 'B', holder->runs);
	close(open("beside", O_CREAT | O_WRONLY, 0644));
	if (event == RESTORE || event == ROLLBACK) {
		NEED(!chdir(dir));
		ctl("commit", NULL, NULL);
		NEED(!chdir("cell"));
	}
	holder->hold(&h);
	NEED(!chdir(dir));
	switch (event) {
	case COMMIT:
	case ABORT:
		ctl(event_names[event], NULL, NULL);
		break;
	case RESTORE:
		ctl("restore", before, "cell/f");
		break;
	default:
		ctl("rollback", before, NULL);
	}
	NEED(!chdir("cell"));
	if (changed && holder->hold != hold_unlinked)
		NEED(letter_at("f") == (event == COMMIT ? 'B' : 'A'));
	NEED(letter_at("g") == 'A' || holder->hold == hold_unlinked);
	outcome = holder->probe(&h);
	printf("%s|%s|%s|%s\n", changed ? "changed" : "same", holder->name,
	       event_names[event], outcome);
	let_go(&h);
	/* Nothing that came later got into what the event brought back. */
	if (changed && event != COMMIT && outcome != goes_on)
		NEED(letter_at("f") == 'A' || letter_at("f") == '-');
	NEED(!chdir(dir));
	NEED(!system("rm -rf cell"));
	if (outcome == unknown)
		exit(1);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--run"))
		return run_here();
	if (argc != 2)
		return 2;
	self = realpath("/proc/self/exe", NULL);
	dir = realpath(argv[1], NULL);
	NEED(self && dir && !chdir(dir));
	setlinebuf(stdout);
	signal(SIGBUS, on_bus);
	for (int changed = 1; changed >= 0; changed--)
		for (size_t i = 0; i < sizeof(holders) / sizeof(*holders); i++)
			for (int e = 0; e < EVENTS; e++)
				cell(&holders[i], (enum event)e, changed);
	return 0;
}
