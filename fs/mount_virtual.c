/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount_virtual.c - what .txn/ shows. */
#include "fs/mount_internal.h"
#include "txn/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <time.h>
#include <unistd.h>

enum { LOG_CHUNK_BYTES = 64 << 10, STATUS_FORMAT = 1 };

#define COMMIT_COOKIES ((uint64_t)1 << 40)

static const struct {
	const char *name;
	mode_t mode;
} virts[NODE_KINDS] = {
	[NODE_LINK] = { ".txn", S_IFLNK | 0777 },
	[NODE_TXN] = { ".txn", S_IFDIR | 0755 },
	[NODE_CTL] = { "ctl", S_IFREG | 0600 },
	[NODE_STATUS] = { "status", S_IFREG | 0444 },
	[NODE_CHANGES] = { "changes", S_IFREG | 0400 },
	[NODE_LOG] = { "log", S_IFREG | 0400 },
	[NODE_ERROR] = { "error", S_IFREG | 0400 },
	[NODE_HEAD] = { "head", S_IFLNK | 0777 },
	[NODE_SNAPSHOTS] = { "snapshots", S_IFDIR | 0755 },
};

void virtual_init(struct mount *m)
{
	for (int k = NODE_LINK; k < NODE_KINDS; k++)
		m->virt[k] = (struct knode){ .kind = (enum knode_kind)k,
					     .ino = UINT64_MAX - NODE_KINDS +
						    (uint64_t)k };
}

void virtual_stat(struct mount *m, const struct knode *n, struct stat *st)
{
	struct fs_attr root;

	*st = (struct stat){ .st_ino = n->ino,
			     .st_mode = virts[n->kind].mode,
			     .st_nlink = S_ISDIR(virts[n->kind].mode) ? 2 : 1,
			     .st_blksize = FS_BLOCK_BYTES };
	if (!fs_getattr(fs_working(m->fs), FS_ROOT_INO, &root)) {
		st->st_uid = root.uid;
		st->st_gid = root.gid;
	}
	/* Kernels before 6.14 cut what they keep of a symlink at its size, and
	 * head's may grow after it was told: the longest there is. */
	if (n->kind == NODE_HEAD)
		st->st_size = sizeof("snapshots/@18446744073709551615") - 1;
	if (n->kind == NODE_LINK)
		st->st_size = (off_t)strlen(m->side_place);
	if (n->kind == NODE_CTL && m->opt.has_ctl_owner) {
		st->st_uid = m->opt.ctl_uid;
		st->st_gid = m->opt.ctl_gid;
		st->st_mode = S_IFREG | m->opt.ctl_mode;
	}
	st->st_mtim.tv_sec = m->start_ns / 1000000000;
	st->st_ctim = st->st_mtim;
	st->st_atim = st->st_mtim;
}

void virtual_recall(struct mount *m)
{
	(void)fuse_lowlevel_notify_inval_inode(
		virtual_session(m), knode_id(m, &m->virt[NODE_TXN]), -1, 0);
	if (m->side.se)
		(void)fuse_lowlevel_notify_inval_inode(
			m->work.se, knode_id(m, &m->virt[NODE_LINK]), -1, 0);
}

/* --- names --- */

/* Names of states that are directories here. */
static int lookup_snapshot(struct mount *m, const char *name,
			   struct snap **snap)
{
	struct root root = ROOT_EMPTY;
	unsigned int pin;
	int err;

	/* Not the moving ones (head, head~2). */
	if (!strcmp(name, "head") || strchr(name, '~') ||
	    !strcmp(name, "staged") || !strcmp(name, "working"))
		return -ENOENT;
	pin = store_pin(m->store);
	err = fs_resolve(m->fs, name, &root);
	if (!err)
		err = knode_get_snap(m, &root.ptr, name, snap);
	store_unpin(m->store, pin);
	return err == -EINVAL ? -ENOENT : err;
}

int virtual_lookup(struct mount *m, const struct knode *dir, const char *name,
		   struct knode **out, struct snap **snap)
{
	if (dir->kind == NODE_SNAPSHOTS)
		return lookup_snapshot(m, name, snap);
	if (dir->kind != NODE_TXN)
		return -ENOTDIR;
	for (int k = NODE_CTL; k < NODE_KINDS; k++) {
		if (!strcmp(virts[k].name, name)) {
			*out = &m->virt[k];
			return 0;
		}
	}
	return -ENOENT;
}

static int head_number(struct mount *m, uint64_t *number,
		       struct commit_info *info)
{
	struct root root;

