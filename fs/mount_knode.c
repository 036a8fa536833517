/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount_knode.c - the objects that the kernel knows by number. */
#include "fs/mount_internal.h"

#include "txn/sum.h"

enum { BUCKETS_FIRST = 1024, RENUMBER_FIRST = 64 };

int knodes_init(struct mount *m)
{
	pthread_mutex_init(&m->nodes_lock, NULL);
	m->buckets = calloc(BUCKETS_FIRST, sizeof(struct knode *));
	if (!m->buckets)
		return -ENOMEM;
	m->nbuckets = BUCKETS_FIRST;
	m->root = (struct knode){ .kind = NODE_OBJECT,
				  .ino = FS_ROOT_INO,
				  .fv = fs_working(m->fs) };
	return 0;
}

static size_t bucket(const struct mount *m, const struct fs_view *fv,
		     uint64_t ino)
{
	uint64_t v[2] = { fs_view_id(fv), ino };

	return XXH3_64bits(v, sizeof(v)) & (m->nbuckets - 1);
}

static void grow(struct mount *m)
{
	size_t old = m->nbuckets;
	struct knode **from = m->buckets;
	struct knode **b = calloc(old * 2, sizeof(struct knode *));

	if (!b)
		return; /* slower, no more */
	m->buckets = b;
	m->nbuckets = old * 2;
	for (size_t i = 0; i < old; i++) {
		struct knode *next, *n = from[i];

		for (; n; n = next) {
			struct knode **to = &b[bucket(m, n->fv, n->ino)];

			next = n->hash_next;
			n->hash_next = *to;
			*to = n;
		}
	}
	free(from);
}

static struct knode *find(struct mount *m, struct fs_view *fv, uint64_t ino)
{
	struct knode *n = m->buckets[bucket(m, fv, ino)];

	while (n && (n->ino != ino || n->fv != fv))
		n = n->hash_next;
	return n;
}

static void unhash(struct mount *m, struct knode *n)
{
	struct knode **p;

	if (!n->hashed)
		return;
	p = &m->buckets[bucket(m, n->fv, n->ino)];
	while (*p != n)
		p = &(*p)->hash_next;
	*p = n->hash_next;
	n->hashed = false;
	m->nnodes--;
}

fuse_ino_t knode_id(struct mount *m, struct knode *n)
{
	return n == &m->root || (m->opt.fast && n == m->side.root)
		       ? FUSE_ROOT_ID
		       : (fuse_ino_t)(uintptr_t)n;
}

static void list(struct mount *m, struct knode *n)
{
	n->all_next = m->all;
	if (m->all)
		m->all->all_prev = n;
	m->all = n;
}

static void unlist(struct mount *m, struct knode *n)
{
	if (n->all_prev)
		n->all_prev->all_next = n->all_next;
	else
		m->all = n->all_next;
	if (n->all_next)
		n->all_next->all_prev = n->all_prev;
}

struct knode *knode_get(struct mount *m, struct fs_view *fv, struct snap *snap,
			uint64_t ino)
{
	struct knode *n, *made = NULL;

	if (fv == m->root.fv && ino == FS_ROOT_INO)
		return &m->root;
	made = calloc(1, sizeof(*made));
	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, fv, ino);
	if (!n && made) {
		n = made;
		made = NULL;
		*n = (struct knode){ .kind = NODE_OBJECT,
				     .ino = ino,
				     .generation = ++m->next_generation,
				     .fv = fs_view_get(fv),
				     .snap = snap,
				     .hashed = true };
		if (m->nnodes >= m->nbuckets)
			grow(m);
		n->hash_next = m->buckets[bucket(m, fv, ino)];
		m->buckets[bucket(m, fv, ino)] = n;
		m->nnodes++;
		list(m, n);
		if (snap)
			snap->nodes++;
	}
	if (n)
		n->nlookup++;
	pthread_mutex_unlock(&m->nodes_lock);
	free(made);
	return n;
}

static void put_snap_locked(struct mount *m, struct snap *s)
{
	struct snap **p = &m->snaps;

	if (--s->nodes)
		return;
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	fs_view_put(s->fv);
	free(s);
}

struct knode *knode_new_ctl(struct mount *m)
{
	struct knode *n = malloc(sizeof(*n));

	if (!n)
		return NULL;
	*n = m->virt[NODE_CTL];
	n->nlookup = 1;
	pthread_mutex_lock(&m->nodes_lock);
	n->generation = ++m->next_generation;
	list(m, n);
	pthread_mutex_unlock(&m->nodes_lock);
	return n;
}

void knode_forget(struct mount *m, struct knode *n, uint64_t count)
{
	struct fs_view *fv = NULL;
	struct fs_file *f = NULL;
	bool last;

	if (n == &m->root || (n->kind != NODE_OBJECT && n == &m->virt[n->kind]))
		return;
	pthread_mutex_lock(&m->nodes_lock);
	n->nlookup -= min_u64(count, n->nlookup);
	last = !n->nlookup;
	if (last) {
		unhash(m, n);
		unlist(m, n);
		fv = n->fv;
		f = node_take_file(m, n);
		if (n->snap)
			put_snap_locked(m, n->snap);
	}
	pthread_mutex_unlock(&m->nodes_lock);
	if (last) {
		fs_file_put(f);
		fs_view_put(fv);
		free(n->gone);
		free(n);
	}
}

