/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_edits.c - what was edited in DIR while it was not mounted becomes
 * staged changes. fs/DESIGN.md 8.
 *
 * A thread compares all of DIR with its table. The mount waits for it, but not
 * for long: then it comes up, and until the thread is done
 *  - nothing may be changed, nor commanded: who wants that waits;
 *  - of a directory is told only what stays: if it and all that it names are
 *    exactly as noted, which is found out when somebody asks. Else he waits;
 *  - what is told may not be kept (m->recall).
 * So nobody sees what is there from before an edit, and the edits come in
 * without a switch. mount_gate.c makes the requests wait.
 *
 * An error in it ends that: what would have waited fails. Writing to a state
 * that lacks edits would hide them for good.
 */
#include "fs/mount_internal.h"

#include "fs/plain.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

enum {
	BEFORE_MS = 200, /* the mount waits for it */
	LOOK_MS = 100, /* is who waits about to end? */
	PROGRESS_OBJECTS = 8192, /* between two looks at the clock */
	PROGRESS_SECONDS = 2
};

enum phase { COMPARING, STAGING, DONE, FAILED };

struct edits {
	struct mount *m;
	pthread_t thread;
	bool beside; /* atomic: the mount does not wait for it */
	bool stop; /* atomic */
	bool joined;
	uint64_t compared; /* atomic */
	/* The thread's: */
	unsigned int told;
	time_t progress_at;
	bool progress_shown;

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t cond;
	enum phase phase;
	unsigned int asking; /* requests that compare a directory */
	/* Directories that were compared, or are: number << 2 and enum known; a
	 * hash table. */
	uint64_t *known;
	size_t nknown, known_cap;
	int err;
	char reason[2048]; /* of FAILED */
};

static void in_ms(struct timespec *ts, long ms)
{
	(void)clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_nsec += ms % 1000 * 1000000;
	ts->tv_sec += ms / 1000 + ts->tv_nsec / 1000000000;
	ts->tv_nsec %= 1000000000;
}

/* --- telling --- */

static void end_progress(struct edits *e)
{
	if (e->progress_shown)
		fputc('\n', stderr);
	e->progress_shown = false;
}

static void show_progress(struct edits *e, uint64_t objects)
{
	struct timespec now;

	if (objects % PROGRESS_OBJECTS)
		return;
	in_ms(&now, 0);
	if (!e->progress_at)
		e->progress_at = now.tv_sec;
	if (now.tv_sec - e->progress_at < PROGRESS_SECONDS)
		return;
	e->progress_at = now.tv_sec;
	e->progress_shown = isatty(2);
	fprintf(stderr, "%s%" PRIu64 " plain files and directories compared%s",
		e->progress_shown ? "\r" : "", objects,
		e->progress_shown ? "" : "\n");
}

static bool is_beside(const struct edits *e)
{
	return __atomic_load_n(&e->beside, __ATOMIC_ACQUIRE);
}

/* Where somebody sees it: standard error as long as the mount waits. */
__attribute__((format(printf, 2, 3))) static void tell(struct edits *e,
						       const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (is_beside(e)) {
		env_logf(&e->m->env, ENV_NOTICE, "%s", text);
		return;
	}
	end_progress(e);
	complain(0, "%s", text);
}

static const char *const what_texts[] = { "was changed", "was added",
					  "was removed" };

static int name_difference(void *arg, enum plain_difference what,
			   const char *path)
{
	struct edits *e = arg;
	char shown[512];

	(void)fs_quote_path(*path ? path : ".", shown, sizeof(shown));
	if (e->told++ < NAMED_MAX)
		tell(e, "%s %s", shown, what_texts[what]);
	return 0;
}

static void name_edit(void *arg, enum plain_difference what, const char *path,
		      const char *beside)
{
	struct edits *e = arg;
	char shown[512], other[512];

	(void)fs_quote_path(*path ? path : ".", shown, sizeof(shown));
	if (e->told++ >= NAMED_MAX)
		return;
	if (!beside) {
		tell(e, "%s %s while unmounted: staged", shown,
		     what_texts[what]);
	} else if (!*beside) {
		tell(e,
		     "%s %s while unmounted, and has staged changes: those "
		     "stay",
		     shown, what_texts[what]);
	} else {
		(void)fs_quote_path(beside, other, sizeof(other));
		tell(e,
		     "%s %s while unmounted, and has staged changes: the edit "
		     "is staged as %s",
		     shown, what_texts[what], other);
	}
}

