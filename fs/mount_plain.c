/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_plain.c - DIR's own files, beneath the mount: a thread lets them follow
 * the last commit. What was edited while unmounted: mount_edits.c. fs/DESIGN.md
 * 8.
 */
#include "fs/mount_internal.h"

#include "fs/plain.h"
#include "txn/pace.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum {
	IDLE_SECONDS = 2, /* after the last commit */
	LATEST_SECONDS = 30, /* while commits do not end */
	RETRY_SECONDS = 60 /* after a failure */
};

struct plain_job {
	struct mount *m;
	int storefd;
	pthread_mutex_t run_lock; /* one plain_sync() at a time */
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t cond;
	pthread_t thread;
	bool has_thread, stop, kicked;
	time_t kicked_at, first_kick; /* monotonic, s */
	struct plain_out_result last;
	char error[1024]; /* of the last run; "" */
};

static time_t now_seconds(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* --- out --- */

struct telling_notes {
	struct mount *m;
	FILE *reply; /* may be NULL */
	unsigned int n;
};

static void on_note(void *arg, const char *path, const char *why)
{
	struct telling_notes *t = arg;
	char shown[512];

	(void)fs_quote_path(path, shown, sizeof(shown));
	if (t->reply)
		fprintf(t->reply, "%s\t%s\n", shown, why);
	if (t->n++ < NAMED_MAX)
		env_logf(&t->m->env, ENV_WARNING, "plain files: %s %s", shown,
			 why);
}

/* 1: they were in step. */
static int run_sync(struct plain_job *j, FILE *reply, char *reason, size_t size)
{
	struct telling_notes t = { j->m, reply, 0 };
	struct plain_out_params p = { .dirfd = j->m->dirfd,
				      .storefd = j->storefd,
				      .note = on_note,
				      .arg = &t };
	struct plain_out_result r;
	struct store_error text;
	int err;

	pthread_mutex_lock(&j->run_lock);
	err = plain_sync(j->m->fs, &p, &r, &text);
	pthread_mutex_lock(&j->lock);
	if (err <= 0)
		j->last = r;
	snprintf(j->error, sizeof(j->error), "%s", err < 0 ? text.text : "");
	if (reason && err < 0)
		snprintf(reason, size, "%s", text.text);
	pthread_mutex_unlock(&j->lock);
	pthread_mutex_unlock(&j->run_lock);
	if (err < 0)
		env_logf(&j->m->env, ENV_ERROR,
			 "the plain files of %s do not follow: %s", j->m->dir,
			 text.text);
	return err;
}

int plain_sync_now(struct mount *m, FILE *reply, bool *nothing, char *reason,
		   size_t reason_size)
{
	int err;

	if (!m->plain)
		return -EROFS;
	err = run_sync(m->plain, reply, reason, reason_size);
	*nothing = err == 1;
	return err == 1 ? 0 : err;
}

json_t *plain_status(struct mount *m)
{
	struct plain_job *j = m->plain;
	bool behind = false, half = false;
	uint64_t number = 0, missing;
	const char *state;
	json_t *o;

	if (plain_is_behind(m->fs, &behind, &number, &half))
		return json_null();
	state = half ? "between two commits" : behind ? "behind" : "in step";
	if (!store_get_setting(m->store, STORE_PLAIN))
		state = behind || half ? "going away" : "off";
	o = json_pack("{s:s s:I}", "state", state, "commit",
		      (json_int_t)number);
	if (!o || !j)
		return o;
	pthread_mutex_lock(&j->lock);
	json_object_set_new(o, "unlike",
			    json_integer((json_int_t)j->last.unlike));
	/* The thread counts when it begins. */
	if (plain_knows_bytes(m->fs) && !plain_get_missing(m->fs, &missing))
		json_object_set_new(o, "missing",
				    json_integer((json_int_t)missing));
	json_object_set_new(o, "kept", json_integer((json_int_t)j->last.kept));
	json_object_set_new(o, "error", json_string(j->error));
	pthread_mutex_unlock(&j->lock);
	edits_status(m, o);
	return o;
}

json_t *plain_space(struct mount *m)
{
	uint64_t store = 0, plain = 0;
	int err;

	/* The thread counts when it begins. */
	if (!m->plain || !plain_knows_bytes(m->fs))
		return json_null();
	err = plain_store_bytes(m->plain->storefd, &store);
	if (!err)
		err = plain_get_bytes(m->fs, &plain);
	if (err)
		return json_null();
	return json_pack("{s:I s:I s:b}", "store_bytes", (json_int_t)store,
			 "plain_bytes", (json_int_t)plain, "shared",
			 (int)plain_shares(m->dirfd, m->plain->storefd));
}

/* --- the thread --- */

/* Under the lock: when to begin, 0: nothing to do. */
static time_t due(const struct plain_job *j)
{
	time_t idle = j->kicked_at + IDLE_SECONDS;
	time_t latest = j->first_kick + LATEST_SECONDS;

	return !j->kicked ? 0 : idle < latest ? idle : latest;
}

static void kick_again(struct plain_job *j)
{
	pthread_mutex_lock(&j->lock);
	j->kicked = true;
	j->kicked_at = now_seconds() + RETRY_SECONDS - IDLE_SECONDS;
	j->first_kick = j->kicked_at;
	pthread_mutex_unlock(&j->lock);
}

/* Once for each mount. Neither is what somebody waits for. */
static void look_at_table(struct plain_job *j)
{
	uint64_t bytes;
	bool any;
	int err = 0;

	pthread_mutex_lock(&j->run_lock);
	(void)plain_get_bytes(j->m->fs, &bytes); /* for status alone */
	/* Root may do what somebody else might not. */
	if (!geteuid())
		err = plain_retry(j->m->fs, &any);
	pthread_mutex_unlock(&j->run_lock);
	if (err)
		env_logf(&j->m->env, ENV_WARNING,
			 "what could not be done to the plain files of %s is "
			 "not tried again: %s",
			 j->m->dir, strerror(-err));
}

static void *plain_main(void *arg)
{
	struct plain_job *j = arg;

	pace_begin();
	look_at_table(j);
	pthread_mutex_lock(&j->lock);
	while (!j->stop) {
		struct timespec until = { .tv_sec = due(j) };

		if (!until.tv_sec) {
			pthread_cond_wait(&j->cond, &j->lock);
			continue;
		}
		if (now_seconds() < until.tv_sec) {
			(void)pthread_cond_timedwait(&j->cond, &j->lock,
						     &until);
			continue;
		}
		j->kicked = false;
		pthread_mutex_unlock(&j->lock);
		if (!store_failed(j->m->store, NULL) &&
		    run_sync(j, NULL, NULL, 0) < 0)
			kick_again(j);
		pthread_mutex_lock(&j->lock);
	}
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

void plain_kick(struct mount *m)
{
	struct plain_job *j = m->plain;
	time_t before;

	if (!j)
		return;
	pthread_mutex_lock(&j->lock);
	before = due(j);
	j->kicked_at = now_seconds();
	if (!j->kicked)
		j->first_kick = j->kicked_at;
	j->kicked = true;
	/* It looks again when it wakes: one commit after another need not wake
	 * it each time. */
	if (!before || due(j) < before)
		pthread_cond_signal(&j->cond);
	pthread_mutex_unlock(&j->lock);
}

static int job_new(struct mount *m, int storefd)
{
	struct plain_job *j = calloc(1, sizeof(*j));
	pthread_condattr_t attr;

	if (!j)
		return -ENOMEM;
	j->m = m;
	j->storefd = fcntl(storefd, F_DUPFD_CLOEXEC, 3);
	if (j->storefd < 0) {
		int err = -errno;

		free(j);
		return err;
	}
	pthread_mutex_init(&j->run_lock, NULL);
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&j->cond, &attr);
	pthread_condattr_destroy(&attr);
	m->plain = j;
	return 0;
}

int plain_start(struct mount *m)
{
	struct plain_job *j = m->plain;
	sigset_t all, old;
	int err;

	if (!j)
		return 0;
	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&j->thread, NULL, plain_main, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	j->has_thread = !err;
	plain_kick(m); /* commits of before a crash */
	return -err;
}

void plain_stop(struct mount *m)
{
	struct plain_job *j = m->plain;

	if (!j)
		return;
	if (j->has_thread) {
		pthread_mutex_lock(&j->lock);
		j->stop = true;
		pthread_cond_signal(&j->cond);
		pthread_mutex_unlock(&j->lock);
		pthread_join(j->thread, NULL);
		/* A failure was logged; the next mount goes on. */
		if (!store_failed(m->store, NULL))
			(void)run_sync(j, NULL, NULL, 0);
	}
	pthread_cond_destroy(&j->cond);
	pthread_mutex_destroy(&j->lock);
	pthread_mutex_destroy(&j->run_lock);
	close(j->storefd);
	free(j);
	m->plain = NULL;
}

/* --- in --- */

/* A run that was interrupted is finished first: until then the files are
 * neither the one commit nor the other. */
static int finish_sync(struct mount *m)
{
	char reason[512];
	bool behind, half;
	uint64_t number;
	int err;

	err = plain_is_behind(m->fs, &behind, &number, &half);
	if (!err && half)
		err = run_sync(m->plain, NULL, reason, sizeof(reason));
	else
		snprintf(reason, sizeof(reason), "%s", strerror(-err));
	return err < 0 ? complain(status_of(err), "the plain files of %s: %s",
				  m->dir, reason)
		       : 0;
}

/* What the application needs is the mount: it is not refused for the files
 * beneath, which are tried again. Edits among them are kept beside by that. */
static int go_on_between(const char *how, int status)
{
	if (!strcmp(how, "refuse"))
		return status;
	return complain(0, "mounted all the same: they are between two "
			   "commits, edits among them are not staged now");
}

int plain_prepare(struct mount *m, int storefd)
{
	const char *how = m->opt.offline ? m->opt.offline : "stage";
	const char *when = m->opt.compare;
	int err, status;

	if (strcmp(how, "stage") && strcmp(how, "refuse") &&
	    strcmp(how, "ignore"))
		return complain(EXIT_USAGE,
				"offline=%s: stage, refuse or ignore is "
				"wanted",
				how);
	if (when && strcmp(when, "before") && strcmp(when, "beside"))
		return complain(EXIT_USAGE,
				"compare=%s: before or beside is wanted", when);
	if (m->opt.read_only)
		return 0;
	err = job_new(m, storefd);
	if (err)
		return complain(EXIT_FAILURE, "%s/.txn: %s", m->dir,
				strerror(-err));
	/* The files may show more than the commit that it was opened at: that
	 * becomes staged. */
	err = m->opt.at_commit ? plain_keep_interrupted(m->dirfd, storefd) : 0;
	if (!err && m->opt.at_commit)
		err = plain_renew(m->fs);
	if (err)
		return complain(status_of(err), "the plain files of %s: %s",
				m->dir, strerror(-err));
	status = finish_sync(m);
	if (status)
		return go_on_between(how, status);
	return strcmp(how, "ignore") ? edits_begin(m, !strcmp(how, "refuse"))
				     : 0;
}
