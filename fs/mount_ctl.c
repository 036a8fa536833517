/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_ctl.c - commands written to .txn/ctl. They run one after the other in a
 * thread of their own: a command waits for the device and, in a switch, for
 * other requests. The write returns when all of its lines are done.
 */
#include "fs/mount_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <unistd.h>

struct ctl_job {
	struct ctl_job *next;
	fuse_req_t req;
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

static int do_commit(struct mount *m, uid_t uid, const struct ctl_command *c,
		     struct ctl_result *r)
{
	int err;

	push_maps(m);
	err = fs_commit(m->fs, uid, c->arg, c->arg_len, &r->number);
	r->nothing = err == 1;
	return err == 1 ? 0 : err;
}

static int do_abort(struct mount *m, struct ctl_result *r)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct fs_staged st;
	struct root head;
	int err = 0;

	if (!info)
		return -ENOMEM;
	store_head(m->store, &head, info);
	r->number = info->number;
	free(info);
	fs_get_staged(m->fs, &st);
	r->nothing = !st.any;
	if (st.any)
		err = switch_to(m, &(struct switch_target){ .root = &head },
				NULL);
	root_put(store_tree(m->store), &head);
	return err;
}

static void explain(struct mount *m, int err, struct ctl_result *r)
{
	const char *reason = NULL;

	if (store_failed(m->store, &reason) && reason)
		snprintf(r->reason, sizeof(r->reason),
			 "the store has stopped: %s", reason);
	else if (err == -EINVAL)
		snprintf(r->reason, sizeof(r->reason),
			 "not a command; there are: commit [MESSAGE], abort");
	else if (err == -ENOSPC)
		snprintf(r->reason, sizeof(r->reason),
			 "%s is full: free space there, then try again",
			 m->dir);
	else if (err == -EROFS)
		snprintf(r->reason, sizeof(r->reason),
			 "the mount is read-only");
	else
		snprintf(r->reason, sizeof(r->reason), "%s", strerror(-err));
}

static int run_command(struct mount *m, struct ctl_job *job,
		       const struct ctl_command *c, FILE *reply)
{
	struct ctl_result r = { 0 };
	json_t *j;
	int err;

	if (store_is_read_only(m->store))
		err = -EROFS;
	else if (fuse_req_interrupted(job->req))
		err = -EINTR;
	else if (c->verb == CTL_COMMIT)
		err = do_commit(m, job->uid, c, &r);
	else
		err = do_abort(m, &r);
	if (err) {
		explain(m, err, &r);
		mount_note_error(m, job->pid, ctl_verb_name(c->verb), err,
				 r.reason);
	} else {
		note_result(m, ctl_verb_name(c->verb), &r);
	}
	j = err ? json_pack("{s:s s:b s:i s:s}", "command",
			    ctl_verb_name(c->verb), "done", 0, "errno", -err,
			    "reason", r.reason)
		: json_pack("{s:s s:b s:I s:b}", "command",
			    ctl_verb_name(c->verb), "done", 1, "head",
			    (json_int_t)r.number, "nothing", (int)r.nothing);
	/* Without memory the errno is the answer. */
	if (j && !json_dumpf(j, reply, JSON_PRESERVE_ORDER | JSON_COMPACT))
		fputc('\n', reply);
	json_decref(j);
	return err;
}

static int run_lines(struct mount *m, struct ctl_job *job, FILE *reply)
{
	int err = ctl_check(job->text, job->len);

	if (err) {
		struct ctl_result r = { 0 };

		explain(m, err, &r);
		mount_note_error(m, job->pid, "ctl", err, r.reason);
		fprintf(reply,
			"{\"done\":false,\"errno\":%d,\"reason\":\"%s\"}\n",
			-err, "not a command");
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
	free(job);
}

/* --- the thread --- */

void ctl_write(struct mount *m, fuse_req_t req, struct handle *h,
	       const char *buf, size_t len, uint64_t off)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct ctl_job *job = malloc(sizeof(*job) + len);

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
	*m->jobs_end = job;
	m->jobs_end = &job->next;
	pthread_cond_signal(&m->ctl_cond);
	pthread_mutex_unlock(&m->ctl_lock);
}

static void *ctl_main(void *arg)
{
	struct mount *m = arg;
	struct ctl_job *job;

	pthread_mutex_lock(&m->ctl_lock);
	for (;;) {
		while (!m->jobs && !m->ctl_stop)
			pthread_cond_wait(&m->ctl_cond, &m->ctl_lock);
		if (!m->jobs)
			break;
		job = m->jobs;
		m->jobs = job->next;
		if (!m->jobs)
			m->jobs_end = &m->jobs;
		pthread_mutex_unlock(&m->ctl_lock);
		run_job(m, job);
		pthread_mutex_lock(&m->ctl_lock);
	}
	pthread_mutex_unlock(&m->ctl_lock);
	return NULL;
}

int ctl_start(struct mount *m)
{
	sigset_t all, old;
	int err;

	m->jobs_end = &m->jobs;
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
	m->ctl_stop = true;
	pthread_cond_signal(&m->ctl_cond);
	pthread_mutex_unlock(&m->ctl_lock);
	pthread_join(m->ctl_thread, NULL);
	m->has_ctl_thread = false;
}
