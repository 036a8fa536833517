/* SPDX-License-Identifier: GPL-2.0-or-later */
/* data.c - contents of large files; forgetting what is cached. */
#include "tests/bench/bench.h"

#include <ftw.h>

enum { BLOCK_BYTES = 4096, ARENA_BYTES = 64 << 20, NFTW_FDS = 16 };

/* Random bytes, so that nothing below can be clever about them. */
static char *arena(void)
{
	char *buf = malloc(ARENA_BYTES);

	if (!buf)
		die("memory");
	fill_random(buf, ARENA_BYTES, 1);
	return buf;
}

static void write_file(char **a)
{
	size_t bytes = number(a[1]), chunk = number(a[2]);
	char *buf = arena();
	int fd = open_or_die(a[0], O_WRONLY | O_CREAT | O_TRUNC);
	int64_t start = now_ns();

	for (size_t off = 0; off < bytes; off += chunk)
		write_or_die(fd, buf + off % ARENA_BYTES, chunk, (off_t)off,
			     a[0]);
	printf("written %.9f\n", (double)(now_ns() - start) / 1e9);
	if (fsync(fd))
		die("fsync %s", a[0]);
	print_seconds(start);
	close(fd);
	free(buf);
}

static void read_file(char **a)
{
	size_t chunk = number(a[1]);
	char *buf = malloc(chunk);
	int fd = open_or_die(a[0], O_RDONLY);
	int64_t start = now_ns();
	ssize_t n;

	if (!buf)
		die("memory");
	while ((n = read(fd, buf, chunk)) > 0)
		;
	if (n < 0)
		die("read %s", a[0]);
	print_seconds(start);
	close(fd);
	free(buf);
}

static size_t count_blocks(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st))
		die("stat %s", path);
	if (st.st_size < BLOCK_BYTES) {
		errno = EINVAL;
		die("%s is too small", path);
	}
	return (size_t)st.st_size / BLOCK_BYTES;
}

static void read_random(char **a)
{
	size_t ops = number(a[1]), blocks;
	char buf[BLOCK_BYTES];
	int fd = open_or_die(a[0], O_RDONLY);
	uint64_t rng = 7;
	int64_t start;

	blocks = count_blocks(fd, a[0]);
	/* No reading ahead of what is read at random, anywhere. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	start = now_ns();
	for (size_t i = 0; i < ops; i++) {
		off_t off = (off_t)(next_random(&rng) % blocks) * BLOCK_BYTES;

		if (pread(fd, buf, sizeof(buf), off) != sizeof(buf))
			die("read %s", a[0]);
	}
	print_seconds(start);
	close(fd);
}

static void overwrite(char **a)
{
	size_t ops = number(a[1]), blocks;
	int64_t *ns = calloc(ops, sizeof(*ns)), start;
	char buf[BLOCK_BYTES];
	int fd = open_or_die(a[0], O_WRONLY);
	uint64_t rng = number(a[2]) * 2 + 1;

	if (!ns)
		die("memory");
	blocks = count_blocks(fd, a[0]);
	start = now_ns();
	for (size_t i = 0; i < ops; i++) {
		off_t off = (off_t)(next_random(&rng) % blocks) * BLOCK_BYTES;
		int64_t t;

		fill_random(buf, sizeof(buf), next_random(&rng));
		t = now_ns();
		write_or_die(fd, buf, sizeof(buf), off, a[0]);
		if (fdatasync(fd))
			die("fdatasync %s", a[0]);
		ns[i] = now_ns() - t;
	}
	print_seconds(start);
	print_spread("sync", ns, ops);
	close(fd);
	free(ns);
}

/* Out of the page cache, once it is on the disk. */
static int drop_file(const char *path, const struct stat *st, int type,
		     struct FTW *ftw)
{
	int fd;

	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (fdatasync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die("drop %s", path);
	close(fd);
	return 0;
}

static void drop(char **a)
{
	if (nftw(a[0], drop_file, NFTW_FDS, FTW_PHYS | FTW_MOUNT))
		die("%s", a[0]);
}

int main(int argc, char **argv)
{
	static const struct bench_mode modes[] = {
		{ "write", 3, write_file, "FILE BYTES CHUNK" },
		{ "read", 2, read_file, "FILE CHUNK" },
		{ "read-random", 2, read_random, "FILE OPS" },
		{ "overwrite", 3, overwrite, "FILE OPS SEED" },
		{ "drop", 1, drop, "DIR" },
		{ 0 }
	};

	return run_mode(argc, argv, modes);
}
