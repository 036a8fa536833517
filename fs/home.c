/* SPDX-License-Identifier: GPL-2.0-or-later */
/* home.c - where a store lies; see home.h. */
#include "fs/home.h"

#include "fs/hostdir.h"
#include "fs/plain.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { FUSE_MAGIC = 0x65735546, NOTE_BYTES = PATH_MAX + 64 };

/* The last file that a removal takes: it says whose the rest is. */
static const char note_name[] = "home";

__attribute__((format(printf, 3, 4))) static int
failed(struct store_error *e, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return err;
}

/* --- whose it is --- */

/*
 * Who made the link decides which folder the daemon reads and writes. Others
 * may be able to make names in DIR (a group, everybody), and the daemon may be
 * root's: what they make is not followed. Whom we trust with DIR itself is its
 * owner, root, and ourselves. The link is opened and what was opened is asked
 * and read, so that no other one can take its place in between; the folder is
 * asked the same, since a trusted link may lead through a place of others.
 */
static bool is_trusted(const struct stat *dir, const struct stat *st)
{
	return st->st_uid == dir->st_uid || !st->st_uid ||
	       st->st_uid == geteuid();
}

struct note {
	uint64_t host_ino;
	char path[PATH_MAX];
};

/* 1: there is none. */
static int read_note(int fd, const struct stat *dir, struct note *out)
{
	char buf[NOTE_BYTES], *end;
	struct stat st;
	ssize_t n = -1;
	int err = 0, f;

	f = openat(fd, note_name,
		   O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (f < 0)
		return errno == ENOENT ? 1 : -errno;
	if (fstat(f, &st) || (n = read(f, buf, sizeof(buf) - 1)) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode) || !is_trusted(dir, &st) ||
		 st.st_mode & 022)
		err = -EPERM;
	close(f);
	if (err)
		return err;
	buf[n] = '\0';
	out->host_ino = strtoull(buf, &end, 10);
	if (*end != '\n' || end == buf || buf[n - 1] != '\n')
		return -EFSCORRUPTED;
	buf[n - 1] = '\0';
	snprintf(out->path, sizeof(out->path), "%s", end + 1);
	return 0;
}

static int write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Durable on return, the old one or the new one after a crash. */
static int write_note(int fd, int dirfd, const char *dir)
{
	static const char tmp[] = "home.new";
	char buf[NOTE_BYTES];
	struct stat st;
	int f, n, err;

	if (fstat(dirfd, &st))
		return -errno;
	n = snprintf(buf, sizeof(buf), "%" PRIu64 "\n%s\n", (uint64_t)st.st_ino,
		     dir);
	if (n < 0 || n >= (int)sizeof(buf) - 1)
		return -ENAMETOOLONG;
	if (unlinkat(fd, tmp, 0) && errno != ENOENT)
		return -errno;
	f = openat(fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (f < 0)
		return -errno;
	err = write_all(f, buf, (size_t)n);
	if (!err && fsync(f))
		err = -errno;
	if (close(f) && !err)
		err = -errno;
	if (!err && renameat(fd, tmp, fd, note_name))
		err = -errno;
	return err ? err : fsync(fd) ? -errno : 0;
}

/* Is DIR the directory of the note? A moved one is, by its inode number; one
 * that was copied is not, on whatever filesystem: where the note's path leads
 * to another directory, numbers that are equal are so by chance. */
static bool is_home_of(const struct note *n, const struct stat *dir,
		       const char *path)
{
	struct stat st;

	if (n->host_ino != dir->st_ino)
		return false;
	return !strcmp(n->path, path) || stat(n->path, &st) ||
	       st.st_ino != dir->st_ino || st.st_dev == dir->st_dev;
}

static int check_folder(int fd, const struct stat *dir, const char *path,
			struct store_error *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return failed(e, -errno, "%s: %s", path, strerror(errno));
	if (!is_trusted(dir, &st) || st.st_mode & 022)
		return failed(e, -EPERM,
			      "the store %s is not used: it belongs to user "
			      "%u, or others may write in it",
			      path, st.st_uid);
	return 0;
}

static int check_note(int fd, const struct stat *dir, const char *dirpath,
		      const char *path, struct store_error *e)
{
	struct note n;
	int err = read_note(fd, dir, &n);

	if (!err && is_home_of(&n, dir, dirpath))
		return 0;
	if (!err)
		return failed(e, -EBUSY,
			      "the store %s belongs to %s; if %s is a copy of "
			      "that, remove %s/.txn; if it was moved or "
			      "restored: txn init --relink %s",
			      path, n.path, dirpath, dirpath, dirpath);
	if (err == 1)
		return failed(e, -EBUSY,
			      "the store %s does not say which directory it "
			      "belongs to; if that is %s: txn init --relink %s",
			      path, dirpath, dirpath);
	if (err == -EFSCORRUPTED)
		return failed(e, err,
			      "damage: %s/%s does not say which directory the "
			      "store belongs to; if that is %s: txn init "
			      "--relink %s",
			      path, note_name, dirpath, dirpath);
	return failed(e, err, "%s/%s: %s", path, note_name, strerror(-err));
}

/* --- opening --- */

/* Where the link leads; an absolute path. */
static int read_link(int dirfd, const struct stat *dir, const char *dirpath,
		     const char *name, char target[PATH_MAX],
		     struct store_error *e)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), err = 0;
	struct stat st;
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st))
		err = -errno;
	else if (!is_trusted(dir, &st))
		err = -EPERM;
	else if ((n = readlinkat(fd, "", target, PATH_MAX - 1)) < 0)
		err = -errno;
	else if (!n || target[0] != '/')
		err = -EINVAL;
	if (fd >= 0)
		close(fd);
	if (err == -EPERM)
		return failed(e, err,
			      "the link %s/%s is not followed: user %u made "
			      "it; remove it, and if the store is elsewhere: "
			      "txn init --relink --store PATH %s",
			      dirpath, name, st.st_uid, dirpath);
	if (err)
		return failed(e, err, "the link %s/%s: %s", dirpath, name,
			      strerror(-err));
	target[n] = '\0';
	return 0;
}

