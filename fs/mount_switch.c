/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_switch.c - giving the working view another state, so that nobody sees
 * the new one and then the old. First everything that the kernel believes and
 * that will not be true is recalled, and until the flip nothing may be kept;
 * then the flip. fs/DESIGN.md tells why each step is there.
 */
#include "fs/mount_internal.h"
#include "txn/pace.h"

#include <fcntl.h>
#include <unistd.h>

enum {
	ROUNDS_MAX = 8, /* then it is forced, and told */
	SCAN_FROM = 16, /* names recalled in a directory that is listed for */
	SCAN_FACTOR = 4, /* companions, as far as that many for each */
};

/* Recalled for the lock of its directory alone. */
#define PROBE_NAME ".probe"

struct sw_dir {
	uint64_t ino;
	size_t nnames; /* that are recalled */
	bool no_companions; /* no name of a database's is in it */
};

struct sw {
	struct mount *m;
	const struct switch_target *target;
	struct root now; /* the state that delta was made from */
	struct root to;
	struct fs_delta *delta;
	struct sw_dir *dirs; /* with names that this round recalls */
	size_t ndirs;
	uint64_t version;
	bool force;
};

/* Those who may keep what they are told are done after this. */
static void wait_for_replies(struct mount *m)
{
	uint64_t old = __atomic_fetch_add(&m->epoch, 1, __ATOMIC_SEQ_CST);

	pthread_mutex_lock(&m->epoch_lock);
	while (__atomic_load_n(&m->inflight[old & 1], __ATOMIC_SEQ_CST))
		pthread_cond_wait(&m->epoch_cond, &m->epoch_lock);
	pthread_mutex_unlock(&m->epoch_lock);
}

static void recall_inodes(struct sw *s)
{
	for (size_t i = 0; i < s->delta->ninodes; i++) {
		const struct fs_delta_inode *d = &s->delta->inodes[i];
		fuse_ino_t id = knode_known(s->m, d->ino);

		/* Attributes (-1). The pages of a file with other contents
		 * stay: its node does, for those who have it open. An
		 * error says that the kernel does not know it. */
		if (id && !(d->flags & FS_DELTA_NEW))
			fuse_lowlevel_notify_inval_inode(s->m->work.se, id, -1,
							 0);
		if (d->ino == FS_ROOT_INO)
			virtual_recall(s->m);
		pace();
	}
}

/* -ENOENT: not known to the kernel, fine. */
static void recall_names(struct sw *s)
{
	const struct fs_delta *d = s->delta;
	char name[FS_NAME_MAX + 1]; /* libfuse sends the NUL along */

	for (size_t i = 0; i < d->nentries; i++) {
		const struct fs_delta_name *e = &d->entries[i];
		fuse_ino_t dir = knode_known(s->m, e->dir);

		if (!dir)
			continue;
		memcpy(name, d->names + e->name_off, e->name_len);
		name[e->name_len] = '\0';
		fuse_lowlevel_notify_inval_entry(s->m->work.se, dir, name,
						 e->name_len);
		pace();
	}
}

