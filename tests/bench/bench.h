/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench.h - what the measuring programs share. Each does one piece of work and
 * prints what it took, a line "NAME NUMBER" for each figure; a failing call
 * ends it with status 1 and a message.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES_PER_DIR = 1000 };

__attribute__((format(printf, 1, 2), noreturn)) static inline void
die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ": %s\n", strerror(err));
	va_end(ap);
	exit(1);
}

static inline int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline void print_seconds(int64_t start_ns)
{
	printf("seconds %.9f\n", (double)(now_ns() - start_ns) / 1e9);
}

static inline int compare_i64(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Sorts; percentile 50, 99 and the largest, in seconds. */
static inline void print_spread(const char *name, int64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), compare_i64);
	printf("%s_p50 %.9f\n", name, (double)ns[n / 2] / 1e9);
	printf("%s_p99 %.9f\n", name, (double)ns[n * 99 / 100] / 1e9);
	printf("%s_max %.9f\n", name, (double)ns[n - 1] / 1e9);
}

/* File i of a tree made by "names fill". */
static inline const char *file_name(char *buf, size_t size, const char *dir,
				    size_t i)
{
	snprintf(buf, size, "%s/d%05zu/f%07zu", dir, i / FILES_PER_DIR, i);
	return buf;
}

static inline int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		die("open %s", path);
	return fd;
}

static inline void write_or_die(int fd, const void *buf, size_t len, off_t off,
				const char *path)
{
	if (pwrite(fd, buf, len, off) != (ssize_t)len)
		die("write %s", path);
}

static inline size_t number(const char *s)
{
	char *end;
	unsigned long long v = strtoull(s, &end, 10);

	if (!*s || *end) {
		errno = EINVAL;
		die("%s", s);
	}
	return v;
}

/* The same numbers everywhere. */
static inline uint64_t next_random(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dULL;
}

static inline void fill_random(void *buf, size_t len, uint64_t seed)
{
	uint64_t s = seed * 2 + 1, v;

	for (size_t i = 0; i + 8 <= len; i += 8) {
		v = next_random(&s);
		memcpy((char *)buf + i, &v, 8);
	}
}

/* A mode of a program: the words after its name. */
struct bench_mode {
	const char *name;
	int nargs;
	void (*fn)(char **args);
	const char *usage;
};

static inline int run_mode(int argc, char **argv,
			   const struct bench_mode *modes)
{
	for (const struct bench_mode *m = modes; m->name; m++)
		if (argc >= 2 && !strcmp(argv[1], m->name) &&
		    argc - 2 == m->nargs) {
			m->fn(argv + 2);
			return 0;
		}
	for (const struct bench_mode *m = modes; m->name; m++)
		fprintf(stderr, "usage: %s %s %s\n", argv[0], m->name,
			m->usage);
	return 2;
}

#endif
