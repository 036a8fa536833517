/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount_knode.c - the objects that the kernel knows by number. */
#include "fs/mount_internal.h"

#include "txn/sum.h"

enum {
	BUCKETS_FIRST = 1024,
	RENUMBER_FIRST = 64,
	RENUMBER_MAX = (1 << SNAP_ID_BITS) - 1
};

int knodes_init(struct mount *m)
{
	struct knode **b = calloc(BUCKETS_FIRST, sizeof(struct knode *));

	if (!b)
		return -ENOMEM;
	m->root = (struct knode){ .kind = NODE_OBJECT,
				  .ino = FS_ROOT_INO,
				  .fv = fs_working(m->fs) };
	m->nodes = SLAB(struct knode);
	pthread_mutex_lock(&m->nodes_lock);
	m->buckets = b;
	m->nbuckets = BUCKETS_FIRST;
	pthread_mutex_unlock(&m->nodes_lock);
	return 0;
}

static struct knode **bucket(const struct mount *m, const struct fs_view *fv,
			     uint64_t ino)
{
	uint64_t v[2] = { fv ? fs_view_id(fv) : 0, ino };

	return &m->buckets[XXH3_64bits(v, sizeof(v)) & (m->nbuckets - 1)];
}

/* Where a node is, for as long as there is one: what a switch makes stale was
 * of the working view. */
static struct knode **bucket_of(const struct mount *m, const struct knode *n)
{
	const struct fs_view *fv = n->stale ? m->root.fv : n->fv;

	return bucket(m, fv, fv ? n->ino : n->generation);
}

static void resize(struct mount *m, size_t nbuckets)
{
	size_t old = m->nbuckets;
	struct knode **from = m->buckets;
	struct knode **b = calloc(nbuckets, sizeof(struct knode *));

	if (!b)
		return; /* slower, no more */
	m->buckets = b;
	m->nbuckets = nbuckets;
	for (size_t i = 0; i < old; i++) {
		struct knode *next, *n = from[i];

		for (; n; n = next) {
			struct knode **to = bucket_of(m, n);

			next = n->next;
			n->next = *to;
			*to = n;
		}
	}
	free(from);
}

static struct knode *find(struct mount *m, struct fs_view *fv, uint64_t ino)
{
	struct knode *n = *bucket(m, fv, ino);

	while (n && (n->ino != ino || n->fv != fv || !n->hashed))
		n = n->next;
	return n;
}

static void add(struct mount *m, struct knode *n)
{
	struct knode **p;

	if (m->nnodes >= m->nbuckets)
		resize(m, 2 * m->nbuckets);
	p = bucket_of(m, n);
	n->next = *p;
	*p = n;
	m->nnodes++;
}

static void del(struct mount *m, struct knode *n)
{
	struct knode **p = bucket_of(m, n);

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	m->nnodes--;
	if (m->nnodes < m->nbuckets / 8 && m->nbuckets > BUCKETS_FIRST)
		resize(m, m->nbuckets / 2);
}

fuse_ino_t knode_id(struct mount *m, struct knode *n)
{
	return n == &m->root || (m->opt.fast && n == m->side.root)
		       ? FUSE_ROOT_ID
		       : (fuse_ino_t)(uintptr_t)n;
}

struct knode *knode_get(struct mount *m, struct fs_view *fv, struct snap *snap,
			uint64_t ino)
{
	struct knode *n;
	bool known;

	if (fv == m->root.fv && ino == FS_ROOT_INO)
		return &m->root;
	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, fv, ino);
	known = n;
	if (!known)
		n = slab_alloc(&m->nodes);
	if (n && !known) {
		*n = (struct knode){ .kind = NODE_OBJECT,
				     .ino = ino,
				     .generation = ++m->next_generation,
				     .fv = fs_view_get(fv),
				     .snap = snap,
				     .hashed = true };
		add(m, n);
		if (snap)
			snap->nodes++;
	}
	if (n)
		n->nlookup++;
	pthread_mutex_unlock(&m->nodes_lock);
	return n;
}

