/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rot: a store with files of all kinds, commits, names and sweeps is damaged,
 * place by place: bits flipped, blocks zeroed, swapped, written over by
 * others, segments cut, removed, put back as they were before. Whatever is read
 * afterwards is what it was, byte for byte, or an error; the newest state is
 * shown, or the store says why not; verification names what is damaged. A
 * store that is refused opens at the commit that the refusal names, also after
 * a power cut anywhere in that. Repair makes nothing worse, wherever it is cut,
 * and puts every flipped bit right.
 *
 * SEED, ROT_ROUNDS (random damage), and, to see one again, ONLY (its number).
 */
#include "fs/fs_internal.h" /* fs_sweep */
#include "txn/store_internal.h"

#include "tests/lib/block.h"
#include "tests/lib/dump.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

enum {
	REFS_MAX = 200,
	DIRS = 5,
	NAMES = 14,
	SEG_BYTES = 512 << 10,
	SECONDS_MAX = 60, /* of CPU, for one damage: no endless loops */
	READS_MAX = 200000,
	CUT_EACH = 9, /* refusals: of one of so many every cut is tried */
	STATE_LOST = 1000 /* errors that a state counts for */
};

enum ending { CLEAN, KILLED_AFTER_COMMIT, KILLED_WITH_STAGED, ENDINGS };

struct ref {
	char name[STORE_NAME_MAX + 1];
	struct dump *dump;
};

struct fixture {
	struct simfs s;
	struct simdev *old; /* as the disk was before */
	struct rng rng;
	struct ref ref[REFS_MAX];
	size_t nref;
	struct ref dropped[REFS_MAX]; /* commits that retention dropped */
	size_t ndropped;
	/* What the last record shows, and the one before it. */
	struct dump *staged, *staged_before;
	uint64_t head, head_before;
	uint64_t small_flushed; /* of the last record */
	unsigned int told; /* lines about damage */
	/* what came of it */
	uint64_t states, harmless, refused, partly, fell_back;
	uint64_t opened_at, cuts, lost;
	uint64_t repairs, healed, repair_cuts;
};

static void count_told(struct env *env, enum env_level level, const char *text)
{
	struct fixture *f = env->priv;

	if (level == ENV_ERROR && strstr(text, "damage"))
		f->told++;
}

static int open_on(struct fixture *f, struct simdev *sim, bool read_only,
		   struct store_error *text)
{
	f->s.params.read_only = read_only;
	return simfs_try_open(&f->s, sim, false, text);
}

/* --- the run --- */

static struct fs_view *working(struct fixture *f)
{
	return fs_working(f->s.fs);
}

static void remember(struct fixture *f, const char *name)
{
	struct ref *r = NULL;

	for (size_t i = 0; i < f->nref; i++)
		if (!strcmp(f->ref[i].name, name))
			r = &f->ref[i];
	if (!r) {
		assert_true(f->nref < REFS_MAX);
		r = &f->ref[f->nref++];
		r->dump = NULL;
	}
	dump_free(r->dump);
	snprintf(r->name, sizeof(r->name), "%s", name);
	r->dump = dump_new(working(f));
}

static void forget(struct fixture *f, size_t i)
{
	if (f->ref[i].name[0] == '@' && f->ref[i].name[1] != 'd') {
		assert_true(f->ndropped < REFS_MAX);
		f->dropped[f->ndropped++] = f->ref[i];
	} else {
		dump_free(f->ref[i].dump);
	}
	f->ref[i] = f->ref[--f->nref];
}

static void name_of(char buf[16], uint64_t i)
{
	snprintf(buf, 16, "%c%u", i % 3 ? 'f' : 'L', (unsigned int)i);
}

/* One of the directories; the first is the root. */
static uint64_t any_dir(struct fixture *f)
{
	uint64_t i = rng_below(&f->rng, DIRS);
	struct fs_new new_ = { .mode = S_IFDIR | 0755 };
	struct fs_attr a;
	char name[16];
	int err;

	if (!i)
		return FS_ROOT_INO;
	snprintf(name, sizeof(name), "dir%u", (unsigned int)i);
	err = fs_lookup(working(f), FS_ROOT_INO, name, strlen(name), &a);
	if (err == -ENOENT)
		err = fs_make(working(f), &simfs_cred, FS_ROOT_INO, name,
			      strlen(name), &new_, &a, NULL);
	assert_int_equal(err, 0);
	return a.ino;
}

