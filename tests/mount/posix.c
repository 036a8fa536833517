/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * posix.c - what programs expect of a local filesystem, asked by system calls.
 *
 * posix DIR [FEATURE...]: each check works in a directory of its own below DIR
 * and prints a line when it is not content; the exit status tells whether any
 * was. It is run on the host's filesystem first, so that no check asks for more
 * than that gives. Features: tmpfile, birth, shift, killpriv, mapped.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { BLOCK = 4096, MIB = 1 << 20 };
/* Exit status of posix --euid: with root's rights or not. */
enum { EUID_ROOT = 10, EUID_OTHER = 11 };

static const char *check_name;
static int failures;
static bool has_tmpfile, has_birth, has_shift, has_killpriv, has_mapped;

#define WANT(cond) want((cond), #cond, __LINE__)
#define WANT_ERRNO(call, no) want_errno((call), (no), #call, __LINE__)

static void want(bool ok, const char *text, int line)
{
	if (ok)
		return;
	printf("%s: line %d: not so: %s (errno %d: %s)\n", check_name, line,
	       text, errno, strerror(errno));
	failures++;
}

static void want_errno(long got, int no, const char *text, int line)
{
	int err = got == -1 ? errno : 0;

	if (err == no)
		return;
	printf("%s: line %d: %s: got %s, want %s\n", check_name, line, text,
	       strerror(err), strerror(no));
	failures++;
}

static int make_file(const char *name, size_t bytes)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	char *buf = malloc(bytes + 1);

	WANT(fd >= 0 && buf);
	for (size_t i = 0; i < bytes; i++)
		buf[i] = (char)('a' + i / BLOCK % 26);
	WANT(write(fd, buf, bytes) == (ssize_t)bytes);
	free(buf);
	return fd;
}

static char byte_at(int fd, off_t off)
{
	char c = '?';

	WANT(pread(fd, &c, 1, off) == 1);
	return c;
}

static off_t size_of(int fd)
{
	struct stat st;

	WANT(!fstat(fd, &st));
	return st.st_size;
}

static blkcnt_t blocks_of(int fd)
{
	struct stat st;

	WANT(!fsync(fd) && !fstat(fd, &st));
	return st.st_blocks;
}

/* --- fallocate --- */

/* Collapsing and inserting. */
static void shift(int fd)
{
	WANT(!fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, BLOCK, 4 * BLOCK));
	WANT(size_of(fd) == 9 * BLOCK);
	WANT(byte_at(fd, 0) == 'a' && byte_at(fd, BLOCK) == 'f');
	WANT(!fallocate(fd, FALLOC_FL_INSERT_RANGE, BLOCK, 2 * BLOCK));
	WANT(size_of(fd) == 11 * BLOCK && byte_at(fd, BLOCK) == '\0');
	WANT(byte_at(fd, 3 * BLOCK) == 'f');
	WANT_ERRNO(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 1, BLOCK), EINVAL);
	WANT_ERRNO(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 11 * BLOCK),
		   EINVAL);
}

static void check_fallocate(void)
{
	int fd = make_file("f", 10 * BLOCK);

	WANT(!fallocate(fd, 0, 0, 12 * BLOCK) && size_of(fd) == 12 * BLOCK);
	WANT(byte_at(fd, 11 * BLOCK) == '\0');
	WANT(!fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20 * BLOCK));
	WANT(size_of(fd) == 12 * BLOCK);
	WANT(!ftruncate(fd, 10 * BLOCK));
	WANT(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			2 * BLOCK + 100, 2 * BLOCK));
	WANT(byte_at(fd, 2 * BLOCK + 99) == 'c');
	WANT(byte_at(fd, 2 * BLOCK + 100) == '\0');
	WANT(byte_at(fd, 4 * BLOCK + 99) == '\0');
	WANT(byte_at(fd, 4 * BLOCK + 100) == 'e');
	WANT(!fallocate(fd, FALLOC_FL_ZERO_RANGE, 9 * BLOCK, 4 * BLOCK));
	WANT(size_of(fd) == 13 * BLOCK && byte_at(fd, 9 * BLOCK) == '\0');
	WANT_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, BLOCK), EOPNOTSUPP);
	WANT_ERRNO(fallocate(fd, 0, 0, 0), EINVAL);
	if (has_shift)
		shift(fd);
	close(fd);
	fd = open("f", O_RDONLY);
	WANT_ERRNO(fallocate(fd, 0, 0, BLOCK), EBADF);
	close(fd);
}

static void check_seek(void)
{
	int fd = make_file("f", 0);
	off_t end = (off_t)100 * MIB;

	WANT(pwrite(fd, "x", 1, 10 * MIB) == 1);
	WANT(!ftruncate(fd, end));
	WANT(lseek(fd, 0, SEEK_DATA) == 10 * MIB);
	WANT(lseek(fd, 0, SEEK_HOLE) == 0);
	WANT(lseek(fd, 10 * MIB + 1, SEEK_DATA) == 10 * MIB + 1);
	WANT(lseek(fd, 10 * MIB, SEEK_HOLE) == 10 * MIB + BLOCK);
	WANT_ERRNO(lseek(fd, 10 * MIB + BLOCK, SEEK_DATA), ENXIO);
	WANT(lseek(fd, 50 * MIB, SEEK_HOLE) == 50 * MIB);
	WANT_ERRNO(lseek(fd, end, SEEK_HOLE), ENXIO);
	WANT_ERRNO(lseek(fd, -1, SEEK_DATA), ENXIO);
	WANT(blocks_of(fd) > 0 && blocks_of(fd) <= 64);
	close(fd);
}