	store_head(m->store, &root, info);
	root_put(store_tree(m->store), &root);
	*number = info->number;
	return *number ? 0 : -ENOENT;
}

int virtual_readlink(struct mount *m, char *buf, size_t size)
{
	struct commit_info *info = malloc(sizeof(*info));
	uint64_t number;
	int err;

	err = info ? head_number(m, &number, info) : -ENOMEM;
	if (!err)
		snprintf(buf, size, "snapshots/@%" PRIu64, number);
	free(info);
	return err;
}

struct listing_names {
	virtual_entry_fn fn;
	void *arg;
	const struct stat *st;
	uint64_t cookie; /* of the name that comes */
	uint64_t from;
};

static int list_name(void *arg, const struct name_info *info)
{
	struct listing_names *l = arg;
	uint64_t cookie = l->cookie++;

	if (cookie <= l->from)
		return 0;
	return l->fn(l->arg, info->name, cookie, l->st) ? 0 : 2;
}

/* Names first, then commits: their cookies are above all of names. */
static int list_snapshots(struct mount *m, uint64_t cookie, virtual_entry_fn fn,
			  void *arg)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct stat st;
	struct listing_names l = { .fn = fn,
				   .arg = arg,
				   .st = &st,
				   .cookie = FS_COOKIE_FIRST,
				   .from = cookie };
	uint64_t n = cookie < COMMIT_COOKIES ? 1 : cookie - COMMIT_COOKIES + 1;
	int err = info ? 0 : -ENOMEM;

	virtual_stat(m, &m->virt[NODE_SNAPSHOTS], &st);
	if (!err && cookie < COMMIT_COOKIES)
		err = store_each_name(m->store, list_name, &l);
	while (!err) {
		char name[32];

		err = store_next_commit(m->store, n, info);
		if (err)
			break;
		snprintf(name, sizeof(name), "@%" PRIu64, info->number);
		if (!fn(arg, name, COMMIT_COOKIES + info->number, &st))
			break;
		n = info->number + 1;
	}
	free(info);
	return err > 0 ? 0 : err;
}

int virtual_list(struct mount *m, const struct knode *dir, uint64_t cookie,
		 virtual_entry_fn fn, void *arg)
{
	struct stat st;

	if (dir->kind != NODE_TXN && dir->kind != NODE_SNAPSHOTS)
		return -ENOTDIR;
	virtual_stat(m, dir, &st);
	if (cookie < 1 && !fn(arg, ".", 1, &st))
		return 0;
	if (cookie < 2 && !fn(arg, "..", 2, &st))
		return 0;
	if (dir->kind == NODE_SNAPSHOTS)
		return list_snapshots(m, cookie, fn, arg);
	for (int k = NODE_CTL; k < NODE_KINDS; k++) {
		virtual_stat(m, &m->virt[k], &st);
		if (cookie < (uint64_t)k + FS_COOKIE_FIRST &&
		    !fn(arg, virts[k].name, (uint64_t)k + FS_COOKIE_FIRST, &st))
			break;
	}
	return 0;
}

int virtual_open(struct mount *m, struct handle *h, int flags)
{
	enum knode_kind kind = h->node->kind;

	if ((flags & O_ACCMODE) != O_RDONLY && kind != NODE_CTL)
		return -EPERM;
	return S_ISREG(virts[kind].mode) ? 0 : -EINVAL;
}

/* --- texts --- */

static void time_text(int64_t ns, char buf[32])
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(buf, 32, "?");
}

static json_t *status_staged(struct mount *m)
{
	struct fs_change_totals t = { 0 };
	struct root head = ROOT_EMPTY, now = ROOT_EMPTY;
	struct fs_staged st;
	int err = 0;

	fs_get_staged(m->fs, &st);
	if (st.any) {
		store_head(m->store, &head, NULL);
		err = fs_freeze(m->fs, &now);
		if (!err)
			err = fs_change_totals(m->fs, &head, &now, &t);
		root_put(store_tree(m->store), &head);
		root_put(store_tree(m->store), &now);
	}
	return json_pack("{s:I s:I s:I s:I s:I s:I s:I s:I}", "added",
			 (json_int_t)t.added, "modified",
			 (json_int_t)t.modified, "deleted",
			 (json_int_t)t.deleted, "renamed",
			 (json_int_t)t.renamed, "retyped",
			 (json_int_t)t.retyped, "file_bytes",
			 (json_int_t)t.bytes, "written_bytes",
			 (json_int_t)st.bytes, "error", (json_int_t)-err);
}

