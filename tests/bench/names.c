/* SPDX-License-Identifier: GPL-2.0-or-later */
/* names.c - names, attributes and small files; what a round trip takes. */
#include "tests/bench/bench.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/vfs.h>

enum { PATH_BYTES = 4096, READ_BYTES = 16384 };

static void make_file(const char *path, const char *buf, size_t bytes)
{
	int fd = open_or_die(path, O_WRONLY | O_CREAT | O_EXCL);

	write_or_die(fd, buf, bytes, 0, path);
	if (close(fd))
		die("close %s", path);
}

static char *random_bytes(size_t bytes)
{
	char *buf = malloc(bytes + 8);

	if (!buf)
		die("memory");
	fill_random(buf, bytes + 8, 1);
	return buf;
}

/* A tree of directories with FILES_PER_DIR files each, of MIN to MAX bytes. */
static void fill(char **a)
{
	size_t n = number(a[1]), min = number(a[2]), max = number(a[3]);
	char *buf = random_bytes(max), path[PATH_BYTES];
	int64_t start = now_ns();
	uint64_t rng = 1, total = 0;

	for (size_t i = 0; i < n; i++) {
		size_t bytes;

		file_name(path, sizeof(path), a[0], i);
		if (i % FILES_PER_DIR == 0) {
			char *slash = strrchr(path, '/');

			*slash = '\0';
			if (mkdir(path, 0755))
				die("mkdir %s", path);
			*slash = '/';
		}
		bytes = min + next_random(&rng) % (max - min + 1);
		make_file(path, buf, bytes);
		total += bytes;
	}
	print_seconds(start);
	printf("bytes %llu\n", (unsigned long long)total);
	free(buf);
}

/* All in one directory; SYNC: none, syncfs, or a command for .txn/ctl. */
static void create(char **a)
{
	size_t n = number(a[1]), bytes = number(a[2]);
	const char *sync = a[3];
	char *buf = random_bytes(bytes), path[PATH_BYTES];
	int64_t start = now_ns();
	int fd;

	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/f%07zu", a[0], i);
		make_file(path, buf, bytes);
	}
	printf("created %.9f\n", (double)(now_ns() - start) / 1e9);
	if (!strcmp(sync, "syncfs")) {
		fd = open_or_die(a[0], O_RDONLY | O_DIRECTORY);
		if (syncfs(fd))
			die("syncfs %s", a[0]);
		close(fd);
	} else if (strcmp(sync, "none") != 0) {
		fd = open_or_die(sync, O_WRONLY);
		if (write(fd, "commit", 6) != 6)
			die("commit");
		close(fd);
	}
	print_seconds(start);
	free(buf);
}

static void stat_files(char **a)
{
	size_t n = number(a[1]), ops = number(a[2]);
	char path[PATH_BYTES];
	struct stat st;
	int64_t start = 0;

	/* the first round warms */
	for (size_t i = 0; i < n + ops; i++) {
		if (i == n)
			start = now_ns();
		file_name(path, sizeof(path), a[0], i % n);
		if (stat(path, &st))
			die("stat %s", path);
	}
	print_seconds(start);
}

static void open_files(char **a)
{
	size_t n = number(a[1]), ops = number(a[2]);
	char path[PATH_BYTES], buf[READ_BYTES];
	int64_t start = 0;

	for (size_t i = 0; i < n + ops; i++) {
		int fd;

		if (i == n)
			start = now_ns();
		file_name(path, sizeof(path), a[0], i % n);
		fd = open_or_die(path, O_RDONLY);
		if (read(fd, buf, sizeof(buf)) < 0)
			die("read %s", path);
		close(fd);
	}
	print_seconds(start);
}

static size_t list_once(const char *dir)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	if (!d)
		die("opendir %s", dir);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void list(char **a)
{
	size_t rounds = number(a[1]), entries = list_once(a[0]);
	int64_t start = now_ns();

	for (size_t i = 0; i < rounds; i++)
		if (list_once(a[0]) != entries)
			die("%s: not as many entries as before", a[0]);
	print_seconds(start);
	printf("entries %zu\n", entries);
}

static bool stop;

static void *spin(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return arg;
}

/* One message for each statfs(2), PAUSE_US apart, beside SPINNERS threads. */
static void round_trip(char **a)
{
	size_t ops = number(a[1]), pause = number(a[2]), n = number(a[3]);
	struct timespec ts = { .tv_nsec = (long)(pause * 1000) };
	int64_t *ns = calloc(ops, sizeof(*ns));
	pthread_t *threads = calloc(n + 1, sizeof(*threads));
	struct statfs sf;

	if (!ns || !threads)
		die("memory");
	for (size_t i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, spin, NULL))
			die("thread");
	for (size_t i = 0; i < ops; i++) {
		int64_t start;

		if (pause)
			nanosleep(&ts, NULL);
		start = now_ns();
		if (statfs(a[0], &sf))
			die("statfs %s", a[0]);
		ns[i] = now_ns() - start;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	print_spread("trip", ns, ops);
	free(threads);
	free(ns);
}

int main(int argc, char **argv)
{
	static const struct bench_mode modes[] = {
		{ "fill", 4, fill, "DIR FILES MIN MAX" },
		{ "create", 4, create, "DIR FILES BYTES none|syncfs|CTL" },
		{ "stat", 3, stat_files, "DIR FILES OPS" },
		{ "open", 3, open_files, "DIR FILES OPS" },
		{ "list", 2, list, "DIR ROUNDS" },
		{ "trip", 4, round_trip, "DIR OPS PAUSE_US SPINNERS" },
		{ 0 }
	};

	return run_mode(argc, argv, modes);
}
