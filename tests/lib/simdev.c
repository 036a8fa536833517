/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * simdev.c - see simdev.h. Files are arrays of 4 KiB pages, of which zero ones
 * take no memory; the journal holds copies of what was written. An image is
 * made by replaying the journal onto the settled state.
 */
#include "tests/lib/simdev_internal.h"

#include <unistd.h>

#include <xxhash.h>

#include "tests/lib/test.h"

static _Thread_local bool inside; /* a call of the device */

struct dev_file {
	struct simdev *sim;
	struct sim_file *file;
	bool write;
};

void *sim_must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- files --- */

/* Marks a page that has space and no bytes. */
static struct sim_page zero_page;

static void page_put(struct sim_page *p)
{
	if (p && p != &zero_page &&
	    !__atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
		free(p);
}

static struct sim_page *page_get(struct sim_page *p)
{
	if (p && p != &zero_page)
		__atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
	return p;
}

static void bytes_put(struct sim_bytes *b)
{
	if (__atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (size_t i = 0; i < b->npages; i++)
		page_put(b->pages[i]);
	free(b->pages);
	free(b);
}

struct sim_file *sim_file_new(size_t idx, struct sim_bytes *share)
{
	struct sim_file *f = sim_must(calloc(1, sizeof(*f)));

	f->refs = 1;
	f->idx = idx;
	f->b = share;
	if (share) {
		__atomic_add_fetch(&share->refs, 1, __ATOMIC_RELAXED);
	} else {
		f->b = sim_must(calloc(1, sizeof(*f->b)));
		f->b->refs = 1;
	}
	return f;
}

void sim_file_put(struct simdev *sim, struct sim_file *f)
{
	if (--f->refs)
		return;
	sim->used -= f->b->nspace * SIM_PAGE;
	bytes_put(f->b);
	free(f);
}

/* The bytes, to be changed: nobody else sees it. */
static struct sim_bytes *bytes_own(struct sim_file *f)
{
	struct sim_bytes *old = f->b, *b;

	old->summed = false;
	if (__atomic_load_n(&old->refs, __ATOMIC_ACQUIRE) == 1)
		return old;
	b = sim_must(malloc(sizeof(*b)));
	*b = *old;
	b->refs = 1;
	b->pages =
		sim_must(malloc((b->npages + 1) * sizeof(struct sim_page *)));
	for (size_t i = 0; i < b->npages; i++)
		b->pages[i] = page_get(old->pages[i]);
	bytes_put(old);
	f->b = b;
	return b;
}

static uint8_t *page_own(struct sim_bytes *b, size_t i)
{
	struct sim_page *old = b->pages[i], *p;

	if (old != &zero_page &&
	    __atomic_load_n(&old->refs, __ATOMIC_ACQUIRE) == 1) {
		old->sum = 0;
		return old->data;
	}
	p = sim_must(malloc(sizeof(*p)));
	p->refs = 1;
	p->sum = 0;
	memcpy(p->data, old->data, SIM_PAGE);
	page_put(old);
	b->pages[i] = p;
	return p->data;
}

static void page_drop(struct simdev *sim, struct sim_bytes *b, size_t i)
{
	if (b->pages[i]) {
		sim->used -= SIM_PAGE;
		b->nspace--;
		page_put(b->pages[i]);
		b->pages[i] = NULL;
	}
}

static void bytes_grow(struct sim_bytes *b, uint64_t size)
{
	size_t n = (size_t)((size + SIM_PAGE - 1) / SIM_PAGE);

	if (n <= b->npages)
		return;
	b->pages = sim_must(realloc(b->pages, n * sizeof(*b->pages)));
	memset(b->pages + b->npages, 0, (n - b->npages) * sizeof(*b->pages));
	b->npages = n;
}

static void file_truncate(struct simdev *sim, struct sim_file *f, uint64_t size)
{
	struct sim_bytes *b = bytes_own(f);

	bytes_grow(b, size);
	if (size < b->size) {
		size_t i = (size_t)((size + SIM_PAGE - 1) / SIM_PAGE);

		for (; i < b->npages; i++)
			page_drop(sim, b, i);
		i = (size_t)(size / SIM_PAGE);
		if (size % SIM_PAGE && b->pages[i] && b->pages[i] != &zero_page)
			memset(page_own(b, i) + size % SIM_PAGE, 0,
			       SIM_PAGE - size % SIM_PAGE);
	}
	b->size = size;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!*p && !memcmp(p, p + 1, len - 1));
}

/* data NULL: give space only. */
static void file_write(struct simdev *sim, struct sim_file *f, uint64_t off,
		       const uint8_t *data, uint64_t len)
{
	struct sim_bytes *b = bytes_own(f);

	if (off + len > b->size) {
		bytes_grow(b, off + len);
		b->size = off + len;
	}
	while (len) {
		size_t i = (size_t)(off / SIM_PAGE);
		size_t in = (size_t)(off % SIM_PAGE);
		size_t n = min_u64(len, SIM_PAGE - in);

		if (!b->pages[i]) {
			b->pages[i] = &zero_page;
			b->nspace++;
			sim->used += SIM_PAGE;
		}
		if (data && (b->pages[i] != &zero_page || !all_zero(data, n)))
			memcpy(page_own(b, i) + in, data, n);
		if (data)
			data += n;
		off += n;
		len -= n;
	}
}

/* space: it stays, the bytes are zeros. */
static void file_clear(struct simdev *sim, struct sim_file *f, uint64_t off,
		       uint64_t len, bool space)
{
	struct sim_bytes *b = bytes_own(f);
	uint64_t end = min_u64(off + len, b->size);

	while (off < end) {
		size_t i = (size_t)(off / SIM_PAGE);
		size_t in = (size_t)(off % SIM_PAGE);
		size_t n = min_u64(end - off, SIM_PAGE - in);

		if (n == SIM_PAGE && !space)
			page_drop(sim, b, i);
		else if (b->pages[i] && b->pages[i] != &zero_page)
			memset(page_own(b, i) + in, 0, n);
		off += n;
	}
}

void sim_file_apply(struct simdev *sim, struct sim_file *f, unsigned int kind,
		    uint64_t off, const uint8_t *data, uint64_t len)
{
	if (kind == SIM_TRUNCATE)
		file_truncate(sim, f, off);
	else if (kind == SIM_PUNCH)
		file_clear(sim, f, off, len, false);
	else
		file_write(sim, f, off, data, len);
	if (kind == SIM_WRITE && !data)
		file_clear(sim, f, off, len, true);
}

static void file_read(const struct sim_file *f, uint64_t off, uint8_t *buf,
		      size_t len)
{
	const struct sim_bytes *b = f->b;

	while (len) {
		size_t i = (size_t)(off / SIM_PAGE);
		size_t in = (size_t)(off % SIM_PAGE);
		size_t n = min_u64(len, SIM_PAGE - in);

		if (i < b->npages && b->pages[i] && b->pages[i] != &zero_page)
			memcpy(buf, b->pages[i]->data + in, n);
		else
			memset(buf, 0, n);
		buf += n;
		off += n;
		len -= n;
	}
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t v[2] = { a, b };

	return XXH3_64bits(v, sizeof(v));
}

/* Holes, space and zeros are the same bytes. */
static uint64_t page_sum(struct sim_page *p)
{
	if (!p || p == &zero_page)
		return 0;
	if (!p->sum)
		p->sum = all_zero(p->data, SIM_PAGE)
				 ? 1
				 : XXH3_64bits(p->data, SIM_PAGE) | 2;
	return p->sum == 1 ? 0 : p->sum;
}

static uint64_t bytes_sum(struct sim_bytes *b)
{
	if (!b->summed) {
		b->sum = mix(b->size, 0);
		for (size_t i = 0; i < b->npages; i++) {
			uint64_t s = page_sum(b->pages[i]);

			if (s)
				b->sum += mix(i, s);
		}
		b->summed = true;
	}
	return b->sum;
}

uint64_t simdev_sum(struct simdev *sim)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&sim->lock);
	for (size_t i = 0; i < sim->nnames; i++) {
		const struct sim_name *n = &sim->names[i];

		sum += mix(XXH3_64bits(n->name, strlen(n->name)),
			   n->file ? bytes_sum(n->file->b) : 0);
	}
	pthread_mutex_unlock(&sim->lock);
	return sum;
}

