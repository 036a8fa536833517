/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * watch DIR ROUNDS: does a switch look like one instant? Stages a change of
 * many kinds in the mount DIR, aborts it, again and again, while readers look
 * by open, stat, listings and missing names, and writers run through the
 * switch. Once any reader has seen the new state (head), nobody may see the old
 * one (staged). Exit status 1 with what was seen.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 24, READERS = 4, WRITERS = 2, SETTLE_LOOKS = 400 };

enum seen { STAGED, HEAD, UNKNOWN };

static int root;
static atomic_uint phase; /* odd: staged, an abort may happen at any time */
static atomic_bool seen_head; /* in this phase */
static atomic_bool stop, failed;
static atomic_ulong looks, heads;

static void die(const char *what)
{
	fprintf(stderr, "watch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void put(const char *name, const char *text)
{
	int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
	    close(fd))
		die(name);
}

static bool ctl(const char *cmd)
{
	int fd = openat(root, ".txn/ctl", O_WRONLY);
	bool ok = fd >= 0 && write(fd, cmd, strlen(cmd)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* --- the two states --- */

static void make_head(void)
{
	char name[64];

	if (mkdirat(root, "list", 0755))
		die("list");
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		put(name, "HH");
		snprintf(name, sizeof(name), "removed%d", i);
		put(name, "x");
		snprintf(name, sizeof(name), "list/removed%d", i);
		put(name, "x");
		snprintf(name, sizeof(name), "dir%d", i);
		if (mkdirat(root, name, 0755))
			die(name);
		snprintf(name, sizeof(name), "dir%d/in", i);
		put(name, "HH");
	}
	put("w0", "w");
	put("w1", "w");
	if (!ctl("commit"))
		die("commit");
}

static void stage(void)
{
	char name[64], to[64];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		put(name, "S");
		snprintf(name, sizeof(name), "removed%d", i);
		if (unlinkat(root, name, 0))
			die(name);
		snprintf(name, sizeof(name), "added%d", i);
		put(name, "S");
		snprintf(name, sizeof(name), "list/removed%d", i);
		if (unlinkat(root, name, 0))
			die(name);
		snprintf(name, sizeof(name), "list/added%d", i);
		put(name, "S");
		snprintf(name, sizeof(name), "dir%d", i);
		snprintf(to, sizeof(to), "moved%d", i);
		if (renameat(root, name, root, to))
			die(name);
		snprintf(name, sizeof(name), "moved%d/in", i);
		put(name, "S");
	}
}

/* --- looking --- */

static enum seen look_content(const char *name)
{
	char c;
	int fd = openat(root, name, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return UNKNOWN;
	n = pread(fd, &c, 1, 0);
	close(fd);
	if (n != 1)
		return UNKNOWN;
	return c == 'H' ? HEAD : STAGED;
}

static enum seen look_size(const char *name)
{
	struct stat st;

	if (fstatat(root, name, &st, 0))
		return UNKNOWN;
	return st.st_size == 2 ? HEAD : STAGED;
}

static enum seen look_name(const char *name, enum seen when_there)
{
	struct stat st;

	if (!fstatat(root, name, &st, 0))
		return when_there;
	return errno == ENOENT ? !when_there : UNKNOWN;
}

static DIR *open_dir(const char *name)
{
	int fd = openat(root, name, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? NULL : fdopendir(fd);
}

/* By a listing, from its start. */
static enum seen look_listing(DIR *d, bool with_stat, int i)
{
	bool added = false, removed = false;
	char a[64], r[64];
	struct dirent *de;
	struct stat st;

	if (!d)
		return UNKNOWN;
	snprintf(a, sizeof(a), "added%d", i);
	snprintf(r, sizeof(r), "removed%d", i);
	rewinddir(d);
	while ((de = readdir(d))) {
		added |= !strcmp(de->d_name, a);
		removed |= !strcmp(de->d_name, r);
		if (with_stat)
			(void)fstatat(dirfd(d), de->d_name, &st, 0);
	}
	if (added && !removed)
		return STAGED;
	return removed && !added ? HEAD : UNKNOWN;
}

static enum seen look_new_listing(const char *name, bool with_stat, int i)
{
	DIR *d = open_dir(name);
	enum seen s = look_listing(d, with_stat, i);

	if (d)
		closedir(d);
	return s;
}

static enum seen look(unsigned int kind, int i, DIR *kept)
{
	char name[64];

	switch (kind) {
	case 0:
		snprintf(name, sizeof(name), "f%d", i);
		return look_content(name);
	case 1:
		snprintf(name, sizeof(name), "f%d", i);
		return look_size(name);
	case 2:
		snprintf(name, sizeof(name), "added%d", i);
		return look_name(name, STAGED);
	case 3:
		snprintf(name, sizeof(name), "removed%d", i);
		return look_name(name, HEAD);
	case 4:
		snprintf(name, sizeof(name), "dir%d/in", i);
		return look_name(name, HEAD);
	case 5:
		snprintf(name, sizeof(name), "moved%d/in", i);
		return look_name(name, STAGED);
	case 6:
		return look_listing(kept, false, i);
	case 7:
		return look_new_listing("list", false, i);
	default:
		return look_new_listing(".", true, i);
	}
}

static void *reader(void *arg)
{
	unsigned int seed = (unsigned int)(size_t)arg;
	DIR *kept = open_dir("list"); /* across all switches */

	while (!stop) {
		unsigned int p = phase, kind = (unsigned int)rand_r(&seed) % 81;
		int i = rand_r(&seed) % FILES;
		bool before = seen_head;
		enum seen s;

		kind = kind == 80 ? 8 : kind % 8;
		s = look(kind, i, kept);
		if (!(p & 1) || phase != p)
			continue;
		looks++;
		if (s == HEAD) {
			heads++;
			/* Only for this phase: see the end of a round. */
			seen_head = true;
		}
		if (s == STAGED && before && phase == p) {
			fprintf(stderr,
				"watch: the old state after the new "
				"one: kind %u, number %d\n",
				kind, i);
			failed = true;
		}
	}
	closedir(kept);
	return NULL;
}

/* Writes through one handle until a switch takes it away, and by name. */
static void *writer(void *arg)
{
	char name[8];
	int fd = -1;

	snprintf(name, sizeof(name), "w%zu", (size_t)arg);
	while (!stop) {
		if (fd < 0)
			fd = openat(root, name, O_WRONLY | O_CREAT, 0644);
		if (fd >= 0 && pwrite(fd, "xyz", 3, rand() % 9000) != 3) {
			if (errno != ESTALE) {
				perror("watch: writer");
				failed = true;
			}
			close(fd);
			fd = -1;
		}
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void wait_looks(unsigned long n)
{
	unsigned long from = looks;

	while (looks < from + n && !failed)
		usleep(100);
}

int main(int argc, char **argv)
{
	pthread_t t[READERS + WRITERS];
	int rounds = argc == 3 ? (int)strtol(argv[2], NULL, 10) : 0;

	root = argc == 3 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
	if (root < 0)
		die("watch DIR ROUNDS");
	make_head();
	for (size_t i = 0; i < READERS; i++)
		pthread_create(&t[i], NULL, reader, (void *)(i + 1));
	for (size_t i = 0; i < WRITERS; i++)
		pthread_create(&t[READERS + i], NULL, writer, (void *)i);
	for (int r = 0; r < rounds && !failed; r++) {
		stage();
		phase++;
		wait_looks(SETTLE_LOOKS);
		if (!ctl("abort"))
			die("abort");
		wait_looks(SETTLE_LOOKS);
		phase++;
		/* Those who began before are done before it is cleared. */
		usleep(2000);
		seen_head = false;
	}
	stop = true;
	for (size_t i = 0; i < READERS + WRITERS; i++)
		pthread_join(t[i], NULL);
	printf("figure: %d switches, %lu looks, %lu of them at the new state\n",
	       rounds, (unsigned long)looks, (unsigned long)heads);
	return failed || !heads;
}
