/* SPDX-License-Identifier: GPL-2.0-or-later */
/* path.c - from inodes to paths, from paths to inodes, and names that may be
 * shown. */
#include "fs/fs_internal.h"
#include "fs/utf8.h"

enum { PATH_DEPTH_MAX = 1 << 20 }; /* a loop (I22) must end */

/* Put a name in front of what lies at the end of the buffer. */
static int path_prepend(char **buf, size_t *cap, size_t *used, const char *name,
			size_t len)
{
	size_t need = *used + len + 1;

	if (need > *cap) {
		size_t ncap = need * 2 < 256 ? 256 : need * 2;
		char *n = malloc(ncap);

		if (!n)
			return -ENOMEM;
		if (*used)
			memcpy(n + ncap - *used, *buf + *cap - *used, *used);
		free(*buf);
		*buf = n;
		*cap = ncap;
	}
	*used += len + 1;
	memcpy(*buf + *cap - *used, name, len);
	(*buf)[*cap - *used + len] = *used == len + 1 ? '\0' : '/';
	return 0;
}

int tx_path(struct vtx *tx, uint64_t ino, char **buf, size_t *cap,
	    size_t *start_out)
{
	size_t used = 0;

	for (unsigned int depth = 0; ino != FS_ROOT_INO; depth++) {
		struct item_attr a;
		struct item_entry e;
		struct key key;
		struct val val;
		int err;

		err = tx_get_attr(tx, ino, &a);
		if (err)
			return err;
		if (!a.cookie)
			return -ENOENT;
		key = KEY(a.parent, ITEM_KIND_ENTRY, a.cookie);
		err = vtx_get(tx, &key, &val);
		if (!err)
			err = item_entry_decode(&val, &e);
		if (err == 1 || depth > PATH_DEPTH_MAX)
			err = -EFSCORRUPTED;
		if (!err)
			err = path_prepend(buf, cap, &used, e.name, e.len);
		if (err)
			return err;
		ino = a.parent;
	}
	if (!used) {
		int err = path_prepend(buf, cap, &used, "", 0);

		if (err)
			return err;
	}
	*start_out = *cap - used;
	return 0;
}

struct path_op {
	struct fs_op op;
	char *buf;
	size_t cap, start;
};

static int path_fn(struct vtx *tx, void *arg)
{
	struct path_op *p = arg;

	return tx_path(tx, p->op.ino, &p->buf, &p->cap, &p->start);
}

int fs_path(struct fs_view *fv, uint64_t ino, char **path_out)
{
	struct path_op p = { .op = { .fn = path_fn, .ino = ino } };
	int err;

	/* Not fv_read: telling damage asks for a path. */
	op_start(fv, &p.op);
	err = view_read(fv->view, op_run, &p.op);
	if (err) {
		free(p.buf);
		return err;
	}
	memmove(p.buf, p.buf + p.start, p.cap - p.start);
	*path_out = p.buf;
	return 0;
}

int fs_walk(struct fs_view *fv, const char *path, struct fs_attr *attr_out)
{
	struct fs_attr attr;
	int err;

	err = fs_getattr(fv, FS_ROOT_INO, &attr);
	while (!err && *path) {
		size_t len = strcspn(path, "/");

		if (len)
			err = fs_lookup(fv, attr.ino, path, len, &attr);
		path += len;
		path += strspn(path, "/");
	}
	if (!err)
		*attr_out = attr;
	return err;
}

/* --- names that may be shown --- */

struct quote {
	char *out;
	size_t size, len;
};

static void quote_put(struct quote *q, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++, q->len++)
		if (q->size && q->len < q->size - 1)
			q->out[q->len] = s[i];
}

static void quote_char(struct quote *q, unsigned char c)
{
	static const char from[] = "\"\\\a\b\f\n\r\t\v";
	static const char to[] = "\"\\abfnrtv";
	const char *p = c ? strchr(from, c) : NULL;
	char esc[4] = { '\\' };

	if (p) {
		esc[1] = to[p - from];
		quote_put(q, esc, 2);
		return;
	}
	esc[1] = (char)('0' + (c >> 6));
	esc[2] = (char)('0' + (c >> 3 & 7));
	esc[3] = (char)('0' + (c & 7));
	quote_put(q, esc, 4);
}

static bool may_stand(const char *s, size_t *n)
{
	*n = utf8_printable(s, strnlen(s, 4));
	return *n && *s != '"' && *s != '\\';
}

/* Blanks at the ends are not seen, and lines of ctl lose them. */
static bool has_blank_end(const char *s)
{
	size_t len = strlen(s);

	return len && (s[0] == ' ' || s[len - 1] == ' ');
}

size_t fs_quote_path(const char *path, char *out, size_t size)
{
	const char *s = path;
	struct quote q = { .out = out, .size = size };
	bool plain = !has_blank_end(path);
	size_t n;

	for (size_t i = 0; s[i] && plain; i += n)
		plain = may_stand(s + i, &n);
	if (!plain)
		quote_put(&q, "\"", 1);
	while (*s) {
		if (may_stand(s, &n)) {
			quote_put(&q, s, n);
		} else {
			quote_char(&q, (unsigned char)*s);
			n = 1;
		}
		s += n;
	}
	if (!plain)
		quote_put(&q, "\"", 1);
	if (size)
		out[q.len < size ? q.len : size - 1] = '\0';
	return q.len;
}

char *fs_unquote_path(char *s)
{
	static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
	char *out = s, *in = s + 1;
	const char *p;

	if (*s != '"')
		return s + strcspn(s, "\t\n");
	while (*in && *in != '"') {
		if (*in != '\\') {
			*out++ = *in++;
			continue;
		}
		in++;
		p = *in ? strchr(from, *in) : NULL;
		if (p) {
			*out++ = to[p - from];
			in++;
		} else if (*in >= '0' && *in <= '7') {
			unsigned int v = 0;

			for (int i = 0; i < 3 && *in >= '0' && *in <= '7'; i++)
				v = v * 8 + (unsigned int)(*in++ - '0');
			*out++ = (char)v;
		} else if (*in) {
			*out++ = *in++;
		}
	}
	*out = '\0';
	return *in ? in + 1 : in;
}
