/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_snaps.c - letting go of states that were looked at.
 *
 * The kernel remembers the names below snapshots/, and what it saw there, as
 * long as it has the memory: days. All of that is nodes of a view, which keeps
 * its state's space. So when a name is gone (delete, keep.last), or another
 * state's, the kernel is told before a sweep, and forgets what nobody uses. Who
 * is in it stays there. A state of which something is open keeps its name until
 * that is closed: what the kernel has in use it would not forget, and without a
 * name it could not be asked again.
 */
#include "fs/mount_internal.h"

#include <time.h>

enum { FORGET_MS = 200 /* for the kernel to say what it forgot */ };

struct known {
	struct ptr root;
	char name[STORE_NAME_MAX + 1];
	bool dropped;
};

/* Under nodes_lock. A handle for what is being created has no node yet. */
static void find_open(struct mount *m)
{
	for (struct snap *s = m->snaps; s; s = s->next)
		s->is_open = false;
	for (const struct handle *h = m->handles; h; h = h->next)
		if (h->node && h->node->snap)
			h->node->snap->is_open = true;
}

/* A copy of what the kernel knows and nobody has open; *n_out entries, free().
 */
static struct known *list_known(struct mount *m, size_t *n_out)
{
	struct known *v = NULL;
	size_t n = 0;

	pthread_mutex_lock(&m->nodes_lock);
	find_open(m);
	for (struct snap *s = m->snaps; s; s = s->next)
		for (struct snap_name *name = s->names; name; name = name->next)
			n++;
	if (n)
		v = calloc(n, sizeof(*v));
	n = 0;
	for (struct snap *s = v ? m->snaps : NULL; s; s = s->next)
		for (struct snap_name *name = s->is_open ? NULL : s->names;
		     name; name = name->next) {
			v[n].root = s->root;
			memcpy(v[n++].name, name->name, sizeof(name->name));
		}
	pthread_mutex_unlock(&m->nodes_lock);
	*n_out = n;
	return v;
}

static bool is_dropped(struct mount *m, const struct known *k)
{
	unsigned int pin = store_pin(m->store);
	struct root root = ROOT_EMPTY;
	int err = fs_resolve(m->fs, k->name, &root);
	bool dropped = err == -ENOENT || (!err && !ptr_eq(&root.ptr, &k->root));

	root_put(store_tree(m->store), &root);
	store_unpin(m->store, pin);
	return dropped;
}

/* Under nodes_lock. The name is not recalled again; NULL: the state is gone. */
static struct snap *find_dropped(struct mount *m, const struct known *k)
{
	struct snap *s = m->snaps;
	struct snap_name **p, *name;

	while (s && !ptr_eq(&s->root, &k->root))
		s = s->next;
	for (p = s ? &s->names : NULL; p && *p; p = &(*p)->next)
		if (!strcmp((*p)->name, k->name)) {
			name = *p;
			*p = name->next;
			free(name);
			break;
		}
	return s;
}

static bool any_left(struct mount *m, const struct known *v, size_t n)
{
	bool left = false;

	for (size_t i = 0; i < n; i++)
		if (v[i].dropped)
			left |= find_dropped(m, &v[i]) != NULL;
	return left;
}

/* What it forgets it says in requests. What is used stays. */
static void wait_for_forgets(struct mount *m, const struct known *v, size_t n)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += FORGET_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&m->nodes_lock);
	while (any_left(m, v, n))
		if (pthread_cond_timedwait(&m->snaps_cond, &m->nodes_lock,
					   &until))
			break;
	pthread_mutex_unlock(&m->nodes_lock);
}

static bool recall(struct mount *m, struct known *v, size_t n)
{
	fuse_ino_t dir = knode_id(m, &m->virt[NODE_SNAPSHOTS]);
	bool any = false;

	pthread_mutex_lock(&m->snaps_lock);
	for (size_t i = 0; i < n && !m->snaps_stop; i++) {
		v[i].dropped = is_dropped(m, &v[i]);
		any |= v[i].dropped;
		/* It may wait for a lookup there, which waits for no sweep. */
		if (v[i].dropped)
			(void)fuse_lowlevel_notify_inval_entry(
				virtual_session(m), dir, v[i].name,
				strlen(v[i].name));
	}
	pthread_mutex_unlock(&m->snaps_lock);
	return any;
}

void snaps_recall(void *arg)
{
	struct mount *m = arg;
	struct known *v;
	size_t n;

	if (!virtual_session(m))
		return; /* not mounted yet */
	v = list_known(m, &n);
	if (v && recall(m, v, n))
		wait_for_forgets(m, v, n);
	free(v);
}

void snaps_stop(struct mount *m)
{
	pthread_mutex_lock(&m->snaps_lock);
	m->snaps_stop = true;
	pthread_mutex_unlock(&m->snaps_lock);
}