static int open_target(const char *dirpath, const char *target, int *fd_out,
		       struct store_error *e)
{
	int fd = open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return failed(e, -ENOLINK,
			      "the store of %s is in %s, which is not there; "
			      "mount what it lies on, or, if it was moved: txn "
			      "init --relink --store PATH %s",
			      dirpath, target, dirpath);
	if (fd < 0)
		return failed(e, -errno, "the store of %s, in %s: %s", dirpath,
			      target, strerror(errno));
	*fd_out = fd;
	return 0;
}

static int open_elsewhere(int dirfd, const char *dir, const char *name,
			  int *fd_out, struct store_error *e)
{
	char target[PATH_MAX];
	struct stat st;
	int fd = -1, err;

	if (fstat(dirfd, &st))
		return failed(e, -errno, "%s: %s", dir, strerror(errno));
	err = read_link(dirfd, &st, dir, name, target, e);
	if (!err)
		err = open_target(dir, target, &fd, e);
	if (!err)
		err = check_folder(fd, &st, target, e);
	if (!err)
		err = check_note(fd, &st, dir, target, e);
	if (!err && faccessat(fd, "format", F_OK, AT_SYMLINK_NOFOLLOW))
		err = failed(e, -errno,
			     "the store of %s, in %s, has no file \"format\"",
			     dir, target);
	if (err && fd >= 0)
		close(fd);
	if (!err)
		*fd_out = fd;
	return err;
}

int home_open(int dirfd, const char *dir, int *fd_out, struct store_error *e)
{
	struct stat st;

	e->text[0] = '\0';
	if (fstatat(dirfd, HOME_NAME, &st, AT_SYMLINK_NOFOLLOW)) {
		if (errno == ENOENT)
			return -ENOENT;
		return failed(e, -errno, "%s/.txn: %s", dir, strerror(errno));
	}
	if (S_ISLNK(st.st_mode))
		return open_elsewhere(dirfd, dir, HOME_NAME, fd_out, e);
	*fd_out = openat(dirfd, HOME_NAME,
			 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd_out < 0)
		return failed(e, -errno, "%s/.txn: %s", dir, strerror(errno));
	return 0;
}

/* --- making --- */

