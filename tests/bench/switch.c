/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * switch.c - commands of .txn/ctl, and what others notice of them. "Device" is
 * what the host takes to append as many bytes to a file of its own and flush
 * them, measured in turns with the command.
 */
#include "tests/bench/bench.h"

#include <pthread.h>

enum {
	PATH_BYTES = 4096,
	CHANGE_BYTES = 2048,
	APPEND_BYTES = 1 << 20,
	STATUS_BYTES = 1 << 16,
	WRITE_BYTES = 4096
};

static void control(const char *dir, const char *command)
{
	char path[PATH_BYTES];
	size_t len = strlen(command);
	int fd;

	snprintf(path, sizeof(path), "%s/.txn/ctl", dir);
	fd = open_or_die(path, O_WRONLY);
	if (write(fd, command, len) != (ssize_t)len)
		die("%s", command);
	close(fd);
}

static uint64_t member(const char *json, const char *name)
{
	const char *at = strstr(json, name);

	if (!at) {
		errno = EPROTO;
		die("status has no %s", name);
	}
	return strtoull(at + strlen(name) + 2, NULL, 10);
}

/* Bytes that the store has appended so far. */
static uint64_t appended(const char *dir)
{
	static char json[STATUS_BYTES];
	char path[PATH_BYTES];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/.txn/status", dir);
	fd = open_or_die(path, O_RDONLY);
	n = read(fd, json, sizeof(json) - 1);
	if (n < 0)
		die("read %s", path);
	close(fd);
	json[n] = '\0';
	return member(json, "\"small_bytes\"") + member(json, "\"bulk_bytes\"");
}

/* Files first..first+n-1 of the tree get other contents. */
static void change(const char *dir, size_t first, size_t n, uint64_t seed)
{
	char buf[CHANGE_BYTES], path[PATH_BYTES];

	for (size_t i = first; i < first + n; i++) {
		int fd;

		fill_random(buf, sizeof(buf), seed * 1000003 + i);
		fd = open_or_die(file_name(path, sizeof(path), dir, i),
				 O_WRONLY);
		write_or_die(fd, buf, sizeof(buf), 0, path);
		close(fd);
	}
}

static int64_t device_ns(int fd, uint64_t bytes)
{
	static char buf[APPEND_BYTES];
	int64_t start;

	fill_random(buf, sizeof(buf), bytes);
	start = now_ns();
	while (bytes) {
		size_t n = bytes < sizeof(buf) ? bytes : sizeof(buf);

		if (write(fd, buf, n) != (ssize_t)n)
			die("append");
		bytes -= n;
	}
	if (fdatasync(fd))
		die("fdatasync");
	return now_ns() - start;
}

/*
 * ROUNDS times: change CHANGES files, do COMMAND ("%zu" in it is the round,
 * also of the command BEFORE, which is not measured; "-": none).
 */
static void command(char **a)
{
	const char *dir = a[0], *format = a[1], *before = a[2];
	size_t changes = number(a[3]), rounds = number(a[4]);
	uint64_t seed = (uint64_t)now_ns(), bytes = 0;
	int64_t *took = calloc(rounds, sizeof(*took));
	int64_t *device = calloc(rounds, sizeof(*device));
	int fd = open_or_die(a[5], O_WRONLY | O_CREAT | O_APPEND);
	bool fixed = !strcmp(a[6], "16K");

	if (!took || !device)
		die("memory");
	for (size_t i = 0; i < rounds; i++) {
		char text[256];
		uint64_t at;

		if (strcmp(before, "-") != 0) {
			snprintf(text, sizeof(text), "%s%zu", before, i);
			control(dir, text);
		}
		change(dir, 0, changes, seed + i);
		if (strchr(format, '@'))
			snprintf(text, sizeof(text), "%.*s%zu",
				 (int)strcspn(format, "@"), format, i);
		else
			snprintf(text, sizeof(text), "%s", format);
		at = appended(dir);
		took[i] = now_ns();
		control(dir, text);
		took[i] = now_ns() - took[i];
		at = appended(dir) - at;
		bytes += at;
		device[i] = device_ns(fd, fixed ? 16384 : at);
	}
	print_spread("command", took, rounds);
	print_spread("device", device, rounds);
	printf("bytes %llu\n", (unsigned long long)(bytes / rounds));
	close(fd);
	free(took);
	free(device);
}

/* --- what another program notices --- */

struct other {
	const char *path;
	bool writes; /* else it looks at attributes and contents */
	bool stop; /* atomic */
	int64_t longest_ns; /* atomic; since it was last set to 0 */
	pthread_t thread;
};

