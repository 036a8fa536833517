/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * simdev.c - see simdev.h. Files are arrays of 4 KiB pages, of which zero ones
 * take no memory; the journal holds copies of what was written. An image is
 * made by replaying the journal onto the settled state.
 */
#include "tests/lib/simdev.h"

#include <pthread.h>

#include "tests/lib/test.h"

enum { PAGE = 4096, SECTOR = 512 };

static uint8_t zero_page[PAGE]; /* marks a page that has space and no bytes */
static _Thread_local bool inside; /* a call of the device */

struct sim_file {
	int refs; /* names and handles */
	size_t idx; /* in the journal's numbering */
	uint64_t size;
	uint8_t **pages;
	size_t npages;
};

struct dev_file {
	struct simdev *sim;
	struct sim_file *file;
	bool write;
};

struct sim_name {
	char name[DEV_NAME_MAX];
	struct sim_file *file; /* NULL: a folder */
};

struct sim_op {
	unsigned int kind;
	size_t file;
	uint64_t off, len;
	uint8_t *data; /* NULL: zeros */
	char name[DEV_NAME_MAX], to[DEV_NAME_MAX];
};

struct simdev {
	struct dev dev;
	pthread_mutex_t lock;
	struct sim_name *names;
	size_t nnames;
	struct sim_op *ops;
	size_t nops, cap_ops;
	size_t nfiles; /* numbers given */
	struct simdev *base; /* state when the journal began */
	bool read_only;
	uint64_t capacity, used; /* used: bytes of pages */
	unsigned int fail_mask;
	uint64_t fail_in;
	int fail_err;
	bool fail_for_ever, failed, is_short;
	struct simdev_counts counts;
};

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- files --- */

static struct sim_file *file_new(size_t idx)
{
	struct sim_file *f = must(calloc(1, sizeof(*f)));

	f->refs = 1;
	f->idx = idx;
	return f;
}

static void page_drop(struct simdev *sim, struct sim_file *f, size_t i)
{
	if (f->pages[i]) {
		sim->used -= PAGE;
		if (f->pages[i] != zero_page)
			free(f->pages[i]);
		f->pages[i] = NULL;
	}
}

static void file_put(struct simdev *sim, struct sim_file *f)
{
	if (--f->refs)
		return;
	for (size_t i = 0; i < f->npages; i++)
		page_drop(sim, f, i);
	free(f->pages);
	free(f);
}

static void file_grow(struct sim_file *f, uint64_t size)
{
	size_t n = (size_t)((size + PAGE - 1) / PAGE);

	if (n <= f->npages)
		return;
	f->pages = must(realloc(f->pages, n * sizeof(*f->pages)));
	memset(f->pages + f->npages, 0, (n - f->npages) * sizeof(*f->pages));
	f->npages = n;
}

static void file_truncate(struct simdev *sim, struct sim_file *f, uint64_t size)
{
	file_grow(f, size);
	if (size < f->size) {
		size_t i = (size_t)((size + PAGE - 1) / PAGE);

		for (; i < f->npages; i++)
			page_drop(sim, f, i);
		i = (size_t)(size / PAGE);
		if (size % PAGE && f->pages[i] && f->pages[i] != zero_page)
			memset(f->pages[i] + size % PAGE, 0,
			       PAGE - size % PAGE);
	}
	f->size = size;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!*p && !memcmp(p, p + 1, len - 1));
}

/* data NULL: give space only. */
static void file_write(struct simdev *sim, struct sim_file *f, uint64_t off,
		       const uint8_t *data, uint64_t len)
{
	if (off + len > f->size) {
		file_grow(f, off + len);
		f->size = off + len;
	}
	while (len) {
		size_t i = (size_t)(off / PAGE), in = (size_t)(off % PAGE);
		size_t n = min_u64(len, PAGE - in);

		if (!f->pages[i]) {
			f->pages[i] = zero_page;
			sim->used += PAGE;
		}
		if (data && f->pages[i] == zero_page && !all_zero(data, n))
			f->pages[i] = must(calloc(1, PAGE));
		if (data && f->pages[i] != zero_page)
			memcpy(f->pages[i] + in, data, n);
		if (data)
			data += n;
		off += n;
		len -= n;
	}
}

