/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aio.c - asynchronous direct writes beside buffered reads.
 *
 *	aio FILE ROUNDS
 *
 * Each round writes all of FILE by O_DIRECT requests in flight at once, with
 * another byte each time, while a thread reads it through the page cache. What
 * is read after they are done must be that byte. 77: no O_DIRECT here.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REQUESTS = 10, REQUEST_BYTES = 64 << 10, SKIP = 77 };
enum { FILE_BYTES = REQUESTS * REQUEST_BYTES };

struct reader {
	pthread_t thread;
	long rounds;
	int fd;
	bool stop; /* atomic */
};

static void *keep_reading(void *arg)
{
	struct reader *r = arg;
	static char buf[FILE_BYTES];

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED))
		if (pread(r->fd, buf, sizeof(buf), 0) < 0)
			err(1, "read");
	return NULL;
}

static void write_all(aio_context_t ctx, int fd, char *buf)
{
	struct iocb cb[REQUESTS], *list[REQUESTS];
	struct io_event done[REQUESTS];

	memset(cb, 0, sizeof(cb));
	for (int i = 0; i < REQUESTS; i++) {
		cb[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		cb[i].aio_fildes = (uint32_t)fd;
		cb[i].aio_buf = (uintptr_t)(buf + i * REQUEST_BYTES);
		cb[i].aio_nbytes = REQUEST_BYTES;
		cb[i].aio_offset = i * REQUEST_BYTES;
		list[i] = &cb[i];
	}
	if (syscall(SYS_io_submit, ctx, (long)REQUESTS, list) != REQUESTS)
		err(1, "io_submit");
	if (syscall(SYS_io_getevents, ctx, (long)REQUESTS, (long)REQUESTS, done,
		    NULL) != REQUESTS)
		err(1, "io_getevents");
	for (int i = 0; i < REQUESTS; i++)
		if (done[i].res != REQUEST_BYTES)
			errx(1, "a write: %s", strerror((int)-done[i].res));
}

static void check(int fd, char want, long round)
{
	static char buf[FILE_BYTES];

	if (pread(fd, buf, sizeof(buf), 0) != FILE_BYTES)
		err(1, "read");
	for (int i = 0; i < FILE_BYTES; i++)
		if (buf[i] != want)
			errx(1, "round %ld: old bytes at %d", round, i);
}

int main(int argc, char **argv)
{
	struct reader r = { .fd = -1 };
	aio_context_t ctx = 0;
	char *buf;
	long rounds;
	int fd;

	if (argc != 3)
		errx(2, "usage: aio FILE ROUNDS");
	rounds = strtol(argv[2], NULL, 10);
	fd = open(argv[1], O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
	if (fd < 0)
		err(errno == EINVAL ? SKIP : 1, "%s", argv[1]);
	r.fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	buf = aligned_alloc(4096, FILE_BYTES);
	if (r.fd < 0 || !buf || ftruncate(fd, FILE_BYTES))
		err(1, "%s", argv[1]);
	if (syscall(SYS_io_setup, (long)REQUESTS, &ctx))
		err(SKIP, "io_setup");
	if (pthread_create(&r.thread, NULL, keep_reading, &r))
		errx(1, "no thread");
	for (long i = 0; i < rounds; i++) {
		memset(buf, 'a' + i % 26, FILE_BYTES);
		write_all(ctx, fd, buf);
		check(r.fd, (char)('a' + i % 26), i);
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	pthread_join(r.thread, NULL);
	return 0;
}