static int dir_cmp(const void *pa, const void *pb)
{
	const struct sw_dir *a = pa, *b = pb;

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

/* s->dirs: those in which names are recalled, ascending. */
static int find_dirs(struct sw *s)
{
	const struct fs_delta *d = s->delta;
	size_t n = 0, unique = 0;
	struct sw_dir *dirs;

	s->ndirs = 0;
	if (!d->nentries)
		return 0;
	dirs = realloc(s->dirs, d->nentries * sizeof(*dirs));
	if (!dirs)
		return -ENOMEM;
	s->dirs = dirs;
	for (size_t i = 0; i < d->nentries; i++)
		if (n && d->entries[i].dir == dirs[n - 1].ino)
			dirs[n - 1].nnames++;
		else
			dirs[n++] = (struct sw_dir){ .ino = d->entries[i].dir,
						     .nnames = 1 };
	qsort(dirs, n, sizeof(*dirs), dir_cmp);
	for (size_t i = 0; i < n; i++)
		if (unique && dirs[i].ino == dirs[unique - 1].ino)
			dirs[unique - 1].nnames += dirs[i].nnames;
		else
			dirs[unique++] = dirs[i];
	s->ndirs = unique;
	return 0;
}

/*
 * Listings that the kernel keeps: also where only a file's contents differ, for
 * it may show another number. With wait, what was listed until now is in the
 * kernel's pages before they are dropped: recalling a name takes the lock of
 * its directory that a listing holds.
 */
static void recall_lists(struct sw *s, bool wait)
{
	struct mount *m = s->m;

	if (!__atomic_load_n(&m->keeps_lists, __ATOMIC_ACQUIRE))
		return;
	for (size_t i = 0; i < s->ndirs; i++) {
		fuse_ino_t dir = knode_known(m, s->dirs[i].ino);

		if (!dir)
			continue;
		if (wait)
			fuse_lowlevel_notify_inval_entry(m->work.se, dir,
							 PROBE_NAME,
							 strlen(PROBE_NAME));
		fuse_lowlevel_notify_inval_inode(m->work.se, dir, 0, 0);
	}
}

/* --- companions of databases --- */

static const char *const companions[] = { "", "-wal", "-shm", "-journal" };

/* The length of X in X-wal and so on. */
static size_t base_len(const char *name, size_t len)
{
	for (size_t i = 1; i < ARRAY_LEN(companions); i++) {
		size_t n = strlen(companions[i]);

		if (len > n && !memcmp(name + len - n, companions[i], n))
			return len - n;
	}
	return len;
}

struct scan {
	size_t left; /* names that may still be looked at */
	bool found;
};

static int scan_name(void *arg, const struct fs_dirent *ent)
{
	struct scan *c = arg;

	c->found = base_len(ent->name, ent->len) != ent->len;
	return c->found || !--c->left;
}

/* Where many names of a directory are recalled, its listing tells sooner that
 * no companions are there than a search for those of each name. */
static int scan_dirs(struct sw *s)
{
	for (size_t i = 0; i < s->ndirs; i++) {
		struct sw_dir *d = &s->dirs[i];
		struct scan c = { .left = SCAN_FACTOR * d->nnames };
		int err;

		if (d->nnames < SCAN_FROM)
			continue;
		err = fs_readdir(fs_working(s->m->fs), d->ino, 0, false,
				 scan_name, &c);
		if (err && err != -ENOENT && err != -ENOTDIR)
			return err;
		d->no_companions = !err && !c.found && c.left;
	}
	return 0;
}

static bool has_no_companions(const struct sw *s, uint64_t ino)
{
	const struct sw_dir key = { .ino = ino }, *d;

	d = bsearch(&key, s->dirs, s->ndirs, sizeof(key), dir_cmp);
	return d && d->no_companions;
}

/* A regular file of that name: *ino_out, else 0. */
static int find_companion(struct sw *s, uint64_t dir, const char *name,
			  uint64_t *ino_out)
{
	struct fs_attr attr;
	int err;

	*ino_out = 0;
	if (strlen(name) > FS_NAME_MAX)
		return 0;
	err = fs_lookup(fs_working(s->m->fs), dir, name, strlen(name), &attr);
	if (!err && S_ISREG(attr.mode))
		*ino_out = attr.ino;
	return err == -ENOENT || err == -ENOTDIR ? 0 : err;
}

static int add_companion(struct sw *s, uint64_t ino)
{
	const struct fs_delta_inode *d = fs_delta_find(s->delta, ino);
	int err;

	if (!ino || (d && d->flags & (FS_DELTA_DATA | FS_DELTA_GONE)))
		return 0;
	err = fs_delta_add(s->m->fs, s->delta, &s->now, ino);
	/* Made since: what changed since is looked at before the flip. */
	return err == -ENOENT ? 0 : err;
}

/* A name that differs: the others of its database, and itself, if there are
 * others. A file that only got or lost a name is none. */
static int add_companions_of(struct sw *s, const struct fs_delta_name *e)
{
	uint64_t inos[ARRAY_LEN(companions)] = { 0 };
	char name[FS_NAME_MAX + 16];
	size_t len;
	bool others = false;
	int err = 0;

	memcpy(name, s->delta->names + e->name_off, e->name_len);
	len = base_len(name, e->name_len);
	if (len == e->name_len && has_no_companions(s, e->dir))
		return 0;
	for (size_t k = 0; k < ARRAY_LEN(companions) && !err; k++) {
		size_t n = len + strlen(companions[k]);

		snprintf(name + len, sizeof(name) - len, "%s", companions[k]);
		err = find_companion(s, e->dir, name, &inos[k]);
		others |= inos[k] &&
			  (n != e->name_len ||
			   memcmp(name, s->delta->names + e->name_off, n) != 0);
	}
	for (size_t k = 0; k < ARRAY_LEN(companions) && others && !err; k++)
		err = add_companion(s, inos[k]);
	return err;
}

/*
 * A database is several files: SQLite's X, X-wal, X-journal and X-shm. A
 * program that has it open across the switch must not go on with some of the
 * old ones and some of the new: it would write what it knows of the old X-wal
 * into X. And X-shm is a shared mapping that may never have reached us. So when
 * one of them gets other contents, all of them are other files.
 */
static int add_companions(struct sw *s)
{
	size_t n = s->delta->nentries;
	int err;

	err = find_dirs(s);
	if (!err)
		err = scan_dirs(s);
	for (size_t i = 0; i < n && !err; i++) {
		const struct fs_delta_name e = s->delta->entries[i];

		err = add_companions_of(s, &e);
		pace();
	}
	return err;
}

/* The state to go to, when the view shows `now`. */
static int make_target(struct sw *s, const struct root *now)
{
	root_put(store_tree(s->m->store), &s->to);
	if (!s->target->path) {
		s->to = root_get(s->target->root);
		return 0;
	}
	return fs_graft(s->m->fs, now, s->target->root, s->target->path,
			&s->to);
}

/* A new delta from the working view as it is; what it names is recalled. */
static int round_begin(struct sw *s)
{
	const struct tree *tree = store_tree(s->m->store);
	int err;

	fs_delta_free(s->delta);
	s->delta = NULL;
	root_put(tree, &s->now);
	s->version = fs_version(s->m->fs);
	err = fs_freeze(s->m->fs, &s->now);
	if (!err)
		err = make_target(s, &s->now);
	if (!err)
		err = fs_delta_new(s->m->fs, &s->now, &s->to, &s->delta);
	if (!err)
		err = add_companions(s);
	if (!err)
		err = find_dirs(s); /* companions may lie elsewhere, too */
	if (err)
		return err;
	wait_for_replies(s->m);
	recall_names(s);
	recall_inodes(s);
	recall_lists(s, false);
	return 0;
}

/* Nothing that still has to be recalled happened between two states: only
 * contents of files that get others anyway. */
static bool is_harmless(const struct sw *s, const struct fs_delta *since)
{
	for (size_t i = 0; i < since->nentries; i++)
		if (since->entries[i].a_ino != since->entries[i].b_ino)
			return false;
	for (size_t i = 0; i < since->ninodes; i++) {
		const struct fs_delta_inode *d;

		if (since->inodes[i].flags &
		    (FS_DELTA_NEW | FS_DELTA_GONE | FS_DELTA_LIST))
			return false;
		d = fs_delta_find(s->delta, since->inodes[i].ino);
		if (!d || !(d->flags & (FS_DELTA_DATA | FS_DELTA_GONE)))
			return false;
	}
	return true;
}

/*
 * What changed since the recall (`since`) is elsewhere than what the switch
 * changes: then a target made from the present state differs from it by what
 * was recalled. Sets the new target and delta.
 */
static int rebase(struct sw *s, const struct root *last,
		  const struct fs_delta *since)
{
	struct fs_delta *delta = NULL;
	int err;

	if (!s->target->path)
		return -EAGAIN;
	err = make_target(s, last);
	if (!err)
		err = fs_delta_new(s->m->fs, last, &s->to, &delta);
	for (size_t i = 0; !err && i < delta->ninodes; i++) {
		const struct fs_delta_inode *d = &delta->inodes[i];
		const struct fs_delta_inode *r, *c;

		r = fs_delta_find(s->delta, d->ino);
		c = fs_delta_find(since, d->ino);
		if (!r || (d->flags & ~r->flags) ||
		    (c &&
		     c->flags & ~(unsigned int)(FS_DELTA_DATA | FS_DELTA_ATTR |
						FS_DELTA_MTIME)))
			err = -EAGAIN;
	}
	if (err) {
		fs_delta_free(delta);
		return err;
	}
	fs_delta_free(s->delta);
	s->delta = delta;
	return 0;
}

void switch_nodes(struct mount *m, const struct fs_delta *delta,
		  struct fs_view *old)
{
	__atomic_add_fetch(&m->flips, 1, __ATOMIC_SEQ_CST);
	for (size_t i = 0; i < delta->ninodes; i++) {
		const struct fs_delta_inode *d = &delta->inodes[i];

		if (d->flags & FS_DELTA_NEW)
			knode_unhash(m, d->ino);
		else if (d->flags &
			 (FS_DELTA_DATA | FS_DELTA_GONE | FS_DELTA_MOVED))
			knode_make_stale(m, d->ino, old);
	}
}

static void flip_at(void *arg, struct fs_view *old, const uint64_t *late,
		    size_t nlate)
{
	struct sw *s = arg;

	switch_nodes(s->m, s->delta, old);
	for (size_t i = 0; i < nlate; i++)
		knode_make_stale(s->m, late[i], old);
}

/* With writers held back: is all that changed since the recall harmless? Then
 * flip. -EAGAIN: another round. Called as the leader of the store's queue. */
static int flip(void *arg, struct root *old_out)
{
	struct sw *s = arg;
	const struct tree *tree = store_tree(s->m->store);
	struct fs_delta *since = NULL;
	struct root last = ROOT_EMPTY;
	uint64_t version;
	int err;

	fs_park_writes(s->m->fs);
	version = s->version;
	if (!s->force) {
		version = fs_version(s->m->fs);
		err = fs_freeze(s->m->fs, &last);
		if (!err)
			err = fs_delta_new(s->m->fs, &s->now, &last, &since);
		if (!err && !is_harmless(s, since))
			err = rebase(s, &last, since);
		if (err)
			goto out;
	}
	err = fs_flip(s->m->fs, &s->to, s->delta, version, s->force, flip_at, s,
		      old_out);
out:
	fs_unpark_writes(s->m->fs);
	fs_delta_free(since);
	root_put(tree, &last);
	return err;
}

static int run_rounds(struct sw *s, struct switch_req *req,
		      uint64_t *number_out)
{
	struct mount *m = s->m;
	int err = -EAGAIN;

	for (unsigned int i = 0; i <= ROUNDS_MAX && err == -EAGAIN; i++) {
		/* Grafted onto an older state, others' changes would be lost.
		 */
		s->force = i == ROUNDS_MAX;
		if (s->force && s->target->path)
			break;
		err = round_begin(s);
		/* Where nothing differs, nothing is there to undo. */
		req->discard = s->force || !s->delta || s->delta->ninodes ||
			       s->delta->nentries;
		if (!err)
			err = store_switch(m->store, store_working(m->store),
					   req, number_out);
	}
	if (m->no_barrier && !err)
		recall_names(s);
	if (s->force && !err) {
		pthread_mutex_lock(&m->errors_lock);
		m->switch_not_atomic = true;
		pthread_mutex_unlock(&m->errors_lock);
		recall_names(s);
	}
	return err;
}

int switch_to(struct mount *m, const struct switch_target *target,
	      uint64_t *number_out)
{
	const struct tree *tree = store_tree(m->store);
	struct sw s = { .m = m, .target = target };
	struct switch_req req = { .flip = flip,
				  .arg = &s,
				  .to = target->commit ? target->root : NULL,
				  .uid = target->uid,
				  .message = target->message,
				  .message_bytes = target->message_bytes,
				  .changes = target->changes,
				  .bytes = target->bytes };
	int err;

	__atomic_store_n(&m->recall, true, __ATOMIC_SEQ_CST);
	err = run_rounds(&s, &req, number_out);
	/* Until now no listing was told to its end: none is kept, but for what
	 * was listed of the state before. */
	recall_lists(&s, true);
	__atomic_store_n(&m->recall, false, __ATOMIC_SEQ_CST);
	if (!err && target->commit)
		fs_flip_is_head(m->fs);
	if (!err)
		recall_inodes(&s);
	fs_delta_free(s.delta);
	free(s.dirs);
	root_put(tree, &s.now);
	root_put(tree, &s.to);
	return err;
}

/* --- is the barrier one? --- */

enum { PROBE_WAIT_MS = 1000, PROBE_HOLD_MS = 5 };

static void in_ms(struct timespec *ts, long ms)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_nsec += ms % 1000 * 1000000;
	ts->tv_sec += ms / 1000 + ts->tv_nsec / 1000000000;
	ts->tv_nsec %= 1000000000;
}