void edits_status(struct mount *m, json_t *plain)
{
	static const char *const states[] = { "comparing", "staging edits", "",
					      "not compared" };
	struct edits *e = m->edits;
	uint64_t compared;

	if (!e)
		return;
	compared = __atomic_load_n(&e->compared, __ATOMIC_RELAXED);
	pthread_mutex_lock(&e->lock);
	if (e->phase != DONE) {
		json_object_set_new(plain, "state",
				    json_string(states[e->phase]));
		json_object_set_new(plain, "compared",
				    json_integer((json_int_t)compared));
	}
	if (e->phase == FAILED)
		json_object_set_new(plain, "error", json_string(e->reason));
	pthread_mutex_unlock(&e->lock);
}

/* --- directories that are known --- */

enum known { UNKNOWN, ASKED, DIFFERS, EXACT };

static size_t known_slot(const struct edits *e, uint64_t ino)
{
	size_t i = ino * 0x9E3779B97F4A7C15u >> 20;

	for (;; i++) {
		uint64_t v = e->known[i & (e->known_cap - 1)];

		if (!v || v >> 2 == ino)
			return i & (e->known_cap - 1);
	}
}

static bool known_grow(struct edits *e)
{
	size_t old = e->known_cap, cap = old ? 2 * old : 1024;
	uint64_t *from = e->known, *to = calloc(cap, sizeof(*to));

	if (!to)
		return false;
	e->known = to;
	e->known_cap = cap;
	for (size_t i = 0; i < old; i++)
		if (from[i])
			to[known_slot(e, from[i] >> 2)] = from[i];
	free(from);
	return true;
}

/* Without memory for it, who asks waits for the end. Under the lock. */
static void known_set(struct edits *e, uint64_t ino, enum known known)
{
	size_t i;

	if (e->nknown >= e->known_cap / 2 && !known_grow(e))
		return;
	i = known_slot(e, ino);
	e->nknown += !e->known[i];
	e->known[i] = ino << 2 | known;
}

static enum known known_get(const struct edits *e, uint64_t ino)
{
	uint64_t v = e->known_cap ? e->known[known_slot(e, ino)] : 0;

	return (enum known)(v & 3);
}

/* --- the thread --- */

static bool is_to_end(const struct edits *e)
{
	const struct fuse_session *se =
		__atomic_load_n(&e->m->work.se, __ATOMIC_ACQUIRE);

	return __atomic_load_n(&e->stop, __ATOMIC_ACQUIRE) ||
	       (se && fuse_session_exited(e->m->work.se));
}

static int on_progress(void *arg, uint64_t objects)
{
	struct edits *e = arg;

	__atomic_store_n(&e->compared, objects, __ATOMIC_RELAXED);
	if (!is_beside(e))
		show_progress(e, objects);
	return is_to_end(e);
}

static void on_dir(void *arg, uint64_t ino, bool exact)
{
	struct edits *e = arg;

	pthread_mutex_lock(&e->lock);
	known_set(e, ino, exact ? EXACT : DIFFERS);
	pthread_mutex_unlock(&e->lock);
}

/* From here on the table says what will be, no more what is shown. */
static int on_compared(void *arg, bool any_edits)
{
	struct edits *e = arg;

	pthread_mutex_lock(&e->lock);
	while (e->asking)
		pthread_cond_wait(&e->cond, &e->lock);
	e->phase = STAGING;
	pthread_cond_broadcast(&e->cond);
	pthread_mutex_unlock(&e->lock);
	return is_to_end(e);
}

static int on_staging(void *arg)
{
	return is_to_end(arg);
}

/* Nothing that differs was told, unless somebody edited it after that: DIR can
 * be seen, where the mount is at another place. */
static void on_flipped(void *arg, const struct fs_delta *delta,
		       struct fs_view *old)
{
	struct mount *m = ((struct edits *)arg)->m;

	/* Before there is a session no node was given out. */
	if (__atomic_load_n(&m->work.se, __ATOMIC_ACQUIRE))
		switch_nodes(m, delta, old);
}

/* The threads that had to wait for it, when the mount did not. */
static int start_others(struct mount *m)
{
	int err = fs_start(m->fs);

	return err ? err : plain_start(m);
}

static void fail(struct edits *e, int err, const char *text)
{
	struct mount *m = e->m;

	snprintf(e->reason, sizeof(e->reason),
		 "edits of the plain files of %s cannot be staged: %s; -o "
		 "offline=ignore leaves them alone",
		 m->dir, *text ? text : strerror(-err));
	if (is_beside(e) && !is_to_end(e))
		mount_note_error(m, getpid(), "mount", err, e->reason);
}

