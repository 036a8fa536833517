/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load.c - a program that writes, and knows afterwards what has to be there.
 *
 *	load run DIR RECORD SEED CTL
 *	load check DIR RECORD SEED CTL exact|crash|head
 *
 * It runs until SIGTERM (status 0), until the mount is gone (3) or its store
 * has stopped (4). CTL is relative to DIR.
 * What it does follows from SEED and the results so far; RECORD, a mapped file
 * elsewhere, has the result of each operation, so check can do it all again in
 * memory. Operation k is started, then done. Each state that is shown has to be
 * that after one k: of an exact state (unmounted in order, or alive), with all
 * contents, after the last one done or the one under way; head, after the last
 * acknowledged commit or later. After a crash the names are of one k not before
 * the last acknowledged fsync or commit; each file has the contents of one
 * moment not before its own last fsync and not after k.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	UNIT = 512, /* each says which operation wrote it */
	PAGE_UNITS = 8, /* writes begin at a page: the kernel halves others */
	WRITE_UNITS = 160,
	FILE_UNITS = 1024,
	SLOTS = 24, /* names */
	DIRS = 3,
	OPS_MAX = 1 << 20,
	GONE = 3,
	STOPPED = 4
};

/* The rest is the number of a view, in states that are looked at. */
#define INO_MASK ((UINT64_C(1) << 40) - 1)

enum op {
	OP_CREATE,
	OP_WRITE,
	OP_TRUNCATE,
	OP_RENAME,
	OP_LINK,
	OP_UNLINK,
	OP_FSYNC,
	OP_FSYNC_DIR,
	OP_COMMIT,
	OP_NONE
};

struct record {
	uint64_t started, done; /* operations, from 1 on */
	int64_t result[OPS_MAX]; /* inode, bytes or 0; -errno */
};

struct change { /* of a file's contents */
	uint32_t op, from, to; /* units; from == UINT32_MAX: truncated to */
};

struct object {
	uint64_t ino; /* 0: not known */
	uint32_t stamps[FILE_UNITS], units;
	uint32_t synced; /* operation */
	struct change *changes;
	size_t nchanges;
};

struct step {
	enum op op;
	unsigned int a, b; /* slots */
	uint32_t from, to;
};

struct seen { /* of a slot, in a state that is checked */
	uint64_t ino; /* 0: no such name */
	uint32_t stamps[FILE_UNITS], units;
};

static uint64_t rng;
static struct object *slots[SLOTS];
static uint32_t last_sync, last_commit;
static volatile sig_atomic_t stop;

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned int pick(unsigned int n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned int)(rng >> 24) % n;
}

static const char *name_of(unsigned int slot)
{
	static char names[2][32];
	static int turn;

	turn = !turn;
	snprintf(names[turn], sizeof(names[turn]), "d%u/f%u", slot % DIRS,
		 slot);
	return names[turn];
}

/* --- what is done, decided and remembered --- */

static struct step next_step(void)
{
	struct step s = { .a = pick(SLOTS), .b = pick(SLOTS) };
	unsigned int what = pick(100);

	s.from = pick((FILE_UNITS - WRITE_UNITS) / PAGE_UNITS) * PAGE_UNITS;
	s.to = s.from + 1 + pick(pick(4) ? 16 : WRITE_UNITS - 1);
	if (what >= 98)
		s.op = OP_COMMIT;
	else if (what >= 95)
		s.op = OP_FSYNC_DIR;
	else if (!slots[s.a])
		s.op = OP_CREATE;
	else if (what < 55)
		s.op = OP_WRITE;
	else if (what < 62)
		s.op = OP_TRUNCATE;
	else if (what < 72)
		s.op = slots[s.a] == slots[s.b] ? OP_NONE : OP_RENAME;
	else if (what < 76)
		s.op = slots[s.b] ? OP_NONE : OP_LINK;
	else if (what < 82)
		s.op = OP_UNLINK;
	else
		s.op = OP_FSYNC;
	return s;
}

static void apply(struct object *o, const struct change *c)
{
	if (c->from == UINT32_MAX) {
		for (uint32_t i = c->to; i < o->units; i++)
			o->stamps[i] = 0;
		o->units = c->to;
		return;
	}
	for (uint32_t i = c->from; i < c->to; i++)
		o->stamps[i] = c->op;
	if (c->to > o->units)
		o->units = c->to;
}

static void change(struct object *o, struct change c)
{
	o->changes = realloc(o->changes, (o->nchanges + 1) * sizeof(c));
	if (!o->changes)
		die("memory");
	o->changes[o->nchanges++] = c;
	apply(o, &c);
}

