/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * move_batch.c - files on their way from DIR into the store.
 *
 * A file is taken under a read lease (nobody has it open for writing; whoever
 * wants to waits), gets a name in log/, is read once for its sums, and comes
 * into the view. A batch of such is made durable; only then their names go,
 * their directories are flushed, and the leases are looked at: was one being
 * broken, or is it refused anew, then somebody may write into the file, and its
 * bytes are copied. What cannot be leased or linked, has names outside DIR, or
 * is small is copied at once.
 *
 * Until the names are known to be gone the plain directory's table has a note
 * of each object, by which an interrupted batch is known again.
 */
#include "fs/move_internal.h"

#include <fcntl.h>
#include <unistd.h>

enum {
	BATCH_COPIED_BYTES = 256 << 20,
	FLUSH_EACH_MAX = 64 /* directories; more are flushed together */
};

static const uint64_t batch_moved_bytes = 1 << 30;

/* --- directories --- */

struct move_dir *move_dir_new(int fd, uint64_t ino, const struct stat *st)
{
	struct move_dir *d = malloc(sizeof(*d));

	if (d)
		*d = (struct move_dir){
			.refs = 1, .fd = fd, .ino = ino, .st = *st
		};
	return d;
}

void move_dir_put(struct move_dir *d)
{
	if (!d || --d->refs)
		return;
	close(d->fd);
	free(d);
}

int move_touch(struct move *m, struct move_dir *d)
{
	int err;

	if (d->touched)
		return 0;
	err = array_grow((void **)&m->dirs, &m->dirs_cap, m->ndirs + 1,
			 sizeof(struct move_dir *));
	if (err)
		return err;
	d->touched = true;
	d->refs++;
	m->dirs[m->ndirs++] = d;
	return 0;
}

/* No state is durable in which what was moved out of a directory has changed
 * its times. */
static int keep_times(struct move *m)
{
	int err = 0;

	for (size_t i = 0; i < m->ndirs && !err; i++) {
		const struct stat *st = &m->dirs[i]->st;
		struct fs_attr a = { .atime_ns = plain_ns(&st->st_atim),
				     .mtime_ns = plain_ns(&st->st_mtim),
				     .ctime_ns = plain_ns(&st->st_ctim) };

		err = fs_setattr(m->r.to, m->dirs[i]->ino,
				 FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME, &a,
				 NULL);
	}
	return err;
}

static int flush_dirs(struct move *m)
{
	if (m->ndirs > FLUSH_EACH_MAX)
		return syncfs(m->dirfd) ? -errno : 0;
	for (size_t i = 0; i < m->ndirs; i++)
		if (fsync(m->dirs[i]->fd))
			return -errno;
	return 0;
}

/* --- leases --- */

static bool lease_holds(const struct move_item *it)
{
	return fcntl(it->fd, F_GETLEASE) == F_RDLCK;
}

static bool lease(const struct move_item *it)
{
	return !fcntl(it->fd, F_SETLEASE, F_RDLCK);
}

static void set_owner(const struct move_item *it, uid_t uid, gid_t gid,
		      mode_t mode)
{
	if (it->st.st_uid != geteuid() || it->st.st_gid != getegid())
		(void)!fchown(it->fd, uid, gid);
	(void)fchmod(it->fd, mode & 07777);
}

/*
 * Its names are gone. Let whoever waits go on; true: nobody did, and nobody
 * else opens it from here on. Else it is as it was.
 */
static bool take_over(const struct move_item *it)
{
	bool ours;

	if (!lease_holds(it))
		return false;
	(void)fcntl(it->fd, F_SETLEASE, F_UNLCK);
	if (!lease(it))
		return false;
	set_owner(it, geteuid(), getegid(), 0600);
	ours = lease_holds(it);
	if (!ours)
		set_owner(it, it->st.st_uid, it->st.st_gid, it->st.st_mode);
	(void)fcntl(it->fd, F_SETLEASE, F_UNLCK);
	return ours;
}

static bool is_verity(int fd)
{
	struct statx sx;

	return statx(fd, "", AT_EMPTY_PATH, 0, &sx) ||
	       sx.stx_attributes & STATX_ATTR_VERITY;
}