static void *edits_main(void *arg)
{
	struct edits *e = arg;
	struct mount *m = e->m;
	struct plain_in_params p = { .checksum = m->opt.checksum,
				     .edit = name_edit,
				     .compared = on_compared,
				     .dir = on_dir,
				     .progress = on_progress,
				     .staging = on_staging,
				     .flipped = on_flipped,
				     .arg = e };
	struct plain_in_result r;
	struct store_error text;
	int err = plain_in(m->fs, m->dirfd, &p, &r, &text);

	end_progress(e);
	if (!err && e->told > NAMED_MAX)
		tell(e, "and %u more", e->told - NAMED_MAX);
	if (!err && is_beside(e)) {
		err = start_others(m);
		snprintf(text.text, sizeof(text.text), "cannot start threads");
	}
	pthread_mutex_lock(&e->lock);
	if (err)
		fail(e, err, text.text);
	e->err = err;
	e->phase = err ? FAILED : DONE;
	if (!err) {
		if (is_beside(e))
			__atomic_store_n(&m->recall, false, __ATOMIC_SEQ_CST);
		free(e->known);
		e->known = NULL;
		e->nknown = e->known_cap = 0;
		__atomic_store_n(&m->settling, false, __ATOMIC_RELEASE);
	}
	pthread_cond_broadcast(&e->cond);
	pthread_mutex_unlock(&e->lock);
	if (is_beside(e))
		(void)malloc_trim(0); /* what comparing took */
	return NULL;
}

/* --- before the mount --- */

static int refuse_edits(struct mount *m)
{
	struct edits e = { .m = m };
	struct plain_compare_params p = { .checksum = m->opt.checksum,
					  .fn = name_difference,
					  .progress = on_progress,
					  .arg = &e };
	int err = plain_compare(m->fs, m->dirfd, &p);

	end_progress(&e);
	if (err)
		return complain(status_of(err),
				"comparing %s with its store: %s", m->dir,
				strerror(-err));
	if (e.told)
		return complain(
			EXIT_REFUSED,
			"%u plain file(s) of %s were edited while it was not "
			"mounted; mount without offline=refuse to stage that, "
			"or undo it",
			e.told, m->dir);
	return 0;
}

/*
 * What may go on beside the mount: where an edit changes nothing but what
 * differs from the table. With staged changes it is merged by path. Every path
 * goes through the root, which has to be answered for.
 */
static int may_be_beside(struct mount *m, bool *may)
{
	int err = 0;

	*may = !m->opt.checksum && !m->opt.at_commit &&
	       (!m->opt.compare || strcmp(m->opt.compare, "before") != 0);
	if (*may)
		err = plain_shows_working(m->fs, may);
	if (!err && *may)
		err = plain_root_is_same(m->fs, m->dirfd, may);
	return err;
}

/* Until the thread is done, or for as long as the mount may wait: false. */
static bool wait_before(struct edits *e, bool may)
{
	bool at_once =
		e->m->opt.compare && !strcmp(e->m->opt.compare, "beside");
	struct timespec until;
	int err = 0;

	in_ms(&until, at_once ? 0 : BEFORE_MS);
	pthread_mutex_lock(&e->lock);
	while (may && e->phase == COMPARING && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&e->cond, &e->lock, &until);
	if (may && e->phase == COMPARING) {
		__atomic_store_n(&e->beside, true, __ATOMIC_RELEASE);
		__atomic_store_n(&e->m->recall, true, __ATOMIC_SEQ_CST);
		__atomic_store_n(&e->m->settling, true, __ATOMIC_RELEASE);
	}
	while (!is_beside(e) && e->phase < DONE)
		pthread_cond_wait(&e->cond, &e->lock);
	pthread_mutex_unlock(&e->lock);
	return !is_beside(e);
}

static int edits_new(struct mount *m)
{
	struct edits *e = calloc(1, sizeof(*e));
	pthread_condattr_t attr;
	sigset_t all, old;
	int err;

	if (!e)
		return -ENOMEM;
	e->m = m;
	pthread_mutex_init(&e->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->cond, &attr);
	pthread_condattr_destroy(&attr);
	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&e->thread, NULL, edits_main, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		free(e);
	else
		m->edits = e;
	return -err;
}

