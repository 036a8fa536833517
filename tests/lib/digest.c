/* SPDX-License-Identifier: GPL-2.0-or-later */
/* digest.c - see digest.h. */
#include "tests/lib/digest.h"

#include <sys/stat.h>
#include <xxhash.h>

enum { READ_BYTES = 256 << 10 };

struct digest {
	struct fs_view *v;
	XXH3_state_t *x;
	int err;
};

static XXH3_state_t *start(void)
{
	XXH3_state_t *x = XXH3_createState();

	if (!x)
		abort(); /* the library's own */
	XXH3_64bits_reset(x);
	return x;
}

static void end(XXH3_state_t *x, uint64_t *out)
{
	*out = XXH3_64bits_digest(x);
	XXH3_freeState(x);
}

int digest_file(struct fs_view *v, uint64_t ino, uint64_t *out)
{
	uint8_t *buf = malloc(READ_BYTES);
	XXH3_state_t *x = start();
	struct fs_file *file;
	uint64_t off = 0;
	size_t got = 1;
	int err;

	err = buf ? fs_file_open(v, ino, &file) : -ENOMEM;
	if (!err) {
		while (!err && got) {
			err = fs_read(file, off, buf, READ_BYTES, &got);
			if (!err)
				XXH3_64bits_update(x, buf, got);
			off += got;
		}
		fs_file_put(file);
	}
	end(x, out);
	free(buf);
	return err;
}

static int digest_xattrs(struct digest *d, uint64_t ino)
{
	char *list = malloc(FS_XATTR_LIST_MAX);
	uint8_t *value = malloc(FS_XATTR_VALUE_MAX);
	size_t len = 0, got;
	int err = -ENOMEM;

	if (list && value)
		err = fs_listxattr(d->v, ino, list, FS_XATTR_LIST_MAX, &len);
	for (const char *s = list; !err && s < list + len; s += strlen(s) + 1) {
		err = fs_getxattr(d->v, ino, s, value, FS_XATTR_VALUE_MAX,
				  &got);
		if (err)
			break;
		XXH3_64bits_update(d->x, s, strlen(s));
		XXH3_64bits_update(d->x, value, got);
	}
	free(list);
	free(value);
	return err;
}

static int digest_entry(void *arg, const struct fs_dirent *e)
{
	struct digest *d = arg;
	uint64_t v[6] = { e->ino,	  e->attr->mode, e->attr->size,
			  e->attr->nlink, e->attr->uid,	 e->attr->rdev };
	char *target;
	size_t len;

	XXH3_64bits_update(d->x, e->name, e->len);
	XXH3_64bits_update(d->x, v, sizeof(v));
	d->err = digest_xattrs(d, e->ino);
	if (d->err)
		return d->err;
	if (S_ISREG(e->attr->mode)) {
		d->err = digest_file(d->v, e->ino, &v[0]);
		XXH3_64bits_update(d->x, v, sizeof(v[0]));
	} else if (S_ISDIR(e->attr->mode)) {
		d->err = fs_readdir(d->v, e->ino, 0, true, digest_entry, d);
	} else if (S_ISLNK(e->attr->mode)) {
		d->err = fs_readlink(d->v, e->ino, &target, &len);
		if (!d->err) {
			XXH3_64bits_update(d->x, target, len);
			free(target);
		}
	}
	return d->err;
}

int digest_view(struct fs_view *v, uint64_t *out)
{
	struct digest d = { .v = v, .x = start() };
	int err;

	err = digest_xattrs(&d, FS_ROOT_INO);
	if (!err)
		err = fs_readdir(v, FS_ROOT_INO, 0, true, digest_entry, &d);
	end(d.x, out);
	return err ? err : d.err;
}
