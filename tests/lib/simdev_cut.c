/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * simdev_cut.c - the disk after a power cut; see simdev.h. Going through the
 * journal, what a sync made durable is put into one disk, and what is pending
 * is kept in a list; an image is a copy of that disk and some of the list.
 */
#include "tests/lib/simdev_internal.h"
#include "tests/lib/test.h"

enum { FEW_UNITS = 8 };

struct simcut {
	struct simdev *sim;
	struct simdev *durable;
	struct sim_file **files; /* by index: all that durable had or may get */
	size_t at;
	size_t *pending; /* operations, ascending */
	size_t npending, nnames; /* nnames: that many are of names */
};

/* What becomes of the pending operations. */
struct choice {
	size_t names; /* so many first ones are kept */
	bool others; /* keep writes that nothing else is said of */
	bool by_mask, by_chance, torn;
	bool spoils; /* what is not kept leaves its whole pages spoilt */
	uint64_t mask; /* by_mask: of units, in their order */
	unsigned int unit; /* bytes; 0: whole operations */
	struct rng rng;
	uint64_t keep, of; /* by_chance: the odds of a unit */
	size_t torn_op; /* which pending one */
	uint64_t torn_at; /* bytes from its start */
	bool torn_end; /* its end is on the disk, not its beginning */
};

static bool is_name_op(const struct sim_op *op)
{
	return op->kind & (SIM_CREATE | SIM_RENAME | SIM_REMOVE | SIM_MKDIR);
}

static bool is_sync(const struct sim_op *op)
{
	return op->kind & (SIM_SYNC | SIM_SYNC_DIR);
}

/* In how many pieces an operation may reach the disk. */
static uint64_t pieces(const struct sim_op *op, unsigned int unit)
{
	if (op->kind != SIM_WRITE || !op->data || !unit)
		return 1;
	return (op->off + op->len - 1) / unit - op->off / unit + 1;
}

/* --- applying --- */

static void apply_file_op(struct simdev *to, struct sim_file *f,
			  const struct sim_op *op)
{
	sim_file_apply(to, f, op->kind, op->off, op->data, op->len);
}

static void apply_part(struct simdev *to, struct sim_file *f,
		       const struct sim_op *op, uint64_t from, uint64_t end)
{
	if (from < end)
		sim_file_apply(to, f, op->kind, from,
			       op->data ? op->data + (from - op->off) : NULL,
			       end - from);
}

static void apply_name_op(struct simdev *to, struct sim_file **files,
			  const struct sim_op *op)
{
	struct sim_name *n = sim_find(to, op->name);

	if (op->kind == SIM_REMOVE) {
		if (n)
			sim_name_remove(to, n);
		return;
	}
	/* RENAME: the creation may not have been durable by itself. */
	if (!n && op->kind != SIM_MKDIR)
		files[op->file]->refs++;
	if (!n)
		sim_name_add(to, op->name,
			     op->kind == SIM_MKDIR ? NULL : files[op->file]);
	if (op->kind == SIM_RENAME)
		sim_name_rename(to, op->name, op->to);
}

static bool touches_folder(const struct sim_op *op, const char *folder)
{
	char a[DEV_NAME_MAX], b[DEV_NAME_MAX];

	sim_folder_of(op->name, a);
	sim_folder_of(op->kind == SIM_RENAME ? op->to : op->name, b);
	return !strcmp(a, folder) || !strcmp(b, folder);
}

/* --- going through --- */

struct simcut *simcut_new(struct simdev *sim)
{
	struct simcut *c = sim_must(calloc(1, sizeof(*c)));

	c->sim = sim;
	c->durable = sim->base ? sim_copy(sim->base) : simdev_new();
	c->durable->capacity = sim->capacity;
	c->files = sim_must(calloc(sim->nfiles + 1, sizeof(*c->files)));
	for (size_t i = c->durable->nnames; i--;) {
		struct sim_name *n = &c->durable->names[i];

		if (n->file && !c->files[n->file->idx]) {
			c->files[n->file->idx] = n->file;
			n->file->refs++;
		}
		if (!*n->name) /* it has none: see simcut_death() */
			sim_name_remove(c->durable, n);
	}
	for (size_t i = 0; i < sim->nfiles; i++)
		if (!c->files[i])
			c->files[i] = sim_file_new(i, NULL);
	c->pending = sim_must(calloc(sim->nops + 1, sizeof(*c->pending)));
	return c;
}