/* links: names that it has besides those in DIR. */
static bool may_move(const struct move *m, const struct move_item *it,
		     uint64_t links)
{
	return it->leased && it->st.st_size >= MOVE_MIN_BYTES &&
	       it->st.st_dev == m->store_dev &&
	       it->st.st_nlink == it->nnames + links && !is_verity(it->fd);
}

/* --- contents --- */

/* The blocks of a window that lie in r.buf, into the file. */
static int put_window(struct move *m, struct fs_file *f, uint64_t number,
		      uint64_t off, size_t len)
{
	uint64_t pos[WINDOW_BLOCKS], sum[WINDOW_BLOCKS];
	unsigned int n = 0;
	int err;

	for (size_t at = 0; at < len; at += FS_BLOCK_BYTES) {
		size_t here = min_u64(FS_BLOCK_BYTES, len - at);

		if (here < FS_BLOCK_BYTES)
			memset(m->r.buf + at + here, 0, FS_BLOCK_BYTES - here);
		pos[n] = log_moved_pos(number, off + at);
		sum[n++] = item_block_sum(m->r.buf + at);
	}
	file_write_lock(f);
	err = file_put_stored(f, off / FS_BLOCK_BYTES, pos, sum, NULL, n,
			      off + len);
	file_write_unlock(f);
	return err;
}

static int room_for_windows(struct move *m, unsigned int n)
{
	const uint64_t small = FILE_CLAIM_BYTES + n * WINDOW_CLAIM_BYTES;

	return log_room(m->fs->log, small, 0, LOG_USE);
}