static void file_punch(struct simdev *sim, struct sim_file *f, uint64_t off,
		       uint64_t len)
{
	uint64_t end = min_u64(off + len, f->size);

	while (off < end) {
		size_t i = (size_t)(off / PAGE), in = (size_t)(off % PAGE);
		size_t n = min_u64(end - off, PAGE - in);

		if (n == PAGE)
			page_drop(sim, f, i);
		else if (f->pages[i] && f->pages[i] != zero_page)
			memset(f->pages[i] + in, 0, n);
		off += n;
	}
}

static void file_read(const struct sim_file *f, uint64_t off, uint8_t *buf,
		      size_t len)
{
	while (len) {
		size_t i = (size_t)(off / PAGE), in = (size_t)(off % PAGE);
		size_t n = min_u64(len, PAGE - in);

		if (i < f->npages && f->pages[i])
			memcpy(buf, f->pages[i] + in, n);
		else
			memset(buf, 0, n);
		buf += n;
		off += n;
		len -= n;
	}
}

/* --- names --- */

static struct sim_name *find(struct simdev *sim, const char *name)
{
	for (size_t i = 0; i < sim->nnames; i++)
		if (!strcmp(sim->names[i].name, name))
			return &sim->names[i];
	return NULL;
}

static void set_text(char to[DEV_NAME_MAX], const char *from)
{
	(void)snprintf(to, DEV_NAME_MAX, "%s", from);
}

static void name_add(struct simdev *sim, const char *name, struct sim_file *f)
{
	struct sim_name *n;

	sim->names = must(
		realloc(sim->names, (sim->nnames + 1) * sizeof(*sim->names)));
	n = &sim->names[sim->nnames++];
	set_text(n->name, name);
	n->file = f;
}

static void name_remove(struct simdev *sim, struct sim_name *n)
{
	if (n->file)
		file_put(sim, n->file);
	*n = sim->names[--sim->nnames];
}

static void name_rename(struct simdev *sim, const char *from, const char *to)
{
	struct sim_name *n = find(sim, to);

	if (n)
		name_remove(sim, n);
	n = find(sim, from);
	if (n)
		set_text(n->name, to);
}

static void folder_of(const char *name, char out[DEV_NAME_MAX])
{
	const char *slash = strchr(name, '/');

	set_text(out, slash ? name : "");
	if (slash)
		out[slash - name] = '\0';
}

/* --- journal --- */

static struct sim_op *op_add(struct simdev *sim, unsigned int kind,
			     struct sim_file *f, uint64_t off, uint64_t len)
{
	struct sim_op *op;

	if (sim->nops == sim->cap_ops) {
		sim->cap_ops = sim->cap_ops ? 2 * sim->cap_ops : 256;
		sim->ops = must(
			realloc(sim->ops, sim->cap_ops * sizeof(*sim->ops)));
	}
	op = &sim->ops[sim->nops++];
	*op = (struct sim_op){
		.kind = kind, .file = f ? f->idx : 0, .off = off, .len = len
	};
	return op;
}

static void ops_clear(struct simdev *sim)
{
	for (size_t i = 0; i < sim->nops; i++)
		free(sim->ops[i].data);
	sim->nops = 0;
}

/* --- the calls --- */

static struct simdev *sim_of(struct dev *dev)
{
	return CONTAINER_OF(dev, struct simdev, dev);
}

/* Locks; 0 or an injected error (then unlocked again). */
static int enter(struct simdev *sim, unsigned int kind, bool changes)
{
	int err;

	pthread_mutex_lock(&sim->lock);
	if (sim->fail_in && (sim->fail_mask & kind)) {
		if (sim->fail_in == 1) {
			sim->failed = true;
			if (!sim->fail_for_ever)
				sim->fail_in = 0;
			err = -sim->fail_err;
			pthread_mutex_unlock(&sim->lock);
			return err;
		}
		sim->fail_in--;
	}
	if (changes && sim->read_only) {
		pthread_mutex_unlock(&sim->lock);
		return -EROFS;
	}
	inside = true;
	return 0;
}

