/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_dead.c - taking the place of a mount whose daemon is gone.
 *
 * A dead mount answers ENOTCONN to everything. That is a safe state: when it
 * goes before the new mount is there, programs that go on write to the plain
 * files, where nobody sees it again, and the next mount is refused for that. So
 * it stays while the store is opened, we look beneath it from a mount namespace
 * of another process, and the new mount is put beneath it before it goes
 * (MOVE_MOUNT_BENEATH, Linux 6.5; earlier kernels have a gap of milliseconds).
 * All of that asks for rights; without, it goes first.
 */
#include "fs/mount_internal.h"

#include "fs/fusermount.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x200
#endif

enum { DEAD_MAX = 16 /* mounts over one another */ };

/* While a daemon is just going it is the second. */
bool dead_says(int err)
{
	/* The last: it was on its way into a ring that was just going. */
	return err == ENOTCONN || err == ECONNABORTED || err == ECANCELED;
}

bool dead_is_at(const char *path)
{
	struct statfs sf;

	/* Not stat: the kernel may know the answer to that. */
	return statfs(path, &sf) && dead_says(errno);
}

static int detach(const char *path)
{
	if (umount2(path, MNT_DETACH) && fusermount(path, true))
		return complain(EXIT_FAILURE,
				"%s: the mount of a dead daemon cannot be "
				"removed: %s",
				path, strerror(errno));
	return complain(0, "%s: removed the mount of a daemon that is gone",
			path);
}

int dead_detach(const char *path)
{
	for (int i = 0; dead_is_at(path); i++) {
		if (i == DEAD_MAX)
			return complain(EXIT_FAILURE, "%s: %s", path,
					strerror(ENOTCONN));
		if (detach(path))
			return EXIT_FAILURE;
	}
	return 0;
}

/* --- beneath --- */

/* The child: in a mount namespace of its own the dead mounts go; it tells how
 * many, and waits until its parent has had a look. */
static _Noreturn void live_beneath(const char *path, int sock)
{
	unsigned char n = 0;

	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		_exit(EXIT_FAILURE);
	for (; n < DEAD_MAX && dead_is_at(path); n++)
		if (umount2(path, MNT_DETACH))
			_exit(EXIT_FAILURE);
	if (write(sock, &n, 1) != 1 || read(sock, &n, 1) < 0)
		_exit(EXIT_FAILURE);
	_exit(0);
}

/* The directory where process pid is, and the namespace, which keeps what is
 * mounted below it where it is. */
static int open_of(struct mount *m, long pid)
{
	size_t size = strlen(m->dir) + 64;
	char *path = malloc(size);

	if (!path)
		return -ENOMEM;
	snprintf(path, size, "/proc/%ld/ns/mnt", pid);
	m->beneath_fd = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, size, "/proc/%ld/root%s", pid, m->dir);
	if (m->beneath_fd >= 0)
		m->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(path);
	return m->dirfd < 0 ? -EIO : 0;
}

void dead_look_beneath(struct mount *m, bool open_dir)
{
	unsigned char n;
	int sock[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		return;
	pid = fork();
	if (!pid) {
		close(sock[0]);
		live_beneath(m->mountpoint, sock[1]);
	}
	close(sock[1]);
	if (pid > 0 && read(sock[0], &n, 1) == 1 &&
	    !(open_dir && open_of(m, pid)))
		m->ndead = n;
	close(sock[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* --- replaced --- */

/* The session is mounted at a place of its own, and that mount made one that is
 * nowhere. A descriptor, -1: failed. */
static int mount_nowhere(struct mount *m)
{
	char place[] = "/tmp/txnfs.XXXXXX";
	int fd = -1;

	if (!mkdtemp(place))
		return -1;
	if (!fuse_session_mount(m->work.se, place)) {
		fd = open_tree(AT_FDCWD, place,
			       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		(void)umount2(place, MNT_DETACH);
	}
	(void)rmdir(place);
	return fd;
}

int dead_replace(struct mount *m)
{
	int fd = mount_nowhere(m), status = 0;
	bool there;

	if (fd < 0)
		return EXIT_FAILURE;
	while (!status && m->ndead > 1) {
		status = detach(m->mountpoint);
		m->ndead--;
	}
	/* From here on no question to the mount: we do not serve yet. */
	there = !status &&
		!move_mount(fd, "", AT_FDCWD, m->mountpoint,
			    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH);
	if (!status)
		status = detach(m->mountpoint);
	if (!status && !there) {
		there = !move_mount(fd, "", AT_FDCWD, m->mountpoint,
				    MOVE_MOUNT_F_EMPTY_PATH);
		if (!there)
			status = complain(EXIT_FAILURE, "%s: %s", m->mountpoint,
					  strerror(errno));
	}
	m->moved = there;
	close(fd);
	if (m->beneath_fd >= 0)
		close(m->beneath_fd);
	m->beneath_fd = -1;
	return status;
}

static void say_nothing(enum fuse_log_level level, const char *fmt, va_list ap)
{
}

void dead_unmount(struct mount *m)
{
	struct pollfd fd = { .fd = fuse_session_fd(m->work.se) };

	if (m->moved) {
		/* Unless the kernel has let go of us already. */
		if (!poll(&fd, 1, 0) && place_is_mounted(m))
			(void)umount2(m->mountpoint, MNT_DETACH);
		/* It believes in another place. */
		fuse_set_log_func(say_nothing);
	}
	fuse_session_unmount(m->work.se);
}