/* Step k happened, with this result. */
static void remember(const struct step *s, uint32_t k, int64_t result)
{
	struct object *o = slots[s->a];

	if (result < 0)
		return;
	switch (s->op) {
	case OP_CREATE:
		slots[s->a] = calloc(1, sizeof(*o));
		if (!slots[s->a])
			die("memory");
		slots[s->a]->ino = (uint64_t)result;
		break;
	case OP_WRITE:
		if (result % UNIT)
			die("a write that ended within a unit");
		if (result)
			change(o,
			       (struct change){
				       k, s->from,
				       s->from + (uint32_t)(result / UNIT) });
		break;
	case OP_TRUNCATE:
		change(o, (struct change){ k, UINT32_MAX, s->to });
		break;
	case OP_RENAME:
		slots[s->b] = o;
		slots[s->a] = NULL;
		break;
	case OP_LINK:
		slots[s->b] = o;
		break;
	case OP_UNLINK:
		slots[s->a] = NULL;
		break;
	case OP_FSYNC:
		o->synced = last_sync = k;
		break;
	case OP_FSYNC_DIR:
		last_sync = k;
		break;
	case OP_COMMIT:
		last_commit = last_sync = k;
		break;
	default:
		break;
	}
}

/* --- doing it --- */

static void fill(uint64_t *unit, uint32_t k, uint32_t idx)
{
	unit[0] = k;
	for (uint32_t i = 1; i < UNIT / 8; i++)
		unit[i] = (k * UINT64_C(0x9e3779b97f4a7c15)) ^
			  ((uint64_t)idx << 8 | i);
}

static int64_t do_open(int dir, const struct step *s, uint32_t k)
{
	static uint64_t buf[WRITE_UNITS * (UNIT / 8)];
	int flags = s->op == OP_CREATE ? O_CREAT | O_EXCL : 0, fd;
	struct stat st;
	int64_t n = 0;

	fd = openat(dir, name_of(s->a), O_RDWR | flags, 0644);
	if (fd < 0)
		return -errno;
	if (s->op == OP_CREATE)
		n = fstat(fd, &st) ? -errno : (int64_t)st.st_ino;
	else if (s->op == OP_TRUNCATE)
		n = ftruncate(fd, (off_t)s->to * UNIT) ? -errno : 0;
	else if (s->op == OP_FSYNC)
		n = fsync(fd) ? -errno : 0;
	else {
		for (uint32_t i = s->from; i < s->to; i++)
			fill(buf + (i - s->from) * (UNIT / 8), k, i);
		n = pwrite(fd, buf, (s->to - s->from) * UNIT,
			   (off_t)s->from * UNIT);
		n = n < 0 ? -errno : n;
	}
	close(fd);
	return n;
}

static int64_t do_whole(int dir, const struct step *s, const char *ctl)
{
	char name[8];
	int fd, err;

	snprintf(name, sizeof(name), "d%u", s->a % DIRS);
	fd = s->op == OP_COMMIT ? openat(dir, ctl, O_WRONLY)
				: openat(dir, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return -errno;
	err = s->op == OP_COMMIT ? write(fd, "commit\n", 7) < 0 : fsync(fd);
	err = err ? -errno : 0;
	close(fd);
	return err;
}

static int64_t perform(int dir, const struct step *s, uint32_t k,
		       const char *ctl)
{
	const char *a = name_of(s->a), *b = name_of(s->b);

	switch (s->op) {
	case OP_RENAME:
		return renameat(dir, a, dir, b) ? -errno : 0;
	case OP_LINK:
		return linkat(dir, a, dir, b, 0) ? -errno : 0;
	case OP_UNLINK:
		return unlinkat(dir, a, 0) ? -errno : 0;
	case OP_FSYNC_DIR:
	case OP_COMMIT:
		return do_whole(dir, s, ctl);
	case OP_NONE:
		return 0;
	default:
		return do_open(dir, s, k);
	}
}

static void end(int sig)
{
	stop = sig;
}

/* The daemon is gone, or the connection; ECANCELED: it was under way in a ring
 * of io_uring. */
static bool is_gone(int64_t err)
{
	return err == ENOTCONN || err == ECONNABORTED || err == ECANCELED;
}

static int run(int dir, struct record *r, const char *ctl)
{
	struct sigaction sa = { .sa_handler = end };

	sigaction(SIGTERM, &sa, NULL);
	for (unsigned int i = 0; i < DIRS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "d%u", i);
		if (mkdirat(dir, name, 0755))
			return is_gone(errno) ? GONE : 1;
	}
	for (uint32_t k = 1; k < OPS_MAX && !stop; k++) {
		struct step s = next_step();
		int64_t result;

		__atomic_store_n(&r->started, k, __ATOMIC_SEQ_CST);
		result = perform(dir, &s, k, ctl);
		if (is_gone(-result) || (result < 0 && s.op == OP_COMMIT &&
					 result != -ENOSPC && result != -EINTR))
			return GONE; /* whether it happened is not known */
		if (result == -EIO || result == -EROFS)
			return STOPPED; /* the same */
		if (result < 0 && result != -ENOSPC && result != -EINTR) {
			errno = (int)-result;
			fprintf(stderr, "load: step %u, operation %d, %s\n", k,
				(int)s.op, name_of(s.a));
			die("failed");
		}
		r->result[k] = result;
		__atomic_store_n(&r->done, k, __ATOMIC_SEQ_CST);
		remember(&s, k, result);
	}
	return 0;
}

