/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slow DIR prepare: fill DIR with what the operations need, a folder for each.
 * slow DIR try SLOWDEV KIND CMD...: hold the daemon's calls of KIND (slowdev.c)
 * with CMD in one of them, try every operation of the filesystem at once, and
 * say of each whether it "answers" within BOUND ms or "waits", then let go: all
 * that waited, and CMD, must then come to an end in END ms. What waits may
 * stand in the way of what would not have had to: those that are named on
 * stdin, one a line, are tried after all others.
 *
 * Exit status 0; 1: something failed, or never came to an end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { BIG = 3 << 20, COLD = 1 << 20, COLD_FILES = 1000, OPS_MAX = 128 };

static char root_path[512];
static char buf[1 << 20];

/* 0, or -1 with errno: an operation's answer. */
typedef int (*op_fn)(int dir);

static int path_at(char *out, size_t size, const char *name)
{
	int n = snprintf(out, size, "%s/%s", root_path, name);

	return n > 0 && (size_t)n < size ? 0 : -1;
}

static int with_file(int dir, const char *name, int flags)
{
	return openat(dir, name, flags | O_CLOEXEC, 0644);
}

static int write_file(int dir, const char *name, int flags, size_t len)
{
	int fd = with_file(dir, name, flags);

	if (fd < 0)
		return -1;
	for (size_t at = 0; at < len;) {
		size_t n = len - at < sizeof(buf) ? len - at : sizeof(buf);
		ssize_t done = write(fd, buf, n);

		if (done <= 0)
			return -1;
		at += (size_t)done;
	}
	return close(fd);
}

static int read_path(const char *name)
{
	char path[700];
	int fd = path_at(path, sizeof(path), name) ? -1 : open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return -1;
	do
		n = read(fd, buf, sizeof(buf));
	while (n > 0);
	return n ? -1 : close(fd);
}

static int list_fd(int fd)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	return closedir(d) || n < 2 ? -1 : 0;
}

static int ctl(const char *command)
{
	char path[700];
	int fd;

	if (path_at(path, sizeof(path), ".txn/ctl"))
		return -1;
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -1;
	if (write(fd, command, strlen(command)) < 0)
		return -1;
	return close(fd);
}

/* --- operations --- */

static int op_stat(int dir)
{
	struct stat st;

	return fstatat(dir, "f", &st, 0);
}

static int op_lookup_missing(int dir)
{
	struct stat st;

	return fstatat(dir, "not-there", &st, 0) && errno == ENOENT ? 0 : -1;
}

static int op_statfs(int dir)
{
	struct statfs st;

	return fstatfs(dir, &st);
}

static int op_open(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);

	return fd < 0 ? -1 : close(fd);
}

static int op_read(int dir)
{
	int fd = with_file(dir, "f", O_RDONLY);

	if (fd < 0 || pread(fd, buf, 4096, 0) <= 0)
		return -1;
	return close(fd);
}

/* What the kernel's page cache does not hold. */
static int op_read_cold(int dir)
{
	int fd = with_file(dir, "cold", O_RDONLY);

	if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ||
	    pread(fd, buf, sizeof(buf), 0) <= 0)
		return -1;
	return close(fd);
}

static int op_readdir(int dir)
{
	return list_fd(openat(dir, ".", O_RDONLY | O_DIRECTORY));
}

static int op_create(int dir)
{
	int fd = with_file(dir, "new", O_RDWR | O_CREAT | O_EXCL);

	return fd < 0 ? -1 : close(fd);
}

static int op_write(int dir)
{
	return write_file(dir, "f", O_WRONLY, 5000);
}

static int op_write_big(int dir)
{
	return write_file(dir, "big", O_WRONLY, BIG);
}

static int op_append(int dir)
{
	return write_file(dir, "f", O_WRONLY | O_APPEND, 100);
}

static int op_write_direct(int dir)
{
	void *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = with_file(dir, "f", O_RDWR | O_DIRECT);

	if (fd < 0 || p == MAP_FAILED || pwrite(fd, p, 8192, 0) != 8192)
		return -1;
	return close(fd);
}

static int op_truncate(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);

	if (fd < 0 || ftruncate(fd, 4096) || ftruncate(fd, 90000))
		return -1;
	return close(fd);
}

static int op_fallocate(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);

	if (fd < 0 || fallocate(fd, 0, 0, 100000) ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
		return -1;
	return close(fd);
}

