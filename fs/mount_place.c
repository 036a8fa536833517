/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_place.c - where the daemon works: the directory, its store, who has it,
 * and what is mounted there already.
 */
#include "fs/mount_internal.h"

#include "fs/busy.h"
#include "fs/home.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
	OLD_DAEMON_WAIT_MS = 10000,
	OLD_DAEMON_LOOK_MS = 200,
	ENDING_LOOKS = 3,
	FUSE_MAGIC = 0x65735546,
	DEVICE_MAX = 32 /* as in the scanf() */
};

int place_resolve(char **path)
{
	char *abs = realpath(*path, NULL);

	if (!abs) {
		int err = errno;

		complain(0, "%s: %s%s", *path, strerror(err),
			 dead_says(err)
				 ? ": a mount whose daemon is gone is in the "
				   "way; remove it with: fusermount3 -u"
				 : "");
		return -err;
	}
	free(*path);
	*path = abs;
	return 0;
}

int place_check_mountpoint(const char *path)
{
	struct stat st;

	/* libfuse mounts over a file, too. */
	return !stat(path, &st) && !S_ISDIR(st.st_mode)
		       ? complain(EXIT_FAILURE, "%s: %s", path,
				  strerror(ENOTDIR))
		       : 0;
}

static int open_dir(struct mount *m)
{
	bool over = !strcmp(m->dir, m->mountpoint);

	if (dead_is_at(m->mountpoint)) {
		dead_look_beneath(m, over);
		if (!m->ndead && dead_detach(m->mountpoint))
			return EXIT_FAILURE;
	}
	if (!over && dead_detach(m->dir))
		return EXIT_FAILURE;
	if (m->dirfd < 0)
		m->dirfd = open(m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->dirfd < 0)
		return complain(EXIT_FAILURE, "%s: %s", m->dir,
				strerror(errno));
	return 0;
}

static int open_home(struct mount *m, int *storefd, struct store_error *text,
		     int *err)
{
	struct statfs sf;
	struct stat st;

	if (open_dir(m))
		return EXIT_FAILURE;
	if (!fstatfs(m->dirfd, &sf) && sf.f_type == FUSE_MAGIC &&
	    !fstatat(m->dirfd, ".txn/ctl", &st, 0) && S_ISREG(st.st_mode))
		return complain(EXIT_REFUSED, "%s is mounted already", m->dir);
	*err = home_open(m->dirfd, m->dir, storefd, text);
	return 0;
}

int place_open(struct mount *m, int *storefd)
{
	struct store_error text = { "" };
	int err = -ENOTCONN, status = 0;

	/* A mount that ends just as we come: then it is out of the way. */
	for (int i = 0; i < ENDING_LOOKS && !status && err == -ENOTCONN; i++) {
		if (m->dirfd >= 0)
			close(m->dirfd);
		m->dirfd = -1;
		status = open_home(m, storefd, &text, &err);
	}
	if (status)
		return status;
	if (err == -ENOENT && !text.text[0])
		return complain(EXIT_FAILURE,
				"%s has no store; make one with: txn init %s",
				m->dir, m->dir);
	return err ? complain(status_of(err), "%s", text.text) : 0;
}

/* Blanks and the like stand as \040 in the table of mounts. */
static void decode_mount(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] &&
		    s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
					(s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

/* Is a mount of ours at this place? The number of its device: "0:37"; of the
 * topmost, when there are several. */
static bool find_mount(const char *mountpoint, char number[DEVICE_MAX])
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *at, word[DEVICE_MAX];
	size_t cap = 0;
	bool found = false;

	if (!f)
		return false;
	while (getline(&line, &cap, f) > 0) {
		at = NULL;
		if (strstr(line, " - fuse.txnfs") &&
		    sscanf(line, "%*s %*s %31s %*s %ms", word, &at) == 2) {
			decode_mount(at);
			if (!strcmp(at, mountpoint)) {
				found = true;
				memcpy(number, word, sizeof(word));
			}
		}
		free(at);
	}
	free(line);
	fclose(f);
	return found;
}

static bool is_mounted_at(const char *mountpoint)
{
	char number[DEVICE_MAX];

	return find_mount(mountpoint, number);
}

int place_lock_path(int storefd, char *path, size_t size)
{
	char link[32];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", storefd);
	n = readlink(link, path, size);
	if (n < 0)
		return -errno;
	if ((size_t)n + sizeof("/lock") > size)
		return -ENAMETOOLONG;
	memcpy(path + n, "/lock", sizeof("/lock"));
	return 0;
}