int edits_begin(struct mount *m, bool refuse)
{
	int err, status = 0;
	bool may = false;

	if (refuse)
		return refuse_edits(m);
	err = may_be_beside(m, &may);
	if (!err)
		err = edits_new(m);
	if (err)
		return complain(status_of(err),
				"comparing %s with its store: %s", m->dir,
				strerror(-err));
	if (!wait_before(m->edits, may)) {
		end_progress(m->edits);
		complain(0,
			 "the plain files of %s are still being compared: "
			 "until that is done changes wait, and what was "
			 "edited (txn status)",
			 m->dir);
		return 0;
	}
	if (m->edits->err)
		status = complain(status_of(m->edits->err), "%s",
				  m->edits->reason);
	edits_stop(m);
	edits_release(m);
	return status;
}

void edits_cancel(struct mount *m)
{
	struct edits *e = m->edits;

	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	__atomic_store_n(&e->stop, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&e->cond);
	pthread_mutex_unlock(&e->lock);
}

void edits_stop(struct mount *m)
{
	struct edits *e = m->edits;

	if (!e || e->joined)
		return;
	edits_cancel(m);
	pthread_join(e->thread, NULL);
	e->joined = true;
}

void edits_release(struct mount *m)
{
	struct edits *e = m->edits;

	if (!e)
		return;
	m->edits = NULL;
	free(e->known);
	pthread_cond_destroy(&e->cond);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* --- requests beside it --- */

/* Under the lock: until something happens. -EINTR: who asks is about to end. */
static int wait_beside(struct edits *e, fuse_req_t req)
{
	struct timespec until;
	int err = 0;

	if (is_to_end(e))
		return -ENOTCONN;
	in_ms(&until, LOOK_MS);
	if (pthread_cond_timedwait(&e->cond, &e->lock, &until) != ETIMEDOUT)
		return 0;
	pthread_mutex_unlock(&e->lock);
	if (fuse_req_interrupted(req) &&
	    ctl_wants_to_end(fuse_req_ctx(req)->pid))
		err = -EINTR;
	pthread_mutex_lock(&e->lock);
	return err;
}

/* Of requests that came when it had failed. */
static int failed(const struct edits *e)
{
	return is_to_end(e) ? -ENOTCONN : -EIO;
}

int edits_wait(struct mount *m, fuse_req_t req)
{
	struct edits *e = m->edits;
	int err = 0;

	if (!edits_are_pending(m))
		return 0;
	pthread_mutex_lock(&e->lock);
	while (!err && e->phase < DONE)
		err = wait_beside(e, req);
	if (!err && e->phase == FAILED)
		err = failed(e);
	pthread_mutex_unlock(&e->lock);
	return err;
}

static int on_asked(void *arg, uint64_t objects)
{
	return is_to_end(arg);
}

/* Under the lock, which is dropped meanwhile; the thread stays in COMPARING.
 * Is it exact? */
static bool ask(struct edits *e, uint64_t ino)
{
	struct plain_compare_params p = { .progress = on_asked, .arg = e };
	struct mount *m = e->m;
	char *path = NULL;
	bool exact = false;
	int err;

	e->asking++;
	known_set(e, ino, ASKED);
	pthread_mutex_unlock(&e->lock);
	err = fs_path(fs_working(m->fs), ino, &path);
	if (!err)
		err = plain_dir_is_exact(m->fs, m->dirfd, path, ino, &p,
					 &exact);
	free(path);
	pthread_mutex_lock(&e->lock);
	e->asking--;
	/* The thread meets what the error is about, too. */
	exact = !err && exact;
	known_set(e, ino, exact ? EXACT : DIFFERS);
	pthread_cond_broadcast(&e->cond);
	return exact;
}

int edits_wait_dir(struct mount *m, fuse_req_t req, uint64_t ino)
{
	struct edits *e = m->edits;
	bool asked = false; /* once: it may be that nothing can be noted */
	int err = 0;

	if (!edits_are_pending(m))
		return 0;
	pthread_mutex_lock(&e->lock);
	while (!err && e->phase != DONE) {
		enum known known = known_get(e, ino);

		if (known == EXACT)
			break;
		if (e->phase == FAILED) {
			err = failed(e);
		} else if (known == UNKNOWN && e->phase == COMPARING &&
			   !asked) {
			asked = true;
			if (ask(e, ino))
				break;
		} else {
			err = wait_beside(e, req);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return err;
}

bool edits_may_differ(struct mount *m, uint64_t ino)
{
	struct edits *e = m->edits;
	bool may;

	if (!edits_are_pending(m))
		return false;
	pthread_mutex_lock(&e->lock);
	may = e->phase != DONE && known_get(e, ino) != EXACT;
	pthread_mutex_unlock(&e->lock);
	return may;
}
