/* SPDX-License-Identifier: GPL-2.0-or-later */
/* listing.c - see listing.h. */
#include "tests/lib/listing.h"

#include "fs/plain_internal.h"

#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xxhash.h>

enum { PATH_BYTES = 256, READ_BYTES = 64 << 10 };

struct entry {
	char path[PATH_BYTES];
	char text[512];
	uint64_t ino;
	bool is_dir;
};

struct listing {
	struct entry *v;
	size_t n, cap;
	struct fs_view *fv; /* of a view */
	uint64_t dir;
	char path[PATH_BYTES];
};

static struct entry *add(struct listing *l, const char *name, size_t len)
{
	struct entry *e;

	assert_int_equal(array_grow((void **)&l->v, &l->cap, l->n + 1,
				    sizeof(*l->v)),
			 0);
	e = &l->v[l->n++];
	*e = (struct entry){ .ino = 0 };
	if (snprintf(e->path, sizeof(e->path), "%s/%.*s", l->path, (int)len,
		     name) >= PATH_BYTES)
		fail_msg("%s: too long", e->path);
	return e;
}

static void describe(struct entry *e, const struct fs_attr *a, uint64_t sum,
		     const char *target, const char *note, size_t note_len)
{
	e->ino = a->ino;
	e->is_dir = S_ISDIR(a->mode);
	snprintf(e->text, sizeof(e->text),
		 "%o %u:%u %" PRId64 " size %" PRIu64 " links %u sum %" PRIx64
		 " rdev %" PRIu64 " -> %s note %.*s",
		 a->mode, a->uid, a->gid, a->mtime_ns, e->is_dir ? 0 : a->size,
		 e->is_dir ? 0 : a->nlink, sum, a->rdev, target, (int)note_len,
		 note);
}

static int entry_cmp(const void *pa, const void *pb)
{
	return strcmp(((const struct entry *)pa)->path,
		      ((const struct entry *)pb)->path);
}

/* Each line names the first path of its file. */
static char *finish(struct listing *l)
{
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	assert_non_null(f);
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), entry_cmp);
	for (size_t i = 0; i < l->n; i++) {
		size_t k = 0;

		while (l->v[k].ino != l->v[i].ino)
			k++;
		fprintf(f, "%s %s first %s\n", l->v[i].path, l->v[i].text,
			l->v[k].path);
	}
	fclose(f);
	free(l->v);
	return out;
}

/* --- of a directory --- */

static uint64_t sum_of_fd(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW);
	XXH3_state_t *x = XXH3_createState();
	static uint8_t buf[READ_BYTES];
	uint64_t sum;
	ssize_t n;

	assert_true(fd >= 0);
	assert_non_null(x);
	(void)XXH3_64bits_reset(x);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		(void)XXH3_64bits_update(x, buf, (size_t)n);
	assert_int_equal(n, 0);
	close(fd);
	sum = XXH3_64bits_digest(x);
	XXH3_freeState(x);
	return sum;
}

static void list_dir(struct listing *l, int dirfd);

static void list_name(struct listing *l, int dirfd, const char *name)
{
	char target[256] = "", note[64], proc[64];
	struct entry *e = add(l, name, strlen(name));
	size_t mark = strlen(l->path);
	struct fs_attr a = { 0 };
	struct stat st;
	uint64_t sum = 0;
	ssize_t n;
	int fd;

	assert_int_equal(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	a.ino = st.st_ino;
	a.mode = st.st_mode;
	a.uid = st.st_uid;
	a.gid = st.st_gid;
	a.mtime_ns = plain_ns(&st.st_mtim);
	a.size = (uint64_t)st.st_size;
	a.nlink = (uint32_t)st.st_nlink;
	a.rdev = st.st_rdev;
	if (S_ISREG(st.st_mode))
		sum = sum_of_fd(dirfd, name);
	if (S_ISLNK(st.st_mode))
		assert_true(readlinkat(dirfd, name, target, 255) >= 0);
	fd = openat(dirfd, name, O_PATH | O_NOFOLLOW);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = S_ISLNK(st.st_mode)
		    ? -1
		    : getxattr(proc, "user.note", note, sizeof(note));
	close(fd);
	describe(e, &a, sum, target, note, n < 0 ? 0 : (size_t)n);
	if (!S_ISDIR(st.st_mode))
		return;
	snprintf(l->path + mark, sizeof(l->path) - mark, "/%s", name);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	list_dir(l, fd);
	close(fd);
	l->path[mark] = '\0';
}

static void list_dir(struct listing *l, int dirfd)
{
	DIR *d = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY));

	assert_non_null(d);
	for (const struct dirent *de; (de = readdir(d));) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..") ||
		    (!*l->path && plain_is_own(de->d_name)))
			continue;
		list_name(l, dirfd, de->d_name);
	}
	closedir(d);
}

char *listing_of_dir(int dirfd)
{
	struct listing l = { 0 };

	list_dir(&l, dirfd);
	return finish(&l);
}

/* --- of a view --- */

static uint64_t sum_of_file(struct fs_view *fv, uint64_t ino)
{
	XXH3_state_t *x = XXH3_createState();
	static uint8_t buf[READ_BYTES];
	struct fs_file *f;
	uint64_t off = 0, sum;
	size_t got;

	assert_non_null(x);
	assert_int_equal(fs_file_open(fv, ino, &f), 0);
	(void)XXH3_64bits_reset(x);
	do {
		assert_int_equal(fs_read(f, off, buf, sizeof(buf), &got), 0);
		(void)XXH3_64bits_update(x, buf, got);
		off += got;
	} while (got);
	fs_file_put(f);
	sum = XXH3_64bits_digest(x);
	XXH3_freeState(x);
	return sum;
}

static int list_entry(void *arg, const struct fs_dirent *d)
{
	struct listing *l = arg;
	struct entry *e = add(l, d->name, d->len);
	size_t mark = strlen(l->path), len = 0, note_len = 0;
	const struct fs_attr *a = d->attr;
	char note[64], *target = NULL;
	uint64_t sum = 0;

	if (S_ISREG(a->mode))
		sum = sum_of_file(l->fv, a->ino);
	if (S_ISLNK(a->mode))
		assert_int_equal(fs_readlink(l->fv, a->ino, &target, &len), 0);
	if (fs_getxattr(l->fv, a->ino, "user.note", note, sizeof(note),
			&note_len))
		note_len = 0;
	describe(e, a, sum, target ? target : "", note, note_len);
	free(target);
	if (!S_ISDIR(a->mode))
		return 0;
	snprintf(l->path + mark, sizeof(l->path) - mark, "/%.*s", (int)d->len,
		 d->name);
	assert_int_equal(fs_readdir(l->fv, a->ino, 0, true, list_entry, l), 0);
	l->path[mark] = '\0';
	return 0;
}

char *listing_of_view(struct fs_view *fv)
{
	struct listing l = { .fv = fv };

	assert_int_equal(fs_readdir(fv, FS_ROOT_INO, 0, true, list_entry, &l),
			 0);
	return finish(&l);
}
