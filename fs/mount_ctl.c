/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_ctl.c - commands written to .txn/ctl. They run one after the other: one
 * that comes when none is under way in the thread that took the request, which
 * saves it a wake-up; others wait in line for a thread of their own. A command
 * waits for the device and, in a switch, for other requests. The write returns
 * when all of its lines are done.
 */
#include "fs/mount_internal.h"

#include "fs/mount_ring.h"
#include "fs/slice.h"
#include "fs/utf8.h"
#include "txn/pace.h"

#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Of a word that is told to be wrong. */
enum { SHOWN_MAX = 4 * STORE_NAME_MAX };

struct ctl_job {
	struct ctl_job *next;
	fuse_req_t req;
	bool rings; /* counted in m->nheld */
	struct handle *h;
	long pid;
	uid_t uid;
	uint64_t off;
	size_t len;
	char text[]; /* len bytes */
};

/* What one command gave. */
struct ctl_result {
	uint64_t number; /* head afterwards */
	bool nothing; /* there was nothing to do */
	char reason[512];
};

void mount_note_error(struct mount *m, long pid, const char *command, int err,
		      const char *reason)
{
	struct mount_error *e;

	pthread_mutex_lock(&m->errors_lock);
	e = &m->errors[m->nerrors++ % MOUNT_ERRORS_MAX];
	*e = (struct mount_error){ .time_ns = m->env.now_ns(&m->env),
				   .pid = pid,
				   .err = err };
	snprintf(e->command, sizeof(e->command), "%s", command);
	snprintf(e->reason, sizeof(e->reason), "%s", reason);
	pthread_mutex_unlock(&m->errors_lock);
	env_logf(&m->env, ENV_WARNING, "%s by process %ld: %s: %s", command,
		 pid, strerror(-err), reason);
}

static void note_result(struct mount *m, const char *command,
			const struct ctl_result *r)
{
	pthread_mutex_lock(&m->errors_lock);
	snprintf(m->last_result, sizeof(m->last_result), "%s: %s@%" PRIu64,
		 command, r->nothing ? "nothing to do, " : "", r->number);
	pthread_mutex_unlock(&m->errors_lock);
}

/* --- the commands --- */

/* Why, for people. Returns err. */
static int told(struct ctl_result *r, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int told(struct ctl_result *r, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->reason, sizeof(r->reason), fmt, ap);
	va_end(ap);
	return err;
}

static int check_message(const struct ctl_command *c, struct ctl_result *r)
{
	return c->arg_len > STORE_MESSAGE_MAX
		       ? told(r, -EINVAL, "a message has at most %d bytes",
			      STORE_MESSAGE_MAX)
		       : 0;
}

static int check_name(const char *name, struct ctl_result *r)
{
	return store_name_is_valid(name)
		       ? 0
		       : told(r, -EINVAL,
			      "%.*s cannot be a name: that has 1 to %d of the "
			      "characters A-Z a-z 0-9 . _ -, the first a "
			      "letter or digit, and is not head, staged or "
			      "working",
			      SHOWN_MAX, name, STORE_NAME_MAX);
}

/* A part of the line as a string; free(). */
static char *dup_arg(const char *s, size_t len)
{
	return strndup(s, len);
}

static int do_commit(struct mount *m, uid_t uid, const struct ctl_command *c,
		     struct ctl_result *r)
{
	int err = check_message(c, r);

	if (!err)
		err = push_maps(m);
	if (err)
		return err;
	err = fs_commit(m->fs, uid, c->arg, c->arg_len, &r->number);
	r->nothing = err == 1;
	return err == 1 ? 0 : err;
}

/* What only lacks a name by now is nothing: it would take the place of what
 * undo brings back. What cannot be told is something. */
static bool is_staged(struct mount *m, const struct root *head)
{
	struct root now = ROOT_EMPTY;
	struct fs_staged st;
	bool same;

	fs_get_staged(m->fs, &st);
	if (!st.any)
		return false;
	same = !fs_freeze(m->fs, &now) && !fs_delta_shows(m->fs, head, &now);
	root_put(store_tree(m->store), &now);
	return !same;
}