struct knode *knode_hold(struct mount *m, uint64_t ino)
{
	struct knode *n;

	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, m->root.fv, ino);
	if (n)
		n->nlookup++;
	pthread_mutex_unlock(&m->nodes_lock);
	return n;
}

fuse_ino_t knode_known(struct mount *m, uint64_t ino)
{
	struct knode *n;

	if (ino == FS_ROOT_INO)
		return FUSE_ROOT_ID;
	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, m->root.fv, ino);
	pthread_mutex_unlock(&m->nodes_lock);
	/* Only its number is used from here on. */
	return n ? knode_id(m, n) : 0;
}

void knode_unhash(struct mount *m, uint64_t ino)
{
	struct knode *n;

	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, m->root.fv, ino);
	if (n)
		unhash(m, n);
	pthread_mutex_unlock(&m->nodes_lock);
}

void knode_gone(void *arg, const struct fs_attr *attr)
{
	struct mount *m = arg;
	struct fs_attr *copy;
	struct knode *n;

	if (!m->buckets)
		return; /* not mounted yet */
	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, m->root.fv, attr->ino);
	if (n) {
		/* The kernel's object is dead for good: should a switch bring
		 * it back, it is a new node. */
		unhash(m, n);
		copy = malloc(sizeof(*copy));
		if (copy) /* else: ENOENT from now on */
			*copy = *attr;
		__atomic_store_n(&n->gone, copy, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&m->nodes_lock);
}

void knode_gone_attr(struct mount *m, struct knode *n, unsigned int set,
		     const struct fs_attr *a, struct fs_attr *out)
{
	struct fs_attr *g = n->gone;

	pthread_mutex_lock(&m->nodes_lock);
	if (set & FS_SET_MODE)
		g->mode = (g->mode & S_IFMT) | (a->mode & 07777);
	if (set & FS_SET_UID)
		g->uid = a->uid;
	if (set & FS_SET_GID)
		g->gid = a->gid;
	if (set & FS_SET_ATIME)
		g->atime_ns = a->atime_ns;
	if (set & FS_SET_MTIME)
		g->mtime_ns = a->mtime_ns;
	if (set)
		g->ctime_ns = m->env.now_ns(&m->env);
	*out = *g;
	pthread_mutex_unlock(&m->nodes_lock);
}

/* --- numbers shown --- */

static struct renumber **renumber_slot(const struct mount *m, uint64_t ino)
{
	struct renumber **p = &m->renumbered[XXH3_64bits(&ino, sizeof(ino)) &
					     (m->renumber_buckets - 1)];

	while (*p && (*p)->ino != ino)
		p = &(*p)->next;
	return p;
}

/* Above the inode number, below the bit of views other than working. */
static uint64_t shown_locked(const struct mount *m, uint64_t ino)
{
	uint64_t mask = ((uint64_t)1 << SNAP_ID_BITS) - 1;
	const struct renumber *r;

	if (!m->renumber_buckets)
		return ino;
	r = *renumber_slot(m, ino);
	return r ? ino | (r->count & mask) << SNAP_ID_SHIFT | (uint64_t)1 << 62
		 : ino;
}

static bool renumber_grow(struct mount *m)
{
	size_t n = m->renumber_buckets, more = n ? n * 2 : RENUMBER_FIRST;
	struct renumber **old = m->renumbered;
	struct renumber **b = calloc(more, sizeof(struct renumber *));

	if (!b)
		return n; /* slower, no more */
	m->renumbered = b;
	m->renumber_buckets = more;
	for (size_t i = 0; i < n; i++) {
		struct renumber *next, *r = old[i];

		for (; r; r = next) {
			struct renumber **slot = renumber_slot(m, r->ino);

			next = r->next;
			r->next = NULL;
			*slot = r;
		}
	}
	free(old);
	return true;
}

/* Without memory the number stays. */
static void renumber(struct mount *m, uint64_t ino)
{
	struct renumber **slot;

	if (m->nrenumbered >= m->renumber_buckets && !renumber_grow(m))
		return;
	slot = renumber_slot(m, ino);
	if (!*slot) {
		*slot = calloc(1, sizeof(**slot));
		if (!*slot)
			return;
		(*slot)->ino = ino;
		m->nrenumbered++;
		__atomic_store_n(&m->any_renumbered, true, __ATOMIC_RELEASE);
	}
	(*slot)->count++;
}

static void renumber_release(struct mount *m)
{
	for (size_t i = 0; i < m->renumber_buckets; i++) {
		struct renumber *next, *r = m->renumbered[i];

		for (; r; r = next) {
			next = r->next;
			free(r);
		}
	}
	free(m->renumbered);
}

/* Views other than working show other numbers, so that cp, diff and tar do not
 * take two versions of a file for one. */