/* What lies in a folder in which nothing but an init was. */
static bool is_name_of_store(const char *name)
{
	static const char *const names[] = {
		"lock", "log",	"tmp",	    "ctl",	  ".gitignore",
		"home", "last", "home.new", HOME_NEW_NAME
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

enum found { FOUND_NOTHING, FOUND_HALF, FOUND_WHOLE, FOUND_OTHER };

static int look_into(int fd, enum found *found)
{
	DIR *d = hostdir_open(fd, ".");
	bool format = false, begun = false, other = false, any = false;
	const char *name;
	int err;

	if (!d)
		return -errno;
	while (!(err = hostdir_next(d, &name)) && name) {
		if (!strcmp(name, "lock"))
			continue;
		any = true;
		format |= !strcmp(name, "format");
		begun |= !strcmp(name, HOME_NEW_NAME);
		other |= !is_name_of_store(name);
	}
	closedir(d);
	*found = !any		   ? FOUND_NOTHING
		 : format	   ? FOUND_WHOLE
		 : begun && !other ? FOUND_HALF
				   : FOUND_OTHER;
	return err;
}

/* HOME_NEW_NAME last: without it the rest would be somebody else's. */
static int remove_half(int fd)
{
	static const char *const folders[] = { "log", "tmp", "ctl" };
	static const char *const files[] = { ".gitignore", "last", "home.new",
					     note_name };
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(folders) && !err; i++)
		err = plain_remove_tree(fd, folders[i]);
	for (size_t i = 0; i < ARRAY_LEN(files) && !err; i++)
		if (unlinkat(fd, files[i], 0) && errno != ENOENT)
			err = -errno;
	if (!err && fsync(fd))
		err = -errno;
	return err ? err : plain_remove_tree(fd, HOME_NEW_NAME);
}

/* Does DIR lie above? By what they are, not by names. */
static int is_within(int fd, const struct stat *dir, bool *within)
{
	struct stat st, up;
	int at = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), err = 0;

	*within = false;
	while (at >= 0) {
		int next = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (next < 0 || fstat(at, &st) || fstat(next, &up))
			err = -errno;
		*within |= !err && st.st_dev == dir->st_dev &&
			   st.st_ino == dir->st_ino;
		close(at);
		at = next;
		if (err || *within ||
		    (st.st_dev == up.st_dev && st.st_ino == up.st_ino))
			break;
	}
	if (at < 0 && !err)
		err = -errno;
	if (at >= 0)
		close(at);
	return err;
}

/* The name of a new folder, durable. */
static int sync_parent(int fd)
{
	int up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	err = up < 0 || fsync(up) ? -errno : 0;
	if (up >= 0)
		close(up);
	/* A folder that is there already may lie where we may not read. */
	return err == -EACCES ? 0 : err;
}

static int check_place(struct home *h, const struct stat *dir,
		       struct store_error *e)
{
	struct statfs sf;
	struct stat st;
	bool within;
	int err;

	if (fstatfs(h->fd, &sf) || fstat(h->fd, &st))
		return failed(e, -errno, "%s: %s", h->path, strerror(errno));
	if (sf.f_type == FUSE_MAGIC)
		return failed(e, -EBUSY,
			      "%s lies on a FUSE mount, which cannot promise "
			      "that flushed data is durable",
			      h->path);
	err = is_within(h->fd, dir, &within);
	if (err)
		return failed(e, err, "%s: %s", h->path, strerror(-err));
	if (within)
		return failed(e, -EBUSY,
			      "%s lies in %s: the store would hold itself; "
			      "take a folder elsewhere, or no --store",
			      h->path, h->dir);
	/* All that DIR holds will be readable there. */
	if (st.st_mode & 077 && fchmod(h->fd, 0700))
		return failed(e, -errno,
			      "%s is open to others and cannot be made 0700: "
			      "%s",
			      h->path, strerror(errno));
	return check_folder(h->fd, dir, h->path, e);
}

static int begin_locked(struct home *h, const struct stat *dir,
			struct store_error *e)
{
	struct holder_info info = { 0 };
	enum found found;
	int err;

	/* Before anything is made in it, the lock included. */
	err = look_into(h->fd, &found);
	if (!err && found != FOUND_OTHER)
		err = holder_take(h->fd, false, "", 0, &h->holder, &info);
	if (err == -EBUSY)
		return failed(e, err, "%s is in use by process %ld", h->path,
			      info.pid);
	if (!err)
		err = look_into(h->fd, &found);
	if (err)
		return failed(e, err, "%s: %s", h->path, strerror(-err));
	if (found == FOUND_OTHER)
		return failed(e, -EEXIST,
			      "%s has other things in it; take a new or an "
			      "empty folder",
			      h->path);
	if (found == FOUND_WHOLE) {
		err = check_note(h->fd, dir, h->dir, h->path, e);
		return err ? err : 1;
	}
	err = found == FOUND_HALF ? remove_half(h->fd) : 0;
	return err ? failed(e, err,
			    "%s: what an interrupted init left cannot be "
			    "removed: %s",
			    h->path, strerror(-err))
		   : 0;
}

bool home_is_there(int dirfd)
{
	struct stat st;

	if (fstatat(dirfd, HOME_NAME, &st, AT_SYMLINK_NOFOLLOW))
		return false;
	return S_ISLNK(st.st_mode) ||
	       !fstatat(dirfd, HOME_NAME "/format", &st, AT_SYMLINK_NOFOLLOW) ||
	       !fstatat(dirfd, HOME_NAME "/log", &st, AT_SYMLINK_NOFOLLOW);
}