static int do_abort(struct mount *m, uid_t uid, struct ctl_result *r)
{
	struct switch_target t = { .uid = uid };
	struct root head;
	int err;

	/* What was stored through a mapping, and nothing else, is staged too.
	 */
	err = push_maps(m);
	if (err)
		return err;
	store_head(m->store, &head, NULL);
	r->nothing = !is_staged(m, &head);
	t.root = &head;
	if (!r->nothing)
		err = switch_to(m, &t, NULL);
	root_put(store_tree(m->store), &head);
	return err;
}

static int do_snapshot(struct mount *m, uid_t uid, const struct ctl_command *c,
		       struct ctl_result *r)
{
	char *name = dup_arg(c->word, c->word_len);
	int err = name ? check_name(name, r) : -ENOMEM;

	if (!err)
		err = check_message(c, r);
	if (!err)
		err = push_maps(m);
	if (!err)
		err = fs_snapshot(m->fs, name, uid, c->arg, c->arg_len);
	if (err == -EEXIST)
		told(r, err, "the name %s is taken; delete it first", name);
	free(name);
	return err;
}

static int parse_u64(const char *s, size_t len, uint64_t *out)
{
	*out = 0;
	if (!len || len > 18)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		*out = *out * 10 + (uint64_t)(s[i] - '0');
	}
	return 0;
}

/* tag NAME @N */
static int do_tag(struct mount *m, uid_t uid, const struct ctl_command *c,
		  struct ctl_result *r)
{
	struct catalog_change change = { .op = CATALOG_TAG, .uid = uid };
	char *name = dup_arg(c->word, c->word_len);
	int err = name ? check_name(name, r) : -ENOMEM;

	if (!err && (c->arg[0] != '@' || (c->arg_len > 1 && c->arg[1] == '0') ||
		     parse_u64(c->arg + 1, c->arg_len - 1, &change.number)))
		err = told(r, -EINVAL,
			   "%.*s: the number of a commit is wanted, @5 for one",
			   (int)c->arg_len, c->arg);
	change.name = name;
	if (!err)
		err = store_change_catalog(m->store, store_working(m->store),
					   &change);
	if (err == -EEXIST)
		told(r, err, "the name %s is taken; delete it first", name);
	else if (err == -ENOENT)
		told(r, err, "there is no commit %.*s; txn log lists them",
		     (int)c->arg_len, c->arg);
	free(name);
	return err;
}

static int do_delete(struct mount *m, const struct ctl_command *c,
		     struct ctl_result *r)
{
	struct catalog_change change = { .op = CATALOG_DELETE };
	char *name = dup_arg(c->arg, c->arg_len);
	uint64_t n;
	int err = -ENOMEM;

	change.name = name;
	if (name)
		err = store_change_catalog(m->store, store_working(m->store),
					   &change);
	if (err == -ENOENT && *name == '@' &&
	    !parse_u64(name + 1, c->arg_len - 1, &n))
		told(r, err,
		     "%s is no name: commits without one go by themselves "
		     "(keep.last)",
		     name);
	else if (err == -ENOENT)
		told(r, err, "there is no name %.*s; txn snapshots lists them",
		     SHOWN_MAX, name);
	free(name);
	return err;
}

/* To a state by name; path NULL: all of it. */
static int go_to(struct mount *m, const char *name, struct switch_target *t,
		 uint64_t *number, struct ctl_result *r)
{
	char shown[sizeof(r->reason)];
	struct root root = ROOT_EMPTY;
	int err;

	err = push_maps(m);
	if (!err)
		err = ask_state(m, name, &root, r->reason, sizeof(r->reason));
	if (err)
		return err;
	t->root = &root;
	err = switch_to(m, t, number);
	t->root = NULL;
	root_put(store_tree(m->store), &root);
	if (t->path)
		(void)fs_quote_path(t->path, shown, sizeof(shown));
	if (err == -EINVAL && t->path)
		told(r, err, "%s: a path below the directory is wanted", shown);
	else if (err == -ENOENT && t->path)
		told(r, err,
		     "%s has no %s; a path is relative to the directory", name,
		     shown);
	return err;
}

static int do_restore(struct mount *m, uid_t uid, const struct ctl_command *c,
		      struct ctl_result *r)
{
	struct switch_target t = { .uid = uid };
	char *name = dup_arg(c->word, c->word_len);
	char *path = c->arg_len ? dup_arg(c->arg, c->arg_len) : NULL;
	int err = -ENOMEM;