static int name_process(void *arg, long pid, const char *comm, const char *how,
			const char *path)
{
	unsigned int *n = arg;

	if ((*n)++ < NAMED_MAX)
		complain(0, "process %ld (%s): %s %s", pid, comm, how, path);
	return 0;
}

/* Who reads it left no number. */
static int complain_of_readers(const struct mount *m, int storefd)
{
	char lock[PATH_MAX];
	unsigned int n = 0;

	if (!place_lock_path(storefd, lock, sizeof(lock)))
		(void)busy_find(lock, false, name_process, &n);
	return complain(EXIT_REFUSED,
			"the store of %s is being read: mounted read-only, or "
			"verified",
			m->dir);
}

/* umount(8) returns before the daemon is gone: wait for one that is not mounted
 * any more, or whose mount is lost, but not when it is mounted meanwhile. */
static int wait_for_holder(struct mount *m, int storefd,
			   struct holder_info *info)
{
	int err = -EBUSY;

	for (unsigned int ms = 0; err == -EBUSY && ms < OLD_DAEMON_WAIT_MS;
	     ms += OLD_DAEMON_LOOK_MS) {
		bool up = !holder_probe(storefd, info) &&
			  is_mounted_at(info->mountpoint) &&
			  !dead_is_at(info->mountpoint);

		err = holder_take(storefd, m->opt.read_only, m->mountpoint,
				  up ? 0 : OLD_DAEMON_LOOK_MS, &m->holder,
				  info);
		if (up)
			break;
	}
	return err;
}

int place_take(struct mount *m, int storefd)
{
	struct holder_info info = { 0 };
	int err = wait_for_holder(m, storefd, &info);

	if (err == -ENOENT && m->opt.read_only)
		return 0; /* never mounted, and we may not write */
	if (err == -EBUSY && !info.pid)
		return complain_of_readers(m, storefd);
	if (err == -EBUSY)
		return complain(EXIT_REFUSED, "%s is in use by process %ld%s%s",
				m->dir, info.pid,
				*info.mountpoint ? ", mounted at " : "",
				info.mountpoint);
	if (err)
		return complain(EXIT_FAILURE, "%s/.txn/lock: %s", m->dir,
				strerror(-err));
	if (info.pid)
		complain(0,
			 "process %ld, which had %s mounted, did not end by "
			 "itself: it was killed, or the power was cut; staged "
			 "changes since the last fsync or checkpoint are gone",
			 info.pid, m->dir);
	return 0;
}

bool place_is_mounted(const struct mount *m)
{
	return is_mounted_at(m->mountpoint);
}

static void watch_mount(struct mount *m, const char *mountpoint)
{
	char number[DEVICE_MAX];
	unsigned int minor;

	if (find_mount(mountpoint, number) &&
	    sscanf(number, "%*u:%u", &minor) == 1)
		push_watch(m, minor);
}

void place_watch(struct mount *m)
{
	watch_mount(m, m->mountpoint);
	if (m->side_place)
		watch_mount(m, m->side_place);
}

/* --- reading ahead --- */

static long get_ahead(const char *path)
{
	char text[24] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? strtol(text, NULL, 10) : -1;
}

/* KiB; -1: not known. */
static long host_ahead(const struct stat *st)
{
	unsigned int a = major(st->st_dev), b = minor(st->st_dev);
	char path[80];
	long kib;

	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		       a, b);
	kib = get_ahead(path);
	if (kib >= 0)
		return kib;
	/* A part of a disk. */
	(void)snprintf(path, sizeof(path),
		       "/sys/dev/block/%u:%u/../queue/read_ahead_kb", a, b);
	return get_ahead(path);
}

void place_read_ahead(const struct mount *m, int storefd)
{
	char number[DEVICE_MAX], path[80], text[24];
	struct stat st;
	long kib;
	int fd, len;

	if (fstat(storefd, &st) || !find_mount(m->mountpoint, number))
		return;
	kib = host_ahead(&st);
	if (kib > READ_AHEAD_BYTES >> 10)
		kib = READ_AHEAD_BYTES >> 10;
	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb",
		       number);
	if (kib <= get_ahead(path))
		return;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	len = snprintf(text, sizeof(text), "%ld\n", kib);
	(void)!write(fd, text, (size_t)len); /* then it stays as it is */
	close(fd);
}