static json_t *status_log(struct mount *m)
{
	struct log_stats ls;
	struct store_stats ss;

	log_get_stats(store_log(m->store), &ls);
	store_get_stats(m->store, &ss);
	return json_pack("{s:I s:I s:I s:I s:I s:I s:I s:I s:b}",
			 "segment_bytes", (json_int_t)ls.segment_file_bytes,
			 "small_bytes",
			 (json_int_t)ls.appended_bytes[LOG_SMALL], "bulk_bytes",
			 (json_int_t)ls.appended_bytes[LOG_BULK], "flushes",
			 (json_int_t)ls.flushes, "records",
			 (json_int_t)ss.records, "commits",
			 (json_int_t)ss.commits, "last_commit_ns",
			 (json_int_t)ss.last_commit_ns, "last_commit_bytes",
			 (json_int_t)ss.last_commit_bytes, "recovered",
			 (int)ss.recovered);
}

static json_t *status_head(struct mount *m)
{
	struct commit_info *info = malloc(sizeof(*info));
	char when[32];
	uint64_t number;
	json_t *j = NULL;

	if (info && !head_number(m, &number, info)) {
		time_text(info->time_ns, when);
		j = json_pack("{s:I s:s}", "number", (json_int_t)number, "time",
			      when);
	}
	free(info);
	return j ? j : json_null();
}

json_t *json_text(const char *s)
{
	json_t *j = json_string(s);
	char quoted[8192];

	if (j)
		return j;
	(void)fs_quote_path(s, quoted, sizeof(quoted));
	return json_string(quoted);
}

static int write_status(struct mount *m, FILE *f)
{
	const char *reason = NULL;
	bool failed = store_failed(m->store, &reason);
	char last[64];
	bool forced;
	json_t *j;
	int err;

	pthread_mutex_lock(&m->errors_lock);
	snprintf(last, sizeof(last), "%s", m->last_result);
	forced = m->switch_not_atomic;
	pthread_mutex_unlock(&m->errors_lock);
	j = json_pack("{s:i s:s s:o s:o s:i s:s s:s s:o s:o s:s s:o s:o s:s "
		      "s:s s:{s:b s:b s:b s:b s:b s:b} s:o}",
		      "format", STATUS_FORMAT, "uuid", store_uuid(m->store),
		      "dir", json_text(m->dir), "mountpoint",
		      json_text(m->mountpoint), "pid", (int)getpid(), "view",
		      "working", "mode",
		      store_is_read_only(m->store) || failed ? "read-only"
							     : "read-write",
		      "head", status_head(m), "staged", status_staged(m),
		      "health", failed ? (reason ? reason : "stopped") : "ok",
		      "plain", plain_status(m), "space", plain_space(m),
		      "switch", forced ? "not atomic" : "atomic", "libfuse",
		      fuse_pkgversion(), "kernel", "acl", (int)m->has_acl,
		      "readdirplus", (int)m->has_readdirplus, "o_tmpfile",
		      (int)m->has_tmpfile, "birth_time", (int)m->has_birth,
		      "killpriv", (int)m->has_killpriv, "io_uring",
		      m->ring != NULL, "log", status_log(m));
	if (!j)
		return -ENOMEM;
	json_object_set_new(j, "last", json_string(last));
	json_object_set_new(j, "open",
			    json_string(m->opt.fast ? "fast" : "ask"));
	json_object_set_new(
		j, "verify",
		json_pack("{s:I s:I}", "bytes",
			  (json_int_t)__atomic_load_n(&m->verify_bytes,
						      __ATOMIC_RELAXED),
			  "total",
			  (json_int_t)__atomic_load_n(&m->verify_total,
						      __ATOMIC_RELAXED)));
	err = json_dumpf(j, f, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	fputc('\n', f);
	json_decref(j);
	return err || ferror(f) ? -ENOMEM : 0;
}

static int print_change(void *arg, const struct fs_change *ch)
{
	size_t size =
		4 * (strlen(ch->path) + (ch->from ? strlen(ch->from) : 0)) + 8;
	char *buf = malloc(size);
	FILE *f = arg;

	if (!buf)
		return -ENOMEM;
	if (ch->from) {
		(void)fs_quote_path(ch->from, buf, size);
		fprintf(f, "%c %s\t", ch->op, buf);
	} else {
		fprintf(f, "%c ", ch->op);
	}
	(void)fs_quote_path(ch->path, buf, size);
	fprintf(f, "%s\n", buf);
	free(buf);
	return ferror(f) ? -ENOMEM : 0;
}

static int write_changes(struct mount *m, FILE *f)
{
	struct root head, now = ROOT_EMPTY;
	int err;

	store_head(m->store, &head, NULL);
	err = fs_freeze(m->fs, &now);
	if (!err)
		err = fs_changes(m->fs, &head, &now, print_change, f);
	root_put(store_tree(m->store), &head);
	root_put(store_tree(m->store), &now);
	return err;
}

static int write_errors(struct mount *m, FILE *f)
{
	pthread_mutex_lock(&m->errors_lock);
	for (uint64_t i = m->nerrors < MOUNT_ERRORS_MAX
				  ? 0
				  : m->nerrors - MOUNT_ERRORS_MAX;
	     i < m->nerrors; i++) {
		const struct mount_error *e = &m->errors[i % MOUNT_ERRORS_MAX];
		char when[32];

		time_text(e->time_ns, when);
		fprintf(f, "%s pid %ld: %s: %s: %s\n", when, e->pid, e->command,
			strerror(-e->err), e->reason);
	}
	pthread_mutex_unlock(&m->errors_lock);
	return ferror(f) ? -ENOMEM : 0;
}

struct log_lines {
	FILE *f;
	uint64_t next;
};

static int print_commit(void *arg, const struct commit_info *info)
{
	struct log_lines *l = arg;
	char when[32], *msg;
	size_t size = 4 * info->message_bytes + 8;

	if (ftell(l->f) >= LOG_CHUNK_BYTES)
		return 1;
	msg = malloc(size);
	if (!msg)
		return -ENOMEM;
	(void)fs_quote_path(info->message, msg, size);
	time_text(info->time_ns, when);
	fprintf(l->f, "@%" PRIu64 "\t%s\t%u\t%" PRIu64 "\t%" PRIu64 "\t%s\n",
		info->number, when, info->uid, info->changes, info->bytes, msg);
	free(msg);
	l->next = info->number - 1;
	return ferror(l->f) ? -ENOMEM : 0;
}

/* The next part of the history: it may be long, and is made while read. */
static int write_log(struct mount *m, struct handle *h, FILE *f)
{
	struct log_lines l = { .f = f };
	int err;

	err = store_each_commit(m->store, h->log_next, print_commit, &l);
	h->log_next = l.next;
	return err == 1 ? 0 : err;
}

static int make_text(struct mount *m, struct handle *h)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f;
	int err;

	f = open_memstream(&text, &len);
	if (!f)
		return -ENOMEM;
	if (h->node->kind == NODE_STATUS)
		err = write_status(m, f);
	else if (h->node->kind == NODE_CHANGES)
		err = write_changes(m, f);
	else if (h->node->kind == NODE_ERROR)
		err = write_errors(m, f);
	else
		err = write_log(m, h, f);
	if (fclose(f) && !err)
		err = -ENOMEM;
	if (err)
		free(text);
	else
		virtual_set_text(h, text, len);
	return err;
}