void simcut_free(struct simcut *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->sim->nfiles; i++)
		sim_file_put(c->durable, c->files[i]);
	free(c->files);
	free(c->pending);
	simdev_free(c->durable);
	free(c);
}

/* A rename that is durable made what came before it of that file's names: its
 * creation in the other folder is not pending any more. */
static size_t drop_names(const struct simcut *c, size_t n, size_t file)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		const struct sim_op *op = &c->sim->ops[c->pending[i]];

		if (!is_name_op(op) || op->kind == SIM_MKDIR ||
		    op->file != file)
			c->pending[left++] = c->pending[i];
	}
	return left;
}

/* What a sync makes durable leaves the list. */
static void settle(struct simcut *c, const struct sim_op *sync)
{
	size_t left = 0;

	for (size_t i = 0; i < c->npending; i++) {
		const struct sim_op *op = &c->sim->ops[c->pending[i]];
		bool name = is_name_op(op);

		if (sync->kind == SIM_SYNC && !name && op->file == sync->file) {
			apply_file_op(c->durable, c->files[op->file], op);
		} else if (sync->kind == SIM_SYNC_DIR && name &&
			   touches_folder(op, sync->name)) {
			apply_name_op(c->durable, c->files, op);
			if (op->kind == SIM_RENAME)
				left = drop_names(c, left, op->file);
		} else {
			c->pending[left++] = c->pending[i];
		}
	}
	c->npending = left;
	c->nnames = 0;
	for (size_t i = 0; i < left; i++)
		c->nnames += is_name_op(&c->sim->ops[c->pending[i]]);
}

bool simcut_next(struct simcut *c)
{
	const struct sim_op *op;

	if (c->at == c->sim->nops)
		return false;
	op = &c->sim->ops[c->at];
	if (is_sync(op)) {
		settle(c, op);
	} else {
		c->pending[c->npending++] = c->at;
		c->nnames += is_name_op(op);
	}
	c->at++;
	return true;
}

size_t simcut_at(const struct simcut *c)
{
	return c->at;
}

size_t simcut_pending(const struct simcut *c)
{
	return c->npending;
}

/* --- what may reach the disk --- */

static uint64_t count_units(const struct simcut *c, unsigned int unit)
{
	uint64_t n = 0;

	for (size_t i = 0; i < c->npending; i++) {
		const struct sim_op *op = &c->sim->ops[c->pending[i]];

		if (!is_name_op(op))
			n += pieces(op, unit);
	}
	return n;
}

/* The smallest unit of which there are few; their number, 0: none. */
static uint64_t few_units(const struct simcut *c, unsigned int *unit_out)
{
	static const unsigned int units[] = { SIM_SECTOR, SIM_PAGE, 0 };

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		uint64_t n = count_units(c, units[i]);

		*unit_out = units[i];
		if (n && n <= FEW_UNITS)
			return n;
	}
	return 0;
}

/* Boundaries of sectors inside writes; with nth, where that one is. */
static uint64_t count_tears(const struct simcut *c, uint64_t nth,
			    size_t *op_out, uint64_t *at_out)
{
	uint64_t n = 0;

	for (size_t i = 0; i < c->npending; i++) {
		const struct sim_op *op = &c->sim->ops[c->pending[i]];
		uint64_t k = is_name_op(op) ? 0 : pieces(op, SIM_SECTOR) - 1;

		if (op_out && nth >= n && nth - n < k) {
			*op_out = i;
			*at_out = (op->off / SIM_SECTOR + 1 + nth - n) *
					  SIM_SECTOR -
				  op->off;
		}
		n += k;
	}
	return n;
}