bool probe_lookup(struct mount *m, fuse_req_t req, const char *name)
{
	bool taken;

	if (strcmp(name, PROBE_NAME) != 0)
		return false;
	pthread_mutex_lock(&m->probe_lock);
	taken = !m->probe_req && !m->probe_done;
	if (taken)
		m->probe_req = req;
	pthread_cond_broadcast(&m->probe_cond);
	pthread_mutex_unlock(&m->probe_lock);
	return taken;
}

static void *probe_stat(void *arg)
{
	const struct mount *m = arg;
	size_t size = strlen(m->mountpoint) + sizeof("/.txn/" PROBE_NAME);
	char *path = malloc(size);
	struct stat st;

	if (path) {
		snprintf(path, size, "%s/.txn/" PROBE_NAME, m->mountpoint);
		(void)stat(path, &st); /* there is none */
	}
	free(path);
	return NULL;
}

static void *probe_inval(void *arg)
{
	struct mount *m = arg;

	fuse_lowlevel_notify_inval_entry(m->side.se ? m->side.se : m->work.se,
					 knode_id(m, &m->virt[NODE_TXN]),
					 PROBE_NAME, strlen(PROBE_NAME));
	pthread_mutex_lock(&m->probe_lock);
	m->probe_done = true;
	pthread_cond_broadcast(&m->probe_cond);
	pthread_mutex_unlock(&m->probe_lock);
	return NULL;
}

