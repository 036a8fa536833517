/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umount.c - txn umount: done when the daemon is gone. */
#include "tools/tool.h"

#include "fs/busy.h"
#include "fs/fusermount.h"
#include "fs/holder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <mntent.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum {
	WAIT_MS = 60000, /* while somebody else has a copy of the mount */
	TICK_MS = 10,
	BUSY_MS = 2000, /* while only the daemon is in the way */
	COPIES_MS = 2000, /* then copies of the mount are looked for */
	NAMED_MAX = 10
};

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

/* What is mounted below a mount keeps it. */
static void name_mounts(const char *path, struct holders *h)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	size_t len = strlen(path);
	struct mntent *e;

	while (f && (e = getmntent(f)))
		if (!strncmp(e->mnt_dir, path, len) && e->mnt_dir[len] == '/' &&
		    h->n++ < NAMED_MAX)
			tool_fail(0, "%s is mounted in it: unmount that first",
				  e->mnt_dir);
	if (f)
		endmntent(f);
}

/* -EBUSY: told who is in the way, if anybody is. asked: fusermount3 tells. */
static int try_unmount(const char *path, struct holders *h, bool *asked)
{
	int err = umount2(path, 0) ? -errno : 0;

	*asked = err == -EPERM;
	if (*asked)
		err = fusermount(path, false);
	if (err == -EBUSY) {
		(void)busy_find(path, false, name_process, h);
		name_mounts(path, h);
	}
	return err;
}

static int unmount(const char *path, long daemon)
{
	const struct timespec tick = { .tv_nsec = TICK_MS * 1000000 };
	struct holders h = { .daemon = daemon };
	bool asked;
	int err = try_unmount(path, &h, &asked);

	/* The daemon itself has files of its mount open for moments. */
	for (int ms = 0; err == -EBUSY && !asked && !h.n && ms < BUSY_MS;
	     ms += TICK_MS) {
		nanosleep(&tick, NULL);
		err = try_unmount(path, &h, &asked);
	}
	if (err == -EBUSY && asked && !h.n)
		return tool_fail(EXIT_FAILURE,
				 "%s: fusermount3 cannot unmount it; that is "
				 "for root and whoever mounted it",
				 path);
	if (err == -EBUSY)
		return tool_fail(EXIT_REFUSED, "%s is in use", path);
	if (err)
		return tool_fail(EXIT_FAILURE, "%s: %s", path, strerror(-err));
	return 0;
}

/* --- copies of the mount, at other places and in other namespaces --- */

/* The number of a device is another mount's as soon as nobody has it any more:
 * what is mounted belongs to it. */
struct filesystem {
	char dev[32], type[64], source[4096]; /* as in mountinfo */
};

/* *place_out is allocated. */
static bool next_mount(FILE *f, struct filesystem *out, char **place_out)
{
	char *line = NULL;
	const char *tail;
	size_t cap = 0;
	bool found = false;

	while (!found && getline(&line, &cap, f) > 0) {
		tail = strstr(line, " - ");
		if (!tail ||
		    sscanf(tail, " - %63s %4095s", out->type, out->source) != 2)
			continue;
		*place_out = NULL;
		found = sscanf(line, "%*s %*s %31s %*s %ms", out->dev,
			       place_out) == 2;
		if (!found)
			free(*place_out);
	}
	free(line);
	return found;
}

/* Each place of it is counted; fn, unless NULL, is told. What `is` does not say
 * is filled in. */
static unsigned int find_mounts(const char *pid, struct filesystem *is,
				void (*fn)(const char *place))
{
	struct filesystem at;
	char path[300], *place;
	unsigned int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/mountinfo", pid);
	f = fopen(path, "re");
	while (f && next_mount(f, &at, &place)) {
		if (!strcmp(at.dev, is->dev) &&
		    (!*is->type || (!strcmp(at.type, is->type) &&
				    !strcmp(at.source, is->source)))) {
			*is = at;
			n++;
			if (fn)
				fn(place);
		}
		free(place);
	}
	if (f)
		fclose(f);
	return n;
}

/* What is mounted with that device, before it is unmounted. */
static void find_filesystem(dev_t dev, struct filesystem *out)
{
	*out = (struct filesystem){ 0 };
	snprintf(out->dev, sizeof(out->dev), "%u:%u", major(dev), minor(dev));
	(void)find_mounts("self", out, NULL);
}

static void name_place(const char *place)
{
	tool_fail(0, "it is mounted at %s, too: unmount that", place);
}

static bool is_our_namespace(const char *pid)
{
	char path[300];
	struct stat ours, st;

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", pid);
	return !stat("/proc/self/ns/mnt", &ours) && !stat(path, &st) &&
	       ours.st_ino == st.st_ino && ours.st_dev == st.st_dev;
}

/* Name processes that still have the mount: the daemon goes on for them. */
static unsigned int name_processes(struct filesystem *is)
{
	DIR *proc = opendir("/proc");
	unsigned int n = 0;
	struct dirent *e;

	while (proc && (e = readdir(proc))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9' ||
		    is_our_namespace(e->d_name) ||
		    !find_mounts(e->d_name, is, NULL))
			continue;
		if (n++ < NAMED_MAX)
			tool_fail(0,
				  "process %s has a copy of the mount in a "
				  "mount namespace of its own",
				  e->d_name);
	}
	if (proc)
		closedir(proc);
	return n;
}