/* Who copies a file must not take for a hole what another stored through a
 * mapping and did not sync. */
static void check_mapped_hole(void)
{
	int fd = make_file("f", 0), by;
	char *p;

	WANT(!ftruncate(fd, MIB));
	p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	WANT(p != MAP_FAILED);
	p[MIB / 2] = 'M';
	by = open("f", O_RDONLY);
	if (has_mapped) {
		off_t at = lseek(by, 0, SEEK_DATA);

		WANT(at >= 0 && at <= MIB / 2);
		WANT(lseek(by, MIB / 2, SEEK_DATA) == MIB / 2);
		WANT(lseek(by, MIB / 2, SEEK_HOLE) > MIB / 2);
	}
	WANT_ERRNO(lseek(by, MIB, SEEK_DATA), ENXIO);
	WANT_ERRNO(lseek(by, MIB, SEEK_HOLE), ENXIO);
	munmap(p, MIB);
	close(fd);
	close(by);
}

static void check_blocks(void)
{
	int fd = make_file("f", MIB);
	struct statvfs before, after = { .f_bavail = -1 };

	WANT(blocks_of(fd) >= MIB / 512 && blocks_of(fd) <= MIB / 512 + 64);
	WANT(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			MIB / 2));
	WANT(blocks_of(fd) >= MIB / 1024 && blocks_of(fd) <= MIB / 1024 + 64);
	WANT(!ftruncate(fd, 0) && blocks_of(fd) == 0);
	WANT(!fstatvfs(fd, &before) && before.f_bsize >= 512);
	WANT(before.f_blocks >= before.f_bfree &&
	     before.f_bfree >= before.f_bavail && before.f_bavail > 0);
	WANT(before.f_namemax == 255);
	close(fd);
	/* Others write to the host, and free space there, too: only the
	 * direction, and once. */
	for (int i = 0; i < 5 && after.f_bavail >= before.f_bavail; i++) {
		unlink("g");
		WANT(!statvfs(".", &before));
		fd = make_file("g", 64 * MIB);
		WANT(!fsync(fd) && !fstatvfs(fd, &after));
		close(fd);
	}
	WANT(after.f_bavail < before.f_bavail);
}

/* --- copying --- */

static void check_copy(void)
{
	int a = make_file("a", 40 * BLOCK + 17), b = make_file("b", 3);
	loff_t in = 0, out = 0;
	char buf[2][BLOCK];

	WANT(copy_file_range(a, &in, b, &out, 40 * BLOCK + 17, 0) ==
	     40 * BLOCK + 17);
	WANT(size_of(b) == 40 * BLOCK + 17);
	for (off_t off = 0; off < 40 * BLOCK; off += BLOCK)
		WANT(pread(a, buf[0], BLOCK, off) == BLOCK &&
		     pread(b, buf[1], BLOCK, off) == BLOCK &&
		     !memcmp(buf[0], buf[1], BLOCK));
	/* what is written afterwards shows on one side only */
	WANT(pwrite(a, "Z", 1, 5 * BLOCK) == 1);
	WANT(byte_at(a, 5 * BLOCK) == 'Z' && byte_at(b, 5 * BLOCK) == 'f');
	/* across blocks, within one file, past the end */
	in = 100;
	out = 20 * BLOCK + 7;
	WANT(copy_file_range(b, &in, b, &out, 2 * BLOCK, 0) == 2 * BLOCK);
	WANT(byte_at(b, 20 * BLOCK + 7) == 'a');
	in = 0;
	out = 10;
	WANT_ERRNO(copy_file_range(b, &in, b, &out, BLOCK, 0), EINVAL);
	in = 100 * BLOCK;
	WANT(copy_file_range(a, &in, b, &out, BLOCK, 0) == 0);
	/* holes stay holes, also over data */
	close(a);
	a = make_file("sparse", 0);
	WANT(!ftruncate(a, 64 * MIB) && pwrite(a, "x", 1, 32 * MIB) == 1);
	in = out = 0;
	WANT(copy_file_range(a, &in, b, &out, 64 * MIB, 0) == 64 * MIB);
	WANT(size_of(b) == 64 * MIB && byte_at(b, BLOCK) == '\0');
	WANT(byte_at(b, 32 * MIB) == 'x');
	close(a);
	close(b);
}

/* --- O_DIRECT, O_TMPFILE, O_APPEND --- */

