/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dump.c - see dump.h. */
#include "tests/lib/dump.h"

#include "tests/lib/test.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <xxhash.h>

enum { PIECE = 64 << 10, DEPTH_MAX = 64, LIST_MAX = 64 << 10 };

struct entry {
	char *path;
	struct fs_attr a;
	uint64_t xattrs, target; /* sums */
	uint64_t *pieces;
	size_t npieces;
};

struct dump {
	struct entry *v; /* by path, once it is whole */
	size_t n, cap;
};

struct walk {
	struct fs_view *fv;
	struct dump *fill; /* of dump_new; or */
	const struct dump *d; /* what it is compared with */
	struct dump_result *r;
	bool *seen; /* entries of d */
	const char *dir; /* path of the directory that is read */
	int depth;
};

static bool is_damage(int err)
{
	return err == -EFSCORRUPTED || err == -EFSBADCRC || err == -EIO;
}

__attribute__((format(printf, 2, 3))) static void wrong(struct walk *w,
							const char *fmt, ...)
{
	va_list ap;

	if (w->r->wrong[0])
		return;
	va_start(ap, fmt);
	(void)vsnprintf(w->r->wrong, sizeof(w->r->wrong), fmt, ap);
	va_end(ap);
}

/* An answer: true when it may be looked at. */
static bool answered(struct walk *w, int err, const char *what,
		     const char *path)
{
	if (!err)
		return true;
	if (is_damage(err) && !w->fill)
		w->r->errors++;
	else
		wrong(w, "%s of %s: %s", what, path, strerror(-err));
	return false;
}

static int path_cmp(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;

	return strcmp(a->path, b->path);
}

static struct entry *find(const struct dump *d, char *path)
{
	struct entry want = { .path = path };

	return d->n ? bsearch(&want, d->v, d->n, sizeof(want), path_cmp) : NULL;
}

static bool same_attr(const struct fs_attr *a, const struct fs_attr *b)
{
	return a->ino == b->ino && a->size == b->size && a->mode == b->mode &&
	       a->nlink == b->nlink && a->uid == b->uid && a->gid == b->gid &&
	       a->rdev == b->rdev && a->mtime_ns == b->mtime_ns &&
	       a->blocks == b->blocks;
}

/* --- one object --- */

static int read_xattrs(struct fs_view *fv, uint64_t ino, uint64_t *sum_out)
{
	static char list[LIST_MAX], value[FS_XATTR_VALUE_MAX];
	size_t len = 0, got;
	uint64_t sum = 0;
	int err;

	err = fs_listxattr(fv, ino, list, sizeof(list), &len);
	for (size_t at = 0; !err && at < len; at += strlen(list + at) + 1) {
		err = fs_getxattr(fv, ino, list + at, value, sizeof(value),
				  &got);
		/* In any order. */
		if (!err)
			sum += XXH3_64bits_withSeed(
				value, got,
				XXH3_64bits(list + at, strlen(list + at)));
	}
	*sum_out = sum;
	return err;
}

static int read_target(struct fs_view *fv, uint64_t ino, uint64_t *sum_out)
{
	char *target = NULL;
	size_t len = 0;
	int err = fs_readlink(fv, ino, &target, &len);

	if (!err)
		*sum_out = XXH3_64bits(target, len);
	free(target);
	return err;
}

static void see_piece(struct walk *w, struct entry *e, size_t i, int err,
		      const uint8_t *buf, size_t got)
{
	size_t want = min_u64(PIECE, e->a.size - (uint64_t)i * PIECE);
	uint64_t sum;

	if (!answered(w, err, "contents", e->path)) {
		snprintf(w->r->bad_path, sizeof(w->r->bad_path), "%s", e->path);
		w->r->bad_names = e->a.nlink;
		return;
	}
	sum = XXH3_64bits(buf, got);
	if (got != want)
		wrong(w, "%s: %zu bytes of %zu at %zu", e->path, got, want,
		      i * PIECE);
	else if (w->fill)
		e->pieces[i] = sum;
	else if (e->pieces[i] != sum)
		wrong(w, "%s: other bytes at %zu", e->path, i * PIECE);
}

static void see_contents(struct walk *w, struct entry *e)
{
	static uint8_t buf[PIECE];
	struct fs_file *file;
	size_t n = (size_t)((e->a.size + PIECE - 1) / PIECE);

	if (w->fill) {
		e->npieces = n;
		e->pieces = calloc(n + 1, sizeof(*e->pieces));
		assert_non_null(e->pieces);
	}
	if (!answered(w, fs_file_open(w->fv, e->a.ino, &file), "open", e->path))
		return;
	for (size_t i = 0; i < n; i++) {
		size_t got = 0;
		int err = fs_read(file, (uint64_t)i * PIECE, buf, PIECE, &got);

		see_piece(w, e, i, err, buf, got);
	}
	fs_file_put(file);
}