static int leave(struct simdev *sim, int err)
{
	inside = false;
	pthread_mutex_unlock(&sim->lock);
	return err;
}

static struct dev_file *handle(struct simdev *sim, struct sim_file *f,
			       bool write)
{
	struct dev_file *h = must(calloc(1, sizeof(*h)));

	h->sim = sim;
	h->file = f;
	h->write = write;
	f->refs++;
	return h;
}

static int sim_create(struct dev *dev, const char *name, struct dev_file **out)
{
	struct simdev *sim = sim_of(dev);
	struct sim_file *f;
	int err = enter(sim, SIM_CREATE, true);

	if (err)
		return err;
	if (find(sim, name))
		return leave(sim, -EEXIST);
	f = file_new(sim->nfiles++);
	name_add(sim, name, f);
	set_text(op_add(sim, SIM_CREATE, f, 0, 0)->name, name);
	*out = handle(sim, f, true);
	return leave(sim, 0);
}

static int sim_open(struct dev *dev, const char *name, bool write,
		    struct dev_file **out)
{
	struct simdev *sim = sim_of(dev);
	struct sim_name *n;
	int err = enter(sim, SIM_OPEN, write);

	if (err)
		return err;
	n = find(sim, name);
	if (!n || !n->file)
		return leave(sim, n ? -EISDIR : -ENOENT);
	*out = handle(sim, n->file, write);
	return leave(sim, 0);
}

static void sim_close(struct dev_file *f)
{
	struct simdev *sim;

	if (!f)
		return;
	sim = f->sim;
	pthread_mutex_lock(&sim->lock);
	file_put(sim, f->file);
	pthread_mutex_unlock(&sim->lock);
	free(f);
}

static int sim_read(struct dev_file *f, uint64_t off, void *buf, size_t len,
		    size_t *got_out)
{
	int err = enter(f->sim, SIM_READ, false);

	if (err)
		return err;
	len = off >= f->file->size ? 0 : min_u64(len, f->file->size - off);
	file_read(f->file, off, buf, len);
	*got_out = len;
	f->sim->counts.reads++;
	f->sim->counts.bytes_read += len;
	return leave(f->sim, 0);
}

/* Would the pages of a range that have no space yet fit? */
static bool fits(struct simdev *sim, struct sim_file *f, uint64_t off,
		 uint64_t len)
{
	uint64_t need = 0;

	if (!sim->capacity)
		return true;
	for (uint64_t p = off / PAGE; p * PAGE < off + len; p++)
		if (p >= f->npages || !f->pages[p])
			need += PAGE;
	return sim->used + need <= sim->capacity;
}

/* Under sim->lock. */
static int write_iov(struct dev_file *f, uint64_t off,
		     const struct dev_iov *iov, size_t n, bool half)
{
	struct simdev *sim = f->sim;
	uint64_t len = 0;
	struct sim_op *op;
	uint8_t *p;

	for (size_t i = 0; i < n; i++)
		len += iov[i].len;
	if (!fits(sim, f->file, off, len))
		return -ENOSPC;
	p = must(calloc(1, len + 1));
	len = 0;
	for (size_t i = 0; i < n; i++) {
		memcpy(p + len, iov[i].buf, iov[i].len);
		len += iov[i].len;
	}
	if (half)
		len /= 2;
	file_write(sim, f->file, off, p, len);
	op = op_add(sim, SIM_WRITE, f->file, off, len);
	op->data = p;
	if (all_zero(p, len)) {
		free(p);
		op->data = NULL;
	}
	sim->counts.writes++;
	sim->counts.bytes_written += len;
	return 0;
}

static int sim_writev(struct dev_file *f, uint64_t off,
		      const struct dev_iov *iov, size_t n)
{
	int err = enter(f->sim, SIM_WRITE, true);

	if (!err)
		return leave(f->sim, write_iov(f, off, iov, n, false));
	pthread_mutex_lock(&f->sim->lock);
	if (f->sim->is_short && f->sim->failed) {
		inside = true;
		(void)write_iov(f, off, iov, n, true);
		inside = false;
	}
	pthread_mutex_unlock(&f->sim->lock);
	return err;
}