/* Until it has ended: who only reads shares the store's lock with others. */
static bool is_daemon(long pid)
{
	char path[64], comm[16] = "", state = 'Z';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	f = pid ? fopen(path, "re") : NULL;
	if (f && fscanf(f, "%*d (%15[^)]) %c", comm, &state) != 2)
		state = 'Z';
	if (f)
		fclose(f);
	return state != 'Z' && state != 'X' && !strcmp(comm, "txnfs");
}

/*
 * The daemon brings staged changes to safety and lets the plain files follow
 * before it lets go. When nobody has the mount any more it is waited for
 * however long that takes.
 */
static int wait_for_daemon(const char *dir, struct filesystem *is, long reader)
{
	const struct timespec tick = { .tv_nsec = TICK_MS * 1000000 };
	struct holder_info info = { 0 };
	char *txn = NULL;
	size_t size = strlen(dir) + 6;
	bool copies = true;
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
	(void)find_mounts("self", is, name_place);
	for (unsigned int ms = 0; ms < WAIT_MS || !copies; ms += TICK_MS) {
		err = is_daemon(reader) ? 0 : holder_probe(fd, &info);
		if (err)
			break;
		info.pid = info.pid ? info.pid : reader;
		if (ms == COPIES_MS) {
			copies = find_mounts("self", is, NULL) != 0;
			copies |= name_processes(is) != 0;
			if (!copies)
				tool_fail(0,
					  "process %ld is finishing; the plain "
					  "files may be many",
					  info.pid);
		}
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
static char *source_dir(const struct place *p, long *daemon, bool *follows)
{
	char *path = place_txn(p, "status"), *text, *dir = NULL;
	const char *mode;
	json_t *j;

	text = path ? read_text(path) : NULL;
	j = text ? json_loads(text, 0, NULL) : NULL;
	if (json_string_value(json_object_get(j, "dir")))
		dir = strdup(json_string_value(json_object_get(j, "dir")));
	if (dir && *dir == '"') /* absolute, so it is quoted: not UTF-8 */
		(void)fs_unquote_path(dir);
	*daemon = (long)json_integer_value(json_object_get(j, "pid"));
	mode = json_string_value(json_object_get(j, "mode"));
	*follows = mode && !strcmp(mode, "read-write");
	json_decref(j);
	free(text);
	free(path);
	return dir;
}

/* The files of DIR have followed, or not. */
static int tell_plain(const char *dir)
{
	struct place p = { .dir = strdup(dir) };
	char words[1024] = "unknown";
	json_t *j = p.dir ? plain_json(&p) : NULL;
	const char *state = json_string_value(json_object_get(j, "state"));
	bool done =
		state && (!strcmp(state, "in step") || !strcmp(state, "off"));

	int status;

	plain_words(j, words, sizeof(words));
	printf("%s is unmounted; its plain files %s\n", dir, words);
	status = done ? plain_missing(j)
		      : tool_fail(EXIT_FAILURE, "the system log tells why; txn "
						"sync tries again");
	json_decref(j);
	place_release(&p);
	return status;
}

/* The mounts at a path whose daemons are gone. What was staged and durable is
 * in the store, where the next mount finds it. */
static int unmount_dead(const char *path)
{
	char *dir = tool_realpath(path);
	struct place p = { 0 };
	int status = dir && !chdir("/") ? 0 : EXIT_FAILURE;

	while (!status && tool_is_dead(dir)) {
		if (umount2(dir, MNT_DETACH) && fusermount(dir, true))
			status = tool_fail(EXIT_FAILURE, "%s: %s", dir,
					   strerror(errno));
		else
			tool_fail(0,
				  "%s: removed the mount of a process that is "
				  "gone; the next mount has what was staged "
				  "up to its last fsync or checkpoint",
				  dir);
	}
	if (!status)
		status = place_find(dir, &p);
	if (!status && !strcmp(p.dir, dir) && !p.mount)
		status = tell_plain(dir);
	place_release(&p);
	free(dir);
	return status;
}

int cmd_umount(int argc, char **argv)
{
	const char *given;
	struct place p;
	struct filesystem is;
	struct stat st;
	char *dir = NULL;
	long daemon = 0;
	bool follows = false;
	int status;

	if (tool_parse_none(argc, argv) || argc - optind > 1)
		return tool_usage(argv[0]);
	given = optind < argc ? argv[optind] : NULL;
	if (tool_is_dead(given ? given : tool_start_dir))
		return unmount_dead(given ? given : tool_start_dir);
	status = place_find_dir(given, &p);
	if (!status && !p.mount)
		status = tool_fail(EXIT_FAILURE, "%s is not mounted", p.dir);
	if (!status) {
		dir = source_dir(&p, &daemon, &follows);
		if (!dir)
			status = EXIT_FAILURE;
	}
	/* A working directory of ours inside would keep it busy. */
	if (!status && chdir("/"))
		status = EXIT_FAILURE;
	if (!status && stat(p.mount, &st))
		status = tool_fail(EXIT_FAILURE, "%s: %s", p.mount,
				   strerror(errno));
	if (!status) {
		find_filesystem(st.st_dev, &is);
		status = unmount(p.mount, daemon);
	}
	if (!status)
		status = wait_for_daemon(dir, &is, follows ? 0 : daemon);
	if (!status && follows)
		status = tell_plain(dir);
	else if (!status)
		printf("%s is unmounted\n", dir);
	free(dir);
	place_release(&p);
	return status;
}