/* With the lookup waiting: an invalidation of its name that returns now did
 * not wait for it. */
static void probe_hold(struct mount *m)
{
	struct timespec until;
	pthread_t t;
	int err;

	err = pthread_create(&t, NULL, probe_inval, m);
	in_ms(&until, PROBE_HOLD_MS);
	pthread_mutex_lock(&m->probe_lock);
	while (!err && !m->probe_done)
		if (pthread_cond_timedwait(&m->probe_cond, &m->probe_lock,
					   &until))
			break;
	m->no_barrier = m->probe_done;
	fuse_reply_err(m->probe_req, ENOENT);
	m->probe_req = NULL;
	m->probe_done = true;
	pthread_mutex_unlock(&m->probe_lock);
	if (!err)
		pthread_join(t, NULL);
}

void probe_barrier(struct mount *m)
{
	struct timespec until;
	bool came;
	pthread_t t;

	if (pthread_create(&t, NULL, probe_stat, m))
		return;
	in_ms(&until, PROBE_WAIT_MS);
	pthread_mutex_lock(&m->probe_lock);
	while (!m->probe_req)
		if (pthread_cond_timedwait(&m->probe_cond, &m->probe_lock,
					   &until))
			break;
	came = m->probe_req != NULL;
	if (!came)
		m->probe_done = true; /* too late from now on */
	pthread_mutex_unlock(&m->probe_lock);
	if (came)
		probe_hold(m);
	pthread_join(t, NULL);
	__atomic_store_n(&m->keeps_lists, came && !m->no_barrier,
			 __ATOMIC_RELEASE);
	if (!m->no_barrier)
		return;
	pthread_mutex_lock(&m->errors_lock);
	m->switch_not_atomic = true;
	pthread_mutex_unlock(&m->errors_lock);
	env_logf(&m->env, ENV_WARNING,
		 "this kernel does not wait for lookups when a name is "
		 "invalidated: an abort may be seen in parts for a moment");
}
