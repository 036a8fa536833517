/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_push.c - what programs stored through shared mappings is brought in
 * before a commit, a snapshot and a switch: each file that may be mapped is
 * opened through the mount for a moment and its pages are written.
 *
 * A process of its own does it. A thread of ours that waits for an answer of
 * our own mount could not be killed with us, and would keep the connection, so
 * that every user of the mount would hang: the process has no descriptor of
 * the connection, gets ENOTCONN when we die, and ends. It also sees to it that
 * the connection ends then (mount_watch.c).
 */
#include "fs/mount_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum push_kind { PUSH_FILE, PUSH_LAST, PUSH_WATCH };

/* What is answered to the last: how many files were not found by their paths,
 * and the inode of each. */
struct push_head {
	uint64_t kind; /* enum push_kind */
	uint64_t ino;
	uint64_t number; /* st_ino that the file must have; the connection */
	uint64_t path_bytes; /* of a file, with the NUL */
};

/* False: the other end is gone. */
static bool read_full(int fd, void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = read(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static int send_full(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- the process --- */

/* False: another file is there, none, or one that we may not open. */
static bool push_path(const char *path, uint64_t shown)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	bool is_it = fd >= 0 && !fstat(fd, &st) && st.st_ino == shown;

	/* Failing, the pages stay dirty in the kernel and are written later:
	 * part of the next commit. */
	if (is_it)
		(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE_AND_WAIT);
	if (fd >= 0)
		close(fd);
	return is_it;
}

/* Files whose paths did not lead to them. */
struct missed {
	uint64_t *inos;
	uint64_t n;
	size_t cap;
};

static bool miss(struct missed *missed, uint64_t ino)
{
	if (missed->n == missed->cap) {
		size_t cap = missed->cap ? 2 * missed->cap : 16;
		uint64_t *inos = realloc(missed->inos, cap * sizeof(*inos));

		if (!inos)
			return false;
		missed->inos = inos;
		missed->cap = cap;
	}
	missed->inos[missed->n++] = ino;
	return true;
}

static void push_main(int fd, struct watch *w)
{
	struct missed missed = { 0 };
	struct push_head h;
	char *path = NULL;

	while (read_full(fd, &h, sizeof(h))) {
		char *p;

		if (h.kind == PUSH_WATCH) {
			watch_add(w, h.number);
			continue;
		}
		if (h.kind == PUSH_LAST) {
			if (send_full(fd, &missed.n, sizeof(missed.n)) ||
			    send_full(fd, missed.inos,
				      missed.n * sizeof(*missed.inos)))
				break;
			missed.n = 0;
			continue;
		}
		p = realloc(path, h.path_bytes);
		if (!p)
			break; /* told by the end of the connection */
		path = p;
		if (!read_full(fd, path, h.path_bytes))
			break;
		if (!push_path(path, h.number) && !miss(&missed, h.ino))
			break;
	}
	free(path);
	free(missed.inos);
}

/* --- the daemon --- */

int push_start(struct mount *m)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGTERM, SIGPIPE };
	pid_t self = getpid();
	int fds[2];

	m->push_fd = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	m->push_pid = fork();
	if (m->push_pid < 0) {
		int err = -errno;

		close(fds[0]);
		close(fds[1]);
		return err;
	}
	if (!m->push_pid) {
		/* Nothing but the socket: no lock, no pipe to the parent. */
		(void)prctl(PR_SET_NAME, "txnfs-push");
		for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
			(void)signal(ignored[i], SIG_IGN);
		if (fds[1] != 3 && dup2(fds[1], 3) != 3)
			_exit(1);
		(void)close_range(4, ~0u, 0);
		(void)close_range(0, 2, 0);
		push_main(3, watch_new(self));
		_exit(0);
	}
	close(fds[1]);
	m->push_fd = fds[0];
	return 0;
}

void push_stop(struct mount *m)
{
	if (m->push_fd < 0)
		return;
	close(m->push_fd);
	m->push_fd = -1;
	while (waitpid(m->push_pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void push_watch(struct mount *m, uint64_t connection)
{
	struct push_head h = { .kind = PUSH_WATCH, .number = connection };

	/* Failing, the process is gone: told when something is pushed. */
	if (m->push_fd >= 0)
		(void)send_full(m->push_fd, &h, sizeof(h));
}

static int send_path(struct mount *m, uint64_t ino, const char *rel)
{
	struct push_head h = { .kind = PUSH_FILE,
			       .ino = ino,
			       .number = knode_shown(m, &m->root, ino) };
	size_t len = strlen(m->mountpoint) + strlen(rel) + 2;
	char *path = malloc(len);
	int err;

	if (!path)
		return -ENOMEM;
	snprintf(path, len, "%s/%s", m->mountpoint, rel);
	h.path_bytes = len;
	err = send_full(m->push_fd, &h, sizeof(h));
	if (!err)
		err = send_full(m->push_fd, path, len);
	free(path);
	return err;
}

/* No name, or something is mounted over it, or it is not for us to open: only
 * dropping its pages makes the kernel write. */
static void push_pages(struct mount *m, uint64_t ino)
{
	fuse_ino_t id = knode_known(m, ino);

	if (id)
		fuse_lowlevel_notify_inval_inode(m->work.se, id, 0, 0);
}

static int push_file(struct mount *m, uint64_t ino)
{
	char *rel;
	int err;

	err = fs_path(fs_working(m->fs), ino, &rel);
	if (err == -ENOMEM)
		return err;
	if (err) {
		push_pages(m, ino);
		return 0;
	}
	err = send_path(m, ino, rel);
	free(rel);
	return err;
}

/* What was sent is pushed when the answer comes. */
static int wait_for_push(struct mount *m)
{
	struct push_head last = { .kind = PUSH_LAST };
	uint64_t n, ino;
	int err = send_full(m->push_fd, &last, sizeof(last));

	if (err)
		return err;
	if (!read_full(m->push_fd, &n, sizeof(n)))
		return -EPIPE;
	while (n--) {
		if (!read_full(m->push_fd, &ino, sizeof(ino)))
			return -EPIPE;
		push_pages(m, ino);
	}
	return 0;
}

int push_maps(struct mount *m)
{
	uint64_t *inos;
	size_t n;
	int err;

	/* When the command came nobody had a file that may be mapped; what
	 * was opened since is later than it. */
	if (m->ctl_here || !store_get_setting(m->store, STORE_PUSH_MAPS))
		return 0;
	err = knode_list_writers(m, &inos, &n);
	if (!err && n && m->push_fd < 0)
		err = -EPIPE;
	for (size_t i = 0; i < n && !err; i++)
		err = push_file(m, inos[i]);
	if (!err && n)
		err = wait_for_push(m);
	free(inos);
	if (err && err != -ENOMEM) {
		env_logf(&m->env, ENV_ERROR,
			 "the process that pushes shared mappings is gone: "
			 "mount anew, or set push-maps off");
		push_stop(m);
		err = -EIO;
	}
	return err;
}