static void write_some(struct fixture *f, uint64_t ino)
{
	static const size_t sizes[] = { 300, 900, 5000, 40 * 1024, 300 * 1024 };
	static uint8_t buf[300 * 1024];
	size_t len = sizes[rng_below(&f->rng, 5)];
	struct fs_file *file;

	len -= rng_below(&f->rng, len / 2);
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(rng_below(&f->rng, 8) ? rng_next(&f->rng)
							 : i);
	assert_int_equal(fs_file_open(working(f), ino, &file), 0);
	if (!rng_below(&f->rng, 4))
		assert_int_equal(fs_truncate(file, len / 3), 0);
	assert_int_equal(fs_write(file, &simfs_cred,
				  rng_below(&f->rng, 3 * BLOCK), buf, len,
				  false),
			 0);
	fs_file_put(file);
}

static void set_xattr(struct fixture *f, uint64_t ino)
{
	char name[16], value[2500];
	size_t len = rng_below(&f->rng, sizeof(value));

	memset(value, (int)rng_below(&f->rng, 256), sizeof(value));
	snprintf(name, sizeof(name), "user.x%u",
		 (unsigned int)rng_below(&f->rng, 3));
	assert_int_equal(fs_setxattr(working(f), ino, name, value, len, 0), 0);
}

static void change(struct fixture *f)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFLNK,
					  S_IFIFO };
	uint64_t dir = any_dir(f), to = any_dir(f);
	struct fs_new new_ = { .mode = types[rng_below(&f->rng, 5)] | 0640 };
	char name[16], other[16], target[2500];
	struct fs_attr a;
	int err;

	name_of(name, rng_below(&f->rng, NAMES));
	name_of(other, rng_below(&f->rng, NAMES));
	memset(target, 't', sizeof(target));
	new_.target = target;
	new_.target_len = 1 + rng_below(&f->rng, sizeof(target) - 1);
	err = fs_lookup(working(f), dir, name, strlen(name), &a);
	if (err == -ENOENT)
		err = fs_make(working(f), &simfs_cred, dir, name, strlen(name),
			      &new_, &a, NULL);
	assert_int_equal(err, 0);
	switch (rng_below(&f->rng, 8)) {
	case 0:
		err = fs_unlink(working(f), dir, name, strlen(name), NULL);
		break;
	case 1:
		err = fs_rename(working(f), NULL, dir, name, strlen(name), to,
				other, strlen(other), 0, NULL);
		break;
	case 2:
		err = fs_link(working(f), a.ino, to, other, strlen(other),
			      NULL);
		err = err == -EEXIST ? 0 : err;
		break;
	case 3:
		if (S_ISREG(a.mode))
			set_xattr(f, a.ino);
		break;
	default:
		if (S_ISREG(a.mode))
			write_some(f, a.ino);
		break;
	}
	assert_int_equal(err, 0);
}

static void changes(struct fixture *f, uint64_t n)
{
	while (n--)
		change(f);
}

static uint64_t commit(struct fixture *f)
{
	static char message[2500];
	uint64_t number;
	char name[32];

	memset(message, 'm', sizeof(message));
	if (fs_commit(f->s.fs, 0, message, rng_below(&f->rng, sizeof(message)),
		      &number) < 0)
		fail_msg("commit");
	snprintf(name, sizeof(name), "@%" PRIu64, number);
	remember(f, name);
	return number;
}

static void snapshot(struct fixture *f)
{
	static char message[1500];
	char name[32];
	int err;

	memset(message, 's', sizeof(message));
	snprintf(name, sizeof(name), "snap-%u",
		 (unsigned int)rng_below(&f->rng, 40));
	err = fs_snapshot(f->s.fs, name, 0, message,
			  rng_below(&f->rng, sizeof(message)));
	if (!err)
		remember(f, name);
	else
		assert_int_equal(err, -EEXIST);
}

static void delete_one(struct fixture *f)
{
	size_t i = (size_t)rng_below(&f->rng, f->nref);
	struct catalog_change c = { .op = CATALOG_DELETE,
				    .name = f->ref[i].name };

	if (f->ref[i].name[0] == '@')
		return;
	assert_int_equal(store_change_catalog(f->s.store,
					      store_working(f->s.store), &c),
			 0);
	forget(f, i);
}

static void event(struct fixture *f)
{
	changes(f, 1 + rng_below(&f->rng, 5));
	switch (rng_below(&f->rng, 8)) {
	case 0:
		assert_int_equal(fs_checkpoint(f->s.fs), 0);
		break;
	case 1:
		assert_int_equal(fs_abort(f->s.fs), 0);
		break;
	case 2:
	case 3:
		snapshot(f);
		break;
	case 4:
		delete_one(f);
		break;
	case 5:
		assert_int_equal(fs_sweep(f->s.fs), 0);
		break;
	default:
		(void)commit(f);
		break;
	}
}

