/* SPDX-License-Identifier: GPL-2.0-or-later */
/* same_dir.c - see same_dir.h. */
#include "tests/lib/same_dir.h"

#include "fs/plain_internal.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

struct walk {
	struct fs_view *fv;
	int dirfd;
	char path[512];
	bool dir_times; /* compare them, too */
	size_t entries;
	uint64_t pair[512][2]; /* inode, inode on the host */
	size_t npairs;
};

static void same_bytes(struct walk *w, int dirfd, const char *name,
		       const struct fs_attr *a)
{
	static uint8_t want[1 << 20], have[1 << 20];
	struct fs_file *file;
	int fd = openat(dirfd, name, O_RDONLY);
	uint64_t off = 0;
	size_t got = 1;

	assert_true(fd >= 0);
	assert_int_equal(fs_file_open(w->fv, a->ino, &file), 0);
	while (got) {
		ssize_t n = pread(fd, have, sizeof(have), (off_t)off);

		assert_int_equal(fs_read(file, off, want, sizeof(want), &got),
				 0);
		if (n != (ssize_t)got || memcmp(want, have, got) != 0)
			fail_msg("%s/%s: other bytes", w->path, name);
		off += got;
	}
	fs_file_put(file);
	close(fd);
}

/* One file here is one file there. */
static void same_links(struct walk *w, uint64_t ino, uint64_t host_ino)
{
	for (size_t i = 0; i < w->npairs; i++)
		if ((w->pair[i][0] == ino) != (w->pair[i][1] == host_ino))
			fail_msg("%s: links differ", w->path);
	assert_true(w->npairs < 512);
	w->pair[w->npairs][0] = ino;
	w->pair[w->npairs++][1] = host_ino;
}

static void same_note(struct walk *w, int dirfd, const char *name,
		      const struct fs_attr *a)
{
	char proc[64], want[64], have[64];
	size_t want_len = 0;
	ssize_t have_len;
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW);

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	have_len = getxattr(proc, "user.note", have, sizeof(have));
	close(fd);
	if (fs_getxattr(w->fv, a->ino, "user.note", want, sizeof(want),
			&want_len))
		want_len = 0;
	if (have_len < 0 && errno == ENOTSUP)
		return;
	if ((size_t)(have_len < 0 ? 0 : have_len) != want_len ||
	    memcmp(want, have, want_len) != 0)
		fail_msg("%s/%s: other attributes", w->path, name);
}

static void same_tree(struct walk *w, int dirfd, uint64_t dir);

static int same_entry(void *arg, const struct fs_dirent *e)
{
	struct walk *w = arg;
	const struct fs_attr *a = e->attr;
	char name[256], buf[64], *target;
	size_t mark = strlen(w->path), len;
	struct walk sub;
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "%.*s", (int)e->len, e->name);
	w->entries++;
	if (fstatat(w->dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		fail_msg("%s/%s is missing", w->path, name);
	if (st.st_mode != a->mode || ((!S_ISDIR(a->mode) || w->dir_times) &&
				      plain_ns(&st.st_mtim) != a->mtime_ns))
		fail_msg("%s/%s: mode %o, want %o; time %lld, want %lld",
			 w->path, name, st.st_mode, a->mode,
			 (long long)plain_ns(&st.st_mtim),
			 (long long)a->mtime_ns);
	same_note(w, w->dirfd, name, a);
	if (S_ISDIR(a->mode)) {
		sub = *w;
		snprintf(w->path + mark, sizeof(w->path) - mark, "/%s", name);
		fd = openat(w->dirfd, name, O_RDONLY | O_DIRECTORY);
		assert_true(fd >= 0);
		same_tree(w, fd, a->ino);
		close(fd);
		w->path[mark] = '\0';
		w->dirfd = sub.dirfd;
		w->entries = sub.entries;
		return 0;
	}
	if (st.st_nlink != a->nlink)
		fail_msg("%s/%s: %u links, want %u", w->path, name,
			 (unsigned int)st.st_nlink, a->nlink);
	same_links(w, a->ino, st.st_ino);
	if (S_ISREG(a->mode))
		same_bytes(w, w->dirfd, name, a);
	if (!S_ISLNK(a->mode))
		return 0;
	assert_int_equal(fs_readlink(w->fv, a->ino, &target, &len), 0);
	assert_int_equal(readlinkat(w->dirfd, name, buf, sizeof(buf)), len);
	assert_memory_equal(buf, target, len);
	free(target);
	return 0;
}

static void same_tree(struct walk *w, int dirfd, uint64_t dir)
{
	DIR *d = fdopendir(dup(dirfd));
	size_t n = 0;

	w->dirfd = dirfd;
	w->entries = 0;
	assert_int_equal(fs_readdir(w->fv, dir, 0, true, same_entry, w), 0);
	rewinddir(d);
	for (const struct dirent *de; (de = readdir(d));)
		n += strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
		     strcmp(de->d_name, ".txn");
	closedir(d);
	if (n != w->entries)
		fail_msg("%s: %zu entries, want %zu", w->path, n, w->entries);
}

void same_dir_check(int dirfd, struct fs_view *fv, bool dir_times)
{
	struct walk *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->fv = fv;
	w->dir_times = dir_times;
	same_tree(w, dirfd, FS_ROOT_INO);
	free(w);
}

void same_dir_find(int dirfd, const uint8_t *bytes, size_t len, size_t n,
		   bool *found)
{
	static uint8_t buf[8 << 20];
	DIR *d = fdopendir(dirfd);

	assert_non_null(d);
	for (const struct dirent *de; (de = readdir(d));) {
		int fd = *de->d_name == '.' ? -1
					    : openat(dirfd, de->d_name,
						     O_RDONLY | O_NOFOLLOW);
		struct stat st;
		ssize_t got = 0;

		if (fd < 0)
			continue;
		assert_int_equal(fstat(fd, &st), 0);
		if (S_ISDIR(st.st_mode)) {
			same_dir_find(fd, bytes, len, n, found);
			continue;
		}
		got = read(fd, buf, sizeof(buf));
		assert_in_range(got, 0, sizeof(buf) - 1);
		for (size_t i = 0; i < n; i++)
			found[i] |= memmem(buf, (size_t)got, bytes + i * len,
					   len) != NULL;
		close(fd);
	}
	closedir(d);
}
