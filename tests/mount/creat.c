/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * creat DIR ABORTS: DIR/f is in the last commit. Some threads open it with
 * O_CREAT while it is removed and an abort brings it back, again and again: it
 * is there or it is made. Exit status 1 when an open said anything else (but
 * ESTALE, which is what two switches in a row give).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPENERS = 3 };

static int dir;
static atomic_bool stop;
static atomic_int bad; /* an errno */
static atomic_ulong opened;

static void *opener(void *arg)
{
	while (!stop) {
		int fd = openat(dir, "f", O_CREAT | O_RDWR, 0644);

		if (fd >= 0) {
			opened++;
			close(fd);
		} else if (errno != ESTALE) {
			bad = errno;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[OPENERS];
	int rounds = argc == 3 ? atoi(argv[2]) : 0;

	dir = argc == 3 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
	if (dir < 0)
		return 2;
	for (int i = 0; i < OPENERS; i++)
		if (pthread_create(&t[i], NULL, opener, NULL))
			return 2;
	for (int i = 0; i < rounds && !bad; i++) {
		int fd = openat(dir, ".txn/ctl", O_WRONLY);

		(void)unlinkat(dir, "f", 0);
		/* EAGAIN is fine: they are quick. */
		if (fd < 0 || (write(fd, "abort", 5) != 5 && errno != EAGAIN))
			return 2;
		close(fd);
	}
	stop = true;
	for (int i = 0; i < OPENERS; i++)
		pthread_join(t[i], NULL);
	printf("figure: %lu opens beside %d aborts\n", opened, rounds);
	if (bad)
		fprintf(stderr, "creat: %s\n", strerror(bad));
	return bad ? 1 : 0;
}