/* Those that retention dropped. */
static void forget_dropped(struct fixture *f)
{
	for (size_t i = f->nref; i--;) {
		struct root root;
		int err = fs_resolve(f->s.fs, f->ref[i].name, &root);

		if (err) {
			assert_int_equal(err, -ENOENT);
			forget(f, i);
			continue;
		}
		root_put(store_tree(f->s.store), &root);
	}
}

static void set_dump(struct fixture *f, struct dump **d)
{
	dump_free(*d);
	*d = dump_new(working(f));
}

/* The last two records, by which a run ends. */
static void end_run(struct fixture *f, enum ending how)
{
	changes(f, 4);
	f->head_before = commit(f);
	f->head = f->head_before;
	set_dump(f, &f->staged_before);
	if (how != KILLED_WITH_STAGED) {
		changes(f, 4);
		assert_int_equal(fs_checkpoint(f->s.fs), 0);
		set_dump(f, &f->staged_before);
		changes(f, 4);
		f->head = commit(f);
	} else {
		changes(f, 6);
		assert_int_equal(fs_checkpoint(f->s.fs), 0);
	}
	set_dump(f, &f->staged);
	forget_dropped(f);
	if (how == CLEAN) {
		simfs_close(&f->s);
		f->head_before = f->head;
		f->small_flushed = UINT64_MAX;
		return;
	}
	f->small_flushed = f->s.store->last.small_flushed;
	simfs_abandon(&f->s);
}

static void run(struct fixture *f, enum ending how, unsigned int events)
{
	simfs_create(&f->s);
	simfs_set(&f->s, STORE_KEEP_LAST, 4);
	simfs_set(&f->s, STORE_KEEP_DISCARDED, 2);
	(void)commit(f);
	for (unsigned int i = 0; i < events; i++) {
		event(f);
		if (i == events / 2) { /* another run of the daemon */
			simfs_close(&f->s);
			simfs_open(&f->s);
		}
		if (i == events - 2)
			f->old = simdev_image(f->s.sim, simdev_ops(f->s.sim),
					      SIM_KEEP, 1);
	}
	end_run(f, how);
	simdev_settle(f->s.sim);
}

/* --- damage --- */

enum kind {
	FLIP,
	ZERO,
	SWAP,
	COPY,
	KINDS_OF_BLOCK,
	TRUNCATE = KINDS_OF_BLOCK,
	REMOVE,
	OLDER,
	KINDS
};

static const char *const kind_names[KINDS] = { "flip", "zero",	   "swap",
					       "copy", "truncate", "remove",
					       "older" };

struct damage {
	enum kind kind;
	size_t file, other; /* index in the device */
	uint64_t block, other_block;
	uint64_t bit;
	uint64_t number; /* to see it again: ONLY */
	bool tail; /* it touches what the last record brought */
	bool nothing; /* nothing was changed */
};

static void put_older(struct fixture *f, struct simdev *img, const char *name,
		      struct damage *d)
{
	/* After a kill the copy beside the log is of the first change in the
	 * last segment: later ones in it cannot be told from never written. */
	d->nothing = d->tail;
	for (size_t i = 0; i < simdev_file_count(f->old) && !d->tail; i++) {
		uint8_t buf[BLOCK];

		if (strcmp(simdev_file_name(f->old, i), name) != 0)
			continue;
		truncate_file(img, name, simdev_file_bytes(f->old, i));
		for (uint64_t b = 0; b < blocks_of(f->old, i); b++) {
			get_block(f->old, i, b, buf);
			set_block(img, d->file, b, buf);
		}
		return;
	}
	d->nothing = true; /* there was no such segment yet */
}

/* Where the last record's own part begins; below it all was durable. */
static bool in_tail(struct fixture *f, struct simdev *img, size_t file,
		    uint64_t block)
{
	const char *name = simdev_file_name(img, file);
	uint64_t number = strtoull(name + 4, NULL, 16);

	return name[strlen(name) - 1] == 's' &&
	       (number << LOG_SEG_SHIFT) + (block + 1) * BLOCK >
		       f->small_flushed;
}

