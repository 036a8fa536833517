/* SPDX-License-Identifier: GPL-2.0-or-later */
/* holder.c - see holder.h. */
#include "fs/holder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PROBE_MS = 60 };

struct holder {
	int fd;
	bool shared;
};

/* Two lines: the number of the process, the mount point (the rest). */
static void read_info(int fd, struct holder_info *info)
{
	char buf[HOLDER_PATH_MAX + 32];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);
	char *nl;

	*info = (struct holder_info){ 0 };
	if (n <= 0)
		return;
	buf[n] = '\0';
	info->pid = strtol(buf, NULL, 10);
	nl = strchr(buf, '\n');
	if (!nl)
		return;
	snprintf(info->mountpoint, sizeof(info->mountpoint), "%s", nl + 1);
	nl = strrchr(info->mountpoint, '\n');
	if (nl)
		*nl = '\0';
}

static void write_info(int fd, const char *mountpoint)
{
	char buf[HOLDER_PATH_MAX + 32];
	int n = snprintf(buf, sizeof(buf), "%ld\n%s\n", (long)getpid(),
			 mountpoint);

	/* Only for people: the lock is what counts. */
	if (n < 0 || ftruncate(fd, 0) ||
	    pwrite(fd, buf, min_u64((uint64_t)n, sizeof(buf) - 1), 0) < 0)
		return;
}

static int open_lock(int storefd, bool shared)
{
	int fd = openat(storefd, "lock",
			(shared ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC |
				O_NOFOLLOW | O_NONBLOCK,
			0600);
	struct stat st;
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EFSCORRUPTED; /* a fifo would be waited for */
	if (err)
		close(fd);
	return err ? err : fd;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts))
		abort();
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int holder_take(int storefd, bool shared, const char *mountpoint,
		unsigned int wait_ms, struct holder **out,
		struct holder_info *info)
{
	/* Who only asks has it for a moment, too. */
	uint64_t until = now_ms() + max_u64(wait_ms, PROBE_MS);
	struct holder *h = malloc(sizeof(*h));
	int err = 0;

	if (!h)
		return -ENOMEM;
	h->shared = shared;
	h->fd = open_lock(storefd, shared);
	if (h->fd < 0) {
		err = h->fd;
		free(h);
		return err;
	}
	while (flock(h->fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB)) {
		const struct timespec tick = { .tv_nsec = 20000000 };

		err = errno;
		if (err == EINTR)
			continue;
		if (err != EWOULDBLOCK || now_ms() >= until) {
			read_info(h->fd, info);
			close(h->fd);
			free(h);
			return err == EWOULDBLOCK ? -EBUSY : -err;
		}
		/* There is no call that waits with a deadline. */
		nanosleep(&tick, NULL);
	}
	*info = (struct holder_info){ 0 };
	if (!shared) {
		read_info(h->fd, info);
		write_info(h->fd, mountpoint);
	}
	*out = h;
	return 0;
}

void holder_release(struct holder *h)
{
	if (!h)
		return;
	if (!h->shared && ftruncate(h->fd, 0))
		(void)0; /* it says a process that is gone: harmless */
	close(h->fd);
	free(h);
}

int holder_probe(int storefd, struct holder_info *info)
{
	int fd = open_lock(storefd, true), err = 0;

	if (fd == -ENOENT)
		return 1;
	if (fd < 0)
		return fd;
	if (!flock(fd, LOCK_SH | LOCK_NB))
		err = 1;
	else if (errno == EWOULDBLOCK)
		read_info(fd, info);
	else
		err = -errno;
	close(fd);
	return err;
}
