/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rewrite FILE CTL COMMITS BLOCKS: again and again, BLOCKS random 4 KiB blocks
 * of FILE get other bytes and are committed. Prints the median duration of the
 * first and of the last hundredth of the commits, in us.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096 };

static long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000L + ts.tv_nsec / 1000;
}

static int cmp(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

static long median(long *v, long n)
{
	qsort(v, (size_t)n, sizeof(*v), cmp);
	return v[n / 2];
}

int main(int argc, char **argv)
{
	long commits = argc == 5 ? strtol(argv[3], NULL, 10) : 0;
	long blocks = argc == 5 ? strtol(argv[4], NULL, 10) : 0;
	int fd = commits ? open(argv[1], O_WRONLY) : -1;
	int ctl = commits ? open(argv[2], O_WRONLY) : -1;
	long *took = calloc((size_t)commits + 1, sizeof(*took));
	long part = commits / 10;
	char buf[BLOCK];
	struct stat st;

	if (fd < 0 || ctl < 0 || !took || fstat(fd, &st) || part < 1)
		return 2;
	for (long i = 0; i < commits; i++) {
		long start;

		for (long k = 0; k < blocks; k++) {
			off_t at = rand() % (st.st_size / BLOCK);

			memset(buf, rand(), sizeof(buf));
			if (pwrite(fd, buf, BLOCK, at * BLOCK) != BLOCK)
				return 1;
		}
		start = now_us();
		if (write(ctl, "commit", 6) != 6)
			return 1;
		took[i] = now_us() - start;
	}
	printf("%ld %ld\n", median(took, part),
	       median(took + commits - part, part));
	return 0;
}