static void check_direct(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_DIRECT, 0644), cached;
	char *buf = aligned_alloc(BLOCK, 4 * BLOCK);

	WANT(fd >= 0 && buf);
	memset(buf, 'd', 4 * BLOCK);
	WANT(pwrite(fd, buf, 4 * BLOCK, 0) == 4 * BLOCK);
	cached = open("f", O_RDWR);
	WANT(byte_at(cached, BLOCK) == 'd');
	WANT(pwrite(cached, "c", 1, BLOCK) == 1);
	memset(buf, 0, BLOCK);
	WANT(pread(fd, buf, BLOCK, BLOCK) == BLOCK);
	WANT(buf[0] == 'c' && buf[1] == 'd');
	memset(buf, 'e', BLOCK);
	WANT(pwrite(fd, buf, BLOCK, BLOCK) == BLOCK);
	WANT(byte_at(cached, BLOCK) == 'e');
	WANT(pread(fd, buf, 4 * BLOCK, 3 * BLOCK) == BLOCK);
	free(buf);
	close(fd);
	close(cached);
}

static void check_tmpfile(void)
{
	char path[64];
	struct stat st;
	int fd = open(".", O_RDWR | O_TMPFILE, 0640);

	if (!has_tmpfile) {
		want(fd < 0, "O_TMPFILE is not told as a feature", __LINE__);
		return;
	}
	WANT(fd >= 0 && write(fd, "hello", 5) == 5);
	WANT(!fstat(fd, &st) && st.st_nlink == 0 && st.st_size == 5);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	WANT(!linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	WANT(!fstat(fd, &st) && st.st_nlink == 1);
	WANT(!stat("named", &st) && st.st_size == 5 && st.st_mode == 0100640);
	close(fd);
	fd = open(".", O_RDWR | O_TMPFILE | O_EXCL, 0600);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	WANT_ERRNO(linkat(AT_FDCWD, path, AT_FDCWD, "x", AT_SYMLINK_FOLLOW),
		   ENOENT);
	WANT(write(fd, "gone", 4) == 4 && byte_at(fd, 3) == 'e');
	close(fd);
}

static void check_append(void)
{
	int fd = make_file("f", 10);
	int app = open("f", O_WRONLY | O_APPEND);

	WANT(pwrite(app, "xyz", 3, 0) == 3); /* at the end on Linux */
	WANT(size_of(fd) == 13 && byte_at(fd, 10) == 'x');
	WANT(!ftruncate(fd, 5) && write(app, "e", 1) == 1);
	WANT(size_of(fd) == 6 && byte_at(fd, 5) == 'e');
	close(fd);
	close(app);
}

/* Several processes: no append is lost or torn. */
static void check_appenders(void)
{
	enum { WRITERS = 4, LINES = 500, LEN = 37 };
	int fd = make_file("log", 0), status;
	char line[LEN];
	int count[WRITERS] = { 0 };

	for (int w = 0; w < WRITERS; w++) {
		if (fork())
			continue;
		fd = open("log", O_WRONLY | O_APPEND);
		memset(line, 'A' + w, LEN);
		for (int i = 0; i < LINES; i++)
			if (write(fd, line, LEN) != LEN)
				_exit(1);
		_exit(0);
	}
	for (int w = 0; w < WRITERS; w++)
		WANT(wait(&status) > 0 && !status);
	WANT(size_of(fd) == WRITERS * LINES * LEN);
	for (off_t off = 0; off < WRITERS * LINES * LEN; off += LEN) {
		WANT(pread(fd, line, LEN, off) == LEN);
		for (int i = 1; i < LEN; i++)
			if (line[i] != line[0]) {
				WANT(!"torn");
				break;
			}
		if (line[0] >= 'A' && line[0] < 'A' + WRITERS)
			count[line[0] - 'A']++;
	}
	for (int w = 0; w < WRITERS; w++)
		WANT(count[w] == LINES);
	close(fd);
}

/* --- rename, links --- */

static void check_rename(void)
{
	struct stat a, b, st;

	close(make_file("a", 1));
	close(make_file("b", 2));
	WANT(!stat("a", &a) && !stat("b", &b));
	WANT_ERRNO(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE),
		   EEXIST);
	WANT(!renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE));
	WANT(!stat("a", &st) && st.st_ino == b.st_ino);
	WANT(!stat("b", &st) && st.st_ino == a.st_ino);
	WANT(!renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
	WANT_ERRNO(renameat2(AT_FDCWD, "c", AT_FDCWD, "none", RENAME_EXCHANGE),
		   ENOENT);
	/* what is left for overlays */
	close(make_file("moves", 4));
	WANT(!renameat2(AT_FDCWD, "moves", AT_FDCWD, "moved", RENAME_WHITEOUT));
	WANT(!lstat("moves", &st) && S_ISCHR(st.st_mode) && !st.st_rdev);
	WANT(!lstat("moved", &st) && st.st_size == 4);
	WANT_ERRNO(renameat2(AT_FDCWD, "moved", AT_FDCWD, "a",
			     RENAME_WHITEOUT | RENAME_EXCHANGE),
		   EINVAL);
	WANT(!unlink("moves") && !unlink("moved"));
	/* directories: exchange with a file, into oneself, over a full one */
	WANT(!mkdir("d", 0755) && !mkdir("d/e", 0755) && !mkdir("f", 0755));
	WANT(!renameat2(AT_FDCWD, "c", AT_FDCWD, "d", RENAME_EXCHANGE));
	WANT(!stat("c/e", &st) && S_ISDIR(st.st_mode));
	WANT_ERRNO(rename("c", "c/e/x"), EINVAL);
	WANT_ERRNO(rename("f", "c"), ENOTEMPTY);
	WANT_ERRNO(rename("d", "f"), EISDIR);
	WANT_ERRNO(rename("f", "d"), ENOTDIR);
	WANT(!rename("c", "f") && !stat("f/e", &st));
	/* two names of one file: nothing happens */
	WANT(!link("b", "b2") && !rename("b", "b2"));
	WANT(!stat("b", &st) && st.st_nlink == 2);
}