static void apply(struct fixture *f, struct simdev *img, struct damage *d)
{
	const char *name = simdev_file_name(img, d->file);
	uint8_t a[BLOCK], b[BLOCK];

	d->tail = in_tail(f, img, d->file,
			  d->kind < KINDS_OF_BLOCK ? d->block : SEG_BYTES);
	get_block(img, d->file, d->block, a);
	if (d->kind == SWAP || d->kind == COPY)
		get_block(img, d->other, d->other_block, b);
	switch (d->kind) {
	case FLIP:
		a[d->bit / 8 % BLOCK] ^= (uint8_t)(1u << (d->bit % 8));
		set_block(img, d->file, d->block, a);
		break;
	case ZERO:
		memset(a, 0, BLOCK);
		set_block(img, d->file, d->block, a);
		break;
	case SWAP:
		set_block(img, d->file, d->block, b);
		set_block(img, d->other, d->other_block, a);
		d->tail |= in_tail(f, img, d->other, d->other_block);
		break;
	case COPY:
		set_block(img, d->file, d->block, b);
		break;
	case TRUNCATE:
		truncate_file(img, name, d->block * BLOCK + d->bit % BLOCK);
		break;
	case REMOVE:
		assert_int_equal(
			simdev_dev(img)->ops->remove(simdev_dev(img), name), 0);
		break;
	default:
		put_older(f, img, name, d);
		break;
	}
}

/* --- judging --- */

static const struct damage *under_way;

static void describe(const struct damage *d, char *buf, size_t size)
{
	snprintf(buf, size,
		 "ONLY=%" PRIu64 " (%s, file %zu, block %" PRIu64
		 ", bit %" PRIu64 ", %s)",
		 d->number, kind_names[d->kind], d->file, d->block, d->bit,
		 d->tail ? "tail" : "middle");
}

static void on_too_long(int sig)
{
	static const char text[] = "no end: an endless loop?\n";
	char buf[200];

	describe(under_way, buf, sizeof(buf));
	(void)!write(2, buf, strlen(buf));
	(void)!write(2, text, sizeof(text) - 1);
	_exit(1);
}

/* What others run beside does not count. 0: no bound. */
static void bound_time(long seconds)
{
	const struct itimerval t = { .it_value.tv_sec = seconds };

	assert_int_equal(setitimer(ITIMER_PROF, &t, NULL), 0);
}

#define judge_fail(d, ...)                                                     \
	do {                                                                   \
		char text_[200];                                               \
		describe(d, text_, sizeof(text_));                             \
		print_error("%s: ", text_);                                    \
		fail_msg(__VA_ARGS__);                                         \
	} while (0)

/* What verification said. */
struct said {
	uint64_t lines;
	const char *state, *path; /* looked for */
	bool state_found, path_found, tree_found;
};

static void on_damaged(void *arg, const char *state, const char *path,
		       const char *what)
{
	struct said *s = arg;

	s->lines++;
	if (!s->state || strcmp(s->state, state) != 0)
		return;
	s->state_found = true;
	s->tree_found |= strstr(what, "directory tree") != NULL;
	s->path_found |= path && !strcmp(path, s->path);
}

/* Verification tells of what could not be read: the state, and the file. */
static void judge_verify(struct fixture *f, const struct damage *d,
			 const char *state, const struct dump_result *r)
{
	struct said s = { .state = state, .path = r ? r->bad_path : "" };
	struct fs_verify_params p = { .damaged = on_damaged, .arg = &s };
	struct fs_verify_stats st;
	int err = fs_verify(f->s.fs, &p, &st);

	if (err)
		judge_fail(d, "verify: %s", strerror(-err));
	if (!state)
		return;
	if (!st.damaged || !s.lines)
		judge_fail(d, "verify found nothing; %s could not be read",
			   state);
	if (!s.state_found)
		judge_fail(d, "verify does not name %s", state);
	/* A file of several names is told by one of them; and it may be the
	 * tree that says where its contents are. */
	if (r->bad_path[0] && r->bad_names == 1 && !s.path_found &&
	    !s.tree_found)
		judge_fail(d, "verify does not name %s in %s", r->bad_path,
			   state);
}

/* Each state that was remembered. Returns the number of errors. */
static uint64_t judge_refs(struct fixture *f, const struct damage *d,
			   uint64_t head)
{
	struct dump_result r, first = { 0 };
	const char *state = NULL;
	uint64_t errors = 0, lists = 0;
	char gone[32];

	snprintf(gone, sizeof(gone), "@%" PRIu64, f->head);
	for (size_t i = 0; i < f->nref; i++) {
		struct root root;
		struct fs_view *v;
		int err = fs_resolve(f->s.fs, f->ref[i].name, &root);

		if (err == -ENOENT && head != f->head &&
		    !strcmp(f->ref[i].name, gone))
			continue;
		if (err == -EFSCORRUPTED || err == -EFSBADCRC) {
			/* Its place in the catalog: worse than all that may be
			 * damaged in it. */
			lists += STATE_LOST;
			continue;
		}
		if (err)
			judge_fail(d, "%s: %s", f->ref[i].name, strerror(-err));
		assert_int_equal(fs_view_new(f->s.fs, &root, &v), 0);
		dump_compare(f->ref[i].dump, v, &r);
		fs_view_put(v);
		root_put(store_tree(f->s.store), &root);
		if (r.wrong[0])
			judge_fail(d, "%s: %s", f->ref[i].name, r.wrong);
		if (r.errors && !state) {
			state = f->ref[i].name;
			first = r;
		}
		errors += r.errors;
	}
	if (errors && !f->told)
		judge_fail(d, "nothing was logged");
	judge_verify(f, d, state, &first);
	return errors + lists;
}