/* --- names --- */

struct sim_name *sim_find(struct simdev *sim, const char *name)
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

void sim_name_add(struct simdev *sim, const char *name, struct sim_file *f)
{
	struct sim_name *n;

	sim->names = sim_must(
		realloc(sim->names, (sim->nnames + 1) * sizeof(*sim->names)));
	n = &sim->names[sim->nnames++];
	set_text(n->name, name);
	n->file = f;
}

void sim_name_remove(struct simdev *sim, struct sim_name *n)
{
	if (n->file)
		sim_file_put(sim, n->file);
	*n = sim->names[--sim->nnames];
}

void sim_name_rename(struct simdev *sim, const char *from, const char *to)
{
	struct sim_name *n = sim_find(sim, to);

	if (n)
		sim_name_remove(sim, n);
	n = sim_find(sim, from);
	if (n)
		set_text(n->name, to);
}

void sim_folder_of(const char *name, char out[DEV_NAME_MAX])
{
	const char *slash = strchr(name, '/');

	set_text(out, slash ? name : "");
	if (slash)
		out[slash - name] = '\0';
}

/* --- journal --- */

struct sim_op *sim_op_add(struct simdev *sim, unsigned int kind, size_t file)
{
	struct sim_op *op;

	if (sim->nops == sim->cap_ops) {
		sim->cap_ops = sim->cap_ops ? 2 * sim->cap_ops : 256;
		sim->ops = sim_must(
			realloc(sim->ops, sim->cap_ops * sizeof(*sim->ops)));
	}
	op = &sim->ops[sim->nops++];
	*op = (struct sim_op){ .kind = kind, .file = file };
	return op;
}