	if (name && (path || !c->arg_len)) {
		if (path)
			(void)fs_unquote_path(path);
		t.path = path;
		err = go_to(m, name, &t, NULL, r);
	}
	free(name);
	free(path);
	return err;
}

/* For the history: what the rollback changes against head. */
static int count_rollback(struct mount *m, const char *name,
			  struct switch_target *t, struct ctl_result *r)
{
	struct root head = ROOT_EMPTY, to = ROOT_EMPTY;
	struct fs_change_totals n = { 0 };
	int err;

	err = ask_state(m, name, &to, r->reason, sizeof(r->reason));
	store_head(m->store, &head, NULL);
	if (!err)
		err = fs_change_totals(m->fs, &head, &to, &n);
	root_put(store_tree(m->store), &head);
	root_put(store_tree(m->store), &to);
	t->changes = n.added + n.modified + n.deleted + n.renamed + n.retyped;
	t->bytes = n.bytes;
	return err;
}

static int do_rollback(struct mount *m, uid_t uid, const struct ctl_command *c,
		       struct ctl_result *r)
{
	struct switch_target t = { .uid = uid, .commit = true };
	char *name = dup_arg(c->arg, c->arg_len), message[128];
	int err;

	if (!name)
		return -ENOMEM;
	/* A state that may still change cannot be one of the history. */
	err = !strcmp(name, "staged") || !strcmp(name, "working")
		      ? told(r, -EINVAL,
			     "%s is what is here now: commit it, or take a "
			     "snapshot first",
			     name)
		      : 0;
	snprintf(message, sizeof(message), "rollback to %s", name);
	t.message = message;
	t.message_bytes = strlen(message);
	if (!err)
		err = count_rollback(m, name, &t, r);
	if (!err)
		err = go_to(m, name, &t, &r->number, r);
	free(name);
	return err;
}

static int last_discarded(void *arg, const struct name_info *info)
{
	if (info->kind == STORE_DISCARDED)
		snprintf(arg, STORE_NAME_MAX + 1, "%s", info->name);
	return 0;
}

static int do_undo(struct mount *m, uid_t uid, struct ctl_result *r)
{
	struct switch_target t = { .uid = uid };
	char name[STORE_NAME_MAX + 1] = "";
	int err;

	err = store_each_name(m->store, last_discarded, name);
	if (!err && !*name)
		err = told(r, -ENOENT,
			   "there is nothing to undo: no abort, restore or "
			   "rollback replaced anything, or it is not kept any "
			   "more (keep.discarded)");
	return err ? err : go_to(m, name, &t, NULL, r);
}

static int do_set(struct mount *m, const struct ctl_command *c,
		  struct ctl_result *r)
{
	static const struct {
		const char *name;
		enum store_setting which;
		bool is_switch; /* on, off */
	} keys[] = { { "keep.last", STORE_KEEP_LAST, false },
		     { "keep.discarded", STORE_KEEP_DISCARDED, false },
		     { "push-maps", STORE_PUSH_MAPS, true },
		     { "plain", STORE_PLAIN, true } };
	struct catalog_change change = { .op = CATALOG_SET };
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strlen(keys[i].name) != c->word_len ||
		    memcmp(keys[i].name, c->word, c->word_len) != 0)
			continue;
		change.setting = keys[i].which;
		if (!keys[i].is_switch)
			err = parse_u64(c->arg, c->arg_len, &change.number);
		else if (c->arg_len == 2 && !memcmp(c->arg, "on", 2))
			change.number = 1;
		else if (c->arg_len != 3 || memcmp(c->arg, "off", 3) != 0)
			err = -EINVAL;
		if (err)
			return told(r, err, "%s: %s is wanted, not %.*s",
				    keys[i].name,
				    keys[i].is_switch ? "on or off"
						      : "a number",
				    (int)c->arg_len, c->arg);
		return store_change_catalog(m->store, store_working(m->store),
					    &change);
	}
	return told(r, -EINVAL,
		    "%.*s cannot be set; keep.last, keep.discarded, push-maps "
		    "and plain can",
		    (int)c->word_len, c->word);
}