static void check_names(void)
{
	char longest[257], path[4200], buf[8];

	memset(longest, 'n', 255);
	longest[255] = '\0';
	WANT(!mkdir(longest, 0755) && !rmdir(longest));
	longest[255] = 'n';
	longest[256] = '\0';
	WANT_ERRNO(mkdir(longest, 0755), ENAMETOOLONG);
	for (int c = 1; c < 256; c++) {
		char name[3] = { 'x', (char)c, '\0' };

		if (c != '/')
			WANT(!mkdir(name, 0700) && !rmdir(name));
	}
	memset(path, 't', sizeof(path));
	path[4095] = '\0';
	WANT(!symlink(path, "l") && readlink("l", buf, 8) == 8);
	path[4095] = 't';
	path[4096] = '\0';
	WANT_ERRNO(symlink(path, "l2"), ENAMETOOLONG);
	WANT_ERRNO(symlink("", "l3"), ENOENT);
}

/* --- attributes --- */

static void check_times(void)
{
	struct timespec ts[2] = { { 1000000000, 123456789 },
				  { -5, 999999999 } };
	struct stat st, before;
	int fd = make_file("f", 1);

	WANT(!futimens(fd, ts) && !fstat(fd, &st));
	WANT(st.st_atim.tv_sec == 1000000000 &&
	     st.st_atim.tv_nsec == 123456789);
	WANT(st.st_mtim.tv_sec == -5 && st.st_mtim.tv_nsec == 999999999);
	ts[0] = (struct timespec){ 0, UTIME_OMIT };
	ts[1] = (struct timespec){ 4294967296, 1 }; /* past 2106 */
	WANT(!futimens(fd, ts) && !fstat(fd, &st));
	WANT(st.st_atim.tv_nsec == 123456789);
	WANT(st.st_mtim.tv_sec == 4294967296 && st.st_mtim.tv_nsec == 1);
	before = st;
	WANT(!fchmod(fd, 0600) && !fstat(fd, &st));
	WANT(st.st_mtim.tv_sec == before.st_mtim.tv_sec);
	WANT(st.st_ctim.tv_sec > before.st_ctim.tv_sec ||
	     st.st_ctim.tv_nsec >= before.st_ctim.tv_nsec);
	WANT(write(fd, "x", 1) == 1 && !fstat(fd, &st));
	WANT(st.st_mtim.tv_sec < 4294967296 && st.st_mtim.tv_sec > 1000000000);
	close(fd);
}

static void check_birth(void)
{
	int fd = make_file("f", 1);
	struct statx first, then;

	WANT(!statx(fd, "", AT_EMPTY_PATH, STATX_ALL, &first));
	want(!(first.stx_mask & STATX_BTIME) == !has_birth, "birth time",
	     __LINE__);
	if (!has_birth)
		return;
	WANT(first.stx_btime.tv_sec > 1000000000);
	WANT(first.stx_btime.tv_sec < first.stx_mtime.tv_sec ||
	     (first.stx_btime.tv_sec == first.stx_mtime.tv_sec &&
	      first.stx_btime.tv_nsec <= first.stx_mtime.tv_nsec));
	WANT(write(fd, "more", 4) == 4 && !fchmod(fd, 0600));
	WANT(!rename("f", "g"));
	WANT(!statx(AT_FDCWD, "g", 0, STATX_ALL, &then));
	WANT(then.stx_btime.tv_sec == first.stx_btime.tv_sec &&
	     then.stx_btime.tv_nsec == first.stx_btime.tv_nsec);
	WANT(then.stx_size == 5 && then.stx_mode == 0100600);
	WANT(!statx(AT_FDCWD, ".", 0, STATX_BTIME, &then));
	WANT(then.stx_mask & STATX_BTIME);
	close(fd);
}

static int as_nobody(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(99);
		_exit(fn());
	}
	WANT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	WANT(!stat(name, &st));
	return st.st_mode & 07777;
}

static int write_suid(void)
{
	int fd = open("suid", O_WRONLY);

	return fd < 0 || write(fd, "x", 1) != 1;
}

static int truncate_suid(void)
{
	return truncate("suid", 1) != 0;
}

static int chown_suid(void)
{
	return chown("mine", 65534, 65534) != 0;
}