/* Data of the file, whole blocks. 1: it is not as long as it was. */
static int put_data(struct move *m, struct move_item *it, struct fs_file *f,
		    uint64_t number, uint64_t off, uint64_t end)
{
	int err = 0;

	while (off < end && !err) {
		size_t len =
			min_u64(end - off, WINDOW_BYTES - off % WINDOW_BYTES);
		ssize_t n = pread(it->fd, m->r.buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if ((size_t)n < len)
			return 1;
		err = room_for_windows(m, 1);
		if (!err)
			err = put_window(m, f, number, off, len);
		if (!err)
			err = fs_balance(m->r.to);
		off += len;
		m->r.p.bytes += len;
		if (!err)
			err = plain_reader_tell(&m->r);
	}
	return err;
}

/* Holes stay holes. */
static int put_all(struct move *m, struct move_item *it, struct fs_file *f,
		   uint64_t number)
{
	uint64_t size = (uint64_t)it->st.st_size, off = 0;
	int err = 0;

	while (!err && off < size) {
		off_t data = lseek(it->fd, (off_t)off, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			data = (off_t)off; /* it cannot tell */
		hole = lseek(it->fd, data, SEEK_HOLE);
		data -= data % FS_BLOCK_BYTES;
		if (hole < 0 || (uint64_t)hole > size)
			hole = (off_t)size;
		off = min_u64(size,
			      round_up_u64((uint64_t)hole, FS_BLOCK_BYTES));
		err = put_data(m, it, f, number, (uint64_t)data, off);
	}
	return err ? err : file_grow(f, size);
}

static bool host_refuses(int err)
{
	return err == -EXDEV || err == -EMLINK || err == -EPERM ||
	       err == -EACCES || err == -EOPNOTSUPP;
}

/* The file itself becomes part of the log. 1: it is to be copied. */
static int fill_moved(struct move *m, struct move_item *it, struct fs_file *f)
{
	uint64_t number;
	int err;

	/* Its bytes before any name in the store leads to them. */
	if (fdatasync(it->fd))
		return -errno;
	err = log_adopt(m->fs->log, it->fd, (uint64_t)it->st.st_size, &number);
	if (err)
		return host_refuses(err) ? 1 : err;
	it->moved = true;
	err = put_all(m, it, f, number);
	if (!err && !lease_holds(it))
		err = 1;
	if (err == 1) {
		it->moved = false;
		m->garbage = true;
	}
	return err;
}

static int fill_copied(struct move *m, struct move_item *it, struct fs_file *f)
{
	int err = fs_truncate(f, 0);

	it->moved = false;
	if (!err)
		err = plain_reader_contents(&m->r, it->fd, it->ino, &it->st);
	m->copied_bytes += (uint64_t)it->st.st_size;
	return err;
}

/* anew: the view has had contents of it. */
static int fill(struct move *m, struct move_item *it, bool anew, uint64_t links)
{
	struct fs_file *f;
	int err;

	if (!S_ISREG(it->st.st_mode))
		return 0;
	err = fs_file_open(m->r.to, it->ino, &f);
	if (err)
		return err;
	if (anew)
		err = fs_truncate(f, 0);
	if (!err && may_move(m, it, links))
		err = fill_moved(m, it, f);
	else if (!err)
		err = 1;
	if (err == 1)
		err = fill_copied(m, it, f);
	else if (!err)
		m->moved_bytes += (uint64_t)it->st.st_size;
	fs_file_put(f);
	return err;
}

static int copy_anew(struct move *m, struct move_item *it)
{
	struct fs_file *f;
	int err = fs_file_open(m->r.to, it->ino, &f);

	if (err)
		return err;
	m->garbage |= it->moved;
	if (fstat(it->fd, &it->st))
		err = -errno;
	if (!err)
		err = fill_copied(m, it, f);
	fs_file_put(f);
	return err ? err : plain_reader_attr(&m->r, it->fd, it->ino, &it->st);
}

/* --- taking --- */

int move_free_name(struct move *m, uint64_t dir, const char *path,
		   const char *name, char as[FS_NAME_MAX + 1])
{
	char why[FS_NAME_MAX + 64];
	struct fs_attr a;
	int err;

	snprintf(as, FS_NAME_MAX + 1, "%s", name);
	for (unsigned int i = 1;; i++) {
		err = fs_lookup(m->r.to, dir, as, strlen(as), &a);
		if (err)
			break;
		snprintf(as, FS_NAME_MAX + 1, "%.*s@offline-%u",
			 FS_NAME_MAX - 20, name, i);
	}
	if (err != -ENOENT)
		return err;
	if (strcmp(as, name) != 0) {
		snprintf(why, sizeof(why),
			 "is another file than was moved: stored as %s", as);
		move_note(m, path, why);
	}
	return 0;
}

/* Is one of the names in the view that very object, from an interrupted batch?
 * *ino_out 0: no. links: what its note says of names in log/. */
static int find_again(struct move *m, const struct move_item *it,
		      uint64_t *ino_out, uint64_t *links)
{
	struct plain_stat was;
	struct fs_attr a;
	int err;

	*ino_out = 0;
	*links = 0;
	for (size_t i = 0; i < it->nnames && !*ino_out; i++) {
		const struct move_name *n = &it->names[i];

		err = fs_lookup(m->r.to, n->dir->ino, n->name, strlen(n->name),
				&a);
		if (!err)
			err = plain_get(m->fs, a.ino, &was);
		if (err == 1 || err == -ENOENT)
			continue;
		if (err)
			return err;
		if (was.host_ino != it->st.st_ino ||
		    (a.mode & S_IFMT) != (it->st.st_mode & S_IFMT))
			continue;
		*ino_out = a.ino;
		*links = was.flags & PLAIN_MOVED ? 1 : 0;
	}
	return 0;
}

/* One more name of the object in the view; the first makes it. */
static int give_name(struct move *m, struct move_item *it,
		     const struct move_name *n)
{
	char as[FS_NAME_MAX + 1];
	struct fs_attr a;
	int err;

	err = fs_lookup(m->r.to, n->dir->ino, n->name, strlen(n->name), &a);
	if (!err && it->ino && a.ino == it->ino)
		return 0;
	if (err && err != -ENOENT)
		return err;
	err = move_free_name(m, n->dir->ino, n->path, n->name, as);
	if (!err)
		err = move_touch(m, n->dir);
	if (!err && it->ino)
		err = fs_link(m->r.to, it->ino, n->dir->ino, as, strlen(as),
			      NULL);
	else if (!err)
		err = plain_reader_make(&m->r, n->dir->ino, n->dir->fd, n->name,
					as, &it->st, &it->ino);
	return err;
}

static int into_view(struct move *m, struct move_item *it)
{
	bool anew;
	uint64_t links;
	int err;

	if (S_ISREG(it->st.st_mode))
		it->leased = lease(it);
	/* What it was when nobody can write. */
	if (fstat(it->fd, &it->st))
		return -errno;
	err = find_again(m, it, &it->ino, &links);
	anew = it->ino;
	m->garbage |= links;
	for (size_t i = 0; i < it->nnames && !err; i++)
		err = give_name(m, it, &it->names[i]);
	if (!err)
		err = fill(m, it, anew, links);
	if (!err)
		err = plain_reader_attr(&m->r, it->fd, it->ino, &it->st);
	for (size_t i = 0; i < it->nnames && !err; i++)
		err = move_touch(m, it->names[i].dir);
	return err;
}

void move_names_free(struct move_name *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		move_dir_put(names[i].dir);
		free(names[i].path);
	}
	free(names);
}

/* Another mount: an empty file in its place; it stays where it is. */
static int take_mount_point(struct move *m, const struct move_name *n,
			    struct stat *st)
{
	char as[FS_NAME_MAX + 1];
	uint64_t ino;
	int err;

	m->r.p.mounts++;
	st->st_mode = S_IFREG | (st->st_mode & 07777);
	err = move_touch(m, n->dir);
	if (!err)
		err = move_free_name(m, n->dir->ino, n->path, n->name, as);
	return err ? err
		   : plain_reader_make(&m->r, n->dir->ino, n->dir->fd, n->name,
				       as, st, &ino);
}

static int open_item(struct move *m, struct move_item *it)
{
	const struct move_name *n = &it->names[0];

	if (fstatat(n->dir->fd, n->name, &it->st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	it->fd = plain_reader_open(n->dir->fd, n->name, &it->st);
	if (it->fd == -EXDEV && it->nnames == 1)
		return take_mount_point(m, n, &it->st) ?: -EXDEV;
	return it->fd < 0 ? it->fd : 0;
}

static bool is_full(const struct move *m)
{
	return m->nitems + m->ndirs >= m->items_max ||
	       m->copied_bytes >= BATCH_COPIED_BYTES ||
	       m->moved_bytes >= batch_moved_bytes;
}

int move_take(struct move *m, struct move_name *names, size_t n)
{
	struct move_item it = { .names = names, .nnames = n, .fd = -1 };
	int err;

	err = array_grow((void **)&m->items, &m->items_cap, m->nitems + 1,
			 sizeof(*m->items));
	if (!err)
		err = open_item(m, &it);
	if (!err)
		err = into_view(m, &it);
	if (err) {
		if (it.fd >= 0)
			close(it.fd);
		move_names_free(names, n);
		if (err == -ENOENT || err == -EXDEV)
			return 0; /* it went meanwhile; another mount */
		return plain_reader_failed(&m->r, err,
					   "cannot move into the store");
	}
	m->items[m->nitems++] = it;
	m->r.p.objects++;
	return is_full(m) ? move_flush(m) : plain_reader_tell(&m->r);
}

/* --- the names go --- */

/* Sizes and times, not the time of change: names change that. */
static bool is_as_read(const struct move_item *it)
{
	struct stat st;

	return !fstat(it->fd, &st) && st.st_size == it->st.st_size &&
	       plain_ns(&st.st_mtim) == plain_ns(&it->st.st_mtim);
}

static bool is_safe(const struct move_item *it)
{
	if (!S_ISREG(it->st.st_mode))
		return true;
	return (!it->leased || lease_holds(it)) && is_as_read(it);
}

static void remove_name(struct move *m, struct move_item *it,
			const struct move_name *n)
{
	struct stat st;

	if (fstatat(n->dir->fd, n->name, &st, AT_SYMLINK_NOFOLLOW))
		return;
	if (st.st_ino != it->st.st_ino || st.st_dev != it->st.st_dev) {
		move_note(m, n->path, "was replaced while it was moved");
		return;
	}
	if (!unlinkat(n->dir->fd, n->name, 0))
		return;
	move_note(m, n->path, strerror(errno));
	it->named = true;
	/* Whoever writes by that name must not write into the store. */
	it->late = it->moved;
}

/* Somebody writes: once everything else is done it is looked at again. */
static int put_off(struct move *m, struct move_item *it)
{
	int err = 0;

	it->stays = true;
	for (size_t i = 0; i < it->nnames && !err; i++)
		err = move_put_off(m, it->names[i].path, &it->st);
	return err;
}

/* The second time it is copied as it is, if it stays so for that long. */
static int copy_written(struct move *m, struct move_item *it)
{
	int err;

	if (it->leased)
		(void)fcntl(it->fd, F_SETLEASE, F_UNLCK);
	it->leased = false;
	err = copy_anew(m, it);
	if (!err)
		err = fs_checkpoint(m->fs);
	it->stays = !is_as_read(it);
	if (it->stays)
		move_note(m, it->names[0].path,
			  "keeps changing: stop what writes it");
	return err;
}

static int remove_names(struct move *m, struct move_item *it)
{
	int err = 0;

	if (!is_safe(it))
		err = m->last_pass ? copy_written(m, it) : put_off(m, it);
	if (err || it->stays)
		return err;
	for (size_t i = 0; i < it->nnames; i++)
		remove_name(m, it, &it->names[i]);
	return 0;
}

/* --- the batch --- */

static int put_notes(struct move *m)
{
	int err = 0;

	for (size_t i = 0; i < m->nitems && !err; i++) {
		struct plain_stat p = plain_of_stat(&m->items[i].st);

		p.flags = m->items[i].moved ? PLAIN_MOVED : 0;
		err = plain_put(m->fs, m->items[i].ino, &p);
	}
	return err;
}

static int make_durable(struct move *m)
{
	bool moved = false;
	int err;

	for (size_t i = 0; i < m->nitems; i++)
		moved |= m->items[i].moved;
	err = keep_times(m);
	if (!err)
		err = put_notes(m);
	if (!err && moved)
		err = log_sync_names(m->fs->log);
	if (!err)
		err = fs_checkpoint(m->fs);
	/* One more that says the same: recovery takes the one before it where
	 * the last cannot be read. */
	if (!err)
		err = plain_put_mark(m->fs, PLAIN_MARK_MOVE);
	return err ? err : fs_checkpoint(m->fs);
}

/* Those whose names are gone, and that somebody could get hold of before. */
static int copy_late(struct move *m)
{
	bool any = false;
	int err = 0;

	for (size_t i = 0; i < m->nitems && !err; i++) {
		struct move_item *it = &m->items[i];

		if (it->stays || !S_ISREG(it->st.st_mode))
			continue;
		if (it->moved ? it->late || !take_over(it) : !is_as_read(it)) {
			err = copy_anew(m, it);
			any = true;
		} else if (it->moved) {
			m->out->moved++;
			m->out->moved_bytes += (uint64_t)it->st.st_size;
		}
	}
	return !err && any ? fs_checkpoint(m->fs) : err;
}

/* Gone with the next record, as the names are gone by now. */
static int drop_notes(struct move *m)
{
	int err = 0;

	for (size_t i = 0; i < m->nitems && !err; i++)
		if (!m->items[i].stays && !m->items[i].named)
			err = plain_del(m->fs, m->items[i].ino);
	return err;
}

int move_flush(struct move *m)
{
	int err = 0;

	if (m->nitems + m->ndirs)
		err = make_durable(m);
	for (size_t i = 0; i < m->nitems && !err; i++)
		err = remove_names(m, &m->items[i]);
	if (!err)
		err = flush_dirs(m);
	if (!err)
		err = copy_late(m);
	if (!err)
		err = drop_notes(m);
	move_batch_release(m);
	return err ? plain_reader_failed(&m->r, err, "cannot go on after")
		   : plain_reader_tell(&m->r);
}

void move_batch_release(struct move *m)
{
	for (size_t i = 0; i < m->nitems; i++) {
		close(m->items[i].fd);
		move_names_free(m->items[i].names, m->items[i].nnames);
	}
	for (size_t i = 0; i < m->ndirs; i++) {
		m->dirs[i]->touched = false;
		move_dir_put(m->dirs[i]);
	}
	m->nitems = m->ndirs = 0;
	m->copied_bytes = m->moved_bytes = 0;
}
