/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_place.c - where objects are while names move. A directory that moves
 * waits in the folder for objects on their way; the way to any other one is
 * the way that the state shown says until all that moves was taken, and the
 * way that the target says from then on. Whether what is there is ours, and
 * flushing directories.
 */
#include "fs/home.h"
#include "fs/hostdir.h"
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <unistd.h>

enum { OPEN_PATH_BYTES = 3000, SUFFIX_BYTES = 32 };

void out_tmp_name(char buf[32], uint64_t ino, bool dir)
{
	snprintf(buf, 32, "%c%llu", dir ? 'd' : 'o', (unsigned long long)ino);
}

const struct fs_delta_inode *out_find(const struct plain_out *o, uint64_t ino,
				      struct out_inode **out)
{
	const struct fs_delta_inode *d = fs_delta_find(o->d, ino);

	*out = d ? &o->inodes[d - o->d->inodes] : NULL;
	return d;
}

/* --- the folder for objects on their way --- */

static int mount_of(int fd, uint64_t *id)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx))
		return -errno;
	*id = sx.stx_mask & STATX_MNT_ID ? sx.stx_mnt_id : 0;
	return 0;
}

/* In the store when that is a folder of DIR. Else in DIR: a store elsewhere may
 * be on another filesystem, or on this one in another mount or project, which
 * takes no renames either. */
static int choose_folder(struct plain_out *o, int *at, const char **name)
{
	uint64_t dir_mount = 0, store_mount = 0;
	struct stat dir, store, own;
	int err;

	/* Not by "..": that leads into the mount over DIR. */
	if (fstat(o->p->dirfd, &dir) || fstat(o->p->storefd, &store))
		return -errno;
	if (fstatat(o->p->dirfd, HOME_NAME, &own, AT_SYMLINK_NOFOLLOW)) {
		if (errno != ENOENT)
			return -errno;
		own = (struct stat){ 0 };
	}
	err = mount_of(o->p->dirfd, &dir_mount);
	if (!err)
		err = mount_of(o->p->storefd, &store_mount);
	if (err)
		return err;
	if (dir.st_dev == store.st_dev && dir_mount == store_mount &&
	    own.st_dev == store.st_dev && own.st_ino == store.st_ino) {
		*at = o->p->storefd;
		*name = "sync";
	} else {
		*at = o->p->dirfd;
		*name = PLAIN_TMP_NAME;
	}
	return 0;
}

int plain_keep_interrupted(int dirfd, int storefd)
{
	const struct plain_out_params p = { .dirfd = dirfd,
					    .storefd = storefd };
	struct plain_out o = { .p = &p };
	const char *name;
	char to[SUFFIX_BYTES];
	int at, err;

	err = choose_folder(&o, &at, &name);
	/* An empty one is of no use. */
	if (err || !unlinkat(at, name, AT_REMOVEDIR) || errno == ENOENT)
		return err;
	for (unsigned int n = 1; n; n++) {
		snprintf(to, sizeof(to), "interrupted@offline-%u", n);
		if (!renameat2(at, name, dirfd, to, RENAME_NOREPLACE))
			break;
		if (errno != EEXIST)
			return -errno;
	}
	return fsync(at) || fsync(dirfd) ? -errno : 0;
}