int knode_get_found(struct mount *m, struct knode *dir, uint64_t flips,
		    struct fs_attr *attr, struct knode **out)
{
	for (;;) {
		struct fs_view *fv = knode_view(dir);
		struct knode *n = knode_get(m, fv, dir->snap, attr->ino);
		uint64_t now = flips_now(m);

		if (!n)
			return -ENOMEM;
		if (now == flips) {
			*out = n;
			return 0;
		}
		knode_forget(m, n, 1);
		flips = now;
		if (fs_getattr(knode_view(dir), attr->ino, attr))
			return -ESTALE;
	}
}

static void snap_free(struct snap *s)
{
	struct snap_name *name;

	while ((name = s->names)) {
		s->names = name->next;
		free(name);
	}
	fs_view_put(s->fv);
	free(s);
}

static void put_snap_locked(struct mount *m, struct snap *s)
{
	struct snap **p = &m->snaps;

	if (--s->nodes)
		return;
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	snap_free(s);
	pthread_cond_broadcast(&m->snaps_cond);
}

struct knode *knode_new_virtual(struct mount *m, enum knode_kind kind)
{
	struct knode *n;

	pthread_mutex_lock(&m->nodes_lock);
	n = slab_alloc(&m->nodes);
	if (n) {
		*n = (struct knode){ .kind = (uint8_t)kind,
				     .ino = m->virt[kind].ino,
				     .generation = ++m->next_generation,
				     .nlookup = 1 };
		add(m, n);
	}
	pthread_mutex_unlock(&m->nodes_lock);
	return n;
}

static void gone_free(struct fs_gone *g)
{
	if (g)
		free(g->target);
	free(g);
}