/* Writing takes set-id bits away, except for those who may set them. */
static void check_set_id(void)
{
	close(make_file("suid", 10));
	close(make_file("mine", 10));
	WANT(!chmod(".", 0777));
	WANT(!chmod("suid", 06777) && !as_nobody(write_suid));
	WANT(mode_of("suid") == 0777);
	WANT(!chmod("suid", 06777) && !as_nobody(truncate_suid));
	WANT(mode_of("suid") == 0777);
	/* Without execution by the group ext4 takes it from those outside the
	 * group; FUSE in the kernel (fuse_setattr) does not. */
	WANT(!chmod("suid", 02767) && !as_nobody(write_suid));
	WANT(mode_of("suid") == 0767 || mode_of("suid") == 02767);
	WANT(!chmod("suid", 06777) && !write_suid());
	WANT(mode_of("suid") == 06777);
	WANT(!chown("mine", 65534, 65534) && !chmod("mine", 06777));
	WANT(!as_nobody(chown_suid) && mode_of("mine") == 0777);
	WANT(!chown("mine", 0, 0));
	/* capabilities go with any write, whoever does it */
	{
		static const uint8_t cap[20] = { 1, 0, 0, 2, 0, 4 };
		uint8_t buf[32];

		WANT(!setxattr("suid", "security.capability", cap, 20, 0));
		WANT(getxattr("suid", "security.capability", buf, 32) == 20);
		WANT(!write_suid());
		WANT_ERRNO(getxattr("suid", "security.capability", buf, 32),
			   ENODATA);
	}
}

/* What fn() gives, with the file open for writing. */
static int with_suid(int flags, int (*fn)(int fd))
{
	int fd = open("suid", O_WRONLY | flags), bad;

	if (fd < 0)
		return 1;
	bad = fn ? fn(fd) : 0;
	close(fd);
	return bad;
}

static int truncate_open_suid(void)
{
	return with_suid(O_TRUNC, NULL);
}

static int ftruncate_fd(int fd)
{
	return ftruncate(fd, 5);
}

static int ftruncate_suid(void)
{
	return with_suid(0, ftruncate_fd);
}

static int fallocate_fd(int fd)
{
	return fallocate(fd, 0, 0, 2 * BLOCK);
}

static int fallocate_suid(void)
{
	return with_suid(0, fallocate_fd);
}

static int copy_fd(int fd)
{
	int from = open("mine", O_RDONLY);
	bool done = from >= 0 &&
		    copy_file_range(from, NULL, fd, NULL, 4, 0) == 4;

	close(from);
	return !done;
}

static int copy_suid(void)
{
	return with_suid(0, copy_fd);
}

static int chown_nobody_to_nobody(void)
{
	return chown("mine", (uid_t)-1, (gid_t)-1) != 0;
}

static int chown_roots(void)
{
	(void)!chown("suid", (uid_t)-1, (gid_t)-1);
	return 0;
}

static int write_prog(void)
{
	int fd = open("prog", O_WRONLY);

	bool done = fd >= 0 && write(fd, "\177", 1) == 1; /* as before */

	close(fd);
	return !done;
}

static int run_prog(void)
{
	execl("./prog", "prog", "--euid", NULL);
	return 99;
}

/* Root that may not keep set-id bits. */
static int without_fsetid(int (*fn)(void))
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (syscall(SYS_capget, &h, data))
			_exit(98);
		data[0].effective &= ~(1u << CAP_FSETID);
		if (syscall(SYS_capset, &h, data))
			_exit(99);
		_exit(fn());
	}
	WANT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The kernel must not run it with bits that are gone; nobody asks for its
 * attributes in between. */
static void check_run_set_id(void)
{
	struct statvfs sv;

	WANT(!statvfs(".", &sv));
	if (sv.f_flag & ST_NOSUID)
		return;
	WANT(!system("cp /proc/$PPID/exe prog"));
	WANT(!chmod("prog", 04777) && as_nobody(run_prog) == EUID_ROOT);
	WANT(!as_nobody(write_prog) && as_nobody(run_prog) == EUID_OTHER);
	WANT(!chmod("prog", 04777) && as_nobody(run_prog) == EUID_ROOT);
	WANT(!write_prog() && as_nobody(run_prog) == EUID_ROOT);
	WANT(!without_fsetid(write_prog) && as_nobody(run_prog) == EUID_OTHER);
}

/* Whatever changes contents, for everybody. */
static void check_kill_priv(void)
{
	static int (*const fns[])(void) = { write_suid,	    truncate_suid,
					    ftruncate_suid, truncate_open_suid,
					    fallocate_suid, copy_suid };
	static const uint8_t cap[20] = { 1, 0, 0, 2, 0, 4 };
	uint8_t buf[32];

	WANT(!chmod(".", 0777));
	close(make_file("mine", 10));
	close(make_file("suid", 10));
	for (size_t i = 0; i < sizeof(fns) / sizeof(*fns); i++) {
		/* FUSE does not say of these who asks, and of O_TRUNC with
		 * killpriv alone. */
		bool told = fns[i] != fallocate_suid && fns[i] != copy_suid &&
			    (fns[i] != truncate_open_suid || has_killpriv);

		WANT(!chmod("suid", 06777) && !as_nobody(fns[i]));
		WANT(mode_of("suid") == 0777);
		WANT(!chmod("suid", 06777) && !without_fsetid(fns[i]));
		WANT(!told || mode_of("suid") == 0777);
		WANT(!chmod("suid", 06777) &&
		     !setxattr("suid", "security.capability", cap, 20, 0));
		WANT(!fns[i]() && mode_of("suid") == 06777);
		WANT_ERRNO(getxattr("suid", "security.capability", buf, 32),
			   ENODATA);
		/* and again, where the kernel knows that there was none */
		WANT(!fns[i]());
		WANT(!setxattr("suid", "security.capability", cap, 20, 0));
		WANT(!as_nobody(fns[i]) && mode_of("suid") == 0777);
		WANT_ERRNO(getxattr("suid", "security.capability", buf, 32),
			   ENODATA);
	}
	/* Who may not change it takes nothing from it. */
	WANT(!chmod("suid", 06777) &&
	     !setxattr("suid", "security.capability", cap, 20, 0));
	WANT(!as_nobody(chown_roots) && mode_of("suid") == 06777);
	WANT(getxattr("suid", "security.capability", buf, 32) == 20);
	WANT(!chown("mine", 65534, 65534) && !chmod("mine", 06777));
	WANT(!as_nobody(chown_nobody_to_nobody) && mode_of("mine") == 0777);
	WANT(!chmod("mine", 06777) && !chown("mine", 1, (gid_t)-1));
	WANT(mode_of("mine") == 0777);
	WANT(!mkfifo("fifo", 0600) && !chmod("fifo", 06777));
	WANT(!chown("fifo", 1, 1) && mode_of("fifo") == 0777);
	WANT(!mkdir("d", 0700) && !chmod("d", 06755));
	WANT(!chown("d", 1, 1) && mode_of("d") == 06755);
	check_run_set_id();
}