static int op_seek(int dir)
{
	int fd = with_file(dir, "big", O_RDONLY);

	if (fd < 0 || lseek(fd, 0, SEEK_HOLE) < 0)
		return -1;
	return close(fd);
}

static int op_copy(int dir)
{
	int from = with_file(dir, "big", O_RDONLY);
	int to = with_file(dir, "copy", O_RDWR | O_CREAT);

	if (from < 0 || to < 0 ||
	    copy_file_range(from, NULL, to, NULL, 1 << 20, 0) <= 0)
		return -1;
	return close(to) || close(from) ? -1 : 0;
}

static int op_map(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);
	char *p;

	if (fd < 0)
		return -1;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	*(volatile char *)p = 'm';
	if (msync(p, 4096, MS_ASYNC) || munmap(p, 4096))
		return -1;
	return close(fd);
}

static int op_sync_range(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);

	if (fd < 0 ||
	    sync_file_range(fd, 0, 0,
			    SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER))
		return -1;
	return close(fd);
}

static int op_lock(int dir)
{
	struct flock l = { .l_type = F_WRLCK };
	int fd = with_file(dir, "f", O_RDWR);

	if (fd < 0 || flock(fd, LOCK_EX) || fcntl(fd, F_SETLK, &l))
		return -1;
	return close(fd);
}

static int op_mkdir(int dir)
{
	return mkdirat(dir, "d", 0755) || unlinkat(dir, "d", AT_REMOVEDIR) ? -1
									   : 0;
}

static int op_unlink(int dir)
{
	return unlinkat(dir, "gone", 0);
}

static int op_unlink_open(int dir)
{
	int fd = with_file(dir, "gone", O_RDWR);

	if (fd < 0 || unlinkat(dir, "gone", 0) || pwrite(fd, "x", 1, 0) != 1)
		return -1;
	return close(fd);
}

static int op_link(int dir)
{
	return linkat(dir, "f", dir, "l", 0);
}

static int op_symlink(int dir)
{
	return symlinkat("target", dir, "s") ||
			       readlinkat(dir, "s", buf, sizeof(buf)) != 6
		       ? -1
		       : 0;
}

static int op_mknod(int dir)
{
	return mknodat(dir, "fifo", S_IFIFO | 0600, 0);
}

static int op_rename(int dir)
{
	return renameat(dir, "f", dir, "g");
}

/* A file that was written and not entered: its contents go first. */
static int op_rename_written(int dir)
{
	return write_file(dir, "t", O_WRONLY | O_CREAT, 300000) ||
			       renameat(dir, "t", dir, "f")
		       ? -1
		       : 0;
}

static int op_chmod(int dir)
{
	return fchmodat(dir, "f", 0600, 0) || utimensat(dir, "f", NULL, 0) ? -1
									   : 0;
}

static int op_xattr(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);

	if (fd < 0 || fsetxattr(fd, "user.a", "b", 1, 0) ||
	    fgetxattr(fd, "user.a", buf, sizeof(buf)) != 1 ||
	    flistxattr(fd, buf, sizeof(buf)) <= 0 || fremovexattr(fd, "user.a"))
		return -1;
	return close(fd);
}

static int op_status(int dir)
{
	return read_path(".txn/status");
}

static int op_changes(int dir)
{
	return read_path(".txn/changes");
}

static int op_log(int dir)
{
	return read_path(".txn/log") || read_path(".txn/error") ? -1 : 0;
}

static int op_list_states(int dir)
{
	char path[700];

	return path_at(path, sizeof(path), ".txn/snapshots")
		       ? -1
		       : list_fd(open(path, O_RDONLY | O_DIRECTORY));
}

static int op_read_state(int dir)
{
	return read_path(".txn/head/stat/f");
}

static int op_read_state_cold(int dir)
{
	return read_path(".txn/head/read-state-cold/cold");
}

static int op_fsync(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);

	if (fd < 0 || pwrite(fd, "f", 1, 0) != 1 || fsync(fd))
		return -1;
	return close(fd);
}

static int op_fsync_dir(int dir)
{
	return mkdirat(dir, "d", 0755) || fsync(dir) ? -1 : 0;
}

static int op_write_sync(int dir)
{
	return write_file(dir, "f", O_WRONLY | O_SYNC, 10);
}

