/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay.c - runs a fuzz target over its corpus without libFuzzer, so that
 * make check repeats what was found: each file as it is, cut short at every
 * length up to 4 KiB, and with each of its first bits flipped. A target that is
 * slow says in fuzz_variants_max how many of either it wants; they are spread
 * over the file.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "txn/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const unsigned int fuzz_variants_max __attribute__((weak));

enum { BITS_MAX = 4096, CUT_MAX = 4096 };

/* A block of exactly size bytes, so that sanitizers see the first one beyond.
 */
static void run(const uint8_t *data, size_t size, size_t flip_bit)
{
	uint8_t *copy = malloc(size ? size : 1);

	ASSERT(copy);
	memcpy(copy, data, size);
	if (flip_bit < size * 8)
		copy[flip_bit / 8] ^= (uint8_t)(1u << flip_bit % 8);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

/* Every how many of n variants are run. */
static size_t step(size_t n)
{
	size_t max = &fuzz_variants_max ? fuzz_variants_max : n;

	return n > max ? (n + max - 1) / max : 1;
}

static void run_file(int dirfd, const char *name)
{
	struct stat st;
	size_t cuts, bits;
	uint8_t *data;
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	ASSERT(fd >= 0 && !fstat(fd, &st));
	data = malloc((size_t)st.st_size + 1);
	ASSERT(data && read(fd, data, (size_t)st.st_size) == st.st_size);
	close(fd);
	run(data, (size_t)st.st_size, SIZE_MAX);
	cuts = min_u64((uint64_t)st.st_size, CUT_MAX);
	for (size_t n = 0; n < cuts; n += step(cuts))
		run(data, n, SIZE_MAX);
	bits = min_u64((uint64_t)st.st_size * 8, BITS_MAX);
	for (size_t bit = 0; bit < bits; bit += step(bits))
		run(data, (size_t)st.st_size, bit);
	free(data);
}

int main(int argc, char **argv)
{
	struct dirent *de;
	unsigned int n = 0;
	DIR *d;

	if (argc != 2) {
		fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
		return 2;
	}
	d = opendir(argv[1]);
	if (!d) {
		fprintf(stderr, "%s: %s: no corpus\n", argv[0], argv[1]);
		return 1;
	}
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		run_file(dirfd(d), de->d_name);
		n++;
	}
	closedir(d);
	printf("%u files replayed\n", n);
	return n ? 0 : 1;
}
