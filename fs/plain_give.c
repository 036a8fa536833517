/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_give.c - files of a state that are moved files as they lie, while the
 * store is made a plain directory: they are given out themselves, not copied.
 * From then on anybody may write into them, so a mark in the store says that it
 * is not one any more (move.h).
 */
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <unistd.h>

/* A file whose blocks may be those of one moved file. */
struct given {
	uint64_t number, bytes;
	char name[DEV_NAME_MAX]; /* "": none was met */
};

/* All blocks that are there lie where that file has them. */
static bool blocks_are(struct plain_out *o, struct given *g,
		       const struct item_window *w, uint64_t start)
{
	for (unsigned int i = 0; i < WINDOW_BLOCKS; i++) {
		uint64_t off = start + i * (uint64_t)FS_BLOCK_BYTES;

		if (!(w->mask >> i & 1))
			continue;
		if (!*g->name && log_get_moved(o->fs->log, w->pos[i],
					       &g->number, &g->bytes, g->name))
			return false;
		if (w->pos[i] != log_moved_pos(g->number, off))
			return false;
	}
	return true;
}

/* And it has nothing where there are none. */
static bool holes_are(int fd, const struct item_window *w, uint64_t start)
{
	for (unsigned int i = 0; i < WINDOW_BLOCKS; i++) {
		off_t off = (off_t)(start + i * (uint64_t)FS_BLOCK_BYTES);
		off_t data;

		if (w->mask >> i & 1)
			continue;
		data = lseek(fd, off, SEEK_DATA);
		if (data < 0 || data >= (off_t)(start + WINDOW_BYTES))
			return true;
		if (data < off + FS_BLOCK_BYTES)
			return false;
	}
	return true;
}

/* 1: it is not. The first moved file that it has blocks of is g. */
static int is_whole(struct plain_out *o, const struct fs_attr *a,
		    struct given *g, int *fd_out)
{
	struct item_window w;
	struct stat st;
	int err = 0;

	*fd_out = -1;
	for (uint64_t off = 0; off < a->size && !err; off += WINDOW_BYTES) {
		err = look_window(o->hv, a->ino, off / WINDOW_BYTES, &w);
		if (err)
			return err;
		if (!blocks_are(o, g, &w, off))
			return 1;
		if (*g->name && *fd_out < 0)
			*fd_out = openat(o->p->storefd, g->name,
					 O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (*g->name && *fd_out < 0)
			return 1; /* reading it tells why */
		/* Holes before its first block are looked at again below. */
		if (*fd_out >= 0 && w.mask != UINT64_MAX &&
		    !holes_are(*fd_out, &w, off))
			return 1;
	}
	/* It may have been given to another file with the same blocks. */
	if (!*g->name || g->bytes != a->size || fstat(*fd_out, &st) ||
	    (uint64_t)st.st_size != a->size || st.st_nlink != 1)
		return 1;
	return 0;
}

/* The windows of a hole that the file begins with. */
static int begins_as(struct plain_out *o, const struct fs_attr *a, int fd)
{
	struct item_window w = { .mask = 0 };
	int err = 0;

	for (uint64_t off = 0; off < a->size && !err && !w.mask;
	     off += WINDOW_BYTES) {
		err = look_window(o->hv, a->ino, off / WINDOW_BYTES, &w);
		if (!err && !w.mask && !holes_are(fd, &w, off))
			err = 1;
	}
	return err;
}

static int failed(struct plain_out *o, uint64_t ino, int err)
{
	char *path = NULL, shown[512];

	if (!o->err->text[0] && !fs_path(o->hv, ino, &path)) {
		(void)fs_quote_path(path, shown, sizeof(shown));
		snprintf(o->err->text, sizeof(o->err->text),
			 "%s cannot be read: %s; txn verify names what is "
			 "damaged",
			 shown, strerror(-err));
	}
	free(path);
	return err;
}

/* Every sum is looked at before somebody may write into it. */
static int check(struct plain_out *o, const struct fs_attr *a)
{
	struct fs_file *f = NULL;
	uint64_t off = 0, data, hole;
	size_t got;
	int err;

	err = fs_file_open(o->hv, a->ino, &f);
	while (!err && off < a->size) {
		err = fs_seek(f, off, SEEK_DATA, &data);
		if (!err)
			err = fs_seek(f, data, SEEK_HOLE, &hole);
		for (off = data; !err && off < hole; off += got) {
			err = fs_read(f, off, o->look.buf,
				      min_u64(PLAIN_BUF_BYTES, hole - off),
				      &got);
			if (!err && !got)
				err = -EFSCORRUPTED;
		}
	}
	fs_file_put(f);
	return err == -ENXIO || !err ? 0 : failed(o, a->ino, err);
}

static int find(struct plain_out *o, const struct fs_attr *a, struct given *g)
{
	int fd, err;

	*g = (struct given){ 0 };
	if (!o->p->give || !S_ISREG(a->mode) || a->size <= INLINE_FILE_MAX)
		return 1;
	err = is_whole(o, a, g, &fd);
	if (!err)
		err = begins_as(o, a, fd);
	if (fd >= 0)
		close(fd);
	return err;
}

int out_can_give(struct plain_out *o, const struct fs_attr *a)
{
	struct given g;

	return find(o, a, &g);
}

int out_give(struct plain_out *o, const struct fs_attr *a, const char *tmp)
{
	struct given g;
	int err = find(o, a, &g);

	if (!err)
		err = check(o, a);
	if (err || !linkat(o->p->storefd, g.name, o->tmpfd, tmp, 0))
		return err;
	/* Another filesystem, or no more links: a copy. */
	return errno == EXDEV || errno == EMLINK || errno == EPERM ? 1 : -errno;
}

int out_is_given(struct plain_out *o, uint64_t ino, const struct stat *st,
		 bool *is)
{
	struct item_window w = { .mask = 0 };
	struct given g = { 0 };
	struct fs_attr a;
	struct stat own;
	int err;

	*is = false;
	if (!o->p->give)
		return 0;
	err = fs_getattr(o->hv, ino, &a);
	if (err || !S_ISREG(a.mode) || a.size <= INLINE_FILE_MAX)
		return err;
	for (uint64_t off = 0; off < a.size && !err && !w.mask;
	     off += WINDOW_BYTES)
		err = look_window(o->hv, ino, off / WINDOW_BYTES, &w);
	if (err || !w.mask ||
	    log_get_moved(o->fs->log, w.pos[__builtin_ctzll(w.mask)], &g.number,
			  &g.bytes, g.name) ||
	    fstatat(o->p->storefd, g.name, &own, AT_SYMLINK_NOFOLLOW))
		return err;
	*is = own.st_ino == st->st_ino && own.st_dev == st->st_dev;
	return 0;
}
