/* SPDX-License-Identifier: GPL-2.0-or-later */
/* logsink SOCKET - stands in for a system log: what is sent, one line each. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char buf[8192];
	ssize_t n;
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	if (argc != 2 || fd < 0 || strlen(argv[1]) >= sizeof(a.sun_path))
		return 2;
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", argv[1]);
	(void)unlink(argv[1]);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a))) {
		perror(argv[1]);
		return 1;
	}
	while ((n = recv(fd, buf, sizeof(buf), 0)) >= 0) {
		printf("%.*s\n", (int)n, buf);
		(void)fflush(stdout);
	}
	return 1;
}
