/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostile DIR SEED ROUNDS PROCESSES: file system calls with arguments that
 * nobody means well with, from several processes in DIR, a mount's root: odd
 * offsets and lengths, any flags, names of any bytes and lengths, paths deeper
 * than PATH_MAX, links to and from everywhere, .txn among the names. What they
 * answer does not matter. Status 0: all processes came to their end.
 * hostile DIR open N: a file opened N times; says so and waits for stdin to
 * end. hostile DIR attributes N: N attributes of the file x, and no more fit.
 * hostile DIR deep N: N directories one in the other, and away again.
 * hostile DIR far N: contents at odd places up to 2^60 of a new file, if N is
 * 1; then they are there, nothing is between them, and nothing fits behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { FDS = 24, BUF = 1 << 17 };

static uint64_t rnd;
static int fds[FDS];
static char buf[BUF];
static sigjmp_buf fault;

static uint64_t any(uint64_t n)
{
	rnd ^= rnd >> 12;
	rnd ^= rnd << 25;
	rnd ^= rnd >> 27;
	return (rnd * 0x2545f4914f6cdd1dULL >> 16) % n;
}

static uint64_t bits(void)
{
	return any((uint64_t)1 << 32) << 32 | any((uint64_t)1 << 32);
}

static off_t odd_off(void)
{
	static const int64_t odd[] = { 0,
				       1,
				       4095,
				       4096,
				       262143,
				       262144,
				       -1,
				       INT64_MAX,
				       INT64_MAX - 4095,
				       INT64_MIN,
				       (int64_t)1 << 60,
				       ((int64_t)1 << 60) - 1,
				       (int64_t)1 << 62,
				       (int64_t)1 << 32 };

	return any(3) ? (off_t)any(1 << 20)
		      : (off_t)odd[any(sizeof(odd) / sizeof(odd[0]))];
}

static size_t odd_len(void)
{
	static const size_t odd[] = {
		0, 1, 511, 4096, 65537, SIZE_MAX, SSIZE_MAX, (size_t)1 << 31
	};

	return any(3) ? any(BUF) : odd[any(sizeof(odd) / sizeof(odd[0]))];
}

/* A name; few of them, so that calls meet. */
static const char *odd_name(char *out)
{
	static const char *const names[] = { "a",	    "b",
					     "c",	    "d",
					     "a/b",	    "d/a",
					     "d/d",	    "d/d/c",
					     ".",	    "",
					     ".txn",	    ".txn/ctl",
					     ".txn/head",   ".txn/snapshots/s",
					     ".txn/head/a", "a/" };
	size_t len;

	if (any(8)) {
		strncpy(out, names[any(sizeof(names) / sizeof(names[0]))], 32);
		return out;
	}
	len = any(3) ? 1 + any(4) : 254 + any(3);
	for (size_t i = 0; i < len; i++) {
		out[i] = any(4) ? 'n' : (char)(1 + any(255));
		/* Nothing leads out of here. */
		if (out[i] == '/' || out[i] == '.')
			out[i] = 'n';
	}
	out[len] = '\0';
	return out;
}

static int odd_fd(void)
{
	return any(40) ? fds[any(FDS)] : (int)any(3) - 2;
}

static void on_fault(int sig)
{
	siglongjmp(fault, sig);
}

/* --- calls --- */

static void call_open(void)
{
	static const int odd[] = { O_RDONLY,	       O_RDWR,
				   O_WRONLY,	       O_PATH,
				   O_TMPFILE | O_RDWR, O_DIRECTORY };
	int slot = (int)any(FDS), flags;
	char name[300];

	if (fds[slot] >= 0)
		close(fds[slot]);
	flags = odd[any(6)];
	if (any(2))
		flags |= O_CREAT;
	if (!any(4))
		flags |= (int)bits() & (O_TRUNC | O_APPEND | O_DIRECT | O_EXCL |
					O_NOFOLLOW | O_SYNC | O_NOATIME);
	fds[slot] = open(flags & O_DIRECTORY ? "." : odd_name(name),
			 (flags | O_NONBLOCK) & ~(any(50) ? 0 : O_DIRECTORY),
			 (mode_t)bits());
}