int out_open_folder(struct plain_out *o, bool empty)
{
	const char *name;
	int at, err;

	err = choose_folder(o, &at, &name);
	if (!err && empty)
		err = plain_remove_tree(at, name);
	if (!err && mkdirat(at, name, 0700) && errno != EEXIST)
		err = -errno;
	if (err)
		return err;
	o->tmpfd = openat(at, name,
			  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return o->tmpfd < 0 ? -errno : 0;
}

int out_close_folder(struct plain_out *o)
{
	const char *name;
	int at, err;

	err = choose_folder(o, &at, &name);
	return err ? err : plain_remove_tree(at, name);
}

static struct fs_view *names_of(const struct plain_out *o)
{
	return o->installing ? o->hv : o->sv;
}

/* --- the way to a directory --- */

struct one_name {
	uint64_t dir;
	char name[FS_NAME_MAX + 1];
};

/* 1: enough. */
static int take_name(void *arg, uint64_t dir, const char *name, size_t len)
{
	struct one_name *n = arg;

	n->dir = dir;
	memcpy(n->name, name, len);
	n->name[len] = '\0';
	return 1;
}

/* -ENOENT: it has none. */
static int find_name(struct fs_view *fv, uint64_t ino, struct one_name *out)
{
	int err = fv_each_name(fv, ino, take_name, out);

	return err == 1 ? 0 : err ? err : -ENOENT;
}

static bool waits_in_folder(const struct plain_out *o, uint64_t ino)
{
	unsigned int flags = FS_DELTA_MOVED;
	const struct fs_delta_inode *d = fs_delta_find(o->d, ino);
	char tmp[32];

	if (o->installing)
		flags |= FS_DELTA_NEW;
	out_tmp_name(tmp, ino, true);
	return d && d->flags & flags &&
	       !faccessat(o->tmpfd, tmp, F_OK, AT_SYMLINK_NOFOLLOW);
}

bool out_is_below_absent(const struct plain_out *o, uint64_t ino)
{
	struct out_inode *x;
	struct fs_attr a;

	while (ino != FS_ROOT_INO && !fs_getattr(o->hv, ino, &a)) {
		ino = a.parent;
		if (out_find(o, ino, &x) && x->flags & PLAIN_ABSENT)
			return true;
	}
	return false;
}

/* Paths may be longer than the kernel takes at once. */
static int open_deep(int base, char *path)
{
	int fd = -1, err;

	for (;;) {
		size_t len = strlen(path), cut = len;

		if (len > OPEN_PATH_BYTES) {
			cut = OPEN_PATH_BYTES;
			while (cut && path[cut] != '/')
				cut--;
		}
		if (!cut)
			return -ENAMETOOLONG;
		if (path[cut])
			path[cut++] = '\0';
		err = plain_open(fd < 0 ? base : fd, path,
				 O_DIRECTORY | (cut < len ? O_PATH : O_RDONLY));
		if (fd >= 0)
			close(fd);
		if (err < 0 || cut >= len)
			return err;
		fd = err;
		path += cut;
	}
}

static int append_names(struct plain_out *o, const uint64_t *chain, size_t n,
			struct plain_path *path)
{
	struct one_name name;
	size_t mark;
	int err = 0;

	while (n-- && !err) {
		err = find_name(names_of(o), chain[n], &name);
		if (!err)
			err = path_push(path, name.name, &mark);
	}
	return err;
}

static int open_dir(struct plain_out *o, uint64_t ino)
{
	struct plain_path path = { 0 };
	uint64_t *chain = NULL;
	size_t n = 0, cap = 0, mark;
	struct one_name name;
	int base = o->p->dirfd, err = 0;
	char tmp[32];

	while (ino != FS_ROOT_INO && !err) {
		if (waits_in_folder(o, ino)) {
			base = o->tmpfd;
			out_tmp_name(tmp, ino, true);
			err = path_push(&path, tmp, &mark);
			break;
		}
		err = array_grow((void **)&chain, &cap, n + 1, sizeof(*chain));
		if (err)
			break;
		chain[n++] = ino;
		err = find_name(names_of(o), ino, &name);
		ino = name.dir;
	}
	if (!err)
		err = append_names(o, chain, n, &path);
	if (!err)
		err = path.len ? open_deep(base, path.s)
			       : plain_open(base, ".", O_RDONLY | O_DIRECTORY);
	free(chain);
	free(path.s);
	return err;
}

static int note_touched(struct plain_out *o, uint64_t ino)
{
	int err;

	if (o->ntouched && o->touched[o->ntouched - 1] == ino)
		return 0;
	err = array_grow((void **)&o->touched, &o->touched_cap, o->ntouched + 1,
			 sizeof(*o->touched));
	if (!err)
		o->touched[o->ntouched++] = ino;
	return err;
}

/* One's own directory that may not be written: its mode comes back with its
 * times. */
void out_make_writable(int fd)
{
	struct stat st;

	if (!geteuid() || fstat(fd, &st) || st.st_uid != geteuid() ||
	    (st.st_mode & 0700) == 0700)
		return;
	(void)fchmod(fd, (st.st_mode & 07777) | 0700); /* else EACCES tells */
}

int out_open_dir(struct plain_out *o, uint64_t ino, bool touch, int *fd_out)
{
	int fd = o->dir_fd, err = 0;

	if (o->dir_ino != ino) {
		fd = open_dir(o, ino);
		if (fd < 0)
			return fd;
		if (o->dir_ino)
			close(o->dir_fd);
		o->dir_fd = fd;
		o->dir_ino = ino;
	}
	if (touch) {
		err = note_touched(o, ino);
		out_make_writable(fd);
	}
	*fd_out = fd;
	return err;
}

int out_open_object(struct plain_out *o, uint64_t ino, int flags, int *fd_out)
{
	struct one_name name;
	int dirfd, err;

	if (ino == FS_ROOT_INO) {
		err = plain_open(o->p->dirfd, ".", flags);
	} else {
		err = find_name(o->hv, ino, &name);
		if (!err)
			err = out_open_dir(o, name.dir, false, &dirfd);
		if (!err)
			err = plain_open(dirfd, name.name, flags);
	}
	if (err < 0)
		return err;
	*fd_out = err;
	return 0;
}

/* --- telling --- */

static char *shown_path(struct plain_out *o, uint64_t dir, const char *name)
{
	char *d = NULL, *s = NULL;
	size_t size;

	if (fs_path(names_of(o), dir, &d) && fs_path(o->hv, dir, &d))
		return strdup(name ? name : "?");
	size = strlen(d) + (name ? strlen(name) : 1) + 2;
	s = malloc(size);
	if (s && !*d && !name)
		snprintf(s, size, ".");
	else if (s)
		snprintf(s, size, "%s%s%s", d, *d && name ? "/" : "",
			 name ? name : "");
	free(d);
	return s;
}

void out_note(struct plain_out *o, uint64_t dir, const char *name,
	      const char *why)
{
	char *path = shown_path(o, dir, name);

	if (o->p->note && path)
		o->p->note(o->p->arg, path, why);
	free(path);
}

int out_failed(struct plain_out *o, uint64_t dir, const char *name, int err,
	       const char *what)
{
	char *path, shown[256] = "?";

	if (o->err->text[0])
		return err;
	path = shown_path(o, dir, name);
	if (path)
		(void)fs_quote_path(path, shown, sizeof(shown));
	free(path);
	snprintf(o->err->text, sizeof(o->err->text), "%s %s: %s", what, shown,
		 strerror(-err));
	return err;
}

bool out_is_gone(int err)
{
	return err == -ENOENT || err == -ENOTDIR || err == -ELOOP;
}

bool out_is_refused(int err)
{
	return err == -EPERM || err == -EACCES || err == -EBUSY ||
	       err == -EXDEV || err == -EOPNOTSUPP || err == -ENODEV ||
	       err == -EINVAL || err == -EOVERFLOW || err == -EFBIG ||
	       err == -E2BIG || err == -ENAMETOOLONG || err == -EMLINK;
}

/* --- what is in the way --- */

int out_keep_from(struct plain_out *o, int fromfd, const char *from,
		  uint64_t dir, int dirfd, const char *name)
{
	char to[FS_NAME_MAX + SUFFIX_BYTES], why[FS_NAME_MAX + 128];
	int err = -EEXIST;

	for (unsigned int n = 1; err == -EEXIST && n; n++) {
		char suffix[SUFFIX_BYTES];
		int len;

		snprintf(suffix, sizeof(suffix), "@offline-%u", n);
		len = (int)min_u64(strlen(name), FS_NAME_MAX - strlen(suffix));
		snprintf(to, sizeof(to), "%.*s%s", len, name, suffix);
		err = renameat2(fromfd, from, dirfd, to, RENAME_NOREPLACE)
			      ? -errno
			      : 0;
	}
	if (err == -ENOENT && (fromfd == dirfd || dir == FS_ROOT_INO))
		return 0;
	/* It was taken from there already, and somebody removed the directory
	 * that it left empty. */
	if (err == -ENOENT) {
		err = out_open_dir(o, FS_ROOT_INO, true, &dirfd);
		return err ? err
			   : out_keep_from(o, fromfd, from, FS_ROOT_INO, dirfd,
					   name);
	}
	if (err)
		return out_failed(o, dir, name, err, "cannot keep the edited");
	snprintf(why, sizeof(why), "was edited outside the mount; kept as %s",
		 to);
	out_note(o, dir, name, why);
	o->r.kept++;
	return 0;
}

int out_keep_aside(struct plain_out *o, uint64_t dir, int dirfd,
		   const char *name)
{
	return out_keep_from(o, dirfd, name, dir, dirfd, name);
}

int plain_remove_tree(int at, const char *name)
{
	DIR *d = hostdir_open(at, name);
	const char *entry;
	int err = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (!err && !(err = hostdir_next(d, &entry)) && entry) {
		if (!unlinkat(dirfd(d), entry, 0))
			continue;
		if (errno != EISDIR && errno != EPERM)
			err = -errno;
		else
			err = plain_remove_tree(dirfd(d), entry);
	}
	closedir(d);
	if (!err && unlinkat(at, name, AT_REMOVEDIR))
		err = -errno;
	return err;
}

/* --- what was taken from its name, and may be an edit --- */

void out_taken_name(char buf[OUT_TAKEN_BYTES], uint64_t ino, uint64_t comes)
{
	snprintf(buf, OUT_TAKEN_BYTES, "x%llu-%llu", (unsigned long long)ino,
		 (unsigned long long)comes);
}

int out_drop_taken(struct plain_out *o, const char *tmp, uint64_t ino)
{
	struct stat st;
	bool ours = false;
	int err;

	err = out_look_at(o->tmpfd, tmp, &st);
	if (!err && !S_ISDIR(st.st_mode))
		err = out_is_ours(o, ino, o->tmpfd, tmp, &st, &ours);
	if (err || !ours)
		return err < 0 ? err : 1;
	return unlinkat(o->tmpfd, tmp, 0) ? -errno : 0;
}

static int settle(struct plain_out *o, const char *tmp, uint64_t ino,
		  uint64_t comes)
{
	struct one_name at = { .dir = FS_ROOT_INO };
	struct stat st, own;
	char name[32];
	int dirfd, err;

	out_tmp_name(name, comes, false);
	if (comes && !out_look_at(o->tmpfd, tmp, &st) &&
	    !out_look_at(o->tmpfd, name, &own) && own.st_ino == st.st_ino)
		return unlinkat(o->tmpfd, tmp, 0) ? -errno : 0;
	err = out_drop_taken(o, tmp, ino);
	if (err != 1)
		return err;
	err = find_name(o->sv, ino, &at);
	if (!err)
		err = out_open_dir(o, at.dir, true, &dirfd);
	if (out_is_gone(err)) {
		at.dir = FS_ROOT_INO;
		err = out_open_dir(o, at.dir, true, &dirfd);
	}
	return err ? err
		   : out_keep_from(o, o->tmpfd, tmp, at.dir, dirfd, at.name);
}

int out_settle_taken(struct plain_out *o)
{
	DIR *d = hostdir_open(o->tmpfd, ".");
	const char *name;
	int err = d ? 0 : -errno;

	while (!err && !(err = hostdir_next(d, &name)) && name) {
		unsigned long long ino, comes;

		if (sscanf(name, "x%llu-%llu", &ino, &comes) == 2)
			err = settle(o, name, ino, comes);
	}
	if (d)
		closedir(d);
	return err;
}

/* Somebody moved it, or removed it. */
int out_make_dir(struct plain_out *o, uint64_t ino)
{
	struct one_name name;
	int dirfd, err;

	err = find_name(names_of(o), ino, &name);
	if (!err)
		err = out_open_dir(o, name.dir, true, &dirfd);
	if (out_is_gone(err) && ino != FS_ROOT_INO) {
		err = out_make_dir(o, name.dir);
		if (!err)
			err = out_open_dir(o, name.dir, true, &dirfd);
	}
	if (!err)
		err = out_keep_aside(o, name.dir, dirfd, name.name);
	if (!err && mkdirat(dirfd, name.name, 0700))
		err = -errno;
	if (err)
		return err;
	o->r.changed++;
	out_note(o, name.dir, name.name, "was not there; made anew");
	return 0;
}

/* --- is what is there ours? --- */

bool out_same_stat(const struct plain_stat *was, const struct stat *st)
{
	struct plain_stat now = plain_of_stat(st);

	return now.host_ino == was->host_ino && now.size == was->size &&
	       now.mtime_ns == was->mtime_ns && now.ctime_ns == was->ctime_ns &&
	       now.mode == was->mode && now.uid == was->uid &&
	       now.gid == was->gid;
}

/* Links and renames change ctime, and the run makes some itself. */
bool out_was_checked(const struct out_inode *x, const struct stat *st)
{
	return x->checked && x->host_ino == st->st_ino &&
	       x->size == (uint64_t)st->st_size &&
	       x->mtime_ns == plain_ns(&st->st_mtim);
}

static int is_directory(struct plain_out *o, uint64_t ino, bool *is)
{
	struct fs_attr a = { 0 };
	int err = fs_getattr(o->sv, ino, &a);

	if (err == -ENOENT)
		err = fs_getattr(o->hv, ino, &a);
	*is = !err && S_ISDIR(a.mode);
	return err == -ENOENT ? 0 : err;
}

/*
 * A directory is ours when the object is one: what is in it is looked at by its
 * names. Another object is ours when it is as the table says, or its contents
 * are those of one of the two states; after an interruption also a mixture of
 * them. What was looked at once is not read again.
 */
int out_is_ours(struct plain_out *o, uint64_t ino, int dirfd, const char *name,
		const struct stat *st, bool *ours)
{
	struct plain_stat was;
	struct out_inode *x;
	int err;

	if (S_ISDIR(st->st_mode))
		return is_directory(o, ino, ours);
	(void)out_find(o, ino, &x);
	*ours = x && out_was_checked(x, st);
	if (*ours)
		return 0;
	err = plain_get(o->fs, ino, &was);
	if (err < 0)
		return err;
	*ours = !err && out_same_stat(&was, st);
	err = 0;
	if (!*ours)
		err = look_contents(&o->look, dirfd, name, st, o->sv,
				    o->again ? o->hv : NULL, ino, ours);
	if (!err && !*ours && o->again)
		err = look_contents(&o->look, dirfd, name, st, o->hv, NULL, ino,
				    ours);
	if (err == -EACCES)
		err = 0; /* who may not read it, cannot tell: it is kept */
	if (x && *ours) {
		x->checked = true;
		x->host_ino = st->st_ino;
		x->size = (uint64_t)st->st_size;
		x->mtime_ns = plain_ns(&st->st_mtim);
	}
	return err;
}

/* 1: no such name. */
int out_look_at(int dirfd, const char *name, struct stat *st)
{
	if (!fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW))
		return 0;
	return errno == ENOENT || errno == ENOTDIR ? 1 : -errno;
}

void out_entry_name(const struct plain_out *o, const struct fs_delta_name *e,
		    char name[FS_NAME_MAX + 1])
{
	memcpy(name, o->d->names + e->name_off, e->name_len);
	name[e->name_len] = '\0';
}

/* --- flushing names --- */

int out_flush_dirs(struct plain_out *o)
{
	int err = 0, fd;

	if (o->flush_all || o->ntouched > OUT_FLUSH_EACH_MAX)
		return syncfs(o->p->dirfd) ? -errno : 0;
	for (size_t i = 0; i < o->ntouched && !err; i++) {
		err = out_open_dir(o, o->touched[i], false, &fd);
		if (out_is_gone(err))
			err = 0; /* its own directory tells */
		else if (!err && fsync(fd))
			err = -errno;
	}
	if (!err && fsync(o->tmpfd))
		err = -errno;
	return err;
}

void out_forget_dir(struct plain_out *o)
{
	if (o->dir_ino)
		close(o->dir_fd);
	o->dir_ino = 0;
}
