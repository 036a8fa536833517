/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ls.c - txn ls and txn cat: looking into a state. */
#include "tools/tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };

/* "STATE" or "STATE:PATH" in two; spec is cut. */
static char *split(char *spec)
{
	char *colon = strchr(spec, ':');

	if (!colon)
		return spec + strlen(spec);
	*colon++ = '\0';
	return colon + strspn(colon, "/");
}

static char type_char(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFREG:
		return '-';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFBLK:
		return 'b';
	default:
		return 'c';
	}
}

static void print_entry(const char *name, uint32_t mode, uint32_t uid,
			uint32_t gid, uint64_t size, int64_t mtime_ns)
{
	static const char rwx[] = "rwxrwxrwx";
	char m[11] = { type_char(mode) }, when[32], shown[4 * NAME_MAX + 3];

	for (int i = 0; i < 9; i++)
		m[i + 1] = (mode >> (8 - i)) & 1 ? rwx[i] : '-';
	time_text(mtime_ns, when);
	(void)fs_quote_path(name, shown, sizeof(shown));
	printf("%s %u:%u %10" PRIu64 " %s %s\n", m, uid, gid, size, when,
	       shown);
}

/* --- of a mount --- */

static char *state_path(const struct place *p, const char *state,
			const char *path)
{
	char *dir = place_state(p, state), *full;
	size_t n;

	if (!dir) {
		tool_fail(0, "%s: no such state", state);
		return NULL;
	}
	n = strlen(dir) + strlen(path) + 2;
	full = malloc(n);
	if (full)
		snprintf(full, n, "%s/%s", dir, path);
	free(dir);
	return full;
}

static void print_stat(const char *name, const struct stat *st)
{
	print_entry(name, st->st_mode, st->st_uid, st->st_gid,
		    (uint64_t)st->st_size,
		    (int64_t)st->st_mtim.tv_sec * 1000000000 +
			    st->st_mtim.tv_nsec);
}

static int ls_dir(const char *full)
{
	struct dirent **list;
	struct stat st;
	int n, dirfd, err = 0;

	dirfd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	n = dirfd < 0 ? -1 : scandir(full, &list, NULL, alphasort);
	if (n < 0)
		err = -errno;
	for (int i = 0; i < n; i++) {
		const char *s = list[i]->d_name;

		if (strcmp(s, ".") != 0 && strcmp(s, "..") != 0 &&
		    !fstatat(dirfd, s, &st, AT_SYMLINK_NOFOLLOW))
			print_stat(s, &st);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	if (dirfd >= 0)
		close(dirfd);
	return err;
}

static int ls_path(const char *full, const char *name)
{
	struct stat st;

	if (lstat(full, &st))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return ls_dir(full);
	print_stat(name, &st);
	return 0;
}

static int cat_path(const char *full)
{
	char *buf = malloc(COPY_BYTES);
	int fd = open(full, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), err = 0;
	ssize_t n = 0;

	if (fd < 0 || !buf)
		err = fd < 0 ? -errno : -ENOMEM;
	while (!err && (n = read(fd, buf, COPY_BYTES)) > 0)
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			break; /* main() tells */
	if (!err && n < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	free(buf);
	return err;
}

/* --- of a store --- */

static int print_dirent(void *arg, const struct fs_dirent *e)
{
	char name[FS_NAME_MAX + 1];

	memcpy(name, e->name, e->len);
	name[e->len] = '\0';
	print_entry(name, e->attr->mode, e->attr->uid, e->attr->gid,
		    e->attr->size, e->attr->mtime_ns);
	return 0;
}

static int cat_file(struct fs_view *fv, uint64_t ino)
{
	char *buf = malloc(COPY_BYTES);
	struct fs_file *f = NULL;
	uint64_t off = 0;
	size_t got = 1;
	int err;

	err = buf ? fs_file_open(fv, ino, &f) : -ENOMEM;
	while (!err && got) {
		err = fs_read(f, off, buf, COPY_BYTES, &got);
		if (!err && fwrite(buf, 1, got, stdout) != got)
			break; /* main() tells */
		off += got;
	}
	fs_file_put(f);
	free(buf);
	return err;
}

static int look(struct reader *r, const char *state, const char *path, bool cat)
{
	struct root root = ROOT_EMPTY;
	struct fs_view *fv = NULL;
	struct fs_attr attr = { 0 };
	int err;

	err = fs_resolve(r->fs, state, &root);
	if (!err)
		err = fs_view_new(r->fs, &root, &fv);
	if (!err)
		err = fs_walk(fv, path, &attr);
	if (!err && cat)
		err = cat_file(fv, attr.ino);
	else if (!err && S_ISDIR(attr.mode))
		err = fs_readdir(fv, attr.ino, 0, true, print_dirent, NULL);
	else if (!err)
		print_entry(path, attr.mode, attr.uid, attr.gid, attr.size,
			    attr.mtime_ns);
	fs_view_put(fv);
	root_put(store_tree(r->store), &root);
	return err;
}

/* --- both --- */

static int run_mounted(const struct place *p, const char *state,
		       const char *path, bool cat, int *err)
{
	char *full = state_path(p, state, path);

	if (!full)
		return EXIT_FAILURE;
	*err = cat ? cat_path(full) : ls_path(full, path);
	free(full);
	return 0;
}

static int run(int argc, char **argv, bool cat)
{
	char *state, *path;
	struct reader r;
	struct place p;
	int err = 0, status;

	if (argc != 2 || argv[1][0] == '-' || (cat && !strchr(argv[1], ':')))
		return tool_usage(argv[0]);
	state = argv[1];
	path = split(state);
	status = place_find(tool_start_dir, &p);
	if (!status && p.mount) {
		status = run_mounted(&p, state, path, cat, &err);
	} else if (!status) {
		status = reader_open(&p, &r);
		if (!status) {
			err = look(&r, state, path, cat);
			reader_close(&r);
		}
	}
	place_release(&p);
	if (!err && fflush(stdout))
		err = -EIO;
	if (err)
		status = tool_fail(tool_status(err), "%s:%s: %s", state, path,
				   strerror(-err));
	return status;
}

int cmd_ls(int argc, char **argv)
{
	return run(argc, argv, false);
}

int cmd_cat(int argc, char **argv)
{
	return run(argc, argv, true);
}
