/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cuts.c - see cuts.h. */
#include "tests/lib/cuts.h"

#include <signal.h>
#include <unistd.h>
#include <xxhash.h>

enum { WHY_BYTES = 256, NONE = -1 };

/* A step that makes a state durable. */
struct event {
	size_t before, after; /* changes of the disk */
	struct shown shown; /* after it */
};

struct life {
	struct simdev *disk;
	struct event *ev;
	size_t n, cap;
	size_t first; /* changes that were there when it began */
	/* The highest number of an object so far, of the lives before too, and
	 * when that was. */
	struct given {
		size_t at;
		uint64_t number;
	} * given;
	size_t ngiven, cap_given;
};

/* Disks that were recovered, and what they showed. */
struct seen {
	struct entry {
		uint64_t sum; /* 0: a free place */
		struct shown shown;
	} * v;
	size_t n, cap;
};

struct place {
	long long life, cut, pick, cut2, pick2;
};

struct env_state {
	struct rng rng;
	int64_t now_ns;
	uint64_t notices;
};

struct cuts {
	struct cuts_world *w;
	const struct cuts_params *p;
	uint64_t seed;
	struct rng rng; /* of the run: not touched by looking at states */
	struct env env, look_env;
	struct seen seen;
	struct place at; /* the state under test */
	struct place only; /* of the environment; NONE: all */
	uint64_t tried, distinct, second, fell_back;
	uint64_t again, lives, deaths, runs;
};

static struct cuts *current; /* for a signal's handler */

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- telling --- */

static void tell_place(const struct cuts *x, char *buf, size_t size)
{
	int n = snprintf(buf, size, "SEED=%" PRIu64 " LIFE=%lld", x->seed,
			 x->at.life);

	if (x->at.cut != NONE)
		n += snprintf(buf + n, size - (size_t)n, " CUT=%lld PICK=%lld",
			      x->at.cut, x->at.pick);
	if (x->at.cut2 != NONE)
		snprintf(buf + n, size - (size_t)n, " CUT2=%lld PICK2=%lld",
			 x->at.cut2, x->at.pick2);
}