uint64_t simcut_picks(const struct simcut *c)
{
	unsigned int unit;
	uint64_t n = few_units(c, &unit);

	return 2 * (c->nnames + 1) + (n ? (uint64_t)1 << n : 0) +
	       4 * count_tears(c, 0, NULL, NULL);
}

static void choose_by_chance(const struct simcut *c, uint64_t pick,
			     struct choice *ch)
{
	static const uint64_t odds[][2] = {
		{ 1, 2 }, { 7, 8 }, { 1, 8 }, { 31, 32 }, { 1, 32 }
	};
	static const unsigned int units[] = { SIM_SECTOR, SIM_PAGE, SIM_SECTOR,
					      0 };
	size_t k;

	ch->by_chance = true;
	ch->rng.s = ((pick + 1) * 0x9e3779b97f4a7c15ULL ^ c->at) | 1;
	for (int i = 0; i < 4; i++)
		(void)rng_next(&ch->rng);
	k = rng_below(&ch->rng, ARRAY_LEN(odds));
	ch->keep = odds[k][0];
	ch->of = odds[k][1];
	ch->unit = units[rng_below(&ch->rng, ARRAY_LEN(units))];
	ch->names = rng_below(&ch->rng, c->nnames + 1);
	ch->spoils = rng_below(&ch->rng, 4) == 0;
}

static struct choice choose(const struct simcut *c, uint64_t pick)
{
	struct choice ch = { .names = c->nnames };
	uint64_t all = simcut_picks(c), n;

	if (pick >= all) {
		choose_by_chance(c, pick, &ch);
		return ch;
	}
	if (pick < 2 * (c->nnames + 1)) {
		/* 0 is everything, 1 is nothing */
		ch.others = pick % 2 == 0;
		ch.names = ch.others ? c->nnames - pick / 2 : pick / 2;
		return ch;
	}
	pick -= 2 * (c->nnames + 1);
	n = few_units(c, &ch.unit);
	if (n && pick < (uint64_t)1 << n) {
		ch.by_mask = true;
		ch.mask = pick;
		return ch;
	}
	pick -= n ? (uint64_t)1 << n : 0;
	ch.torn = true;
	ch.torn_end = pick & 1;
	ch.others = pick & 2;
	(void)count_tears(c, pick / 4, &ch.torn_op, &ch.torn_at);
	return ch;
}

static bool keep_unit(struct choice *ch)
{
	bool keep = ch->others;

	if (ch->by_mask) {
		keep = ch->mask & 1;
		ch->mask >>= 1;
	} else if (ch->by_chance) {
		keep = rng_below(&ch->rng, ch->of) < ch->keep;
	}
	return keep;
}

/* The power went while the disk wrote: the pages may hold anything. */
static void spoil(struct simdev *to, struct sim_file *f, uint64_t off,
		  uint64_t end, struct choice *ch)
{
	uint8_t page[SIM_PAGE];

	end = min_u64(round_up_u64(end, SIM_PAGE), f->b->size);
	for (off -= off % SIM_PAGE; off < end; off += SIM_PAGE) {
		memset(page, (int)rng_below(&ch->rng, 256), sizeof(page));
		sim_file_apply(to, f, SIM_WRITE, off, page,
			       min_u64(SIM_PAGE, end - off));
	}
}

static void apply_choice(struct simdev *to, struct sim_file *f,
			 const struct sim_op *op, bool torn, struct choice *ch)
{
	uint64_t off = op->off, end = op->off + op->len;

	if (torn) {
		uint64_t at = op->off + ch->torn_at;

		apply_part(to, f, op, ch->torn_end ? at : off,
			   ch->torn_end ? end : at);
		return;
	}
	if (pieces(op, ch->unit) == 1) {
		if (keep_unit(ch))
			apply_file_op(to, f, op);
		else if (ch->spoils && op->kind == SIM_WRITE)
			spoil(to, f, off, end, ch);
		return;
	}
	while (off < end) {
		uint64_t n = min_u64(ch->unit - off % ch->unit, end - off);

		if (keep_unit(ch))
			apply_part(to, f, op, off, off + n);
		else if (ch->spoils)
			spoil(to, f, off, off + n, ch);
		off += n;
	}
}