static int unlink_sticky(void)
{
	if (unlink("sticky/roots") != -1 || errno != EPERM)
		return 1;
	if (rename("sticky/roots", "sticky/x") != -1 || errno != EPERM)
		return 2;
	close(open("sticky/own", O_CREAT | O_WRONLY, 0644));
	return unlink("sticky/own") ? 3 : 0;
}

static void check_sticky(void)
{
	struct stat st;

	WANT(!mkdir("sticky", 0755) && !chmod("sticky", 01777));
	close(make_file("sticky/roots", 1));
	WANT(as_nobody(unlink_sticky) == 0);
	/* the group of a setgid directory */
	WANT(!mkdir("g", 0755) && !chown("g", 0, 12345) && !chmod("g", 02775));
	close(make_file("g/f", 1));
	WANT(!mkdir("g/d", 0755));
	WANT(!stat("g/f", &st) && st.st_gid == 12345);
	WANT(!stat("g/d", &st) && st.st_gid == 12345 && st.st_mode & S_ISGID);
}

/* --- extended attributes --- */

static int see_trusted(void)
{
	char buf[8];

	if (getxattr("f", "trusted.t", buf, 8) != -1)
		return 1;
	return setxattr("f", "trusted.u", "v", 1, 0) != -1;
}

/* Nor are they listed, and no room is asked for them. */
static int list_trusted(void)
{
	char buf[512];
	ssize_t n = listxattr("f", NULL, 0);

	if (n < 0 || n > (ssize_t)sizeof(buf) ||
	    listxattr("f", buf, (size_t)n) != n)
		return 1;
	return memmem(buf, (size_t)n, "trusted.", 8) ||
	       !memmem(buf, (size_t)n, "security.s", 11) ||
	       !memmem(buf, (size_t)n, "user.empty", 11);
}

static void check_xattrs(void)
{
	char buf[4096], *big = malloc(60000);
	int fd = make_file("f", 1);
	ssize_t n;

	WANT(!setxattr("f", "user.a", "value", 5, XATTR_CREATE));
	WANT_ERRNO(setxattr("f", "user.a", "v", 1, XATTR_CREATE), EEXIST);
	WANT_ERRNO(setxattr("f", "user.b", "v", 1, XATTR_REPLACE), ENODATA);
	WANT(getxattr("f", "user.a", NULL, 0) == 5);
	WANT_ERRNO(getxattr("f", "user.a", buf, 2), ERANGE);
	WANT(!setxattr("f", "user.empty", "", 0, 0));
	WANT(getxattr("f", "user.empty", buf, 10) == 0);
	WANT(!setxattr("f", "security.s", "x", 1, 0));
	WANT(!setxattr("f", "trusted.t", "x", 1, 0));
	WANT(!fchmod(fd, 0666) && !as_nobody(see_trusted));
	WANT(!as_nobody(list_trusted));
	n = listxattr("f", buf, sizeof(buf));
	WANT(n > 0 && memmem(buf, (size_t)n, "trusted.t", 10) &&
	     memmem(buf, (size_t)n, "security.s", 11) &&
	     memmem(buf, (size_t)n, "user.empty", 11));
	WANT(!removexattr("f", "user.a"));
	WANT_ERRNO(removexattr("f", "user.a"), ENODATA);
	WANT_ERRNO(setxattr("f", "bogus.a", "v", 1, 0), EOPNOTSUPP);
	WANT_ERRNO(removexattr("f", "bogus.a"), EOPNOTSUPP);
	WANT(!removexattr("f", "system.posix_acl_access")); /* none */
	WANT(!symlink("f", "l"));
	WANT_ERRNO(lsetxattr("l", "user.a", "v", 1, 0), EPERM);
	WANT(!lsetxattr("l", "trusted.a", "v", 1, 0));
	/* larger than a block: ext4 may have no room for it, we do */
	memset(big, 'B', 60000);
	if (!setxattr("f", "user.big", big, 60000, 0))
		WANT(getxattr("f", "user.big", NULL, 0) == 60000);
	else
		WANT(errno == ENOSPC || errno == E2BIG);
	free(big);
	close(fd);
}