static struct sim_op *op_add(struct simdev *sim, unsigned int kind,
			     struct sim_file *f, uint64_t off, uint64_t len)
{
	struct sim_op *op = sim_op_add(sim, kind, f ? f->idx : 0);

	op->off = off;
	op->len = len;
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
static int enter(struct simdev *sim, unsigned int kind)
{
	int err;

	pthread_mutex_lock(&sim->lock);
	if (sim->interrupt_in && (sim->interrupt_mask & kind) &&
	    !--sim->interrupt_in) {
		pthread_mutex_unlock(&sim->lock);
		sim->interrupt(sim->interrupt_arg);
		pthread_mutex_lock(&sim->lock);
	}
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
	struct dev_file *h = sim_must(calloc(1, sizeof(*h)));

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
	int err = enter(sim, SIM_CREATE);

	if (err)
		return err;
	if (sim_find(sim, name))
		return leave(sim, -EEXIST);
	f = sim_file_new(sim->nfiles++, NULL);
	sim_name_add(sim, name, f);
	set_text(op_add(sim, SIM_CREATE, f, 0, 0)->name, name);
	*out = handle(sim, f, true);
	return leave(sim, 0);
}

static int sim_open(struct dev *dev, const char *name, bool write,
		    struct dev_file **out)
{
	struct simdev *sim = sim_of(dev);
	struct sim_name *n;
	int err = enter(sim, SIM_OPEN);

