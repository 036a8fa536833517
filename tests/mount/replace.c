/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replace DIR ROUNDS: a symlink and a file of DIR are replaced by renames,
 * again and again, while others go by those names. They are there at any time:
 * exit status 1 when a call said that one is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { READERS = 2 };

static atomic_bool stop;
static atomic_int bad; /* an errno */
static atomic_ulong done;

static void expect(const char *what, bool good)
{
	if (good)
		return;
	bad = errno;
	fprintf(stderr, "replace: %s: %s\n", what, strerror(errno));
}

static void *reader(void *arg)
{
	char buf[64];
	struct stat st;
	ssize_t len;
	int fd;

	while (!stop && !bad) {
		fd = open("current/f", O_RDONLY);
		expect("open through the symlink", fd >= 0);
		if (fd >= 0)
			close(fd);
		expect("readlink", readlink("current", buf, sizeof(buf)) == 2);
		fd = open("plain", O_RDONLY);
		expect("open", fd >= 0 && read(fd, buf, 3) == 3);
		if (fd >= 0)
			close(fd);
		expect("truncate", !truncate("plain", 3));
		expect("setxattr", !setxattr("plain", "user.x", "y", 1, 0));
		expect("stat", !stat("plain", &st) && st.st_size == 3);
		expect("getxattr",
		       getxattr("plain", "user.x", buf, sizeof(buf)) == 1);
		len = listxattr("plain", buf, sizeof(buf));
		expect("listxattr", len == sizeof("user.x"));
		done++;
	}
	return NULL;
}

static int make_plain(const char *name)
{
	int fd = open(name, O_CREAT | O_WRONLY | O_EXCL, 0644);

	if (fd < 0 || write(fd, "abc", 3) != 3 ||
	    fsetxattr(fd, "user.x", "x", 1, 0))
		return -1;
	return close(fd);
}

static int replace(int rounds)
{
	for (int i = 0; i < rounds && !bad; i++)
		if (symlink(i & 1 ? "r1" : "r2", "link") ||
		    rename("link", "current") || make_plain("other") ||
		    rename("other", "plain"))
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t t[READERS];
	int err;

	if (argc != 3 || chdir(argv[1]) || mkdir("r1", 0755) ||
	    mkdir("r2", 0755) || make_plain("r1/f") || make_plain("r2/f") ||
	    symlink("r1", "current") || make_plain("plain"))
		return 2;
	for (int i = 0; i < READERS; i++)
		if (pthread_create(&t[i], NULL, reader, NULL))
			return 2;
	err = replace(atoi(argv[2]));
	stop = true;
	for (int i = 0; i < READERS; i++)
		pthread_join(t[i], NULL);
	printf("figure: %lu readings beside %s replacements\n", done, argv[2]);
	if (err)
		perror("replace");
	return err ? 2 : bad ? 1 : 0;
}