static int op_msync(int dir)
{
	int fd = with_file(dir, "f", O_RDWR);
	char *p;

	if (fd < 0)
		return -1;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	*(volatile char *)p = 'm';
	return msync(p, 4096, MS_SYNC);
}

static int op_syncfs(int dir)
{
	return syncfs(dir);
}

static int op_commit(int dir)
{
	return ctl("commit tried");
}

static int op_snapshot(int dir)
{
	return ctl("snapshot tried") && errno != EEXIST ? -1 : 0;
}

static int op_restore(int dir)
{
	return ctl("restore head restore/f") && errno != EAGAIN ? -1 : 0;
}

static int op_set(int dir)
{
	return ctl("set keep.last 5");
}

static const struct op {
	const char *name;
	op_fn fn;
} ops[] = {
	{ "stat", op_stat },
	{ "lookup-missing", op_lookup_missing },
	{ "statfs", op_statfs },
	{ "open", op_open },
	{ "read", op_read },
	{ "read-cold", op_read_cold },
	{ "readdir", op_readdir },
	{ "create", op_create },
	{ "write", op_write },
	{ "write-big", op_write_big },
	{ "append", op_append },
	{ "write-direct", op_write_direct },
	{ "truncate", op_truncate },
	{ "fallocate", op_fallocate },
	{ "seek", op_seek },
	{ "copy", op_copy },
	{ "map", op_map },
	{ "sync-range", op_sync_range },
	{ "lock", op_lock },
	{ "mkdir", op_mkdir },
	{ "unlink", op_unlink },
	{ "unlink-open", op_unlink_open },
	{ "link", op_link },
	{ "symlink", op_symlink },
	{ "mknod", op_mknod },
	{ "rename", op_rename },
	{ "rename-written", op_rename_written },
	{ "chmod", op_chmod },
	{ "xattr", op_xattr },
	{ "status", op_status },
	{ "changes", op_changes },
	{ "log", op_log },
	{ "list-states", op_list_states },
	{ "read-state", op_read_state },
	{ "read-state-cold", op_read_state_cold },
	{ "fsync", op_fsync },
	{ "fsync-dir", op_fsync_dir },
	{ "write-sync", op_write_sync },
	{ "msync", op_msync },
	{ "syncfs", op_syncfs },
	{ "commit", op_commit },
	{ "snapshot", op_snapshot },
	{ "restore", op_restore },
	{ "set", op_set },
};

enum { NOPS = sizeof(ops) / sizeof(ops[0]) };

/* --- preparing --- */

static int prepare_one(int root, const struct op *op)
{
	int dir;

	if (mkdirat(root, op->name, 0755))
		return -1;
	dir = openat(root, op->name, O_RDONLY | O_DIRECTORY);
	if (dir < 0 || write_file(dir, "f", O_WRONLY | O_CREAT, 20000) ||
	    write_file(dir, "gone", O_WRONLY | O_CREAT, 20000) ||
	    write_file(dir, "big", O_WRONLY | O_CREAT, BIG) ||
	    write_file(dir, "cold", O_WRONLY | O_CREAT, COLD))
		return -1;
	return close(dir);
}

/* So many that nodes of the tree hold nothing else. */
static int prepare_cold(int root)
{
	int dir = mkdirat(root, "cold-nodes", 0755)
			  ? -1
			  : openat(root, "cold-nodes", O_RDONLY | O_DIRECTORY);
	char name[16];

	if (dir < 0)
		return -1;
	for (int i = 0; i < COLD_FILES; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		if (write_file(dir, name, O_WRONLY | O_CREAT, 800))
			return -1;
	}
	return close(dir);
}

static int prepare(int root)
{
	if (prepare_cold(root)) {
		perror("cold-nodes");
		return 1;
	}
	for (size_t i = 0; i < NOPS; i++)
		if (prepare_one(root, &ops[i])) {
			perror(ops[i].name);
			return 1;
		}
	return 0;
}

/* --- trying --- */

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static long long env_ms(const char *name, long long fallback)
{
	const char *s = getenv(name);

	return s ? strtoll(s, NULL, 10) : fallback;
}

static void nap(void)
{
	const struct timespec tick = { .tv_nsec = 5000000 };

	nanosleep(&tick, NULL);
}

