/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exe VERSION: a program of more than 1 MiB that reads its own pages again. It
 * is run from the mount. Each line on stdin is answered with one: it lets go of
 * the pages of its table, in its memory and in the kernel's cache, and reads
 * them from its file: "VERSION good", or where the table is wrong.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORDS = 262144 };

/* table[i] is i: no page of it is like another. */
__asm__(".pushsection .rodata\n"
	".balign 4096\n"
	"table:\n"
	".set i, 0\n"
	".rept 262144\n"
	".long i\n"
	".set i, i + 1\n"
	".endr\n"
	".popsection\n");
extern const unsigned int table[WORDS] __attribute__((visibility("hidden")));

static int first_wrong(void)
{
	const volatile unsigned int *t = table;

	for (int i = 0; i < WORDS; i++)
		if (t[i] != (unsigned int)i)
			return i;
	return -1;
}

int main(int argc, char **argv)
{
	int fd = open("/proc/self/exe", O_RDONLY), at;
	char line[64];

	if (argc != 2 || fd < 0)
		return 2;
	setlinebuf(stdout);
	printf("%s ready\n", argv[1]);
	while (fgets(line, sizeof(line), stdin)) {
		if (madvise((void *)(unsigned long)table, sizeof(table),
			    MADV_DONTNEED) ||
		    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
			return 1;
		at = first_wrong();
		if (at < 0)
			printf("%s good\n", argv[1]);
		else
			printf("%s wrong at word %d\n", argv[1], at);
	}
	return 0;
}