static void on_abort(int sig)
{
	char buf[160];

	if (current) {
		tell_place(current, buf, sizeof(buf));
		fprintf(stderr, "at %s\n", buf);
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

static void tell_counts(const struct cuts *x)
{
	fprintf(stderr,
		"%" PRIu64 " different states of a disk recovered and checked "
		"(%" PRIu64 " were made)\n"
		"  %" PRIu64 " after a second cut, during or after the "
		"recovery of %" PRIu64 " others\n"
		"  in %" PRIu64 " the last record was not whole\n"
		"  %" PRIu64 " lives in %" PRIu64 " runs, %" PRIu64
		" of them ended by a death alone\n",
		x->distinct, x->tried, x->second, x->again, x->fell_back,
		x->lives, x->runs, x->deaths);
}

_Noreturn static void fail_at(struct cuts *x, const char *why)
{
	char buf[160];

	tell_place(x, buf, sizeof(buf));
	fail_msg("%s: %s", buf, why);
	abort();
}

/* --- time and chance, the same each time --- */

static int64_t env_now(struct env *env)
{
	struct env_state *s = env->priv;

	return s->now_ns += 1000;
}

static void env_random(struct env *env, void *buf, size_t len)
{
	struct env_state *s = env->priv;
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rng_next(&s->rng) >> 32);
}

static void env_count(struct env *env, enum env_level level, const char *msg)
{
	struct env_state *s = env->priv;

	s->notices++;
}

static void env_start(struct env *env, struct env_state *s, uint64_t seed)
{
	*s = (struct env_state){ .rng.s = seed | 1, .now_ns = 1000000000 };
	*env = (struct env){ .now_ns = env_now,
			     .random = env_random,
			     .log = env_count,
			     .priv = s };
}

/* --- what was seen --- */

static struct entry *seen_place(const struct seen *t, uint64_t sum)
{
	size_t i = sum & (t->cap - 1);

	while (t->v[i].sum && t->v[i].sum != sum)
		i = (i + 1) & (t->cap - 1);
	return &t->v[i];
}

/* The entry of a disk; its sum is 0 when it is a new one. */
static struct entry *seen_find(struct seen *t, uint64_t sum)
{
	if (2 * t->n >= t->cap) {
		struct seen grown = { .cap = t->cap ? 2 * t->cap : 4096,
				      .n = t->n };

		grown.v = must(calloc(grown.cap, sizeof(*grown.v)));
		for (size_t i = 0; i < t->cap; i++)
			if (t->v[i].sum)
				*seen_place(&grown, t->v[i].sum) = t->v[i];
		free(t->v);
		*t = grown;
	}
	return seen_place(t, sum);
}

static void seen_clear(struct seen *t)
{
	free(t->v);
	*t = (struct seen){ 0 };
}

/* --- a life --- */

/* Room for one more. */
static void *grow(void *v, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return v;
	*cap = *cap ? 2 * *cap : 16;
	return must(realloc(v, *cap * size));
}

static struct event *add_event(struct life *life)
{
	life->ev = grow(life->ev, life->n, &life->cap, sizeof(*life->ev));
	life->ev[life->n] = (struct event){ .before = simdev_ops(life->disk),
					    .after = SIZE_MAX };
	return &life->ev[life->n++];
}

static struct given *add_given(struct life *life)
{
	life->given = grow(life->given, life->ngiven, &life->cap_given,
			   sizeof(*life->given));
	life->given[life->ngiven] = (struct given){ 0 };
	return &life->given[life->ngiven++];
}

void life_begin(struct life *life)
{
	(void)add_event(life);
}

void life_done(struct life *life, const struct shown *now)
{
	life->ev[life->n - 1].shown = *now;
	life->ev[life->n - 1].after = simdev_ops(life->disk);
}

void life_new_number(struct life *life, uint64_t number)
{
	struct given *last = &life->given[life->ngiven - 1];
	size_t at = simdev_ops(life->disk);

	if (number <= last->number)
		fail_at(current, "the number of an object is given out again");
	if (last->at != at)
		last = add_given(life);
	*last = (struct given){ at, number };
}

/* The highest that was given out before the cut. */
static uint64_t number_at(const struct life *life, size_t cut)
{
	size_t i = life->ngiven;

	while (i > 1 && life->given[i - 1].at > cut)
		i--;
	return life->given[i - 1].number;
}

static void life_end(struct life *life)
{
	simdev_free(life->disk);
	free(life->ev);
	free(life->given);
	*life = (struct life){ 0 };
}

/* The events whose states are allowed after a cut: [*first, *end). */
static void allowed(const struct life *life, size_t cut, size_t *first,
		    size_t *end)
{
	*first = 0;
	while (*first + 1 < life->n && life->ev[*first + 1].after <= cut)
		(*first)++;
	*end = *first + 1;
	while (*end < life->n && life->ev[*end].before <= cut)
		(*end)++;
}

static bool same_shown(const struct shown *a, const struct shown *b)
{
	return a->head == b->head && a->staged == b->staged &&
	       a->names == b->names;
}

static void judge(struct cuts *x, const struct life *life, size_t cut,
		  const struct shown *got)
{
	char why[WHY_BYTES];
	size_t first, end;
	bool head = false, staged = false;

	allowed(life, cut, &first, &end);
	for (size_t i = first; i < end; i++) {
		if (same_shown(&life->ev[i].shown, got))
			return;
		head |= life->ev[i].shown.head == got->head;
		staged |= life->ev[i].shown.staged == got->staged;
	}
	snprintf(why, sizeof(why),
		 "neither what was acknowledged last nor what was under way "
		 "(step %zu): %s",
		 first,
		 !head	   ? "head differs"
		 : !staged ? "staged changes differ"
			   : "names or history differ");
	fail_at(x, why);
}

/*
 * Opens the disk, which is that of the life before after the cut, and goes on
 * with it. What recovery shows is what every later one has to show; but when
 * writes are pending on the disk, not before recovery has returned. full: the
 * disk is, so that it may not open (false); that is what it shows.
 */
static bool life_start(struct cuts *x, struct life *life, struct simdev *disk,
		       struct env *env, const struct life *before, size_t cut,
		       const struct shown *full)
{
	char why[WHY_BYTES] = "";
	struct event *e;
	size_t first = 0, end = 0;
	int err;

	*life = (struct life){ .disk = disk, .first = simdev_ops(disk) };
	*add_given(life) =
		(struct given){ .number = before ? number_at(before, cut) : 0 };
	if (life->first)
		allowed(before, cut, &first, &end);
	for (size_t i = first; i < end; i++) {
		e = add_event(life);
		*e = before->ev[i];
		e->before = e->after = 0;
	}
	e = add_event(life);
	e->before = 0;
	if (full)
		simdev_fill(disk);
	err = x->w->open(x->w, disk, env, false, why);
	simdev_set_capacity(disk, 0);
	if (full)
		e->shown = *full;
	if (full && err == -ENOSPC) {
		e->after = 0;
		return false;
	}
	if (err)
		fail_at(x, why);
	x->w->shown(x->w, &e->shown);
	e->after = life->first ? simdev_ops(disk) : 0;
	for (size_t i = 1; i < life->n; i++)
		life->ev[i].after = e->after;
	if (before)
		judge(x, before, cut, &e->shown);
	return true;
}

/* --- states --- */

static bool wanted(long long only, size_t at)
{
	return only == NONE || only == (long long)at;
}

static void explore(struct cuts *x, const struct life *life, bool again);

/* Recovery for writing and the first steps after it, cut everywhere; on some
 * disks without space for it. */
static void live_again(struct cuts *x, const struct life *life, size_t cut,
		       struct simdev *disk, const struct shown *shown)
{
	struct rng rng = { (simdev_sum(disk) ^ x->seed) | 1 };
	struct life next;
	bool full = rng_below(&rng, 4) == 0;

	if (life_start(x, &next, disk, &x->look_env, life, cut,
		       full ? shown : NULL)) {
		for (int i = 0; i < 3; i++)
			x->w->step(x->w, &next, &rng);
		x->w->close(x->w);
	}
	x->again++;
	explore(x, &next, true);
	life_end(&next);
}

static void check_state(struct cuts *x, const struct life *life, size_t cut,
			struct simdev *disk, bool again)
{
	uint64_t sum = simdev_sum(disk) | 1;
	struct entry *e = seen_find(&x->seen, sum);
	char why[WHY_BYTES] = "";
	struct shown got;
	bool replay = x->only.cut != NONE;
	struct env_state s;
	int err;

	x->tried++;
	if (e->sum && !replay) {
		judge(x, life, cut, &e->shown);
		simdev_free(disk);
		return;
	}
	env_start(&x->look_env, &s, sum);
	err = x->w->open(x->w, disk, &x->look_env, true, why);
	if (!err && x->w->look(x->w, &got, why))
		fail_at(x, why);
	if (!err)
		x->w->close(x->w);
	else if (err == -ENOENT)
		got = (struct shown){ 0 };
	else
		fail_at(x, why);
	x->seen.n += !e->sum;
	*e = (struct entry){ sum, got };
	x->distinct++;
	x->second += again;
	x->fell_back += s.notices != 0;
	judge(x, life, cut, &got);
	if (!again && got.head &&
	    (x->only.cut2 != NONE ||
	     (!replay && x->distinct % x->p->again == 0)))
		live_again(x, life, cut, disk, &got);
	else
		simdev_free(disk);
}

static void check_pick(struct cuts *x, const struct life *life,
		       struct simcut *c, uint64_t pick, bool again)
{
	long long only = again ? x->only.pick2 : x->only.pick;

	if (!wanted(only, pick))
		return;
	*(again ? &x->at.cut2 : &x->at.cut) = (long long)simcut_at(c);
	*(again ? &x->at.pick2 : &x->at.pick) = (long long)pick;
	check_state(x, life, simcut_at(c), simcut_image(c, pick), again);
}

/* All cases when they are few; else everything, nothing, and some by chance,
 * of those that are numbered and of the others. */
static void check_picks(struct cuts *x, const struct life *life,
			struct simcut *c, bool again)
{
	uint64_t n = simcut_picks(c);
	uint64_t want = again ? x->p->picks_again : x->p->picks;
	struct rng rng = { (simcut_at(c) + x->seed * 0x9e3779b97f4a7c15ULL) |
			   1 };

	if (x->only.pick != NONE && !again) {
		check_pick(x, life, c, (uint64_t)x->only.pick, again);
		return;
	}
	if (x->only.pick2 != NONE && again) {
		check_pick(x, life, c, (uint64_t)x->only.pick2, again);
		return;
	}
	for (uint64_t i = 0; i < min_u64(n, want); i++)
		check_pick(x, life, c,
			   n <= want || i < 2 ? i : rng_below(&rng, n), again);
	/* Four sectors have no cases beyond those. */
	for (uint64_t i = 0; n > want && i < want; i++)
		check_pick(x, life, c, n + rng_next(&rng) % 1000000, again);
}

static void explore(struct cuts *x, const struct life *life, bool again)
{
	struct simcut *c = simcut_new(life->disk);

	do {
		if (simcut_at(c) < life->first || x->distinct >= x->p->states ||
		    !wanted(again ? x->only.cut2 : x->only.cut, simcut_at(c)))
			continue;
		if (simcut_pending(c))
			check_picks(x, life, c, again);
		else
			check_pick(x, life, c, 0, again);
	} while (simcut_next(c));
	simcut_free(c);
	if (again)
		x->at.cut2 = x->at.pick2 = NONE;
}

/* --- a run --- */

/* The disk of the next life. */
static struct simdev *next_disk(struct cuts *x, const struct life *life,
				size_t *cut_out)
{
	uint64_t cut = rng_below(&x->rng, simdev_ops(life->disk) + 1);
	uint64_t r = rng_next(&x->rng);
	struct simcut *c = simcut_new(life->disk);
	struct simdev *disk;

	cut = max_u64(cut, life->first);
	while (simcut_at(c) < cut && simcut_next(c))
		;
	*cut_out = cut;
	x->at.cut = (long long)cut;
	x->at.pick = NONE;
	if (r % 4 == 0) {
		disk = simcut_death(c);
		x->deaths++;
	} else {
		x->at.pick = (long long)(r >> 8) % 1000;
		disk = simcut_image(c, (uint64_t)x->at.pick);
	}
	simcut_free(c);
	return disk;
}

static void run(struct cuts *x, struct simdev *disk)
{
	struct life life, last = { 0 };
	size_t cut = 0;

	for (uint64_t i = 0; i < x->p->lives; i++) {
		x->at = (struct place){ (long long)i, NONE, NONE, NONE, NONE };
		life_start(x, &life, disk, &x->env, last.disk ? &last : NULL,
			   cut, NULL);
		for (uint64_t n = 1 + rng_below(&x->rng, x->p->steps); n; n--)
			x->w->step(x->w, &life, &x->rng);
		x->w->close(x->w);
		x->lives++;
		if (wanted(x->only.life, i))
			explore(x, &life, false);
		disk = next_disk(x, &life, &cut);
		life_end(&last);
		last = life;
		if (x->distinct >= x->p->states)
			break;
	}
	life_end(&last);
	simdev_free(disk);
}

static struct cuts *begin(struct cuts_world *w, const struct cuts_params *p)
{
	struct cuts *x = must(calloc(1, sizeof(*x)));

	*x = (struct cuts){ .w = w, .p = p, .seed = p->seed };
	x->only = (struct place){
		.life = (long long)test_param("LIFE", UINT64_MAX),
		.cut = (long long)test_param("CUT", UINT64_MAX),
		.pick = (long long)test_param("PICK", UINT64_MAX),
		.cut2 = (long long)test_param("CUT2", UINT64_MAX),
		.pick2 = (long long)test_param("PICK2", UINT64_MAX)
	};
	current = x;
	signal(SIGABRT, on_abort);
	return x;
}

static void end(struct cuts *x)
{
	signal(SIGABRT, SIG_DFL);
	current = NULL;
	tell_counts(x);
	free(x);
}

int cuts_teardown(void **state)
{
	char buf[160];

	if (!current)
		return 0;
	tell_place(current, buf, sizeof(buf));
	fprintf(stderr, "failed at %s\n", buf);
	end(current);
	return 0;
}

static void forget(struct cuts *x)
{
	seen_clear(&x->seen);
	x->w->forget(x->w);
	x->runs++;
}

void cuts_first_life(struct cuts_world *w, const struct cuts_params *p,
		     void (*fn)(struct cuts_world *w, struct life *life,
				struct simdev *disk, struct env *env))
{
	struct life life = { .disk = simdev_new() };
	struct env_state s;
	struct cuts *x = begin(w, p);

	x->at = (struct place){ 0, NONE, NONE, NONE, NONE };
	env_start(&x->env, &s, x->seed);
	add_event(&life)->after = 0;
	(void)add_given(&life);
	fn(w, &life, life.disk, &x->env);
	x->lives++;
	explore(x, &life, false);
	life_end(&life);
	forget(x);
	end(x);
}

void cuts_run(struct cuts_world *w, const struct cuts_params *p,
	      struct simdev *(*make)(struct cuts_world *w, struct env *env))
{
	struct env_state s;
	struct cuts *x = begin(w, p);

	do {
		x->rng.s = (x->seed * 0x9e3779b97f4a7c15ULL) | 1;
		env_start(&x->env, &s, x->rng.s);
		run(x, make(w, &x->env));
		forget(x);
		x->seed++;
	} while (x->distinct < p->states && x->only.life == NONE);
	end(x);
}