static uint64_t head_number(struct fixture *f)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct root root;
	uint64_t number;

	assert_non_null(info);
	store_head(f->s.store, &root, info);
	root_put(store_tree(f->s.store), &root);
	number = info->number;
	free(info);
	return number;
}

static uint64_t judge_open(struct fixture *f, const struct damage *d)
{
	struct dump_result r, r2 = { 0 };
	uint64_t head = head_number(f), errors;

	if (head != f->head && (!d->tail || head != f->head_before))
		judge_fail(d, "head is @%" PRIu64 ", was @%" PRIu64, head,
			   f->head);
	dump_compare(f->staged, working(f), &r);
	if (r.wrong[0] && d->tail) {
		r2 = r;
		dump_compare(f->staged_before, working(f), &r);
		f->fell_back++;
	}
	if (r.wrong[0])
		judge_fail(d, "staged: %s; %s", r.wrong, r2.wrong);
	errors = r.errors;
	errors += judge_refs(f, d, head);
	if (simdev_counts(f->s.sim).reads > READS_MAX)
		judge_fail(d, "too many reads");
	return errors;
}

/* --- opening at an older commit --- */

static const struct dump *commit_dump(struct fixture *f, uint64_t number)
{
	char name[32];

	snprintf(name, sizeof(name), "@%" PRIu64, number);
	for (size_t i = 0; i < f->nref; i++)
		if (!strcmp(f->ref[i].name, name))
			return f->ref[i].dump;
	for (size_t i = 0; i < f->ndropped; i++)
		if (!strcmp(f->dropped[i].name, name))
			return f->dropped[i].dump;
	return NULL;
}

/* What is shown now is commit `number`, and head is that or says so. */
static void judge_is_at(struct fixture *f, const struct damage *d,
			uint64_t number)
{
	const struct dump *want = commit_dump(f, number);
	uint64_t head = head_number(f);
	struct dump_result r;
	struct fs_view *v;

	assert_non_null(want);
	/* Numbers that nothing left speaks of may come again. */
	if (head < number)
		judge_fail(d, "at @%" PRIu64 ": head is @%" PRIu64, number,
			   head);
	dump_compare(want, working(f), &r);
	if (r.wrong[0])
		judge_fail(d, "at @%" PRIu64 ": %s", number, r.wrong);
	v = simfs_head_view(&f->s);
	dump_compare(want, v, &r);
	if (r.wrong[0])
		judge_fail(d, "at @%" PRIu64 ", head: %s", number, r.wrong);
	fs_view_put(v);
}

/* All commits that are listed are what they were. */
static void judge_history(struct fixture *f, const struct damage *d,
			  uint64_t number)
{
	struct dump_result r;

	for (uint64_t n = 1; n <= number; n++) {
		const struct dump *want = commit_dump(f, n);
		struct root root;
		struct fs_view *v;
		char name[32];
		int err;

		snprintf(name, sizeof(name), "@%" PRIu64, n);
		err = fs_resolve(f->s.fs, name, &root);
		if (err == -ENOENT)
			continue;
		if (err)
			judge_fail(d, "%s: %s", name, strerror(-err));
		assert_non_null(want);
		assert_int_equal(fs_view_new(f->s.fs, &root, &v), 0);
		dump_compare(want, v, &r);
		if (r.wrong[0])
			judge_fail(d, "%s: %s", name, r.wrong);
		fs_view_put(v);
		root_put(store_tree(f->s.store), &root);
	}
	judge_verify(f, d, NULL, NULL);
}

static void open_at(struct fixture *f, const struct damage *d,
		    struct simdev *sim, uint64_t number, bool read_only)
{
	struct store_error text;
	int err;

	f->s.params.at_commit = number;
	err = open_on(f, sim, read_only, &text);
	f->s.params.at_commit = 0;
	if (err)
		judge_fail(d, "--at @%" PRIu64 ": %s: %s", number,
			   strerror(-err), text.text);
}

