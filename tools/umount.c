/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umount.c - txn umount: done when the daemon is gone. */
#include "tools/tool.h"

#include "fs/busy.h"
#include "fs/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 60000, TICK_MS = 10, NAMED_MAX = 10 };

struct holders {
	long daemon; /* has DIR open, and is not in the way */
	unsigned int n;
};

static int name_process(void *arg, long pid, const char *comm, const char *how,
			const char *path)
{
	struct holders *h = arg;

	if (pid != h->daemon && h->n++ < NAMED_MAX)
		tool_fail(0, "process %ld (%s): %s %s", pid, comm, how, path);
	return 0;
}

static int unmount(const char *path, long daemon)
{
	struct holders h = { .daemon = daemon };
	int err = umount2(path, 0) ? -errno : 0;

	if (err == -EPERM)
		err = tool_fusermount(path, false);
	if (err == -EBUSY) {
		(void)busy_find(path, false, name_process, &h);
		return tool_fail(EXIT_REFUSED, "%s is in use", path);
	}
	if (err)
		return tool_fail(EXIT_FAILURE, "%s: %s", path, strerror(-err));
	return 0;
}

/* The daemon brings staged changes to safety before it lets go. */
static int wait_for_daemon(const char *dir)
{
	const struct timespec tick = { .tv_nsec = TICK_MS * 1000000 };
	struct holder_info info = { 0 };
	char *txn = NULL;
	size_t size = strlen(dir) + 6;
	int fd, err = 0;

	txn = malloc(size);
	if (!txn)
		return EXIT_FAILURE;
	snprintf(txn, size, "%s/.txn", dir);
	fd = open(txn, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(txn);
	if (fd < 0)
		return tool_fail(EXIT_FAILURE, "%s/.txn: %s", dir,
				 strerror(errno));
	for (int ms = 0; ms < WAIT_MS; ms += TICK_MS) {
		err = holder_probe(fd, &info);
		if (err)
			break;
		nanosleep(&tick, NULL);
	}
	close(fd);
	if (err == 1)
		return 0;
	if (err)
		return tool_fail(EXIT_FAILURE, "%s/.txn/lock: %s", dir,
				 strerror(-err));
	return tool_fail(EXIT_FAILURE,
			 "process %ld still holds the store of %s", info.pid,
			 dir);
}

/* The directory whose store a mount shows, and the process that does. */
static char *source_dir(const struct place *p, long *daemon)
{
	char *path = place_txn(p, "status"), *text, *dir = NULL;
	json_t *j;

	text = path ? read_text(path) : NULL;
	j = text ? json_loads(text, 0, NULL) : NULL;
	if (json_string_value(json_object_get(j, "dir")))
		dir = strdup(json_string_value(json_object_get(j, "dir")));
	*daemon = (long)json_integer_value(json_object_get(j, "pid"));
	json_decref(j);
	free(text);
	free(path);
	return dir;
}

int cmd_umount(int argc, char **argv)
{
	struct place p;
	char *dir = NULL;
	long daemon = 0;
	int status;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return tool_usage(argv[0]);
	status = place_find(argc == 2 ? argv[1] : tool_start_dir, &p);
	if (!status && !p.mount)
		status = tool_fail(EXIT_FAILURE, "%s is not mounted", p.dir);
	if (!status) {
		dir = source_dir(&p, &daemon);
		if (!dir)
			status = EXIT_FAILURE;
	}
	/* A working directory of ours inside would keep it busy. */
	if (!status && chdir("/"))
		status = EXIT_FAILURE;
	if (!status)
		status = unmount(p.mount, daemon);
	if (!status)
		status = wait_for_daemon(dir);
	if (!status)
		printf("%s is unmounted; its plain files show the state of txn "
		       "init, later commits are in the store\n",
		       dir);
	free(dir);
	place_release(&p);
	return status;
}