/* --- disks --- */

/* Files of a copy by index: those that have names, the others on demand. */
static struct sim_file **copy_files(const struct simcut *c, struct simdev *to)
{
	struct sim_file **v;

	v = sim_must(calloc(c->sim->nfiles + 1, sizeof(struct sim_file *)));
	for (size_t i = 0; i < to->nnames; i++) {
		struct sim_file *f = to->names[i].file;

		if (f && !v[f->idx]) {
			v[f->idx] = f;
			f->refs++;
		}
	}
	for (size_t i = 0; i < c->npending; i++) {
		const struct sim_op *op = &c->sim->ops[c->pending[i]];

		if (op->kind == SIM_MKDIR || v[op->file])
			continue;
		v[op->file] = sim_file_new(op->file, c->files[op->file]->b);
		to->used += v[op->file]->b->nspace * SIM_PAGE;
	}
	return v;
}

static void put_files(const struct simcut *c, struct simdev *to,
		      struct sim_file **v)
{
	for (size_t i = 0; i < c->sim->nfiles; i++)
		if (v[i])
			sim_file_put(to, v[i]);
	free(v);
}

/* What is durable, with what was chosen of the rest; without a base. */
static struct simdev *make_image(const struct simcut *c, struct choice *ch)
{
	struct simdev *to = sim_copy(c->durable);
	struct sim_file **files = copy_files(c, to);
	size_t names = 0;

	for (size_t i = 0; i < c->npending; i++) {
		const struct sim_op *op = &c->sim->ops[c->pending[i]];

		if (!is_name_op(op))
			apply_choice(to, files[op->file], op,
				     ch->torn && i == ch->torn_op, ch);
		else if (names++ < ch->names)
			apply_name_op(to, files, op);
	}
	put_files(c, to, files);
	return to;
}

/* All that is there counts as synced. */
static struct simdev *settled(struct simdev *sim)
{
	sim->nfiles = 0;
	for (size_t i = 0; i < sim->nnames; i++)
		if (sim->names[i].file)
			sim->names[i].file->idx = sim->nfiles++;
	sim->base = sim_copy(sim);
	return sim;
}

struct simdev *simcut_image(const struct simcut *c, uint64_t pick)
{
	struct choice ch = choose(c, pick);

	return settled(make_image(c, &ch));
}

struct simdev *simcut_death(const struct simcut *c)
{
	struct choice all = { .names = c->nnames, .others = true };
	struct simdev *to = make_image(c, &all);

	to->nfiles = c->sim->nfiles;
	to->base = sim_copy(c->durable);
	/* Durable bytes of files whose names are pending. */
	for (size_t i = 0; i < c->npending; i++) {
		const struct sim_op *op = &c->sim->ops[c->pending[i]];
		struct sim_op *copy = sim_op_add(to, op->kind, op->file);

		*copy = *op;
		if (op->data) {
			copy->data = sim_must(malloc(op->len));
			memcpy(copy->data, op->data, op->len);
		}
		if (op->kind & (SIM_CREATE | SIM_RENAME))
			sim_name_add(to->base, "",
				     sim_file_new(op->file,
						  c->files[op->file]->b));
	}
	return to;
}

struct simdev *simdev_image(struct simdev *sim, size_t cut, enum sim_mode mode,
			    uint64_t seed)
{
	struct choice ch = { .others = mode == SIM_KEEP };
	struct simdev *img;
	struct simcut *c;

	pthread_mutex_lock(&sim->lock); /* it may be in use */
	c = simcut_new(sim);
	while (c->at < cut && simcut_next(c))
		;
	ch.names = mode == SIM_DROP ? 0 : c->nnames;
	if (mode == SIM_REORDER || mode == SIM_TORN) {
		choose_by_chance(c, seed, &ch);
		ch.unit = mode == SIM_TORN ? SIM_SECTOR : SIM_PAGE;
		ch.spoils = false;
	}
	img = settled(make_image(c, &ch));
	simcut_free(c);
	pthread_mutex_unlock(&sim->lock);
	return img;
}