/* The power goes while the store is opened so: it is refused as before, or
 * that was it. */
static void judge_cuts(struct fixture *f, const struct damage *d,
		       struct simdev *img, uint64_t number)
{
	struct simdev *sim = simdev_image(img, simdev_ops(img), SIM_KEEP, 1);
	size_t last;

	open_at(f, d, sim, number, false);
	simfs_abandon(&f->s);
	last = simdev_ops(sim);
	for (size_t cut = 0; cut <= last; cut++) {
		for (int mode = 0; mode < SIM_MODES; mode++) {
			struct simdev *half;
			struct store_error text;

			half = simdev_image(sim, cut, (enum sim_mode)mode,
					    d->number + cut);
			f->cuts++;
			if (open_on(f, half, false, &text))
				open_at(f, d, half, number, false);
			judge_is_at(f, d, number);
			simfs_abandon(&f->s);
			simdev_free(half);
		}
	}
	simdev_free(sim);
}

static void judge_at(struct fixture *f, const struct damage *d,
		     struct simdev *img, const char *text)
{
	const char *at = strstr(text, "--at @");
	struct store_error after;
	struct simdev *sim;
	uint64_t number;
	int err;

	if (!at) {
		if (!strstr(text, "no commit of it is intact"))
			judge_fail(d, "no way out is named: %s", text);
		f->lost++;
		return;
	}
	number = strtoull(at + 6, NULL, 10);
	f->opened_at++;
	open_at(f, d, img, number, true);
	judge_is_at(f, d, number);
	simfs_abandon(&f->s);
	if (f->opened_at % CUT_EACH == 0)
		judge_cuts(f, d, img, number);
	sim = simdev_image(img, simdev_ops(img), SIM_KEEP, 1);
	open_at(f, d, sim, number, false);
	judge_is_at(f, d, number);
	judge_history(f, d, number);
	simfs_abandon(&f->s);
	/* And it stays so: no need to say it again. */
	if (open_on(f, sim, false, &after))
		judge_fail(d, "after --at: %s", after.text);
	judge_is_at(f, d, number);
	number = head_number(f);
	simfs_set(&f->s, STORE_KEEP_LAST, 4);
	if (fs_commit(f->s.fs, 0, NULL, 0, &number) < 0)
		judge_fail(d, "commit after --at");
	err = fs_sweep(f->s.fs); /* other damage ends it */
	if (err && err != -EFSCORRUPTED && err != -EFSBADCRC)
		judge_fail(d, "sweep after --at: %s", strerror(-err));
	judge_history(f, d, 0);
	simfs_abandon(&f->s);
	simdev_free(sim);
}

static void judge_refusal(struct fixture *f, const struct damage *d,
			  struct simdev *img, int err,
			  const struct store_error *text)
{
	if (err != -EFSCORRUPTED && err != -EFSBADCRC &&
	    (is_segment(f->s.sim, d->file) || err != -EPROTONOSUPPORT))
		judge_fail(d, "open: %s: %s", strerror(-err), text->text);
	if (!text->text[0])
		judge_fail(d, "open: %s, without a reason", strerror(-err));
	f->refused++;
	if (is_segment(f->s.sim, d->file))
		judge_at(f, d, img, text->text);
}

/* --- repair --- */

static void ignore_damaged(void *arg, const char *state, const char *path,
			   const char *what)
{
}

/* Other than 0: the store is refused all the same. */
static int repair(struct fixture *f, struct simdev *img)
{
	struct fs_verify_params p = { .damaged = ignore_damaged,
				      .plain_fd = -1 };
	struct fs_verify_stats st;
	struct store_error text;
	int err;

	f->s.params.repair = true;
	err = open_on(f, img, true, &text);
	f->s.params.repair = false;
	if (err)
		return err;
	assert_int_equal(fs_verify(f->s.fs, &p, &st), 0);
	simfs_abandon(&f->s);
	return 0;
}

/* As it was judged before: no more errors. */
static void judge_repaired(struct fixture *f, const struct damage *d,
			   struct simdev *img, int err_before, uint64_t before)
{
	struct store_error text;
	uint64_t errors;
	int err;

	f->told = 0;
	err = open_on(f, img, true, &text);
	if (err && (!err_before || d->kind == FLIP))
		judge_fail(d, "after repair: %s", text.text);
	if (err)
		return;
	errors = judge_open(f, d);
	simfs_abandon(&f->s);
	if (!err_before && errors > before)
		judge_fail(d, "repair: %" PRIu64 " errors, were %" PRIu64,
			   errors, before);
	if (errors && d->kind == FLIP)
		judge_fail(d, "a flipped bit was not found");
	f->healed += !errors;
}

