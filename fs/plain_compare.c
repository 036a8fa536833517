/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plain_compare.c - all of the plain directory against its table. */
#include "fs/home.h"
#include "fs/plain_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

struct compare {
	struct fs *fs;
	const struct plain_compare_params *p;
	struct fs_view *shown; /* what the plain files were */
	struct looker look;
	struct plain_path path;
	uint64_t objects; /* looked at */
};

bool plain_is_own(const char *name)
{
	return !strcmp(name, HOME_NAME) || !strcmp(name, HOME_NEW_NAME) ||
	       !strcmp(name, HOME_GONE_NAME) || !strcmp(name, PLAIN_TMP_NAME);
}

int plain_open(int dirfd, const char *name, int flags)
{
	struct open_how how = { .flags = (uint64_t)flags | O_NOFOLLOW |
					 O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV |
					   RESOLVE_NO_SYMLINKS };
	long fd;

	do {
		fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : (int)fd;
}

static int differs(struct compare *c, enum plain_difference what)
{
	return c->p->fn(c->p->arg, what, c->path.s ? c->path.s : "");
}

/* What stat says is not all: bytes and extended attributes decide. */
static int look_closely(struct compare *c, int dirfd, const char *name,
			uint64_t ino, const struct stat *st, bool unlike,
			bool *same)
{
	int err, fd;

	err = look_contents(&c->look, dirfd, name, st, c->shown, NULL, ino,
			    same);
	if (err || !*same)
		return err;
	fd = plain_open(dirfd, name, O_PATH);
	if (fd < 0)
		return fd;
	err = look_xattrs(&c->look, fd, c->shown, ino, unlike, same);
	close(fd);
	return err;
}

/* Another inode with more or fewer links than the state shown has: files that
 * were one are no more, or the other way round. */
static int same_links(struct compare *c, uint64_t ino, const struct stat *st,
		      const struct plain_stat *was, bool *same)
{
	struct fs_attr a;
	int err;

	*same = S_ISDIR(st->st_mode) || st->st_ino == was->host_ino;
	if (*same)
		return 0;
	err = fs_getattr(c->shown, ino, &a);
	*same = !err && a.nlink == st->st_nlink;
	return err == -ENOENT ? 0 : err;
}

/*
 * The host's inode number and ctime tell that nothing changed. They differ
 * too for a copy of the whole directory, after an extra hard link or a rename:
 * then the object is looked at, and what stat says noted for the next time.
 */
static int same_object(struct compare *c, int dirfd, const char *name,
		       uint64_t ino, const struct stat *st, bool *same)
{
	struct plain_stat now = plain_of_stat(st), was;
	int err;

	c->objects++;
	*same = false;
	if (c->p->progress && c->p->progress(c->p->arg, c->objects))
		return -ECANCELED;
	err = plain_get(c->fs, ino, &was);
	if (err)
		return err == 1 ? 0 : err;
	if (was.flags & PLAIN_LEFT) {
		*same = true; /* it should not be there at all */
		return 0;
	}
	if (now.mode != was.mode || now.uid != was.uid || now.gid != was.gid)
		return 0;
	if (!S_ISDIR(now.mode) &&
	    (now.size != was.size || now.mtime_ns != was.mtime_ns))
		return 0;
	*same = now.host_ino == was.host_ino && now.ctime_ns == was.ctime_ns &&
		!(c->p->checksum && S_ISREG(now.mode));
	if (*same)
		return 0;
	err = same_links(c, ino, st, &was, same);
	if (!err && *same)
		err = look_closely(c, dirfd, name, ino, st,
				   was.flags & PLAIN_UNLIKE, same);
	if (err || !*same || store_is_read_only(c->fs->store))
		return err;
	now.flags = was.flags;
	return plain_put(c->fs, ino, &now);
}

static int compare_dir(struct compare *c, int fd, uint64_t dir);

/* A name that is in both. */
static int compare_name(struct compare *c, int dirfd, const char *name,
			uint64_t ino, uint32_t type)
{
	struct stat st;
	bool same;
	int err, fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode) || !S_ISDIR(type)) {
		err = same_object(c, dirfd, name, ino, &st, &same);
		return err || same ? err : differs(c, PLAIN_CHANGED);
	}
	fd = plain_open(dirfd, name, O_RDONLY | O_DIRECTORY);
	if (fd == -EXDEV)
		return 0; /* another mount: left out by init too */
	if (fd < 0)
		return fd;
	err = same_object(c, dirfd, name, ino, &st, &same);
	if (!err && !same)
		err = differs(c, PLAIN_CHANGED);
	if (!err)
		err = compare_dir(c, fd, ino);
	close(fd);
	return err;
}