static int do_command(struct mount *m, uid_t uid, const struct ctl_command *c,
		      struct ctl_result *r, FILE *reply)
{
	switch (c->verb) {
	case CTL_COMMIT:
		return do_commit(m, uid, c, r);
	case CTL_ABORT:
		return do_abort(m, uid, r);
	case CTL_SNAPSHOT:
		return do_snapshot(m, uid, c, r);
	case CTL_TAG:
		return do_tag(m, uid, c, r);
	case CTL_DELETE:
		return do_delete(m, c, r);
	case CTL_RESTORE:
		return do_restore(m, uid, c, r);
	case CTL_ROLLBACK:
		return do_rollback(m, uid, c, r);
	case CTL_UNDO:
		return do_undo(m, uid, r);
	case CTL_SET:
		return do_set(m, c, r);
	case CTL_DIFF:
		return ask_diff(m, c, reply, r->reason, sizeof(r->reason));
	case CTL_NAMES:
		return ask_names(m, reply);
	default:
		return -EINVAL;
	}
}

static uint64_t head_number(struct mount *m)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct root head;
	uint64_t n = 0;

	if (info) {
		store_head(m->store, &head, info);
		root_put(store_tree(m->store), &head);
		n = info->number;
	}
	free(info);
	return n;
}

static void explain(struct mount *m, int err, struct ctl_result *r)
{
	const char *reason = NULL;

	if (store_failed(m->store, &reason) && reason)
		snprintf(r->reason, sizeof(r->reason),
			 "the store has stopped: %s", reason);
	else if (r->reason[0])
		utf8_clip(r->reason);
	else if (err == -ENOTDIR)
		snprintf(r->reason, sizeof(r->reason),
			 "a file is in the way of a directory above the path; "
			 "move it away");
	else if (err == -ENOSPC)
		snprintf(r->reason, sizeof(r->reason),
			 "%s is full: free space there, or delete names and "
			 "discarded states that hold some (txn snapshots), "
			 "then try again",
			 m->dir);
	else if (err == -EROFS)
		snprintf(r->reason, sizeof(r->reason),
			 "the mount is read-only");
	else if (err == -EFSCORRUPTED || err == -EFSBADCRC)
		snprintf(r->reason, sizeof(r->reason),
			 "the store is damaged: txn verify names what");
	else
		snprintf(r->reason, sizeof(r->reason), "%s", strerror(-err));
}

/* Any signal interrupts the caller's write, the end of a child too, and its
 * wait goes on with the signal pending. Only those that ask it to end count. */
bool ctl_wants_to_end(long pid)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM };
	uint64_t pending = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/status", pid);
	f = fopen(path, "re");
	if (!f)
		return true; /* gone */
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "SigPnd:", 7) ||
		    !strncmp(line, "ShdPnd:", 7))
			pending |= strtoull(line + 7, NULL, 16);
	fclose(f);
	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		if (pending >> (ends[i] - 1) & 1)
			return true;
	return false;
}

/* Without memory the errno is the answer. */
static void put_reply(FILE *reply, json_t *j)
{
	if (j && !json_dumpf(j, reply, JSON_PRESERVE_ORDER | JSON_COMPACT))
		fputc('\n', reply);
	json_decref(j);
}

static void reply_failed(struct mount *m, struct ctl_job *job, FILE *reply,
			 const char *command, int err, struct ctl_result *r)
{
	explain(m, err, r);
	mount_note_error(m, job->pid, command, err, r->reason);
	put_reply(reply,
		  json_pack("{s:s s:b s:i s:o}", "command", command, "done", 0,
			    "errno", -err, "reason", json_text(r->reason)));
}

static int run_command(struct mount *m, struct ctl_job *job,
		       const struct ctl_command *c, FILE *reply)
{
	struct ctl_result r = { 0 };
	int err;

	if (store_is_read_only(m->store) && c->verb < CTL_DIFF)
		err = -EROFS;
	else if (fuse_req_interrupted(job->req) &&
		 ctl_wants_to_end(job->pid))
		err = -EINTR;
	else if (c->verb == CTL_GC)
		err = fs_gc(m->fs, NULL); /* it waits for those who pin */
	else if (c->verb == CTL_VERIFY)
		err = ask_verify(m, reply); /* pins by itself, for a moment */
	else if (c->verb == CTL_SYNC)
		err = plain_sync_now(m, reply, &r.nothing, r.reason,
				     sizeof(r.reason));
	else {
		unsigned int pin = store_pin(m->store);

		err = do_command(m, job->uid, c, &r, reply);
		store_unpin(m->store, pin);
	}
	if (!err && (c->verb == CTL_COMMIT || c->verb == CTL_ROLLBACK ||
		     c->verb == CTL_SET))
		plain_kick(m);
	if (!err && !r.number)
		r.number = head_number(m);
	if (err) {
		reply_failed(m, job, reply, ctl_verb_name(c->verb), err, &r);
		return err;
	}
	note_result(m, ctl_verb_name(c->verb), &r);
	put_reply(reply,
		  json_pack("{s:s s:b s:I s:b}", "command",
			    ctl_verb_name(c->verb), "done", 1, "head",
			    (json_int_t)r.number, "nothing", (int)r.nothing));
	return 0;
}