static void judge_repair(struct fixture *f, const struct damage *d,
			 struct simdev *img, int err, uint64_t errors)
{
	struct simdev *sim = simdev_image(img, simdev_ops(img), SIM_KEEP, 1);
	size_t last;

	f->repairs++;
	(void)repair(f, sim);
	judge_repaired(f, d, sim, err, errors);
	last = simdev_ops(sim);
	/* Cut anywhere in it, and tried again. */
	for (size_t cut = 0; f->repairs % CUT_EACH == 0 && cut < last; cut++) {
		struct simdev *half = simdev_image(
			sim, cut, (enum sim_mode)(cut % SIM_MODES), d->number);
		struct damage any = *d;

		f->repair_cuts++;
		any.kind = ZERO; /* not all may be right yet */
		judge_repaired(f, &any, half, err, errors);
		(void)repair(f, half);
		judge_repaired(f, d, half, err, errors);
		simdev_free(half);
	}
	simdev_free(sim);
}

/* Read-only first: nothing is written. Then as a mount would: what is written
 * on top hurts nothing. */
static void judge(struct fixture *f, struct damage *d)
{
	struct simdev *sim = f->s.sim, *img;
	uint64_t number = d->number, before = f->refused;
	uint64_t errors = 0;

	if (test_param("ONLY", number) != number)
		return;
	under_way = d;
	bound_time(SECONDS_MAX);
	img = simdev_image(sim, simdev_ops(sim), SIM_KEEP, 1);
	apply(f, img, d);
	simdev_settle(img);
	for (int ro = 1; ro >= 0 && !d->nothing; ro--) {
		struct store_error text;
		int err;

		if (!ro && simdev_ops(img))
			judge_fail(d, "written, though it was read-only");
		f->told = 0;
		f->states++;
		err = open_on(f, img, ro, &text);
		if (err) {
			judge_refusal(f, d, img, err, &text);
			if (ro && is_segment(sim, d->file))
				judge_repair(f, d, img, err, 0);
			continue;
		}
		f->s.sim = img; /* whose reads are counted */
		errors += judge_open(f, d);
		f->s.sim = sim;
		if (ro && errors) {
			simfs_abandon(&f->s);
			judge_repair(f, d, img, 0, errors);
			continue;
		}
		if (!ro && !errors) {
			struct rng keep = f->rng; /* ONLY shows the same */

			change(f);
			assert_int_equal(fs_checkpoint(f->s.fs), 0);
			f->rng = keep;
		}
		simfs_abandon(&f->s);
	}
	if (errors)
		f->partly++;
	else if (before == f->refused && !d->nothing)
		f->harmless++;
	bound_time(0);
	simdev_free(img);
}

static void report(const struct fixture *f, const char *what)
{
	print_message("%s: %" PRIu64 " openings of damaged stores; %" PRIu64
		      " refused, %" PRIu64 " damages seen in parts, %" PRIu64
		      " harmless, %" PRIu64 " of the tail; %" PRIu64
		      " opened at a commit, %" PRIu64 " power cuts in that, "
		      "%" PRIu64 " without any; %" PRIu64 " repaired, %" PRIu64
		      " of them whole, %" PRIu64 " power cuts in that\n",
		      what, f->states, f->refused, f->partly, f->harmless,
		      f->fell_back, f->opened_at, f->cuts, f->lost, f->repairs,
		      f->healed, f->repair_cuts);
}

/* --- the tests --- */

static bool any_segment(struct fixture *f, size_t *file, uint64_t *block)
{
	size_t n = simdev_file_count(f->s.sim);

	for (int i = 0; i < 1000; i++) {
		*file = (size_t)rng_below(&f->rng, n);
		if (!is_segment(f->s.sim, *file) || !blocks_of(f->s.sim, *file))
			continue;
		*block = rng_below(&f->rng, blocks_of(f->s.sim, *file));
		if (!is_zero_block(f->s.sim, *file, *block) || i > 900)
			return true;
	}
	return false;
}

/* A bit of a byte that is not zero, if there is one near. */
static uint64_t any_bit(struct fixture *f, size_t file, uint64_t block)
{
	uint8_t buf[BLOCK];
	uint64_t at = rng_below(&f->rng, BLOCK);

	get_block(f->s.sim, file, block, buf);
	for (uint64_t i = 0; i < BLOCK; i++)
		if (buf[(at + i) % BLOCK])
			return (at + i) % BLOCK * 8 + rng_below(&f->rng, 8);
	return at * 8;
}