static pid_t start(int root, const struct op *op)
{
	pid_t pid = fork();
	int dir;

	if (pid)
		return pid;
	/* The folder was open before: finding it is not what is tried. */
	dir = openat(root, op->name, O_RDONLY | O_DIRECTORY);
	if (dir >= 0 && !op->fn(dir))
		_exit(0);
	fprintf(stderr, "%s: %s\n", op->name, strerror(errno));
	_exit(1);
}

static int failures;

/* Has it ended? Its status is looked at. */
static int reap(pid_t *pid, const char *name)
{
	int status;

	if (!*pid || waitpid(*pid, &status, WNOHANG) != *pid)
		return !*pid;
	*pid = 0;
	if (status) {
		fprintf(stderr, "%s: failed\n", name);
		failures++;
	}
	return 1;
}

static int wait_all(pid_t *pids, const char *const *names, size_t n,
		    long long ms)
{
	long long end = now_ms() + ms;
	size_t left;

	for (;;) {
		left = 0;
		for (size_t i = 0; i < n; i++)
			left += !reap(&pids[i], names[i]);
		if (!left || now_ms() > end)
			return !left;
		nap();
	}
}

static int is_listed(const char *name, char (*late)[64], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(name, late[i]))
			return 1;
	return 0;
}

/* A file in the folder of slowdev.c; what: 1 make it, 0 remove it, -1 is it
 * there? */
static int hold_file(const char *folder, const char *kind, const char *suffix,
		     int what)
{
	char path[700];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s%s", folder, kind, suffix);
	if (what < 0)
		return !access(path, F_OK);
	if (!what)
		return unlink(path);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	return fd < 0 ? -1 : close(fd);
}

static pid_t run_command(char **argv)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	execvp(argv[0], argv);
	_exit(127);
}

static int try_all(int root, const char *folder, const char *kind, char **argv)
{
	long long bound = env_ms("BOUND", 8000), end = now_ms() + bound;
	pid_t pids[NOPS] = { 0 }, cmd;
	const char *names[NOPS], *cmd_name = argv[0];
	char late[OPS_MAX][64], line[64];
	size_t nlate = 0;

	while (nlate < OPS_MAX && fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(late[nlate++], sizeof(late[0]), "%s", line);
	}
	(void)hold_file(folder, kind, ".held", 0);
	if (hold_file(folder, kind, "", 1))
		return 1;
	cmd = run_command(argv);
	while (!hold_file(folder, kind, ".held", -1)) {
		if (now_ms() > end || reap(&cmd, cmd_name)) {
			fprintf(stderr, "nothing to hold in: %s\n", cmd_name);
			(void)hold_file(folder, kind, "", 0);
			return 1;
		}
		nap();
	}
	for (size_t i = 0; i < NOPS; i++) {
		names[i] = ops[i].name;
		if (!is_listed(names[i], late, nlate))
			pids[i] = start(root, &ops[i]);
	}
	(void)wait_all(pids, names, NOPS, bound);
	for (size_t i = 0; i < NOPS; i++)
		if (is_listed(names[i], late, nlate))
			pids[i] = start(root, &ops[i]);
	(void)wait_all(pids, names, NOPS, env_ms("WAITS", 700));
	if (reap(&cmd, cmd_name)) {
		fprintf(stderr, "%s was not held\n", cmd_name);
		failures++;
	}
	for (size_t i = 0; i < NOPS; i++)
		printf("%s %s\n", names[i], pids[i] ? "waits" : "answers");
	(void)fflush(stdout);
	(void)hold_file(folder, kind, "", 0);
	if (!wait_all(pids, names, NOPS, env_ms("END", 60000)) ||
	    !wait_all(&cmd, &cmd_name, 1, env_ms("END", 60000))) {
		for (size_t i = 0; i < NOPS; i++)
			if (pids[i])
				fprintf(stderr, "%s: hangs\n", names[i]);
		return 1;
	}
	return failures != 0;
}

int main(int argc, char **argv)
{
	int root = argc >= 3 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;

	if (root < 0) {
		perror("slow");
		return 2;
	}
	(void)snprintf(root_path, sizeof(root_path), "%s", argv[1]);
	memset(buf, 'd', sizeof(buf));
	if (!strcmp(argv[2], "prepare"))
		return prepare(root);
	if (argc < 6)
		return 2;
	return try_all(root, argv[3], argv[4], argv + 5);
}