void virtual_set_text(struct handle *h, char *text, size_t len)
{
	free(h->text);
	h->text = text;
	h->text_len = len;
	h->text_made = true;
}

/* Bring the part of the text that holds off into memory. */
static int seek_text(struct mount *m, struct handle *h, uint64_t off)
{
	bool is_log = h->node->kind == NODE_LOG;
	int err;

	if (h->node->kind == NODE_CTL)
		return 0; /* what the last command left */
	if (!h->text_made || (is_log && off < h->text_off)) {
		h->text_off = 0;
		h->log_next = UINT64_MAX;
		err = make_text(m, h);
		if (err)
			return err;
	}
	while (is_log && h->log_next && off >= h->text_off + h->text_len) {
		h->text_off += h->text_len;
		err = make_text(m, h);
		if (err)
			return err;
	}
	return 0;
}

void virtual_read(struct mount *m, fuse_req_t req, struct handle *h,
		  uint64_t off, size_t size)
{
	unsigned int pin = store_pin(m->store);
	char *copy = NULL;
	size_t n = 0;
	int err;

	pthread_mutex_lock(&h->lock);
	err = seek_text(m, h, off);
	if (!err && off >= h->text_off && off - h->text_off < h->text_len) {
		n = min_u64(size, h->text_len - (off - h->text_off));
		copy = malloc(n);
		if (copy)
			memcpy(copy, h->text + (off - h->text_off), n);
		else
			err = -ENOMEM;
	}
	pthread_mutex_unlock(&h->lock);
	store_unpin(m->store, pin);
	/* With the reply the handle may be gone. */
	if (err)
		reply_err(req, err);
	else
		fuse_reply_buf(req, copy, n);
	free(copy);
}