static int sim_sync(struct dev_file *f)
{
	int err = enter(f->sim, SIM_SYNC, true);

	if (err)
		return err;
	(void)op_add(f->sim, SIM_SYNC, f->file, 0, 0);
	f->sim->counts.syncs++;
	return leave(f->sim, 0);
}

static void sim_sync_start(struct dev_file *f, uint64_t off, uint64_t len)
{
}

static int sim_allocate(struct dev_file *f, uint64_t off, uint64_t len)
{
	int err = enter(f->sim, SIM_ALLOCATE, true);

	if (err)
		return err;
	if (!fits(f->sim, f->file, off, len))
		return leave(f->sim, -ENOSPC);
	file_write(f->sim, f->file, off, NULL, len);
	(void)op_add(f->sim, SIM_ALLOCATE, f->file, off, len);
	return leave(f->sim, 0);
}

static int sim_truncate(struct dev_file *f, uint64_t size)
{
	int err = enter(f->sim, SIM_TRUNCATE, true);

	if (err)
		return err;
	file_truncate(f->sim, f->file, size);
	(void)op_add(f->sim, SIM_TRUNCATE, f->file, size, 0);
	return leave(f->sim, 0);
}

static int sim_size(struct dev_file *f, uint64_t *size_out)
{
	int err = enter(f->sim, SIM_SIZE, false);

	if (err)
		return err;
	*size_out = f->file->size;
	return leave(f->sim, 0);
}

static int sim_punch(struct dev_file *f, uint64_t off, uint64_t len)
{
	int err = enter(f->sim, SIM_PUNCH, true);

	if (err)
		return err;
	file_punch(f->sim, f->file, off, len);
	(void)op_add(f->sim, SIM_PUNCH, f->file, off, len);
	return leave(f->sim, 0);
}

static int sim_clone(struct dev_file *f, uint64_t off, int src_fd,
		     uint64_t src_off, uint64_t len)
{
	return -EOPNOTSUPP;
}

static int sim_rename(struct dev *dev, const char *from, const char *to)
{
	struct simdev *sim = sim_of(dev);
	struct sim_op *op;
	struct sim_name *n;
	int err = enter(sim, SIM_RENAME, true);

	if (err)
		return err;
	n = find(sim, from);
	if (!n)
		return leave(sim, -ENOENT);
	op = op_add(sim, SIM_RENAME, n->file, 0, 0);
	set_text(op->name, from);
	set_text(op->to, to);
	name_rename(sim, from, to);
	return leave(sim, 0);
}

static int sim_remove(struct dev *dev, const char *name)
{
	struct simdev *sim = sim_of(dev);
	struct sim_name *n;
	int err = enter(sim, SIM_REMOVE, true);

	if (err)
		return err;
	n = find(sim, name);
	if (!n)
		return leave(sim, -ENOENT);
	set_text(op_add(sim, SIM_REMOVE, n->file, 0, 0)->name, name);
	name_remove(sim, n);
	return leave(sim, 0);
}

static int sim_mkdir(struct dev *dev, const char *name)
{
	struct simdev *sim = sim_of(dev);
	int err = enter(sim, SIM_MKDIR, true);

	if (err)
		return err;
	if (find(sim, name))
		return leave(sim, -EEXIST);
	name_add(sim, name, NULL);
	set_text(op_add(sim, SIM_MKDIR, NULL, 0, 0)->name, name);
	return leave(sim, 0);
}

static int sim_sync_dir(struct dev *dev, const char *name)
{
	struct simdev *sim = sim_of(dev);
	int err = enter(sim, SIM_SYNC_DIR, true);

	if (err)
		return err;
	set_text(op_add(sim, SIM_SYNC_DIR, NULL, 0, 0)->name, name);
	sim->counts.dir_syncs++;
	return leave(sim, 0);
}