/* --- checking --- */

static int look_at(int dir, unsigned int slot, struct seen *out)
{
	uint64_t unit[UNIT / 8], want[UNIT / 8];
	struct stat st;
	int fd = openat(dir, name_of(slot), O_RDONLY);

	*out = (struct seen){ 0 };
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st))
		die(name_of(slot));
	if (st.st_size % UNIT || st.st_size > FILE_UNITS * UNIT) {
		fprintf(stderr, "load: %s has %lld bytes\n", name_of(slot),
			(long long)st.st_size);
		return 1;
	}
	out->ino = st.st_ino & INO_MASK;
	out->units = (uint32_t)(st.st_size / UNIT);
	for (uint32_t i = 0; i < out->units; i++) {
		if (pread(fd, unit, UNIT, (off_t)i * UNIT) != UNIT)
			die(name_of(slot));
		out->stamps[i] = (uint32_t)unit[0];
		memset(want, 0, UNIT);
		if (unit[0])
			fill(want, out->stamps[i], i);
		if (memcmp(unit, want, UNIT) != 0) {
			fprintf(stderr, "load: %s: unit %u is torn\n",
				name_of(slot), i);
			return 1;
		}
	}
	close(fd);
	return 0;
}

static bool same_names(const struct seen *seen)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (!seen[i].ino != !slots[i])
			return false;
		if (slots[i] && slots[i]->ino && slots[i]->ino != seen[i].ino)
			return false;
	}
	return true;
}

static bool same_contents(const struct seen *s, const struct object *o)
{
	return s->units == o->units &&
	       !memcmp(s->stamps, o->stamps, o->units * sizeof(s->stamps[0]));
}

static bool all_same(const struct seen *seen)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		if (slots[i] && !same_contents(&seen[i], slots[i]))
			return false;
	return same_names(seen);
}

/* Is it what the file was at a moment from its last fsync to k? */
static bool was(const struct seen *s, const struct object *o, uint32_t k)
{
	struct object past = { 0 };
	uint32_t low = o->synced > last_commit ? o->synced : last_commit;

	for (size_t i = 0;; i++) {
		uint32_t next = i < o->nchanges ? o->changes[i].op : UINT32_MAX;

		if (next > low && same_contents(s, &past))
			return true;
		if (next > k)
			return false;
		apply(&past, &o->changes[i]);
	}
}

static bool is_state(const struct seen *seen, uint32_t k, bool crash)
{
	if (!crash)
		return all_same(seen);
	if (!same_names(seen))
		return false;
	for (unsigned int i = 0; i < SLOTS; i++)
		if (slots[i] && !was(&seen[i], slots[i], k))
			return false;
	return true;
}

/* Each k is tried that may be shown; what was acknowledged by then counts. */
static int check(int dir, struct record *r, const char *what)
{
	static struct seen seen[SLOTS];
	bool crash = !strcmp(what, "crash"), head = !strcmp(what, "head");
	uint32_t low, found = 0;

	for (unsigned int i = 0; i < SLOTS; i++)
		if (look_at(dir, i, &seen[i]))
			return 1;
	/* From when on: all that is done, or acknowledged. */
	low = (uint32_t)r->done;
	if (crash || head) {
		uint64_t seed = rng;

		for (uint32_t k = 1; k <= r->done; k++) {
			struct step s = next_step();

			remember(&s, k, r->result[k]);
		}
		low = head ? last_commit : last_sync;
		rng = seed;
		memset(slots, 0, sizeof(slots));
	}
	last_commit = last_sync = 0;
	for (uint32_t k = 0; k <= r->started; k++) {
		struct step s = { .op = OP_NONE };
		int64_t result = 0;

		if (k)
			s = next_step();
		if (k && k <= r->done)
			result = r->result[k];
		else if (s.op == OP_WRITE)
			result = (int64_t)(s.to - s.from) * UNIT;
		if (k <= r->done || (s.op != OP_COMMIT && s.op != OP_FSYNC))
			remember(&s, k, result);
		if (k >= low && is_state(seen, k, crash))
			found = k + 1;
	}
	if (found)
		printf("after %u of %" PRIu64 ", acknowledged %u\n", found - 1,
		       r->done, low);
	else
		fprintf(stderr,
			"load: no state from %u to %" PRIu64 " is shown\n", low,
			r->started);
	return !found;
}

int main(int argc, char **argv)
{
	struct record *r;
	int dir, fd;

	if (argc != 6 && argc != 7)
		return 2;
	dir = open(argv[2], O_RDONLY | O_DIRECTORY);
	fd = open(argv[3], O_RDWR | O_CREAT, 0644);
	if (dir < 0 || fd < 0 || ftruncate(fd, sizeof(*r)))
		die(argv[2]);
	r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (r == MAP_FAILED)
		die(argv[3]);
	rng = strtoull(argv[4], NULL, 10) * UINT64_C(0x9e3779b97f4a7c15) + 1;
	return argc == 6 ? run(dir, r, argv[5]) : check(dir, r, argv[6]);
}