static void call_io(int fd)
{
	struct iovec iov[3] = { { buf, any(5000) },
				{ buf + 5000, any(5000) },
				{ buf + 10000, any(50000) } };
	off_t at = odd_off(), to = odd_off();

	switch (any(12)) {
	case 0:
		(void)!pread(fd, buf, any(BUF), at);
		break;
	case 1:
		(void)!pwrite(fd, buf, any(BUF), at);
		break;
	case 2:
		(void)!write(fd, any(20) ? buf : (char *)8, odd_len() % BUF);
		break;
	case 3:
		(void)!pwritev2(fd, iov, (int)any(4), at,
				(int)any(64) & (RWF_APPEND | RWF_DSYNC));
		break;
	case 4:
		(void)!ftruncate(fd, at);
		break;
	case 5:
		(void)!fallocate(fd, (int)any(256), at, to);
		break;
	case 6:
		(void)!lseek(fd, at, (int)any(7));
		break;
	case 7:
		(void)!copy_file_range(fd, &at, odd_fd(), &to, any(1 << 22),
				       (unsigned int)(any(9) == 0));
		break;
	case 8:
		(void)!read(fd, any(20) ? buf : (char *)8, any(BUF));
		break;
	case 9:
		(void)!posix_fadvise(fd, at, to, (int)any(8));
		(void)!readahead(fd, at, odd_len());
		break;
	case 10:
		(void)!sync_file_range(fd, at, to, (unsigned int)any(8));
		break;
	default:
		(void)!fsync(fd);
	}
}

static void call_map(int fd)
{
	volatile char *p;
	int prot = (int)any(4);

	p = mmap(NULL, 1 << 16, prot, any(2) ? MAP_SHARED : MAP_PRIVATE, fd,
		 odd_off() & ~(off_t)4095);
	if (p == MAP_FAILED)
		return;
	if (!sigsetjmp(fault, 1)) {
		if (prot & PROT_WRITE)
			p[any(1 << 16)] = 'm';
		else if (prot & PROT_READ)
			(void)p[any(1 << 16)];
	}
	(void)msync((void *)(uintptr_t)p, 1 << 16, (int)any(8));
	(void)munmap((void *)(uintptr_t)p, 1 << 16);
}

static void call_control(int fd)
{
	struct flock l = { .l_type = (short)any(4),
			   .l_whence = (short)any(4),
			   .l_start = odd_off(),
			   .l_len = odd_off() };
	struct statfs sfs;
	struct stat st;

	switch (any(6)) {
	case 0:
		(void)ioctl(fd, bits() & 0xffffffff, buf);
		break;
	case 1: { /* what the kernel itself knows: flags, clones, maps */
		static const unsigned long known[] = { 0x80086601, 0x40086602,
						       0x40049409, 0xc020660b,
						       0x801c581f, 0x401c5820,
						       0x1,	   0x2,
						       0x541b };

		(void)ioctl(fd, known[any(9)], any(2) ? (long)fd : (long)buf);
		break;
	}
	case 2: /* not what makes signals or leases */
		(void)fcntl(fd, (int)any(2) ? F_SETLK : F_GETLK, &l);
		break;
	case 3:
		(void)fcntl(fd, F_SETFL,
			    O_NONBLOCK | ((int)bits() & (O_APPEND | O_DIRECT)));
		break;
	case 4:
		(void)fstatfs(fd, &sfs);
		break;
	default:
		(void)fstat(fd, &st);
	}
}

static void call_xattr(void)
{
	static const char *const prefix[] = { "user.", "trusted.", "security.",
					      "system.posix_acl_access", "x." };
	char path[300], name[600];

	(void)odd_name(path);
	(void)snprintf(name, sizeof(name), "%s%0*d", prefix[any(5)],
		       any(4) ? 1 : 240 + (int)any(20), (int)any(9));
	switch (any(4)) {
	case 0:
	case 1:
		(void)setxattr(path, name, buf, any(4) ? any(300) : any(70000),
			       (int)any(4));
		break;
	case 2:
		(void)!getxattr(path, name, buf, any(BUF));
		(void)!listxattr(path, buf, any(BUF));
		break;
	default:
		(void)removexattr(path, name);
	}
}