static int run_lines(struct mount *m, struct ctl_job *job, FILE *reply)
{
	int err = ctl_check(job->text, job->len);

	if (err) {
		struct ctl_result r = { 0 };

		ctl_explain(job->text, job->len, r.reason, sizeof(r.reason));
		reply_failed(m, job, reply, "ctl", err, &r);
	}
	for (size_t at = 0; at < job->len && !err;) {
		struct ctl_command c;
		size_t used = 0;

		err = ctl_parse_line(job->text + at, job->len - at, &c, &used);
		if (!err)
			err = run_command(m, job, &c, reply);
		at += used;
	}
	return err;
}

/*
 * A command that came through a ring has one of its places until it is done,
 * and may need others to go through meanwhile (pushing mappings): so they never
 * have more than half of a core's. False: too many. Under ctl_lock.
 */
static bool hold(struct mount *m, struct ctl_job *job)
{
	job->rings = ring_is_here();
	if (!job->rings)
		return true;
	if (m->nheld >= ring_depth(m->ring) / 2)
		return false;
	m->nheld++;
	return true;
}

static void let_go(struct mount *m, const struct ctl_job *job)
{
	if (!job->rings)
		return;
	pthread_mutex_lock(&m->ctl_lock);
	m->nheld--;
	pthread_mutex_unlock(&m->ctl_lock);
}

static void run_job(struct mount *m, struct ctl_job *job)
{
	char *text = NULL;
	size_t len = 0;
	FILE *reply = open_memstream(&text, &len);
	int err = -ENOMEM;

	if (reply) {
		err = run_lines(m, job, reply);
		if (fclose(reply)) {
			free(text);
			text = NULL;
			len = 0;
		}
	}
	pthread_mutex_lock(&job->h->lock);
	virtual_set_text(job->h, text, len);
	/* Where the descriptor stands after the write. */
	job->h->text_off = job->off + job->len;
	pthread_mutex_unlock(&job->h->lock);
	if (err)
		reply_err(job->req, err);
	else
		fuse_reply_write(job->req, job->len);
	let_go(m, job);
	free(job);
}

/* --- the threads --- */

/* These may take hours: others' commands do not wait for them. */
static bool is_long(const struct ctl_job *job)
{
	return (job->len >= 6 && !memcmp(job->text, "verify", 6)) ||
	       (job->len >= 4 && !memcmp(job->text, "sync", 4));
}

static void *long_main(void *arg)
{
	struct ctl_job *job = arg;
	struct mount *m = req_mount(job->req);

	slice_set(SLICE_BACKGROUND_NS);
	pace_begin();
	run_job(m, job);
	pthread_mutex_lock(&m->ctl_lock);
	m->nlong--;
	pthread_cond_broadcast(&m->ctl_cond);
	pthread_mutex_unlock(&m->ctl_lock);
	return NULL;
}

/* Under ctl_lock. False: it runs like any other command. */
static bool start_long(struct mount *m, struct ctl_job *job)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	int err;

	if (!is_long(job))
		return false;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	m->nlong++;
	err = pthread_create(&t, &attr, long_main, job);
	if (err)
		m->nlong--;
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return !err;
}

static void put_in_line(struct mount *m, struct ctl_job *job)
{
	*m->jobs_end = job;
	m->jobs_end = &job->next;
	pthread_cond_broadcast(&m->ctl_cond);
}

/*
 * In the thread of its request, when nobody is before it: not what waits for
 * another request. A switch recalls names, which may wait for a lookup, and
 * mappings are pushed through the mount: these threads are those that answer.
 */
static bool may_run_here(struct mount *m, const struct ctl_job *job)
{
	struct ctl_command c;
	size_t used;

	if (m->jobs || m->ctl_runs)
		return false;
	if (ctl_parse_line(job->text, job->len, &c, &used) || used != job->len)
		return false;
	return (c.verb == CTL_COMMIT || c.verb == CTL_SNAPSHOT) &&
	       !knode_has_writers(m);
}

