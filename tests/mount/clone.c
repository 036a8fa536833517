/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clone FROM TO [OFFSET]: copy_file_range all of FROM to OFFSET (0) of TO,
 * print how many microseconds that took. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long long now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	long long start = now_us();
	off_t in = 0, out = argc > 3 ? strtoll(argv[3], NULL, 10) : 0;
	struct stat st;
	int a, b;

	if (argc < 3)
		return 2;
	a = open(argv[1], O_RDONLY);
	b = open(argv[2], O_RDWR | O_CREAT, 0644);
	if (a < 0 || b < 0 || fstat(a, &st))
		goto fail;
	while (in < st.st_size) {
		ssize_t n = copy_file_range(a, &in, b, &out,
					    (size_t)(st.st_size - in), 0);

		if (n <= 0)
			goto fail;
	}
	if (close(b))
		goto fail;
	printf("%lld\n", now_us() - start);
	return 0;
fail:
	perror(argv[1]);
	return 1;
}