static void call_name(void)
{
	struct timespec ts[2] = { { (time_t)bits(), (long)bits() },
				  { 0, UTIME_NOW } };
	char a[300], b[300];

	(void)odd_name(a);
	(void)odd_name(b);
	switch (any(13)) {
	case 0:
		(void)!renameat2(AT_FDCWD, a, AT_FDCWD, b,
				 (unsigned int)any(9));
		break;
	case 1:
		(void)!rename(a, b);
		break;
	case 2:
		(void)!mkdir(a, (mode_t)bits());
		break;
	case 3:
		(void)!unlink(a);
		break;
	case 4:
		(void)!rmdir(a);
		break;
	case 5:
		(void)!linkat(any(2) ? AT_FDCWD : odd_fd(), any(2) ? a : "",
			      AT_FDCWD, b, any(2) ? AT_EMPTY_PATH : 0);
		break;
	case 6:
		(void)!symlink(a, b);
		break;
	case 7:
		(void)!mknod(a, (mode_t)bits() & 0177777, 0);
		break;
	case 8:
		(void)!chmod(a, (mode_t)bits());
		break;
	case 9:
		(void)!lchown(a, (uid_t)bits(), (gid_t)bits());
		break;
	case 10:
		(void)!utimensat(AT_FDCWD, a, ts, AT_SYMLINK_NOFOLLOW);
		break;
	case 11:
		(void)!truncate(a, odd_off());
		break;
	default:
		(void)!readlink(a, buf, any(BUF));
	}
}

/* Commands that are none, but for a few that are. */
static void call_ctl(void)
{
	static const char *const real[] = { "commit h\n",
					    "snapshot s",
					    "delete s",
					    "restore head a",
					    "restore s \"d/\\001",
					    "set x y",
					    "set keep.last 3",
					    "gc",
					    "tag t @1\ntag t @99999" };
	int fd = open(".txn/ctl", O_RDWR | O_NONBLOCK);
	const char *s = real[any(9)];

	if (any(2))
		(void)!write(fd, s, strlen(s));
	else
		(void)!pwrite(fd, buf, any(6000), odd_off());
	(void)!read(fd, buf, any(5000));
	close(fd);
}

static void run(uint64_t rounds)
{
	for (int i = 0; i < FDS; i++)
		fds[i] = -1;
	for (size_t i = 0; i < BUF; i++)
		buf[i] = (char)(1 + any(255));
	buf[BUF - 1] = '\0';
	signal(SIGBUS, on_fault);
	signal(SIGSEGV, on_fault);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	while (rounds--) {
		switch (any(8)) {
		case 0:
		case 1:
			call_open();
			break;
		case 2:
		case 3:
			call_io(odd_fd());
			break;
		case 4:
			call_map(odd_fd());
			break;
		case 5:
			call_xattr();
			break;
		case 6:
			call_name();
			break;
		default:
			if (any(10))
				call_control(odd_fd());
			else
				call_ctl();
		}
	}
	_exit(0);
}

static int run_all(uint64_t seed, uint64_t rounds, unsigned int processes)
{
	int failed = 0, status;

	for (unsigned int i = 0; i < processes; i++)
		if (!fork()) {
			rnd = seed * 1000 + i + 1;
			run(rounds);
		}
	while (wait(&status) > 0)
		if (status) {
			fprintf(stderr, "a process ended with %#x\n", status);
			failed = 1;
		}
	return failed;
}

/* As many as one process may. */
static unsigned long open_some(unsigned long n)
{
	unsigned long done = 0;

	while (done < n && open("many", O_RDWR | O_CREAT, 0644) >= 0)
		done++;
	return done;
}

static int open_many(unsigned long n)
{
	unsigned long done = 0, share;
	struct rlimit l;
	int up[2], hold[2];

	if (getrlimit(RLIMIT_NOFILE, &l) || pipe(up) || pipe(hold))
		return 1;
	l.rlim_cur = l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur < 1000)
		return 1;
	share = l.rlim_cur - 100 < n ? l.rlim_cur - 100 : n;
	for (unsigned long i = 0; i < n; i += share)
		if (!fork()) {
			unsigned long mine =
				open_some(n - i < share ? n - i : share);

			close(hold[1]);
			if (write(up[1], &mine, sizeof(mine)) != sizeof(mine))
				_exit(1);
			(void)!read(hold[0], &mine, 1); /* until the end */
			_exit(0);
		}
	for (unsigned long i = 0; i < n; i += share) {
		unsigned long its;

		if (read(up[0], &its, sizeof(its)) != sizeof(its))
			return 1;
		done += its;
	}
	printf("%lu\n", done);
	fflush(stdout);
	(void)getchar();
	close(hold[1]);
	while (wait(NULL) > 0)
		;
	return done != n;
}