/* Every block, in every way. */
static void damage_all(struct fixture *f)
{
	struct damage d = { 0 };

	for (d.file = 0; d.file < simdev_file_count(f->s.sim); d.file++) {
		if (!is_segment(f->s.sim, d.file))
			continue;
		for (d.block = 0; d.block < blocks_of(f->s.sim, d.file);
		     d.block++) {
			if (is_zero_block(f->s.sim, d.file, d.block) &&
			    d.block % 32)
				continue;
			for (int k = 0; k < KINDS_OF_BLOCK; k++) {
				d.kind = (enum kind)k;
				d.number++;
				d.bit = any_bit(f, d.file, d.block);
				(void)any_segment(f, &d.other, &d.other_block);
				judge(f, &d);
			}
		}
	}
}

static void damage_segments(struct fixture *f)
{
	struct damage d = { .number = 1000000 };

	for (d.file = 0; d.file < simdev_file_count(f->s.sim); d.file++) {
		if (!is_segment(f->s.sim, d.file))
			continue;
		for (int k = TRUNCATE; k < KINDS; k++) {
			d.kind = (enum kind)k;
			for (int i = 0; i < (k == TRUNCATE ? 6 : 1); i++) {
				d.number++;
				d.nothing = false;
				d.block = i ? rng_below(&f->rng,
							blocks_of(f->s.sim,
								  d.file))
					    : 0;
				d.bit = i % 2 ? rng_next(&f->rng) : 0;
				judge(f, &d);
			}
		}
	}
}

static void damage_some(struct fixture *f, uint64_t rounds)
{
	struct damage d = { .number = 2000000 };

	for (uint64_t i = 0; i < rounds; i++) {
		d.number++;
		d.kind = (enum kind)rng_below(&f->rng, KINDS_OF_BLOCK);
		if (!any_segment(f, &d.file, &d.block))
			return;
		d.bit = any_bit(f, d.file, d.block);
		(void)any_segment(f, &d.other, &d.other_block);
		judge(f, &d);
	}
}

/* Each byte of the small files beside the log. */
static void damage_others(struct fixture *f)
{
	struct damage d = { .number = 3000000, .kind = FLIP };

	for (d.file = 0; d.file < simdev_file_count(f->s.sim); d.file++) {
		const char *name = simdev_file_name(f->s.sim, d.file);

		if (strcmp(name, "format") != 0 && strcmp(name, "last") != 0)
			continue; /* for people */
		for (uint64_t i = 0; i < simdev_file_bytes(f->s.sim, d.file);
		     i++) {
			d.number++;
			d.bit = i * 8 + rng_below(&f->rng, 8);
			judge(f, &d);
		}
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	simfs_init(&f->s, SEG_BYTES);
	f->s.params.cache_bytes = 64 << 10;
	f->s.fs_params.buffer_bytes = 1 << 20;
	f->s.env.log = count_told;
	f->s.env.priv = f;
	(void)signal(SIGPROF, on_too_long);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < f->nref; i++)
		dump_free(f->ref[i].dump);
	for (size_t i = 0; i < f->ndropped; i++)
		dump_free(f->dropped[i].dump);
	dump_free(f->staged);
	dump_free(f->staged_before);
	simfs_release(&f->s);
	if (f->old)
		simdev_free(f->old);
	free(f);
	return 0;
}

static void test_small_store(void **state)
{
	struct fixture *f = *state;

	f->rng.s = test_seed(5);
	run(f, CLEAN, 6);
	damage_all(f);
	damage_segments(f);
	report(f, "small store");
}

static void test_files_beside_the_log(void **state)
{
	struct fixture *f = *state;

	f->rng.s = test_seed(3);
	run(f, CLEAN, 3);
	damage_others(f);
	report(f, "files beside the log");
}

static void large(struct fixture *f, enum ending how, uint64_t seed,
		  const char *what)
{
	f->rng.s = test_seed(seed);
	run(f, how, 40);
	damage_segments(f);
	damage_some(f, test_param("ROT_ROUNDS", 10));
	report(f, what);
}

static void test_large_store(void **state)
{
	large(*state, CLEAN, 7, "large store");
}

static void test_killed_after_a_commit(void **state)
{
	large(*state, KILLED_AFTER_COMMIT, 101, "killed after a commit");
}

static void test_killed_with_staged_changes(void **state)
{
	large(*state, KILLED_WITH_STAGED, 13, "killed with staged changes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small_store, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_files_beside_the_log,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_store, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_killed_after_a_commit,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_with_staged_changes,
						setup, teardown)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