uint64_t knode_shown(struct mount *m, const struct knode *n, uint64_t ino)
{
	uint64_t shown;

	if (n->snap)
		return ino | n->snap->id << SNAP_ID_SHIFT | (uint64_t)1 << 63;
	if (knode_is_stale(n) && ino == n->ino)
		return n->stale_shown;
	if (!__atomic_load_n(&m->any_renumbered, __ATOMIC_ACQUIRE))
		return ino;
	pthread_mutex_lock(&m->nodes_lock);
	shown = shown_locked(m, ino);
	pthread_mutex_unlock(&m->nodes_lock);
	return shown;
}

void knode_make_stale(struct mount *m, uint64_t ino, struct fs_view *old)
{
	struct knode *n;

	if (ino == FS_ROOT_INO)
		return;
	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, m->root.fv, ino);
	if (n) {
		unhash(m, n);
		n->stale_shown = shown_locked(m, ino);
		/* open=fast: perhaps it is */
		if (n->nopen || m->opt.fast)
			renumber(m, ino);
		__atomic_store_n(&n->fv, fs_view_get(old), __ATOMIC_RELEASE);
		__atomic_store_n(&n->stale, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&m->nodes_lock);
}

/* --- files that may be mapped for writing --- */

void knode_add_writer(struct mount *m, struct knode *n)
{
	pthread_mutex_lock(&m->nodes_lock);
	if (!n->nwriters++) {
		n->writer_prev = NULL;
		n->writer_next = m->writers;
		if (m->writers)
			m->writers->writer_prev = n;
		m->writers = n;
	}
	pthread_mutex_unlock(&m->nodes_lock);
}

void knode_del_writer(struct mount *m, struct knode *n)
{
	pthread_mutex_lock(&m->nodes_lock);
	if (!--n->nwriters) {
		if (n->writer_prev)
			n->writer_prev->writer_next = n->writer_next;
		else
			m->writers = n->writer_next;
		if (n->writer_next)
			n->writer_next->writer_prev = n->writer_prev;
	}
	pthread_mutex_unlock(&m->nodes_lock);
}

bool knode_has_writers(struct mount *m)
{
	bool any;

	pthread_mutex_lock(&m->nodes_lock);
	any = m->writers;
	pthread_mutex_unlock(&m->nodes_lock);
	return any;
}

int knode_list_writers(struct mount *m, uint64_t **inos_out, size_t *n_out)
{
	uint64_t *inos = NULL;
	size_t n = 0;
	int err = 0;

	pthread_mutex_lock(&m->nodes_lock);
	for (const struct knode *w = m->writers; w; w = w->writer_next)
		n++;
	if (n)
		inos = malloc(n * sizeof(*inos));
	if (n && !inos)
		err = -ENOMEM;
	n = 0;
	for (const struct knode *w = m->writers; w && !err; w = w->writer_next)
		if (!w->stale)
			inos[n++] = w->ino;
	pthread_mutex_unlock(&m->nodes_lock);
	*inos_out = inos;
	*n_out = err ? 0 : n;
	return err;
}

/* --- commits that are looked at --- */

static struct snap *find_snap(struct mount *m, const struct ptr *root)
{
	struct snap *s = m->snaps;

	while (s && !ptr_eq(&s->root, root))
		s = s->next;
	if (s)
		s->nodes++;
	return s;
}

static int make_snap(struct mount *m, const struct ptr *ptr, struct snap **out)
{
	struct root root = { .ptr = *ptr };
	struct snap *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->root = *ptr;
	s->id = XXH3_64bits(&ptr->pos, sizeof(ptr->pos)) >> (64 - SNAP_ID_BITS);
	s->nodes = 1;
	err = fs_view_new(m->fs, &root, &s->fv);
	if (err)
		free(s);
	else
		*out = s;
	return err;
}

int knode_get_snap(struct mount *m, const struct ptr *root, struct snap **out)
{
	struct snap *made = NULL, *s;
	int err;

	pthread_mutex_lock(&m->nodes_lock);
	s = find_snap(m, root);
	pthread_mutex_unlock(&m->nodes_lock);
	if (!s) {
		err = make_snap(m, root, &made);
		if (err)
			return err;
		pthread_mutex_lock(&m->nodes_lock);
		s = find_snap(m, root);
		if (!s) {
			s = made;
			made = NULL;
			s->next = m->snaps;
			m->snaps = s;
		}
		pthread_mutex_unlock(&m->nodes_lock);
	}
	if (made) {
		fs_view_put(made->fv);
		free(made);
	}
	*out = s;
	return 0;
}

void knode_put_snap(struct mount *m, struct snap *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&m->nodes_lock);
	put_snap_locked(m, s);
	pthread_mutex_unlock(&m->nodes_lock);
}

/* The kernel has forgotten everything: it is unmounted. */
void knodes_release(struct mount *m)
{
	while (m->all)
		knode_forget(m, m->all, m->all->nlookup);
	renumber_release(m);
	free(m->buckets);
	pthread_mutex_destroy(&m->nodes_lock);
}
