/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * map FILE: a program with FILE mapped shared. Reads commands from stdin and
 * answers each with one line: "get" the first byte, "set C" store it, "sync"
 * msync, "quit".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
	char line[64], *p;

	if (fd < 0)
		return 1;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return 1;
	setlinebuf(stdout);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "get", 3)) {
			printf("%c\n", *(volatile char *)p);
		} else if (!strncmp(line, "set ", 4)) {
			*(volatile char *)p = line[4];
			printf("ok\n");
		} else if (!strncmp(line, "sync", 4)) {
			printf("%s\n", msync(p, 4096, MS_SYNC) ? strerror(errno)
							       : "ok");
		} else {
			break;
		}
	}
	return 0;
}