/* What is there. */
static int find_added(struct compare *c, int dirfd, uint64_t dir)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	int err = 0;

	if (!d) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (errno = 0, de = readdir(d))) {
		const char *name = de->d_name;
		uint64_t ino;
		uint32_t type;
		size_t mark;

		if (!strcmp(name, ".") || !strcmp(name, "..") ||
		    (dir == FS_ROOT_INO && plain_is_own(name)))
			continue;
		err = plain_find_name(c->fs, dir, name, &ino, &type);
		if (!err)
			err = path_push(&c->path, name, &mark);
		if (err)
			break;
		if (!ino)
			err = differs(c, PLAIN_ADDED);
		else
			err = compare_name(c, dirfd, name, ino, type);
		path_pop(&c->path, mark);
	}
	if (!err && errno)
		err = -errno;
	closedir(d);
	return err;
}

/* What was there and is not. */
static int find_removed(struct compare *c, int dirfd, uint64_t dir)
{
	uint64_t cookie = 0;
	struct plain_name n = { .ino = 0 };

	for (;;) {
		struct plain_stat was;
		struct stat st;
		size_t mark;
		int err;

		err = plain_next_name(c->fs, dir, &cookie, &n);
		if (err)
			return err == 1 ? 0 : err;
		if (!fstatat(dirfd, n.name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (errno != ENOENT)
			return -errno;
		err = plain_get(c->fs, n.ino, &was);
		if (!err && was.flags & (PLAIN_ABSENT | PLAIN_LEFT))
			continue;
		if (err < 0)
			return err;
		err = path_push(&c->path, n.name, &mark);
		if (!err) {
			err = differs(c, PLAIN_REMOVED);
			path_pop(&c->path, mark);
		}
		if (err)
			return err;
	}
}

static int compare_dir(struct compare *c, int fd, uint64_t dir)
{
	int err = find_added(c, fd, dir);

	return err ? err : find_removed(c, fd, dir);
}

int plain_view(struct fs *fs, uint64_t which, struct fs_view **out,
	       struct plain_state *state_out)
{
	struct plain_state st = { 0 };
	struct root root;
	int err;

	err = plain_get_state(fs, which, &st);
	if (err)
		return err;
	root = (struct root){ .ptr = st.root };
	if (state_out)
		*state_out = st;
	return fs_view_new(fs, &root, out);
}

int plain_compare(struct fs *fs, int dirfd,
		  const struct plain_compare_params *params)
{
	struct compare c = { .fs = fs, .p = params };
	struct plain_state state;
	struct stat st;
	bool same = false;
	int err;

	err = plain_view(fs, PLAIN_STATE_SHOWN, &c.shown, &state);
	if (err)
		return err == 1 ? -EFSCORRUPTED : err;
	err = looker_init(&c.look, fs);
	if (!err && fstat(dirfd, &st))
		err = -errno;
	/* The empty state has not even DIR itself. */
	same = !state.root.pos;
	if (!err && !same)
		err = same_object(&c, dirfd, ".", FS_ROOT_INO, &st, &same);
	if (!err && !same)
		err = differs(&c, PLAIN_CHANGED);
	if (!err)
		err = compare_dir(&c, dirfd, FS_ROOT_INO);
	looker_release(&c.look);
	free(c.path.s);
	fs_view_put(c.shown);
	return err;
}
