/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ls.c - txn ls and txn cat: looking into a state. */
#include "tools/tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };

/* "STATE" or "STATE:PATH" in two; spec is cut. */
static char *split(char *spec)
{
	char *colon = strchr(spec, ':');

	if (!colon)
		return spec + strlen(spec);
	*colon++ = '\0';
	return colon;
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
	char m[11] = { type_char(mode) }, when[32];

	for (int i = 0; i < 9; i++)
		m[i + 1] = (mode >> (8 - i)) & 1 ? rwx[i] : '-';
	time_text(mtime_ns, when);
	printf("%s %u:%u %10" PRIu64 " %s ", m, uid, gid, size, when);
	print_quoted(name);
	putchar('\n');
}

/* What cat can show. */
static int check_file(uint32_t mode)
{
	return S_ISREG(mode) ? 0 : S_ISDIR(mode) ? -EISDIR : -ENOTSUP;
}

/* --- of a mount --- */

/* Below top, wherever symlinks on the way lead. A descriptor or -errno. */
static int open_below(int top, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)flags | O_NOFOLLOW |
					 O_CLOEXEC,
				.resolve = RESOLVE_BENEATH };
	long fd = syscall(SYS_openat2, top, *path ? path : ".", &how,
			  sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static void print_stat(const char *name, const struct stat *st)
{
	print_entry(name, st->st_mode, st->st_uid, st->st_gid,
		    (uint64_t)st->st_size,
		    (int64_t)st->st_mtim.tv_sec * 1000000000 +
			    st->st_mtim.tv_nsec);
}

/* The others are: what is missing must not look as if it were not there. */
static int not_listed(const char *name)
{
	char shown[4 * NAME_MAX + 3];
	int err = -errno;

	(void)fs_quote_path(name, shown, sizeof(shown));
	tool_fail(0, "%s: %s", shown, strerror(-err));
	return err;
}

static int ls_dir(int top, const char *path)
{
	struct dirent **list;
	struct stat st;
	int dirfd = open_below(top, path, O_RDONLY | O_DIRECTORY), n;
	int err = dirfd < 0 ? dirfd : 0;

	n = err ? 0 : scandirat(dirfd, ".", &list, NULL, alphasort);
	if (n < 0)
		err = -errno;
	for (int i = 0; i < n; i++) {
		const char *s = list[i]->d_name;

		if (!strcmp(s, ".") || !strcmp(s, ".."))
			(void)0;
		else if (!fstatat(dirfd, s, &st, AT_SYMLINK_NOFOLLOW))
			print_stat(s, &st);
		else if (errno != ENOENT && errno != ESTALE) /* it went */
			err = not_listed(s);
		free(list[i]);
	}
	if (n >= 0 && dirfd >= 0)
		free(list);
	if (dirfd >= 0)
		close(dirfd);
	return err;
}

static int cat_path(int top, const char *path)
{
	char *buf = malloc(COPY_BYTES);
	int fd = buf ? open_below(top, path, O_RDONLY) : -ENOMEM;
	int err = fd < 0 ? fd : 0;
	ssize_t n = 0;

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

/* Fifos and devices are not opened: that waits for somebody, or does more. */
static int look_mounted(int top, const char *path, bool cat)
{
	int fd = open_below(top, path, O_PATH), err = fd < 0 ? fd : 0;
	struct stat st;

	if (!err && fstat(fd, &st))
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (!err && cat)
		err = check_file(st.st_mode);
	if (err)
		return err;
	if (cat)
		return cat_path(top, path);
	if (S_ISDIR(st.st_mode))
		return ls_dir(top, path);
	print_stat(path, &st);
	return 0;
}

static int run_mounted(const struct place *p, const char *state,
		       const char *path, bool cat, int *err)
{
	char *dir = place_state(p, state);
	int top;

	if (!dir)
		return tool_no_state(state);
	top = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*err = top < 0 ? -errno : look_mounted(top, path, cat);
	if (top >= 0)
		close(top);
	free(dir);
	return 0;
}

/* --- of a store --- */

struct listing {
	struct entry {
		char *name;
		struct fs_attr attr;
	} * v;
	size_t n, cap;
};

static int add_dirent(void *arg, const struct fs_dirent *e)
{
	struct listing *l = arg;

	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct entry *v = realloc(l->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n] = (struct entry){ strndup(e->name, e->len), *e->attr };
	return l->v[l->n++].name ? 0 : -ENOMEM;
}

static int entry_cmp(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int list_dir(struct fs_view *fv, uint64_t ino)
{
	struct listing l = { 0 };
	int err = fs_readdir(fv, ino, 0, true, add_dirent, &l);

	if (l.n && !err)
		qsort(l.v, l.n, sizeof(*l.v), entry_cmp);
	for (size_t i = 0; i < l.n; i++) {
		const struct fs_attr *a = &l.v[i].attr;

		if (!err)
			print_entry(l.v[i].name, a->mode, a->uid, a->gid,
				    a->size, a->mtime_ns);
		free(l.v[i].name);
	}
	free(l.v);
	return err;
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

static int look(struct reader *r, const struct root *root, const char *path,
		bool cat)
{
	struct fs_view *fv = NULL;
	struct fs_attr attr = { 0 };
	int err;

	err = fs_view_new(r->fs, root, &fv);
	if (!err)
		err = fs_walk(fv, path, &attr);
	if (!err && cat)
		err = check_file(attr.mode);
	if (!err && cat)
		err = cat_file(fv, attr.ino);
	else if (!err && S_ISDIR(attr.mode))
		err = list_dir(fv, attr.ino);
	else if (!err)
		print_entry(path, attr.mode, attr.uid, attr.gid, attr.size,
			    attr.mtime_ns);
	fs_view_put(fv);
	return err;
}

static int run_unmounted(const struct place *p, const char *state,
			 const char *path, bool cat, int *err)
{
	struct root root = ROOT_EMPTY;
	struct reader r;
	int status = reader_open(p, &r);

	if (status)
		return status;
	*err = fs_resolve(r.fs, state, &root);
	if (*err == -ENOENT || *err == -EINVAL) {
		*err = 0;
		status = tool_no_state(state);
	} else if (!*err) {
		*err = look(&r, &root, path, cat);
	}
	root_put(store_tree(r.store), &root);
	reader_close(&r);
	return status;
}

/* --- both --- */

static int tell(const char *state, const char *path, int err)
{
	char shown[4200];

	(void)fs_quote_path(path, shown, sizeof(shown));
	/* What is damaged a mount answers with EIO. */
	return tool_fail(
		err == -EIO ? EXIT_DAMAGE : tool_status(err), "%s%s%s: %s",
		state, *path ? ":" : "", shown,
		err == -ENOTSUP ? "not a file"
		: err == -EXDEV ? "leads out of the state"
		: err == -EIO	? "damaged, or cannot be read; txn verify tells"
				: strerror(-err));
}

static int run(int argc, char **argv, bool cat)
{
	char *state, *path;
	struct place p;
	int err = 0, status;

	if (tool_parse_none(argc, argv) || argc - optind != 1 ||
	    (cat && !strchr(argv[optind], ':')))
		return tool_usage(argv[0]);
	state = argv[optind];
	path = split(state);
	if (!tool_tidy_path(path))
		return tell(state, path, -EXDEV);
	status = place_find(tool_start_dir, &p);
	if (!status)
		status = p.mount ? run_mounted(&p, state, path, cat, &err)
				 : run_unmounted(&p, state, path, cat, &err);
	place_release(&p);
	return err ? tell(state, path, err) : status;
}

int cmd_ls(int argc, char **argv)
{
	return run(argc, argv, false);
}

int cmd_cat(int argc, char **argv)
{
	return run(argc, argv, true);
}