static void see_object(struct walk *w, struct entry *e)
{
	uint64_t sum = 0;

	if (answered(w, read_xattrs(w->fv, e->a.ino, &sum), "xattrs",
		     e->path)) {
		if (w->fill)
			e->xattrs = sum;
		else if (sum != e->xattrs)
			wrong(w, "%s: other attributes", e->path);
	}
	if (S_ISREG(e->a.mode))
		see_contents(w, e);
	if (S_ISLNK(e->a.mode) &&
	    answered(w, read_target(w->fv, e->a.ino, &sum), "target",
		     e->path)) {
		if (w->fill)
			e->target = sum;
		else if (sum != e->target)
			wrong(w, "%s: another target", e->path);
	}
	w->r->checked++;
}

/* --- directories --- */

static void see_dir(struct walk *w, uint64_t ino, const char *path);

static struct entry *add_entry(struct dump *d, const char *path,
			       const struct fs_attr *a)
{
	if (d->n == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 64;
		d->v = realloc(d->v, d->cap * sizeof(*d->v));
		assert_non_null(d->v);
	}
	d->v[d->n] = (struct entry){ .path = strdup(path), .a = *a };
	assert_non_null(d->v[d->n].path);
	return &d->v[d->n++];
}

static int see_entry(void *arg, const struct fs_dirent *de)
{
	struct walk *w = arg;
	struct entry *e;
	char path[4096];

	snprintf(path, sizeof(path), "%s%s%.*s", w->dir, *w->dir ? "/" : "",
		 (int)de->len, de->name);
	if (w->fill) {
		e = add_entry(w->fill, path, de->attr);
	} else {
		e = find(w->d, path);
		if (!e) {
			wrong(w, "%s: a name that nobody made", path);
			return 1;
		}
		if (w->seen[e - w->d->v])
			wrong(w, "%s: listed twice", path);
		w->seen[e - w->d->v] = true;
		if (!same_attr(&e->a, de->attr)) {
			wrong(w, "%s: not the same object", path);
			return 1;
		}
	}
	if (!w->fill)
		see_object(w, e);
	if (S_ISDIR(e->a.mode)) /* what is filled may move: e is void now */
		see_dir(w, e->a.ino, path);
	return w->r->wrong[0] ? 1 : 0;
}

static void see_dir(struct walk *w, uint64_t ino, const char *path)
{
	const char *above = w->dir;
	int err;

	if (++w->depth > DEPTH_MAX) {
		wrong(w, "%s: too deep", path);
		return;
	}
	w->dir = path;
	err = fs_readdir(w->fv, ino, 0, true, see_entry, w);
	w->dir = above;
	w->depth--;
	if (err < 0)
		(void)answered(w, err, "listing", path);
}

struct dump *dump_new(struct fs_view *v)
{
	struct dump *d = calloc(1, sizeof(*d));
	struct dump_result r = { 0 };
	struct walk w = { .fv = v, .fill = d, .d = d, .r = &r, .dir = "" };

	assert_non_null(d);
	see_dir(&w, FS_ROOT_INO, "");
	if (d->n)
		qsort(d->v, d->n, sizeof(*d->v), path_cmp);
	for (size_t i = 0; i < d->n; i++)
		see_object(&w, &d->v[i]);
	if (r.wrong[0])
		fail_msg("%s", r.wrong);
	return d;
}

void dump_free(struct dump *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n; i++) {
		free(d->v[i].path);
		free(d->v[i].pieces);
	}
	free(d->v);
	free(d);
}

/* What no listing showed: a look at it by its path is an error, or right, but
 * never "there is no such thing". */
static void look_for(struct walk *w, struct entry *e)
{
	struct fs_attr a;

	if (!answered(w, fs_walk(w->fv, e->path, &a), "looking", e->path))
		return;
	if (!same_attr(&e->a, &a))
		wrong(w, "%s: not the same object", e->path);
	else
		see_object(w, e);
}

void dump_compare(const struct dump *d, struct fs_view *v,
		  struct dump_result *r)
{
	struct walk w = { .fv = v, .d = d, .r = r, .dir = "" };

	*r = (struct dump_result){ 0 };
	w.seen = calloc(d->n + 1, sizeof(*w.seen));
	assert_non_null(w.seen);
	see_dir(&w, FS_ROOT_INO, "");
	for (size_t i = 0; i < d->n && !r->wrong[0]; i++)
		if (!w.seen[i]) {
			if (!r->errors)
				wrong(&w, "%s: not listed", d->v[i].path);
			look_for(&w, &d->v[i]);
		}
	free(w.seen);
}