/* Under ctl_lock, which is dropped. */
static void run_here(struct mount *m, struct ctl_job *job)
{
	m->ctl_runs = true;
	m->ctl_here = true;
	pthread_mutex_unlock(&m->ctl_lock);
	slice_set(SLICE_BACKGROUND_NS);
	pace_begin();
	run_job(m, job);
	pace_end();
	slice_set(SLICE_DEFAULT);
	pthread_mutex_lock(&m->ctl_lock);
	m->ctl_here = false;
	m->ctl_runs = false;
	if (m->jobs || m->ctl_stop)
		pthread_cond_broadcast(&m->ctl_cond);
}

void ctl_write(struct mount *m, fuse_req_t req, struct handle *h,
	       const char *buf, size_t len, uint64_t off)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct ctl_job *job = malloc(sizeof(*job) + len);
	int err = 0;

	if (!job) {
		reply_err(req, -ENOMEM);
		return;
	}
	*job = (struct ctl_job){ .req = req,
				 .h = h,
				 .pid = ctx->pid,
				 .uid = ctx->uid,
				 .off = off,
				 .len = len };
	memcpy(job->text, buf, len);
	pthread_mutex_lock(&m->ctl_lock);
	if (m->ctl_stop) {
		err = -ENOTCONN; /* requests are served for a moment more */
	} else if (!hold(m, job)) {
		err = -EAGAIN;
	} else if (!start_long(m, job)) {
		if (may_run_here(m, job))
			run_here(m, job);
		else
			put_in_line(m, job);
	}
	pthread_mutex_unlock(&m->ctl_lock);
	if (!err)
		return;
	free(job);
	reply_err(req, err);
}

/* The protocol of sd_notify(3): a datagram to the supervisor that waits. */
static void notify_ready(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (!len || len >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, len);
	if (*path == '@')
		to.sun_path[0] = '\0'; /* a name without a file */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	len += offsetof(struct sockaddr_un, sun_path);
	if (sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)len) < 0)
		(void)0; /* it finds out by its own deadline */
	close(fd);
}

/* When nobody reads it any more, nobody needs it. */
static void tell_ready(struct mount *m)
{
	const unsigned char ok = 0;

	env_logf(&m->env, ENV_NOTICE, "serving %s at %s", m->dir,
		 m->mountpoint);
	if (m->tell_fd < 0) {
		notify_ready();
		return;
	}
	if (write(m->tell_fd, &ok, 1) != 1)
		(void)0;
	close(m->tell_fd);
	m->tell_fd = -1;
}

static void *ctl_main(void *arg)
{
	struct mount *m = arg;
	struct ctl_job *job;

	probe_barrier(m);
	tell_ready(m);
	pthread_mutex_lock(&m->ctl_lock);
	for (;;) {
		m->ctl_runs = false;
		while (m->jobs ? m->ctl_runs : !m->ctl_stop)
			pthread_cond_wait(&m->ctl_cond, &m->ctl_lock);
		if (!m->jobs)
			break;
		job = m->jobs;
		m->jobs = job->next;
		if (!m->jobs)
			m->jobs_end = &m->jobs;
		m->ctl_runs = true;
		pthread_mutex_unlock(&m->ctl_lock);
		pace_begin();
		run_job(m, job);
		pthread_mutex_lock(&m->ctl_lock);
	}
	pthread_mutex_unlock(&m->ctl_lock);
	return NULL;
}

int ctl_start(struct mount *m, int tell)
{
	sigset_t all, old;
	int err;

	m->tell_fd = tell;
	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&m->ctl_thread, NULL, ctl_main, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	m->has_ctl_thread = !err;
	return -err;
}

void ctl_stop(struct mount *m)
{
	if (!m->has_ctl_thread)
		return;
	pthread_mutex_lock(&m->ctl_lock);
	__atomic_store_n(&m->ctl_stop, true, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&m->ctl_cond);
	while (m->nlong || m->ctl_here)
		pthread_cond_wait(&m->ctl_cond, &m->ctl_lock);
	pthread_mutex_unlock(&m->ctl_lock);
	pthread_join(m->ctl_thread, NULL);
	m->has_ctl_thread = false;
}