/* Attributes with names so long that no more could be listed. */
static int set_many(unsigned long n)
{
	int pad = (int)(XATTR_LIST_MAX / n) - 8;
	unsigned long done = 0;
	char name[256], padding[256];
	ssize_t len;

	memset(padding, 'n', sizeof(padding));

	for (; done < n; done++) {
		(void)snprintf(name, sizeof(name), "user.%c%c%.*s",
			       (int)('!' + done % 92),
			       (int)('!' + done / 92 % 92), pad, padding);
		if (setxattr("x", name, name, 7, XATTR_CREATE))
			break;
	}
	len = listxattr("x", buf, BUF);
	printf("%lu: %s, a list of %zd bytes\n", done, strerror(errno), len);
	return done != n || len != XATTR_LIST_MAX ||
	       !setxattr("x", "user.more", "", 0, 0) || errno != ENOSPC;
}

static int go_deep(unsigned long n)
{
	unsigned long depth = 0;

	while (depth < n && !mkdir("deep", 0755) && !chdir("deep"))
		depth++;
	printf("%lu deep\n", depth);
	for (unsigned long i = depth; i; i--)
		if (chdir("..") || rmdir("deep")) {
			perror("back");
			return 1;
		}
	return depth != n;
}

/* --- far out --- */

static const uint64_t far_end = (uint64_t)1 << 60;
enum { FAR_BYTES = 9000 };

/* What byte is at an offset, of those that are written. */
static void far_fill(char *out, uint64_t off)
{
	for (uint64_t i = off; i < off + FAR_BYTES; i++)
		*out++ = (char)(1 + (i ^ i >> 13 ^ i >> 31 ^ i >> 47) % 255);
}

static int far_fail(const char *what, uint64_t off)
{
	fprintf(stderr, "%s at %#llx: %s\n", what, (unsigned long long)off,
		strerror(errno));
	return 1;
}

/* Nothing before it, it, nothing after it. */
static int far_check(int fd, uint64_t off)
{
	char *want = buf, *got = buf + FAR_BYTES + 2;
	size_t before = off ? 1 : 0, after = off + FAR_BYTES < far_end;
	size_t len = before + FAR_BYTES + after;

	far_fill(want + 1, off);
	want[0] = want[1 + FAR_BYTES] = 0;
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ||
	    pread(fd, got, len + !after, (off_t)(off - before)) !=
		    (ssize_t)len ||
	    memcmp(got, want + 1 - before, len) != 0)
		return far_fail("other bytes", off);
	if (off && lseek(fd, (off_t)(off - off / 4), SEEK_DATA) !=
			   (off_t)(off & ~(uint64_t)4095))
		return far_fail("other data", off);
	return 0;
}

static int go_far(unsigned long anew)
{
	const uint64_t at[] = { 0,
				((uint64_t)1 << 31) - 4000,
				((uint64_t)1 << 32) - 1,
				((uint64_t)1 << 44) - 5000,
				((uint64_t)1 << 59) + 123,
				far_end - FAR_BYTES };
	enum { N = sizeof(at) / sizeof(at[0]) };
	int fd = open("far", O_RDWR | (anew ? O_CREAT | O_TRUNC : 0), 0644);
	struct stat st;

	if (fd < 0)
		return far_fail("open", 0);
	for (int i = 0; i < N && anew; i++) {
		far_fill(buf, at[i]);
		if (pwrite(fd, buf, FAR_BYTES, (off_t)at[i]) != FAR_BYTES)
			return far_fail("write", at[i]);
	}
	if (pwrite(fd, "x", 1, (off_t)far_end) != -1 || errno != EFBIG ||
	    !ftruncate(fd, (off_t)far_end + 1))
		return far_fail("past the end", far_end);
	if (fsync(fd) || fstat(fd, &st) || (uint64_t)st.st_size != far_end ||
	    st.st_blocks > (N * 4 * 4096) / 512)
		return far_fail("size", far_end);
	for (int i = 0; i < N; i++)
		if (far_check(fd, at[i]))
			return 1;
	return close(fd) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc < 4 || chdir(argv[1]))
		return 2;
	if (!strcmp(argv[2], "open"))
		return open_many(strtoul(argv[3], NULL, 10));
	if (!strcmp(argv[2], "attributes"))
		return set_many(strtoul(argv[3], NULL, 10));
	if (!strcmp(argv[2], "deep"))
		return go_deep(strtoul(argv[3], NULL, 10));
	if (!strcmp(argv[2], "far"))
		return go_far(strtoul(argv[3], NULL, 10));
	if (argc < 5)
		return 2;
	return run_all(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0),
		       (unsigned int)strtoul(argv[4], NULL, 10));
}