int home_check_free(int dirfd, const char *dir, struct store_error *e)
{
	struct stat st;

	e->text[0] = '\0';
	if (fstatat(dirfd, HOME_NAME, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0
				       : failed(e, -errno, "%s/.txn: %s", dir,
						strerror(errno));
	if (!home_is_there(dirfd))
		return failed(e, -EEXIST,
			      "%s/.txn is there already and is no store: move "
			      "it away",
			      dir);
	return failed(e, -EEXIST,
		      "it has a store already%s: txn mount %s uses it, txn "
		      "eject %s ends it",
		      S_ISLNK(st.st_mode) ? ", to which .txn in it leads" : "",
		      dir, dir);
}

int home_begin(struct home *h, int dirfd, const char *dir, const char *path,
	       struct store_error *e)
{
	struct stat st;
	int err;

	*h = (struct home){
		.dirfd = dirfd, .dir = dir, .path = path, .fd = -1
	};
	e->text[0] = '\0';
	err = home_check_free(dirfd, dir, e);
	if (err)
		return err;
	if (fstat(dirfd, &st))
		return failed(e, -errno, "%s: %s", dir, strerror(errno));
	h->made = !mkdir(path, 0700);
	if (!h->made && errno != EEXIST)
		return failed(e, -errno, "%s: %s", path, strerror(errno));
	h->fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	err = h->fd < 0 ? -errno : sync_parent(h->fd);
	if (err)
		err = failed(e, err, "%s: %s", path, strerror(-err));
	if (!err)
		err = check_place(h, &st, e);
	if (!err)
		err = begin_locked(h, &st, e);
	if (err < 0)
		home_cancel(h);
	return err;
}

/* The names in HOME_NEW_NAME, but for those that are ours or come last. */
static int move_names(int fd, int new)
{
	DIR *d = hostdir_open(new, ".");
	const char *name;
	int err = 0;

	if (!d)
		return -errno;
	while (!err && !(err = hostdir_next(d, &name)) && name) {
		if (!strcmp(name, "lock") || !strcmp(name, "format"))
			continue;
		if (renameat(new, name, fd, name))
			err = -errno;
	}
	closedir(d);
	return err;
}

int home_finish(struct home *h, struct store_error *e)
{
	int new = openat(h->fd, HOME_NEW_NAME,
			 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int err = new < 0 ? -errno : 0;

	if (!err)
		err = write_note(h->fd, h->dirfd, h->dir);
	if (!err)
		err = move_names(h->fd, new);
	/* All of it is durable before it has the name that makes it a store. */
	if (!err && (fsync(h->fd) || renameat(new, "format", h->fd, "format") ||
		     fsync(h->fd)))
		err = -errno;
	if (new >= 0)
		close(new);
	if (err)
		return failed(e, err, "%s: %s", h->path, strerror(-err));
	return home_link(h, e);
}

/* The link, durable; an older one is replaced. */
static int make_link(int dirfd, const char *dir, const char *path,
		     struct store_error *e)
{
	int err = 0;

	if (unlinkat(dirfd, HOME_NEW_NAME, 0) && errno != ENOENT)
		err = -errno;
	if (!err &&
	    (symlinkat(path, dirfd, HOME_NEW_NAME) ||
	     renameat(dirfd, HOME_NEW_NAME, dirfd, HOME_NAME) || fsync(dirfd)))
		err = -errno;
	return err ? failed(e, err, "%s/.txn cannot be made: %s", dir,
			    strerror(-err))
		   : 0;
}

int home_link(struct home *h, struct store_error *e)
{
	int err;

	err = make_link(h->dirfd, h->dir, h->path, e);
	if (!err)
		(void)plain_remove_tree(h->fd, HOME_NEW_NAME);
	return err;
}

void home_end(struct home *h)
{
	holder_release(h->holder);
	if (h->fd >= 0)
		close(h->fd);
	h->holder = NULL;
	h->fd = -1;
}

void home_cancel(struct home *h)
{
	enum found found;

	if (h->fd >= 0 && !look_into(h->fd, &found) && h->holder &&
	    found != FOUND_WHOLE && found != FOUND_OTHER) {
		(void)remove_half(h->fd);
		(void)unlinkat(h->fd, "lock", 0);
	}
	if (h->made)
		(void)rmdir(h->path);
	home_end(h);
}

/* --- another directory --- */

static int relink_locked(struct home *h, struct store_error *e)
{
	struct stat st;
	int err;

	/* Directories may wait there to get their places again. */
	if (!faccessat(h->fd, "sync", F_OK, AT_SYMLINK_NOFOLLOW))
		return failed(e, -EBUSY,
			      "the plain files of %s are between two commits; "
			      "let them follow (txn sync) where they were "
			      "before",
			      h->path);
	if (!fstatat(h->dirfd, HOME_NAME, &st, AT_SYMLINK_NOFOLLOW) &&
	    !S_ISLNK(st.st_mode))
		return failed(e, -EEXIST, "%s/.txn is no link", h->dir);
	err = write_note(h->fd, h->dirfd, h->dir);
	if (err)
		return failed(e, err, "%s/%s: %s", h->path, note_name,
			      strerror(-err));
	return make_link(h->dirfd, h->dir, h->path, e);
}

int home_relink(int dirfd, const char *dir, const char *path,
		struct store_error *e)
{
	struct home h = { .dirfd = dirfd, .dir = dir, .path = path, .fd = -1 };
	struct holder_info info = { 0 };
	char target[PATH_MAX];
	struct stat st;
	int err = 0;

	e->text[0] = '\0';
	if (fstat(dirfd, &st))
		return failed(e, -errno, "%s: %s", dir, strerror(errno));
	if (!path) {
		err = read_link(dirfd, &st, dir, HOME_NAME, target, e);
		h.path = target;
	}
	if (!err)
		err = open_target(dir, h.path, &h.fd, e);
	/* Before anything is made in it, the lock included. */
	if (!err && faccessat(h.fd, "format", F_OK, AT_SYMLINK_NOFOLLOW))
		err = failed(e, -ENOENT, "%s is no store: it has no format",
			     h.path);
	if (!err)
		err = check_place(&h, &st, e);
	if (!err) {
		err = holder_take(h.fd, false, "", 0, &h.holder, &info);
		if (err)
			failed(e, err, "%s: %s (process %ld has it)", h.path,
			       strerror(-err), info.pid);
	}
	if (!err)
		err = relink_locked(&h, e);
	home_end(&h);
	return err;
}

/* --- removing --- */

/* All but what says whose it is; then that. */
static int remove_all(int fd)
{
	DIR *d = hostdir_open(fd, ".");
	const char *name;
	int err = 0;

	if (!d)
		return -errno;
	while (!err && !(err = hostdir_next(d, &name)) && name) {
		if (!strcmp(name, note_name))
			continue;
		if (unlinkat(fd, name, 0))
			err = errno == EISDIR || errno == EPERM
				      ? plain_remove_tree(fd, name)
				      : -errno;
	}
	closedir(d);
	if (!err &&
	    (fsync(fd) || (unlinkat(fd, note_name, 0) && errno != ENOENT)))
		err = -errno;
	return err;
}

static int remove_elsewhere(int dirfd, const char *dir, struct store_error *e)
{
	char target[PATH_MAX];
	enum found found;
	struct stat st;
	int err, fd = -1;

	if (fstat(dirfd, &st))
		return failed(e, -errno, "%s: %s", dir, strerror(errno));
	err = read_link(dirfd, &st, dir, HOME_GONE_NAME, target, e);
	if (err)
		return err;
	err = open_target(dir, target, &fd, e);
	if (err == -ENOLINK)
		return 0; /* it was removed, but for the link */
	if (!err)
		err = check_folder(fd, &st, target, e);
	if (!err)
		err = look_into(fd, &found);
	/* Nothing is left when the note is gone. */
	if (!err && found != FOUND_NOTHING)
		err = check_note(fd, &st, dir, target, e);
	if (!err)
		err = remove_all(fd);
	/* A mount point, or not ours to remove: it stays, empty. */
	if (!err)
		(void)rmdir(target);
	if (err && !e->text[0])
		failed(e, err, "%s: %s", target, strerror(-err));
	if (fd >= 0)
		close(fd);
	return err;
}

int home_remove(int dirfd, const char *dir, struct store_error *e)
{
	struct stat st;
	int err;

	e->text[0] = '\0';
	if (fstatat(dirfd, HOME_GONE_NAME, &st, AT_SYMLINK_NOFOLLOW))
		err = -errno;
	else if (!S_ISLNK(st.st_mode))
		err = plain_remove_tree(dirfd, HOME_GONE_NAME);
	else
		err = remove_elsewhere(dirfd, dir, e);
	if (!err && S_ISLNK(st.st_mode) && unlinkat(dirfd, HOME_GONE_NAME, 0))
		err = -errno;
	return err && !e->text[0] ? failed(e, err, "%s/" HOME_GONE_NAME ": %s",
					   dir, strerror(-err))
				  : err;
}