static int sim_list(struct dev *dev, const char *name, dev_list_fn fn,
		    void *arg)
{
	struct simdev *sim = sim_of(dev);
	char(*v)[DEV_NAME_MAX] = NULL;
	char folder[DEV_NAME_MAX];
	size_t n = 0, skip = *name ? strlen(name) + 1 : 0;
	int err = enter(sim, SIM_LIST, false);

	if (err)
		return err;
	if (*name && !find(sim, name))
		return leave(sim, -ENOENT);
	v = must(calloc(sim->nnames + 1, sizeof(*v)));
	for (size_t i = 0; i < sim->nnames; i++) {
		folder_of(sim->names[i].name, folder);
		if (!strcmp(folder, name))
			set_text(v[n++], sim->names[i].name + skip);
	}
	(void)leave(sim, 0);
	for (size_t i = 0; i < n && !err; i++)
		err = fn(arg, v[i]);
	free(v);
	return err;
}

static int sim_space(struct dev *dev, uint64_t *free_bytes_out)
{
	struct simdev *sim = sim_of(dev);
	int err = enter(sim, SIM_SPACE, false);

	if (err)
		return err;
	*free_bytes_out = !sim->capacity ? (uint64_t)1 << 40
			  : sim->used > sim->capacity
				  ? 0
				  : sim->capacity - sim->used;
	return leave(sim, 0);
}

static void sim_release(struct dev *dev)
{
	simdev_free(sim_of(dev));
}

static const struct dev_ops sim_ops = {
	.create = sim_create,
	.open = sim_open,
	.close = sim_close,
	.read = sim_read,
	.writev = sim_writev,
	.sync = sim_sync,
	.sync_start = sim_sync_start,
	.allocate = sim_allocate,
	.truncate = sim_truncate,
	.size = sim_size,
	.punch = sim_punch,
	.clone = sim_clone,
	.rename = sim_rename,
	.remove = sim_remove,
	.mkdir = sim_mkdir,
	.sync_dir = sim_sync_dir,
	.list = sim_list,
	.space = sim_space,
	.release = sim_release,
};

/* --- images --- */

static bool is_file_op(unsigned int kind)
{
	return kind & (SIM_WRITE | SIM_ALLOCATE | SIM_TRUNCATE | SIM_PUNCH);
}

static bool is_name_op(unsigned int kind)
{
	return kind & (SIM_CREATE | SIM_RENAME | SIM_REMOVE | SIM_MKDIR);
}

/* Files by number; those of the base first. */
struct image {
	struct simdev *sim; /* being made */
	struct sim_file **files;
	size_t *synced; /* one past the last sync of each file */
	enum sim_mode mode;
	struct rng rng;
};

static bool coin(struct image *img)
{
	return img->mode == SIM_KEEP ||
	       (img->mode != SIM_DROP && rng_below(&img->rng, 2));
}

static void apply_whole(struct image *img, const struct sim_op *op)
{
	struct sim_file *f = img->files[op->file];

	if (op->kind == SIM_WRITE && !op->data) {
		/* zeros over what was there */
		file_punch(img->sim, f, op->off, op->len);
		file_write(img->sim, f, op->off, NULL, op->len);
	} else if (op->kind == SIM_WRITE) {
		file_write(img->sim, f, op->off, op->data, op->len);
	} else if (op->kind == SIM_ALLOCATE) {
		file_write(img->sim, f, op->off, NULL, op->len);
	} else if (op->kind == SIM_TRUNCATE) {
		file_truncate(img->sim, f, op->off);
	} else {
		file_punch(img->sim, f, op->off, op->len);
	}
}

/* A write that was not synced: each unit of the disk by itself. */
static void apply_pieces(struct image *img, const struct sim_op *op)
{
	uint64_t unit = img->mode == SIM_TORN ? SECTOR : PAGE;
	uint64_t off = op->off, end = op->off + op->len;

	while (off < end) {
		uint64_t n = min_u64(unit - off % unit, end - off);
		struct sim_op piece = *op;

		piece.off = off;
		piece.len = n;
		piece.data = op->data ? op->data + (off - op->off) : NULL;
		if (coin(img))
			apply_whole(img, &piece);
		off += n;
	}
}

static void apply_file_op(struct image *img, const struct sim_op *op, size_t i)
{
	if (i < img->synced[op->file] || img->mode == SIM_KEEP)
		apply_whole(img, op);
	else if (op->kind == SIM_WRITE)
		apply_pieces(img, op);
	else if (coin(img))
		apply_whole(img, op);
}

