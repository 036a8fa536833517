/* SPDX-License-Identifier: GPL-2.0-or-later */
/* busy.c - see busy.h. */
#include "fs/busy.h"

#include "fs/hostdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

struct busy {
	const char *dir;
	size_t len;
	bool writers_only;
	bool (*wanted)(void *arg, const char *path); /* NULL: all */
	busy_fn fn;
	void *arg;
	int pidfd; /* /proc/PID */
	char path[PATH_MAX];
	const char *how;
};

static bool is_inside(const struct busy *b, const char *path)
{
	if (strncmp(path, b->dir, b->len) != 0)
		return false;
	if (path[b->len] && path[b->len] != '/' && b->len != 1)
		return false;
	return !b->wanted || b->wanted(b->arg, path);
}

static bool link_inside(struct busy *b, int dirfd, const char *name,
			const char *how)
{
	ssize_t n = readlinkat(dirfd, name, b->path, sizeof(b->path) - 1);

	if (n < 0)
		return false;
	b->path[n] = '\0';
	b->how = how;
	return is_inside(b, b->path);
}

static bool fd_is_writable(struct busy *b, const char *fd)
{
	char name[NAME_MAX + 16], text[512];
	const char *flags;
	ssize_t n;
	int f;

	snprintf(name, sizeof(name), "fdinfo/%s", fd);
	f = openat(b->pidfd, name, O_RDONLY | O_CLOEXEC);
	if (f < 0)
		return false;
	n = read(f, text, sizeof(text) - 1);
	close(f);
	if (n <= 0)
		return false;
	text[n] = '\0';
	flags = strstr(text, "flags:");
	return flags && (strtoul(flags + 6, NULL, 8) & O_ACCMODE) != O_RDONLY;
}

static bool uses_fds(struct busy *b)
{
	DIR *d = hostdir_open(b->pidfd, "fd");
	const char *name;
	bool found = false;

	while (d && !found && !hostdir_next(d, &name) && name) {
		bool writable;

		if (!link_inside(b, dirfd(d), name, "open"))
			continue;
		writable = fd_is_writable(b, name);
		if (writable)
			b->how = "open for writing";
		found = writable || !b->writers_only;
	}
	if (d)
		closedir(d);
	return found;
}

/* "address perms offset dev inode   path" */
static bool uses_maps(struct busy *b)
{
	int fd = openat(b->pidfd, "maps", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t cap = 0;
	bool found = false;

	if (!f) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (!found && getline(&line, &cap, f) > 0) {
		const char *perms = strchr(line, ' ');
		char *path = strchr(line, '/');

		if (!perms || !path)
			continue;
		path[strcspn(path, "\n")] = '\0';
		if (!is_inside(b, path) ||
		    (b->writers_only && (perms[2] != 'w' || perms[4] != 's')))
			continue;
		snprintf(b->path, sizeof(b->path), "%s", path);
		b->how = "mapped";
		found = true;
	}
	free(line);
	fclose(f);
	return found;
}

static int look_at(struct busy *b, long pid)
{
	char comm[64] = "?";
	ssize_t n;
	int fd;

	if (!uses_fds(b) && !uses_maps(b) &&
	    (b->writers_only ||
	     (!link_inside(b, b->pidfd, "cwd", "working directory") &&
	      !link_inside(b, b->pidfd, "root", "root directory"))))
		return 0;
	fd = openat(b->pidfd, "comm", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, comm, sizeof(comm) - 1);
	if (n > 0) {
		comm[n] = '\0';
		comm[strcspn(comm, "\n")] = '\0';
	}
	if (fd >= 0)
		close(fd);
	return b->fn(b->arg, pid, comm, b->how, b->path);
}

static int find(const char *dir, bool writers_only,
		bool (*wanted)(void *arg, const char *path), busy_fn fn,
		void *arg)
{
	struct busy *b = calloc(1, sizeof(*b));
	DIR *proc = opendir("/proc");
	const struct dirent *de;
	int err = 0;

	if (!b || !proc) {
		err = !b ? -ENOMEM : -errno;
		goto out;
	}
	*b = (struct busy){ .dir = dir,
			    .len = strlen(dir),
			    .writers_only = writers_only,
			    .wanted = wanted,
			    .fn = fn,
			    .arg = arg };
	while (!err && (de = readdir(proc))) {
		char *end;
		long pid = strtol(de->d_name, &end, 10);

		if (*end || pid <= 0 || pid == getpid())
			continue;
		b->pidfd = openat(dirfd(proc), de->d_name,
				  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (b->pidfd < 0)
			continue; /* it ended */
		err = look_at(b, pid);
		close(b->pidfd);
	}
out:
	if (proc)
		closedir(proc);
	free(b);
	return err;
}

int busy_find(const char *dir, bool writers_only, busy_fn fn, void *arg)
{
	return find(dir, writers_only, NULL, fn, arg);
}

int busy_find_wanted(const char *dir, bool (*wanted)(void *arg, const char *),
		     busy_fn fn, void *arg)
{
	return find(dir, false, wanted, fn, arg);
}

bool busy_has_open(long pid, const char *path)
{
	char name[32], at[PATH_MAX];
	const char *fd;
	bool found = false;
	DIR *d;

	(void)snprintf(name, sizeof(name), "/proc/%ld/fd", pid);
	d = opendir(name);
	while (d && !found && !hostdir_next(d, &fd) && fd) {
		ssize_t n = readlinkat(dirfd(d), fd, at, sizeof(at) - 1);

		if (n < 0)
			continue;
		at[n] = '\0';
		found = !strcmp(at, path);
	}
	if (d)
		closedir(d);
	return found;
}