static void *other_main(void *arg)
{
	struct timespec nap = { .tv_nsec = 50000 };
	struct other *o = arg;
	char buf[WRITE_BYTES];
	int fd = open_or_die(o->path, O_RDWR | O_CREAT);
	uint64_t round = 0;

	while (!__atomic_load_n(&o->stop, __ATOMIC_RELAXED)) {
		int64_t start, took;
		int err;

		fill_random(buf, sizeof(buf), round);
		start = now_ns();
		if (o->writes)
			err = pwrite(fd, buf, sizeof(buf),
				     (off_t)(round++ % 256) * WRITE_BYTES) < 0;
		else {
			int other = open(o->path, O_RDONLY | O_CLOEXEC);

			err = other < 0 || read(other, buf, sizeof(buf)) < 0;
			close(other);
		}
		if (err)
			die("%s", o->path);
		took = now_ns() - start;
		if (took > __atomic_load_n(&o->longest_ns, __ATOMIC_RELAXED))
			__atomic_store_n(&o->longest_ns, took,
					 __ATOMIC_RELAXED);
		nanosleep(&nap, NULL);
	}
	close(fd);
	return NULL;
}

static int64_t take_longest(struct other *o)
{
	return __atomic_exchange_n(&o->longest_ns, 0, __ATOMIC_RELAXED);
}

/*
 * The longest call of another program while a command runs (commit: of one
 * that writes; abort: of one that opens and reads a file that is changed), and
 * during as long a time just before.
 */
static void stall(char **a)
{
	size_t changes = number(a[2]), rounds = number(a[3]);
	int64_t *during = calloc(rounds, sizeof(*during));
	int64_t *quiet = calloc(rounds, sizeof(*quiet)), took = 20000000;
	uint64_t seed = (uint64_t)now_ns();
	char path[PATH_BYTES];
	struct other o = { .path = path, .writes = !strcmp(a[1], "commit") };

	if (!during || !quiet)
		die("memory");
	if (o.writes)
		snprintf(path, sizeof(path), "%s/other", a[0]);
	else
		file_name(path, sizeof(path), a[0], 0);
	if (pthread_create(&o.thread, NULL, other_main, &o))
		die("thread");
	for (size_t i = 0; i < rounds; i++) {
		struct timespec ts = { .tv_sec = took / 1000000000,
				       .tv_nsec = took % 1000000000 };

		change(a[0], 0, changes, seed + i);
		take_longest(&o);
		nanosleep(&ts, NULL);
		quiet[i] = take_longest(&o);
		took = now_ns();
		control(a[0], a[1]);
		took = now_ns() - took;
		during[i] = take_longest(&o);
	}
	__atomic_store_n(&o.stop, true, __ATOMIC_RELAXED);
	pthread_join(o.thread, NULL);
	print_spread("stall", during, rounds);
	print_spread("quiet", quiet, rounds);
	free(during);
	free(quiet);
}

/* Changes for "commits of random blocks": COUNT blocks of files of BYTES. */
static void scatter(char **a)
{
	size_t files = number(a[1]), bytes = number(a[2]), n = number(a[3]);
	size_t commits = number(a[4]);
	char buf[WRITE_BYTES], path[PATH_BYTES];
	uint64_t rng = (uint64_t)now_ns() | 1;
	int64_t start = now_ns();

	for (size_t c = 0; c < commits; c++) {
		for (size_t i = 0; i < n; i++) {
			off_t off = (off_t)(next_random(&rng) %
					    (bytes / WRITE_BYTES)) *
				    WRITE_BYTES;
			int fd;

			file_name(path, sizeof(path), a[0],
				  next_random(&rng) % files);
			fill_random(buf, sizeof(buf), next_random(&rng));
			fd = open_or_die(path, O_WRONLY);
			write_or_die(fd, buf, sizeof(buf), off, path);
			close(fd);
		}
		control(a[0], "commit");
	}
	print_seconds(start);
}

static void change_files(char **a)
{
	change(a[0], 0, number(a[1]), number(a[2]));
}

static void command_once(char **a)
{
	int64_t start = now_ns();

	control(a[0], a[1]);
	print_seconds(start);
}

int main(int argc, char **argv)
{
	static const struct bench_mode modes[] = {
		{ "command", 7, command,
		  "DIR COMMAND BEFORE CHANGES ROUNDS HOSTFILE 16K|same" },
		{ "stall", 4, stall, "DIR commit|abort CHANGES ROUNDS" },
		{ "scatter", 5, scatter, "DIR FILES BYTES BLOCKS COMMITS" },
		{ "change", 3, change_files, "DIR CHANGES SEED" },
		{ "once", 2, command_once, "DIR COMMAND" },
		{ 0 }
	};

	return run_mode(argc, argv, modes);
}