/* --- directories --- */

/* Positions stay valid while others come and go. */
static void check_telldir(void)
{
	enum { N = 3000 };
	static bool seen[N];
	char name[32];
	long middle = 0, at;
	struct dirent *e;
	int n = 0, i;
	DIR *d;

	memset(seen, 0, sizeof(seen));
	for (i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		close(open(name, O_CREAT | O_WRONLY, 0644));
	}
	d = opendir(".");
	WANT(d);
	while ((e = readdir(d))) {
		if (sscanf(e->d_name, "f%d", &i) != 1)
			continue;
		WANT(i >= 0 && i < N && !seen[i]);
		seen[i] = true;
		if (++n == N / 2)
			middle = telldir(d);
		/* what was seen goes, something new comes */
		if (n % 3 == 0)
			WANT(!unlink(e->d_name));
		if (n % 7 == 0) {
			snprintf(name, sizeof(name), "new%d", n);
			close(open(name, O_CREAT | O_WRONLY, 0644));
		}
	}
	WANT(n == N);
	seekdir(d, middle);
	for (n = 0; (e = readdir(d));)
		n += e->d_name[0] == 'f';
	/* of the second half two thirds are left, give or take one */
	WANT(n >= N / 2 * 2 / 3 - 1 && n <= N / 2 * 2 / 3 + 1);
	rewinddir(d);
	at = telldir(d);
	e = readdir(d);
	WANT(e);
	snprintf(name, sizeof(name), "%.31s", e ? e->d_name : "");
	seekdir(d, at);
	e = readdir(d);
	WANT(e && !strcmp(e->d_name, name));
	closedir(d);
}

enum { LISTED = 400 };

/* Some more of a listing, or up to its end: the last file in it. */
static int list_on(int fd, bool to_end, bool seen[LISTED])
{
	char buf[BLOCK];
	ssize_t n;
	int i = -1;

	while ((n = getdents64(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *e = (const void *)(buf + at);

			if (sscanf(e->d_name, "f%d", &i) == 1)
				seen[i] = true;
			at += e->d_reclen;
		}
		if (!to_end)
			break;
	}
	WANT(n >= 0);
	return i;
}

/* A listing shows none of what went before it began, whoever else lists: one
 * began before that, another ends while it is under way. */
static void check_listings(void)
{
	static bool seen[LISTED], others[LISTED];
	int before, now, last, at = -1, wrong = 0;
	char name[32];

	for (int i = 0; i < LISTED; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		close(open(name, O_CREAT | O_WRONLY, 0644));
	}
	before = open(".", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 3; i++)
		at = list_on(before, false, others);
	for (int i = 0; i < LISTED; i += 2) {
		snprintf(name, sizeof(name), "f%d", i);
		WANT(i == at || !unlink(name));
	}
	now = open(".", O_RDONLY | O_DIRECTORY);
	list_on(now, false, seen);
	last = open(".", O_RDONLY | O_DIRECTORY);
	list_on(last, true, others);
	list_on(now, true, seen);
	for (int i = 0; i < LISTED; i++)
		wrong += seen[i] != (i % 2 || i == at);
	WANT(!wrong);
	close(before);
	close(now);
	close(last);
}

static void check_unlinked(void)
{
	int fd = make_file("f", 3 * BLOCK), dirfd;
	struct stat st;

	WANT(!unlink("f") && !fstat(fd, &st) && st.st_nlink == 0);
	WANT(byte_at(fd, 2 * BLOCK) == 'c' && pwrite(fd, "Q", 1, 0) == 1);
	WANT(byte_at(fd, 0) == 'Q' && !fsync(fd) && !fchmod(fd, 0600));
	WANT(!mkdir("d", 0755));
	dirfd = open("d", O_RDONLY | O_DIRECTORY);
	WANT(!rmdir("d") && !fstat(dirfd, &st));
	WANT_ERRNO(openat(dirfd, "x", O_CREAT | O_WRONLY, 0644), ENOENT);
	WANT(st.st_nlink == 0 && !fchmod(dirfd, 0711));
	WANT(!fstat(dirfd, &st) && st.st_mode == (S_IFDIR | 0711));
	close(dirfd);
	close(fd);
	/* a directory that a rename replaces */
	WANT(!mkdir("d", 0755) && !mkdir("e", 0755));
	dirfd = open("d", O_RDONLY | O_DIRECTORY);
	WANT(!rename("e", "d") && !fstat(dirfd, &st) && st.st_nlink == 0);
	close(dirfd);
	/* held by nothing but a place */
	close(make_file("f", 3));
	fd = open("f", O_PATH);
	WANT(!unlink("f") && !fstat(fd, &st) && st.st_nlink == 0);
	WANT(st.st_size == 3);
	close(fd);
}

/* O_CREAT beside somebody who removes the file finds it or makes it. */
static void check_made_again(void)
{
	enum { OPENS = 3000 };
	int bad = 0, last = 0, status;
	pid_t pid = fork();

	if (!pid)
		for (;;)
			(void)unlink("f");
	for (int i = 0; i < OPENS; i++) {
		int fd = open("f", O_CREAT | O_RDWR, 0644);

		/* ESTALE: twice in a row, between finding and opening it */
		if (fd >= 0) {
			close(fd);
		} else if (errno != ESTALE) {
			bad++;
			last = errno;
		}
	}
	kill(pid, SIGKILL);
	WANT(waitpid(pid, &status, 0) == pid);
	errno = last;
	WANT(!bad);
}

/* A hole that is punched beside an open with O_TRUNC does not make the file
 * longer. */
static void check_punch_cut(void)
{
	enum { ROUNDS = 3000, SIZE = 10000 };
	static char bytes[SIZE];
	int fds[2], fd = make_file("f", 0), bad = 0;
	char c = 0;

	WANT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	if (!fork()) {
		close(fds[0]);
		while (read(fds[1], &c, 1) == 1) {
			close(open("f", O_WRONLY | O_TRUNC));
			if (write(fds[1], &c, 1) != 1)
				break;
		}
		_exit(0);
	}
	close(fds[1]);
	for (int i = 0; i < ROUNDS; i++) {
		WANT(pwrite(fd, bytes, SIZE, 0) == SIZE);
		WANT(write(fds[0], &c, 1) == 1);
		WANT(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				100, SIZE - 1000));
		WANT(read(fds[0], &c, 1) == 1);
		bad += size_of(fd) != 0;
	}
	WANT(!bad);
	close(fds[0]);
	WANT(wait(NULL) > 0);
	close(fd);
}