static void apply_name_op(struct image *img, const struct sim_op *op)
{
	struct simdev *sim = img->sim;
	struct sim_name *n;

	switch (op->kind) {
	case SIM_CREATE:
		if (!find(sim, op->name)) {
			img->files[op->file]->refs++;
			name_add(sim, op->name, img->files[op->file]);
		}
		break;
	case SIM_MKDIR:
		if (!find(sim, op->name))
			name_add(sim, op->name, NULL);
		break;
	case SIM_REMOVE:
		n = find(sim, op->name);
		if (n)
			name_remove(sim, n);
		break;
	default:
		/* The name's creation may not have been durable by itself. */
		if (!find(sim, op->name)) {
			img->files[op->file]->refs++;
			name_add(sim, op->name, img->files[op->file]);
		}
		name_rename(sim, op->name, op->to);
	}
}

/* Was the folder of one of the op's names synced after it? */
static bool name_op_is_durable(struct simdev *sim, size_t i, size_t cut)
{
	char a[DEV_NAME_MAX], b[DEV_NAME_MAX];
	const struct sim_op *op = &sim->ops[i];

	folder_of(op->name, a);
	folder_of(op->kind == SIM_RENAME ? op->to : op->name, b);
	for (size_t j = i + 1; j < cut; j++)
		if (sim->ops[j].kind == SIM_SYNC_DIR &&
		    (!strcmp(sim->ops[j].name, a) ||
		     !strcmp(sim->ops[j].name, b)))
			return true;
	return false;
}

static struct sim_file *file_copy(struct simdev *to, const struct sim_file *f)
{
	struct sim_file *g = file_new(f->idx);

	file_grow(g, f->size);
	g->size = f->size;
	for (size_t i = 0; i < f->npages && i < g->npages; i++) {
		g->pages[i] = f->pages[i];
		if (f->pages[i])
			to->used += PAGE;
		if (f->pages[i] && f->pages[i] != zero_page) {
			g->pages[i] = must(malloc(PAGE));
			memcpy(g->pages[i], f->pages[i], PAGE);
		}
	}
	return g;
}

/* A copy of the state without its journal. */
static struct simdev *copy_state(struct simdev *sim)
{
	struct simdev *to = simdev_new();

	to->capacity = sim->capacity;
	to->nfiles = sim->nfiles;
	for (size_t i = 0; i < sim->nnames; i++) {
		struct sim_file *f = sim->names[i].file;

		name_add(to, sim->names[i].name, f ? file_copy(to, f) : NULL);
	}
	return to;
}

static void image_replay(struct image *img, struct simdev *sim, size_t cut)
{
	bool names_go_on = true;

	for (size_t i = 0; i < cut; i++)
		if (sim->ops[i].kind == SIM_SYNC)
			img->synced[sim->ops[i].file] = i + 1;
	for (size_t i = 0; i < cut; i++)
		if (is_file_op(sim->ops[i].kind))
			apply_file_op(img, &sim->ops[i], i);
	for (size_t i = 0; i < cut; i++) {
		if (!is_name_op(sim->ops[i].kind))
			continue;
		/* Names that were not synced: some first ones of them. */
		if (name_op_is_durable(sim, i, cut) ||
		    (names_go_on && (names_go_on = coin(img))))
			apply_name_op(img, &sim->ops[i]);
	}
}

struct simdev *simdev_image(struct simdev *sim, size_t cut, enum sim_mode mode,
			    uint64_t seed)
{
	struct image img = { .mode = mode,
			     .rng = { (seed ^ (cut * 0x9e3779b97f4a7c15ULL)) |
				      1 } };
	struct simdev *base;

	pthread_mutex_lock(&sim->lock);
	base = sim->base;
	img.sim = base ? copy_state(base) : simdev_new();
	img.sim->capacity = sim->capacity;
	img.files = must(calloc(sim->nfiles + 1, sizeof(*img.files)));
	img.synced = must(calloc(sim->nfiles + 1, sizeof(*img.synced)));
	for (size_t i = 0; i < img.sim->nnames; i++)
		if (img.sim->names[i].file) {
			struct sim_file *f = img.sim->names[i].file;

			img.files[f->idx] = f;
			f->refs++;
		}
	for (size_t i = 0; i < sim->nfiles; i++)
		if (!img.files[i])
			img.files[i] = file_new(i);
	image_replay(&img, sim, cut);
	for (size_t i = 0; i < sim->nfiles; i++)
		file_put(img.sim, img.files[i]);
	img.sim->nfiles = sim->nfiles;
	free(img.files);
	free(img.synced);
	pthread_mutex_unlock(&sim->lock);
	simdev_settle(img.sim);
	return img.sim;
}