	if (err)
		return err;
	n = sim_find(sim, name);
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
	sim_file_put(sim, f->file);
	pthread_mutex_unlock(&sim->lock);
	free(f);
}

static int sim_read(struct dev_file *f, uint64_t off, void *buf, size_t len,
		    size_t *got_out)
{
	int err = enter(f->sim, SIM_READ);

	if (err)
		return err;
	len = off >= f->file->b->size ? 0
				      : min_u64(len, f->file->b->size - off);
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
	for (uint64_t p = off / SIM_PAGE; p * SIM_PAGE < off + len; p++)
		if (p >= f->b->npages || !f->b->pages[p])
			need += SIM_PAGE;
	return sim->used + need <= sim->capacity;
}

/* One buffer; NULL: all zeros. */
static uint8_t *gather(const struct dev_iov *iov, size_t n, uint64_t len)
{
	bool zero = true;
	uint8_t *p, *at;

	for (size_t i = 0; i < n && zero; i++)
		zero = all_zero(iov[i].buf, iov[i].len);
	if (zero)
		return NULL;
	p = at = sim_must(malloc(len));
	for (size_t i = 0; i < n; i++) {
		memcpy(at, iov[i].buf, iov[i].len);
		at += iov[i].len;
	}
	return p;
}

/* Under sim->lock. half: the first half of it arrives. */
static int write_iov(struct dev_file *f, uint64_t off,
		     const struct dev_iov *iov, size_t n, bool half)
{
	struct simdev *sim = f->sim;
	uint64_t len = 0;
	struct sim_op *op;

	for (size_t i = 0; i < n; i++)
		len += iov[i].len;
	if (!fits(sim, f->file, off, len))
		return -ENOSPC;
	op = op_add(sim, SIM_WRITE, f->file, off, len);
	op->data = gather(iov, n, len);
	if (half)
		op->len = len / 2;
	sim_file_apply(sim, f->file, SIM_WRITE, off, op->data, op->len);
	sim->counts.writes++;
	sim->counts.bytes_written += op->len;
	return 0;
}

static int sim_writev(struct dev_file *f, uint64_t off,
		      const struct dev_iov *iov, size_t n)
{
	int err = enter(f->sim, SIM_WRITE);

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
	int err = enter(f->sim, SIM_SYNC);

	if (err)
		return err;
	(void)op_add(f->sim, SIM_SYNC, f->file, 0, 0);
	f->sim->counts.syncs++;
	return leave(f->sim, 0);
}

static void sim_sync_start(struct dev_file *f, uint64_t off, uint64_t len)
{
}

static int sim_sync_pace(struct dev_file *f, uint64_t off, uint64_t len)
{
	int err = enter(f->sim, SIM_SYNC);

	return err ? err : leave(f->sim, 0);
}

static int sim_allocate(struct dev_file *f, uint64_t off, uint64_t len)
{
	int err = enter(f->sim, SIM_ALLOCATE);

	if (err)
		return err;
	if (!fits(f->sim, f->file, off, len))
		return leave(f->sim, -ENOSPC);
	sim_file_apply(f->sim, f->file, SIM_ALLOCATE, off, NULL, len);
	(void)op_add(f->sim, SIM_ALLOCATE, f->file, off, len);
	return leave(f->sim, 0);
}

static int sim_truncate(struct dev_file *f, uint64_t size)
{
	int err = enter(f->sim, SIM_TRUNCATE);

	if (err)
		return err;
	sim_file_apply(f->sim, f->file, SIM_TRUNCATE, size, NULL, 0);
	(void)op_add(f->sim, SIM_TRUNCATE, f->file, size, 0);
	return leave(f->sim, 0);
}

static int sim_size(struct dev_file *f, uint64_t *size_out)
{
	int err = enter(f->sim, SIM_SIZE);

	if (err)
		return err;
	*size_out = f->file->b->size;
	return leave(f->sim, 0);
}

static int sim_punch(struct dev_file *f, uint64_t off, uint64_t len)
{
	int err = enter(f->sim, SIM_PUNCH);

	if (err)
		return err;
	sim_file_apply(f->sim, f->file, SIM_PUNCH, off, NULL, len);
	(void)op_add(f->sim, SIM_PUNCH, f->file, off, len);
	return leave(f->sim, 0);
}

/* As a write is: nothing of it is durable before a sync. */
static int sim_clone(struct dev_file *f, uint64_t off, int src_fd,
		     uint64_t src_off, uint64_t len)
{
	struct dev_iov iov = { .len = len };
	uint8_t *buf;
	int err;

	if (!f->sim->clones)
		return -EOPNOTSUPP;
	buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	iov.buf = buf;
	err = pread(src_fd, buf, len, (off_t)src_off) == (ssize_t)len
		      ? sim_writev(f, off, &iov, 1)
		      : -EINVAL;
	free(buf);
	return err;
}

static int sim_share(struct dev_file *f, uint64_t off, uint64_t len, int dst_fd,
		     uint64_t dst_off)
{
	uint8_t *buf;
	size_t got = 0;
	int err;

	if (!f->sim->clones)
		return -EOPNOTSUPP;
	buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	err = sim_read(f, off, buf, len, &got);
	if (!err && got < len)
		err = -EINVAL;
	if (!err && pwrite(dst_fd, buf, len, (off_t)dst_off) != (ssize_t)len)
		err = -errno;
	free(buf);
	return err;
}

void simdev_set_clones(struct simdev *sim, bool clones)
{
	sim->clones = clones;
}

/* Under sim->lock: all bytes of a file of the host. */
static int write_host_file(struct dev_file *f, int fd)
{
	static uint8_t buf[1 << 20];
	uint64_t off = 0;
	ssize_t n;

	while ((n = pread(fd, buf, sizeof(buf), (off_t)off)) > 0) {
		struct dev_iov iov = { buf, (size_t)n };
		int err = write_iov(f, off, &iov, 1, false);

		if (err)
			return err;
		off += (uint64_t)n;
	}
	return n < 0 ? -errno : 0;
}

/* A file of this disk is made of it, whose bytes are durable: they were before
 * it was linked. */
static int sim_link(struct dev *dev, int fd, const char *name)
{
	struct simdev *sim = sim_of(dev);
	struct dev_file h = { .sim = sim, .write = true };
	int err = enter(sim, SIM_LINK);

	if (err)
		return err;
	if (sim_find(sim, name))
		return leave(sim, -EEXIST);
	h.file = sim_file_new(sim->nfiles++, NULL);
	sim_name_add(sim, name, h.file);
	set_text(op_add(sim, SIM_CREATE, h.file, 0, 0)->name, name);
	err = write_host_file(&h, fd);
	if (!err)
		(void)op_add(sim, SIM_SYNC, h.file, 0, 0);
	return leave(sim, err);
}

static int sim_rename(struct dev *dev, const char *from, const char *to)
{
	struct simdev *sim = sim_of(dev);
	struct sim_op *op;
	struct sim_name *n;
	int err = enter(sim, SIM_RENAME);

	if (err)
		return err;
	n = sim_find(sim, from);
	if (!n)
		return leave(sim, -ENOENT);
	op = op_add(sim, SIM_RENAME, n->file, 0, 0);
	set_text(op->name, from);
	set_text(op->to, to);
	sim_name_rename(sim, from, to);
	return leave(sim, 0);
}

static int sim_remove(struct dev *dev, const char *name)
{
	struct simdev *sim = sim_of(dev);
	struct sim_name *n;
	int err = enter(sim, SIM_REMOVE);

	if (err)
		return err;
	n = sim_find(sim, name);
	if (!n)
		return leave(sim, -ENOENT);
	set_text(op_add(sim, SIM_REMOVE, n->file, 0, 0)->name, name);
	sim_name_remove(sim, n);
	return leave(sim, 0);
}

static int sim_mkdir(struct dev *dev, const char *name)
{
	struct simdev *sim = sim_of(dev);
	int err = enter(sim, SIM_MKDIR);

	if (err)
		return err;
	if (sim_find(sim, name))
		return leave(sim, -EEXIST);
	sim_name_add(sim, name, NULL);
	set_text(op_add(sim, SIM_MKDIR, NULL, 0, 0)->name, name);
	return leave(sim, 0);
}

static int sim_sync_dir(struct dev *dev, const char *name)
{
	struct simdev *sim = sim_of(dev);
	int err = enter(sim, SIM_SYNC_DIR);

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
	int err = enter(sim, SIM_LIST);

	if (err)
		return err;
	if (*name && !sim_find(sim, name))
		return leave(sim, -ENOENT);
	v = sim_must(calloc(sim->nnames + 1, sizeof(*v)));
	for (size_t i = 0; i < sim->nnames; i++) {
		sim_folder_of(sim->names[i].name, folder);
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
	int err = enter(sim, SIM_SPACE);

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
	.sync_pace = sim_sync_pace,
	.allocate = sim_allocate,
	.truncate = sim_truncate,
	.size = sim_size,
	.punch = sim_punch,
	.clone = sim_clone,
	.share = sim_share,
	.link = sim_link,
	.rename = sim_rename,
	.remove = sim_remove,
	.mkdir = sim_mkdir,
	.sync_dir = sim_sync_dir,
	.list = sim_list,
	.space = sim_space,
	.release = sim_release,
};

/* --- the handle --- */

struct simdev *simdev_new(void)
{
	struct simdev *sim = sim_must(calloc(1, sizeof(*sim)));

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
		sim_name_remove(sim, &sim->names[sim->nnames - 1]);
	free(sim->names);
	simdev_free(sim->base);
	pthread_mutex_destroy(&sim->lock);
	free(sim);
}

struct simdev *sim_copy(const struct simdev *sim)
{
	struct simdev *to = simdev_new();

	to->capacity = sim->capacity;
	to->nfiles = sim->nfiles;
	to->names = sim_must(malloc((sim->nnames + 1) * sizeof(*to->names)));
	to->nnames = sim->nnames;
	for (size_t i = 0; i < sim->nnames; i++) {
		struct sim_file *f = sim->names[i].file;

		to->names[i] = sim->names[i];
		if (f)
			to->names[i].file = sim_file_new(f->idx, f->b);
		if (f)
			to->used += f->b->nspace * SIM_PAGE;
	}
	return to;
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
	sim->base = sim_copy(sim);
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

void simdev_interrupt(struct simdev *sim, unsigned int mask, uint64_t nth,
		      void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&sim->lock);
	sim->interrupt_mask = mask;
	sim->interrupt_in = nth;
	sim->interrupt = fn;
	sim->interrupt_arg = arg;
	pthread_mutex_unlock(&sim->lock);
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

void simdev_fill(struct simdev *sim)
{
	pthread_mutex_lock(&sim->lock);
	sim->capacity = max_u64(sim->used, 1);
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
	return sim->names[i].file ? sim->names[i].file->b->size : 0;
}

uint8_t simdev_get_byte(struct simdev *sim, size_t i, uint64_t off)
{
	uint8_t v;

	file_read(sim->names[i].file, off, &v, 1);
	return v;
}

void simdev_set_byte(struct simdev *sim, size_t i, uint64_t off, uint8_t v)
{
	sim_file_apply(sim, sim->names[i].file, SIM_WRITE, off, &v, 1);
}

struct simdev_counts simdev_counts(struct simdev *sim)
{
	struct simdev_counts c;

	pthread_mutex_lock(&sim->lock);
	c = sim->counts;
	pthread_mutex_unlock(&sim->lock);
	return c;
}