static void check_special(void)
{
	struct stat st;

	WANT(!mkfifo("fifo", 0600) &&
	     !mknod("chr", S_IFCHR | 0600, makedev(1, 3)));
	WANT(!mknod("blk", S_IFBLK | 0600, makedev(259, 70000)));
	WANT(!mknod("sock", S_IFSOCK | 0600, 0));
	WANT(!stat("blk", &st) && st.st_rdev == makedev(259, 70000));
	WANT(!stat("chr", &st) && st.st_rdev == makedev(1, 3));
	WANT(!stat("sock", &st) && S_ISSOCK(st.st_mode));
}

/* --- mappings --- */

static void check_mmap(void)
{
	int fd = make_file("f", 4 * BLOCK);
	char *p = mmap(NULL, 4 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		       0);
	char *q;

	WANT(p != MAP_FAILED);
	WANT(p[BLOCK] == 'b');
	p[BLOCK] = 'M';
	WANT(byte_at(fd, BLOCK) == 'M'); /* a store, then read(2) */
	WANT(pwrite(fd, "W", 1, 2 * BLOCK) == 1);
	WANT(p[2 * BLOCK] == 'W'); /* write(2), then a load */
	q = mmap(NULL, 4 * BLOCK, PROT_READ, MAP_SHARED, fd, 0);
	WANT(q != MAP_FAILED && q[BLOCK] == 'M');
	p[0] = 'N';
	WANT(q[0] == 'N' && !msync(p, 4 * BLOCK, MS_SYNC));
	munmap(q, 4 * BLOCK);
	q = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	WANT(q != MAP_FAILED);
	q[0] = 'P';
	WANT(byte_at(fd, 0) == 'N');
	munmap(q, BLOCK);
	munmap(p, 4 * BLOCK);
	close(fd);
}

/* --- all of them --- */

static const struct {
	const char *name;
	void (*fn)(void);
} checks[] = {
	{ "fallocate", check_fallocate }, { "seek", check_seek },
	{ "blocks", check_blocks },	  { "copy", check_copy },
	{ "direct", check_direct },	  { "tmpfile", check_tmpfile },
	{ "append", check_append },	  { "appenders", check_appenders },
	{ "rename", check_rename },	  { "names", check_names },
	{ "times", check_times },	  { "birth", check_birth },
	{ "set-id", check_set_id },	  { "sticky", check_sticky },
	{ "kill-priv", check_kill_priv },
	{ "xattrs", check_xattrs },	  { "telldir", check_telldir },
	{ "unlinked", check_unlinked },	  { "special", check_special },
	{ "mmap", check_mmap },		  { "made-again", check_made_again },
	{ "punch-cut", check_punch_cut }, { "listings", check_listings },
	{ "mapped-hole", check_mapped_hole },
};

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: posix DIR [tmpfile] [birth] [shift] "
				"[killpriv] [mapped]\n");
		return 2;
	}
	if (!strcmp(argv[1], "--euid"))
		return geteuid() ? EUID_OTHER : EUID_ROOT;
	for (int i = 2; i < argc; i++) {
		has_tmpfile |= !strcmp(argv[i], "tmpfile");
		has_birth |= !strcmp(argv[i], "birth");
		has_shift |= !strcmp(argv[i], "shift");
		has_killpriv |= !strcmp(argv[i], "killpriv");
		has_mapped |= !strcmp(argv[i], "mapped");
	}
	umask(022);
	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++) {
		check_name = checks[i].name;
		if (chdir(argv[1]) || mkdir(check_name, 0755) ||
		    chdir(check_name)) {
			perror(check_name);
			return 1;
		}
		checks[i].fn();
	}
	return failures ? 1 : 0;
}