/* --- the handle --- */

struct simdev *simdev_new(void)
{
	struct simdev *sim = must(calloc(1, sizeof(*sim)));

	sim->dev.ops = &sim_ops;
	pthread_mutex_init(&sim->lock, NULL);
	return sim;
}

void simdev_free(struct simdev *sim)
{
	if (!sim)
		return;
	ops_clear(sim);
	free(sim->ops);
	while (sim->nnames)
		name_remove(sim, &sim->names[sim->nnames - 1]);
	free(sim->names);
	simdev_free(sim->base);
	pthread_mutex_destroy(&sim->lock);
	free(sim);
}

struct dev *simdev_dev(struct simdev *sim)
{
	return &sim->dev;
}

size_t simdev_ops(struct simdev *sim)
{
	size_t n;

	pthread_mutex_lock(&sim->lock);
	n = sim->nops;
	pthread_mutex_unlock(&sim->lock);
	return n;
}

void simdev_settle(struct simdev *sim)
{
	pthread_mutex_lock(&sim->lock);
	simdev_free(sim->base);
	sim->base = copy_state(sim);
	ops_clear(sim);
	pthread_mutex_unlock(&sim->lock);
}

void simdev_fail(struct simdev *sim, unsigned int mask, uint64_t nth, int err,
		 bool for_ever)
{
	pthread_mutex_lock(&sim->lock);
	sim->fail_mask = mask;
	sim->fail_in = nth;
	sim->fail_err = err;
	sim->fail_for_ever = for_ever;
	sim->failed = false;
	pthread_mutex_unlock(&sim->lock);
}

void simdev_set_short(struct simdev *sim, bool is_short)
{
	pthread_mutex_lock(&sim->lock);
	sim->is_short = is_short;
	pthread_mutex_unlock(&sim->lock);
}

bool simdev_is_inside(void)
{
	return inside;
}

bool simdev_has_failed(struct simdev *sim)
{
	bool failed;

	pthread_mutex_lock(&sim->lock);
	failed = sim->failed;
	pthread_mutex_unlock(&sim->lock);
	return failed;
}

void simdev_set_capacity(struct simdev *sim, uint64_t bytes)
{
	pthread_mutex_lock(&sim->lock);
	sim->capacity = bytes;
	pthread_mutex_unlock(&sim->lock);
}

void simdev_set_read_only(struct simdev *sim, bool read_only)
{
	pthread_mutex_lock(&sim->lock);
	sim->read_only = read_only;
	pthread_mutex_unlock(&sim->lock);
}

size_t simdev_file_count(struct simdev *sim)
{
	return sim->nnames;
}

const char *simdev_file_name(struct simdev *sim, size_t i)
{
	return sim->names[i].name;
}

uint64_t simdev_file_bytes(struct simdev *sim, size_t i)
{
	return sim->names[i].file ? sim->names[i].file->size : 0;
}

uint8_t simdev_get_byte(struct simdev *sim, size_t i, uint64_t off)
{
	uint8_t v;

	file_read(sim->names[i].file, off, &v, 1);
	return v;
}

void simdev_set_byte(struct simdev *sim, size_t i, uint64_t off, uint8_t v)
{
	file_write(sim, sim->names[i].file, off, &v, 1);
}

struct simdev_counts simdev_counts(struct simdev *sim)
{
	struct simdev_counts c;

	pthread_mutex_lock(&sim->lock);
	c = sim->counts;
	pthread_mutex_unlock(&sim->lock);
	return c;
}