void knode_forget(struct mount *m, struct knode *n, uint64_t count)
{
	struct fs_view *fv = NULL;
	struct fs_file *f = NULL;
	struct fs_gone *gone = NULL;
	bool last;

	if (n == &m->root || (n->kind != NODE_OBJECT && n == &m->virt[n->kind]))
		return;
	pthread_mutex_lock(&m->nodes_lock);
	n->nlookup -= min_u64(count, n->nlookup);
	last = !n->nlookup;
	if (last) {
		del(m, n);
		fv = n->fv;
		f = node_take_file(m, n);
		gone = n->gone;
		if (n->snap)
			put_snap_locked(m, n->snap);
		slab_free(&m->nodes, n);
	}
	pthread_mutex_unlock(&m->nodes_lock);
	if (last) {
		fs_file_put(f);
		fs_view_put(fv);
		gone_free(gone);
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
		n->hashed = false;
	pthread_mutex_unlock(&m->nodes_lock);
}

void knode_gone(void *arg, const struct fs_gone *what)
{
	struct mount *m = arg;
	struct fs_gone *g;
	struct knode *n = NULL;

	pthread_mutex_lock(&m->nodes_lock);
	if (m->buckets) /* else: not mounted yet */
		n = find(m, m->root.fv, what->attr.ino);
	if (n) {
		/* The kernel's object is dead for good: should a switch bring
		 * it back, it is a new node. */
		n->hashed = false;
		g = malloc(sizeof(*g));
		if (g) { /* else: ESTALE from now on */
			*g = *what;
			g->target = what->target ? strdup(what->target) : NULL;
		}
		__atomic_store_n(&n->gone, g, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&m->nodes_lock);
}

void knode_gone_attr(struct mount *m, struct knode *n, unsigned int set,
		     const struct fs_attr *a, struct fs_attr *out)
{
	struct fs_attr *g = &n->gone->attr;

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

static uint32_t times_renumbered(const struct mount *m, uint64_t ino)
{
	const struct renumber *r;

	r = m->renumber_buckets ? *renumber_slot(m, ino) : NULL;
	return r ? r->count : 0;
}

/* Above the inode number, below the bit of views other than working. */
static uint64_t renumbered(uint64_t ino, uint32_t times)
{
	return times ? ino | (uint64_t)times << SNAP_ID_SHIFT |
			       (uint64_t)1 << 62
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
	(*slot)->count = (*slot)->count % RENUMBER_MAX + 1;
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
	uint32_t times;

	if (n->snap)
		return ino | n->snap->id << SNAP_ID_SHIFT | (uint64_t)1 << 63;
	if (knode_is_stale(n) && ino == n->ino)
		return renumbered(ino, n->stale_shown);
	if (!__atomic_load_n(&m->any_renumbered, __ATOMIC_ACQUIRE))
		return ino;
	pthread_mutex_lock(&m->nodes_lock);
	times = times_renumbered(m, ino);
	pthread_mutex_unlock(&m->nodes_lock);
	return renumbered(ino, times);
}

void knode_make_stale(struct mount *m, uint64_t ino, struct fs_view *old)
{
	struct knode *n;

	if (ino == FS_ROOT_INO)
		return;
	pthread_mutex_lock(&m->nodes_lock);
	n = find(m, m->root.fv, ino);
	if (n) {
		n->hashed = false;
		n->stale_shown = times_renumbered(m, ino);
		/* open=fast: perhaps it is */
		if ((n->use && n->use->nopen) || m->opt.fast)
			renumber(m, ino);
		__atomic_store_n(&n->fv, fs_view_get(old), __ATOMIC_RELEASE);
		__atomic_store_n(&n->stale, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&m->nodes_lock);
}

/* --- what only open ones need --- */

struct knode_use *knode_use(struct knode *n)
{
	struct knode_use *use = n->use;

	if (use)
		return use;
	use = malloc(sizeof(*use));
	if (use)
		*use = (struct knode_use){ .node = n };
	n->use = use;
	return use;
}

void knode_unuse(struct knode *n)
{
	struct knode_use *use = n->use;

	if (!use || use->nopen || use->nwriters || use->file)
		return;
	n->use = NULL;
	free(use);
}

int knode_open(struct knode *n)
{
	struct knode_use *use = knode_use(n);

	if (!use)
		return -ENOMEM;
	use->nopen++;
	return 0;
}

void knode_close(struct knode *n)
{
	n->use->nopen--;
	knode_unuse(n);
}

/* --- files that may be mapped for writing --- */

void knode_add_writer(struct mount *m, struct knode *n)
{
	struct knode_use *use;

	pthread_mutex_lock(&m->nodes_lock);
	use = n->use;
	if (!use->nwriters++) {
		use->writer_prev = NULL;
		use->writer_next = m->writers;
		if (m->writers)
			m->writers->writer_prev = use;
		m->writers = use;
	}
	pthread_mutex_unlock(&m->nodes_lock);
}

void knode_del_writer(struct mount *m, struct knode *n)
{
	struct knode_use *use;

	pthread_mutex_lock(&m->nodes_lock);
	use = n->use;
	if (!--use->nwriters) {
		if (use->writer_prev)
			use->writer_prev->writer_next = use->writer_next;
		else
			m->writers = use->writer_next;
		if (use->writer_next)
			use->writer_next->writer_prev = use->writer_prev;
		knode_unuse(n);
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
	for (const struct knode_use *w = m->writers; w; w = w->writer_next)
		n++;
	if (n)
		inos = malloc(n * sizeof(*inos));
	if (n && !inos)
		err = -ENOMEM;
	n = 0;
	for (const struct knode_use *w = m->writers; w && !err;
	     w = w->writer_next)
		if (!w->node->stale)
			inos[n++] = w->node->ino;
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

/* Under nodes_lock. Without memory it is not recalled: the kernel forgets it
 * some day. */
static void add_name(struct snap *s, const char *name)
{
	struct snap_name *n = s->names;

	while (n && strcmp(n->name, name) != 0)
		n = n->next;
	if (n)
		return;
	n = calloc(1, sizeof(*n));
	if (!n)
		return;
	snprintf(n->name, sizeof(n->name), "%s", name);
	n->next = s->names;
	s->names = n;
}

int knode_get_snap(struct mount *m, const struct ptr *root, const char *name,
		   struct snap **out)
{
	struct snap *made = NULL, *s;
	int err;

	pthread_mutex_lock(&m->nodes_lock);
	s = find_snap(m, root);
	if (s)
		add_name(s, name);
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
		add_name(s, name);
		pthread_mutex_unlock(&m->nodes_lock);
	}
	if (made)
		snap_free(made);
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
	struct knode *n;

	/* The table gets smaller on the way. */
	for (size_t i = 0; m->nnodes; i++)
		while ((n = m->buckets[i & (m->nbuckets - 1)]))
			knode_forget(m, n, n->nlookup);
	slab_release(&m->nodes);
	renumber_release(m);
	free(m->buckets);
	m->buckets = NULL;
}
