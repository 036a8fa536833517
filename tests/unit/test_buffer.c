/* SPDX-License-Identifier: GPL-2.0-or-later */
/* buffer.c: small files share pages of the log. */
/* LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc */
/* LDFLAGS: -Wl,--wrap=strdup,--wrap=strndup */
#include "fs/fs_internal.h"

#include "tests/lib/nomem.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"
#include "tests/lib/window.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

enum { FILES = 64, MOST = 20000, ROUNDS = 200, PAGE = FS_BLOCK_BYTES };

struct fixture {
	struct simfs s;
	struct fs_file *file[FILES];
	size_t size[FILES];
	uint8_t *data[FILES];
	struct rng rng;
};

static int setup_version(void **state, unsigned int version)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	f->rng.s = 5;
	simfs_init(&f->s, 1 << 20);
	f->s.params.bulk_segment_bytes = 4 << 20;
	f->s.params.cache_bytes = 64 << 10;
	f->s.params.format_version = version;
	simfs_create(&f->s);
	return 0;
}

static int setup(void **state)
{
	return setup_version(state, 0);
}

static int setup_1(void **state)
{
	return setup_version(state, 1);
}

static void put_files(struct fixture *f)
{
	for (int i = 0; i < FILES; i++) {
		fs_file_put(f->file[i]);
		f->file[i] = NULL;
	}
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	put_files(f);
	for (int i = 0; i < FILES; i++)
		free(f->data[i]);
	simfs_release(&f->s);
	free(f);
	return 0;
}

static const char *name_of(int i)
{
	static char name[16];

	snprintf(name, sizeof(name), "f%d", i);
	return name;
}

static void make(struct fixture *f, int i)
{
	f->file[i] = simfs_make_file(&f->s, name_of(i));
	f->data[i] = calloc(1, 1 << 20);
	assert_non_null(f->data[i]);
}

static void write_at(struct fixture *f, int i, size_t off, size_t len)
{
	uint8_t *p = f->data[i] + off;

	for (size_t k = 0; k < len; k++)
		p[k] = (uint8_t)(rng_next(&f->rng) >> 40);
	simfs_write(f->file[i], off, p, len);
	if (off + len > f->size[i])
		f->size[i] = off + len;
}

static void commit(struct fixture *f)
{
	uint64_t number;

	assert_in_range(fs_commit(f->s.fs, 0, NULL, 0, &number), 0, 1);
}

static void check(struct fixture *f, int i)
{
	uint8_t *buf = malloc(f->size[i] + 1);
	size_t got;

	assert_int_equal(fs_read(f->file[i], 0, buf, f->size[i] + 1, &got), 0);
	assert_int_equal(got, f->size[i]);
	assert_memory_equal(buf, f->data[i], got);
	free(buf);
}

/* Everything from the device. */
static void reopen(struct fixture *f)
{
	put_files(f);
	simfs_close(&f->s);
	simfs_open(&f->s);
	for (int i = 0; i < FILES; i++)
		if (f->data[i])
			f->file[i] = simfs_open_file(&f->s, name_of(i));
}

static void check_all(struct fixture *f)
{
	char why[300];

	for (int i = 0; i < FILES; i++)
		if (f->data[i])
			check(f, i);
	if (fs_check(fs_working(f->s.fs), true, why, sizeof(why)))
		fail_msg("%s", why);
}

/* Of its first window. */
static void get_map(struct fixture *f, int i, struct item_window *w)
{
	assert_int_equal(
		window_get(fs_working(f->s.fs), fs_file_ino(f->file[i]), w), 0);
}

static uint64_t bulk_tail(struct fixture *f)
{
	return log_tail(f->s.fs->log, LOG_BULK);
}

/* --- */

/* What is written of them is what is in them, and a little. */
static void test_small_files_share_pages(void **state)
{
	struct fixture *f = *state;
	uint64_t before, bytes = 0;

	for (int i = 0; i < FILES; i++) {
		make(f, i);
		write_at(f, i, 0, 1000 + rng_below(&f->rng, MOST));
		bytes += f->size[i];
	}
	before = bulk_tail(f);
	commit(f);
	assert_true(bytes > SMALL_MAX_BYTES); /* to the bulk head */
	assert_true(bulk_tail(f) - before <
		    bytes + FILES * EXTENT_UNIT_BYTES + PAGE);
	check_all(f);
	reopen(f);
	check_all(f);
}

static void test_a_store_of_format_1_stays_one(void **state)
{
	struct fixture *f = *state;
	struct item_window w;

	for (int i = 0; i < FILES; i++) {
		make(f, i);
		write_at(f, i, 0, 1000 + rng_below(&f->rng, MOST));
	}
	commit(f);
	reopen(f);
	assert_int_equal(store_format_version(f->s.store), 1);
	write_at(f, 0, 0, MOST + 1);
	commit(f);
	for (int i = 0; i < FILES; i++) {
		get_map(f, i, &w);
		for (unsigned int k = 0; k < WINDOW_BLOCKS; k++)
			assert_false(w.mask >> k & 1 && item_is_packed(&w, k));
	}
	check_all(f);
}

/* The blocks of what others have, when those beside them go. */
static void test_a_sweep_leaves_what_shares_its_page(void **state)
{
	struct fixture *f = *state;
	struct gc_stats st;
	bool freed = false;

	for (int i = 0; i < FILES; i++) {
		make(f, i);
		write_at(f, i, 0, 901 + rng_below(&f->rng, MOST));
	}
	commit(f);
	for (int gone = 1; gone < 8; gone++) {
		for (int i = 0; i < FILES; i++) {
			if (i % 8 != gone)
				continue;
			assert_int_equal(fs_unlink(fs_working(f->s.fs),
						   FS_ROOT_INO, name_of(i),
						   strlen(name_of(i)), NULL),
					 0);
			fs_file_put(f->file[i]);
			f->file[i] = NULL;
			free(f->data[i]);
			f->data[i] = NULL;
		}
		commit(f);
		simfs_set(&f->s, STORE_KEEP_LAST, 1);
		assert_int_equal(fs_gc(f->s.fs, &st), 0);
		freed |= st.freed_bytes > 0;
		reopen(f);
		check_all(f);
	}
	assert_true(freed);
}

/* Bytes that are longer than their claims would take what others were
 * promised: whatever comes after what, the log grows by no more than that. */
static void test_claims_hold_the_gaps(void **state)
{
	struct fixture *f = *state;
	uint64_t start, claimed = 0;

	/* Always with a large one: to the bulk head. */
	make(f, 0);
	for (int i = 1; i < FILES; i++)
		make(f, i);
	write_at(f, 0, 0, SMALL_MAX_BYTES + PAGE);
	commit(f);
	start = bulk_tail(f);
	assert_int_equal(start % PAGE, 0);
	for (int r = 0; r < ROUNDS; r++) {
		int i = 1 + (int)rng_below(&f->rng, FILES - 1);
		size_t blocks = rng_below(&f->rng, 3);
		/* Nothing that leaves a unit for those who come later. */
		size_t len = (blocks + 1) * PAGE -
			     (size_t[]){ 0, 1, 30, 63 }[rng_below(&f->rng, 4)];
		struct fs_view *fv;

		assert_int_equal(fs_truncate(f->file[i], 0), 0);
		f->size[i] = 0;
		memset(f->data[i], 0, 1 << 20);
		write_at(f, i, 0, len);
		fv = file_lock(f->file[i]);
		claimed += f->file[i]->claimed_bulk;
		assert_int_equal(file_append(f->file[i], LOG_BULK, false), 0);
		assert_int_equal(f->file[i]->claimed_bulk, 0);
		file_unlock(f->file[i], fv);
		check(f, i); /* before it is entered, too */
		/* A segment's end is not counted on. */
		if (bulk_tail(f) >> LOG_SEG_SHIFT != start >> LOG_SEG_SHIFT) {
			start = round_up_u64(bulk_tail(f), PAGE);
			claimed = 0;
		}
		assert_true(round_up_u64(bulk_tail(f), PAGE) - start <=
			    claimed);
	}
	commit(f);
	reopen(f);
	check_all(f);
}

/* By one fsync, in the bulk head: on the disk when nothing is that was not
 * flushed. */
static void test_a_small_file_in_the_bulk_head_is_durable(void **state)
{
	struct fixture *f = *state;
	struct fs_view *fv;
	struct item_window w;

	make(f, 0);
	commit(f);
	write_at(f, 0, 0, PAGE + 1500);
	fv = file_lock(f->file[0]);
	assert_int_equal(file_append(f->file[0], LOG_BULK, false), 0);
	file_unlock(f->file[0], fv);
	assert_int_equal(fs_fsync(fs_working(f->s.fs), fs_file_ino(f->file[0])),
			 0);
	put_files(f);
	simfs_lose_power(&f->s, SIM_DROP, 1);
	simfs_open(&f->s);
	f->file[0] = simfs_open_file(&f->s, name_of(0));
	get_map(f, 0, &w);
	assert_true(log_head_of(w.pos[0]) == LOG_BULK);
	check_all(f);
}

/* Somebody reads the block whose end is left out. */
static void test_a_block_that_is_read_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct fs_view *fv;
	struct lbuf *b;

	make(f, 0);
	write_at(f, 0, 0, 1500);
	fv = file_lock(f->file[0]);
	b = lbuf_get(f->file[0]->win[0]->blk[0]);
	assert_int_equal(file_append(f->file[0], LOG_BULK, false), 0);
	file_unlock(f->file[0], fv);
	assert_int_equal(b->len, PAGE);
	lbuf_put(b);
	check_all(f);
	commit(f);
	reopen(f);
	check_all(f);
}

/* It was to be short and was not appended: next time it is whole. */
static void test_an_append_that_fails_leaves_the_block_whole(void **state)
{
	struct fixture *f = *state;
	struct item_window w;
	struct fs_view *fv;

	make(f, 0);
	write_at(f, 0, 0, 1500);
	fv = file_lock(f->file[0]);
	nomem_start(1, true); /* the first in that head: there is no ring yet */
	assert_int_equal(file_append(f->file[0], LOG_BULK, false), -ENOMEM);
	assert_true(nomem_stop() > 0);
	file_unlock(f->file[0], fv);
	assert_int_equal(fs_truncate(f->file[0], 2 * PAGE), 0);
	f->size[0] = 2 * PAGE;
	check_all(f);
	commit(f);
	get_map(f, 0, &w);
	assert_int_equal(w.len[0], PAGE);
	reopen(f);
	check_all(f);
}

/* A hole behind the end leaves it where it is, also in what had it before; a
 * write puts it elsewhere. */
static void test_a_file_that_grows(void **state)
{
	struct fixture *f = *state;
	struct item_window w;
	uint64_t pos;

	make(f, 0);
	write_at(f, 0, 0, 3000);
	commit(f);
	get_map(f, 0, &w);
	pos = w.pos[0];
	assert_int_equal(w.len[0], 3000);
	assert_int_equal(fs_truncate(f->file[0], 3 * PAGE), 0);
	f->size[0] = 3 * PAGE;
	commit(f);
	get_map(f, 0, &w);
	assert_int_equal(w.mask, 1);
	assert_int_equal(w.pos[0], pos);
	assert_int_equal(w.len[0], 3000);
	reopen(f);
	check_all(f);
	write_at(f, 0, 2 * PAGE, 100);
	write_at(f, 0, 3000, 10);
	commit(f);
	get_map(f, 0, &w);
	assert_int_equal(w.mask, 5);
	assert_int_not_equal(w.pos[0], pos);
	assert_int_equal(w.len[0], PAGE);
	reopen(f);
	check_all(f);
	/* Shorter again, in the middle of a block. */
	assert_int_equal(fs_truncate(f->file[0], PAGE + 5), 0);
	f->size[0] = PAGE + 5;
	assert_int_equal(fs_truncate(f->file[0], 2 * PAGE), 0);
	memset(f->data[0] + PAGE + 5, 0, PAGE);
	f->size[0] = 2 * PAGE;
	commit(f);
	reopen(f);
	check_all(f);
}

static void copy(struct fixture *f, int from, size_t off, int to, size_t at,
		 size_t len)
{
	size_t got;

	assert_int_equal(fs_copy_range(f->file[from], off, f->file[to], at, len,
				       &got),
			 0);
	assert_int_equal(got, len);
	memcpy(f->data[to] + at, f->data[from] + off, len);
	if (at + len > f->size[to])
		f->size[to] = at + len;
}

/* Shared where they may lie, copied where they may not. */
static void test_copies_of_packed_blocks(void **state)
{
	const size_t far = (EXTENT_PACKED_MAX - 1) * PAGE;
	struct fixture *f = *state;
	struct item_window from, to;

	make(f, 0);
	make(f, 1);
	make(f, 2);
	write_at(f, 2, 0, 1000); /* before the others in their page */
	write_at(f, 0, 0, 2 * PAGE + 1500);
	commit(f);
	assert_int_equal(fs_truncate(f->file[0], 3 * PAGE), 0);
	f->size[0] = 3 * PAGE;
	copy(f, 0, 0, 1, PAGE, 3 * PAGE); /* the short one, too */
	copy(f, 0, 0, 1, far, 3 * PAGE);
	copy(f, 0, 2 * PAGE, 1, WINDOW_BYTES, PAGE);
	commit(f);
	get_map(f, 0, &from);
	get_map(f, 1, &to);
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(item_is_packed(&from, i));
		assert_int_equal(to.pos[i + 1], from.pos[i]);
		assert_int_equal(to.len[i + 1], from.len[i]);
	}
	assert_int_equal(to.pos[EXTENT_PACKED_MAX - 1], from.pos[0]);
	assert_false(item_is_packed(&to, EXTENT_PACKED_MAX));
	assert_false(item_is_packed(&to, EXTENT_PACKED_MAX + 1));
	reopen(f);
	check_all(f);
}

/* It is entered, and stays open. */
static void shift(struct fixture *f, int i, size_t at, size_t len, bool insert)
{
	uint8_t *d = f->data[i];

	assert_int_equal(fs_fallocate(f->file[i],
				      insert ? FALLOC_FL_INSERT_RANGE
					     : FALLOC_FL_COLLAPSE_RANGE,
				      at, len),
			 0);
	if (insert) {
		memmove(d + at + len, d + at, f->size[i] - at);
		memset(d + at, 0, len);
		f->size[i] += len;
	} else {
		memmove(d + at, d + at + len, f->size[i] - at - len);
		f->size[i] -= len;
	}
	commit(f);
	check_all(f);
}

static void test_shifted_blocks_are_packed_no_more(void **state)
{
	struct fixture *f = *state;
	struct item_window w;

	make(f, 0);
	make(f, 1);
	write_at(f, 1, 0, 1000);
	write_at(f, 0, 0, 3 * PAGE + 700);
	commit(f);
	get_map(f, 0, &w);
	assert_true(item_is_packed(&w, 0) && item_is_packed(&w, 3));
	shift(f, 0, PAGE, EXTENT_PACKED_MAX * PAGE, true);
	reopen(f);
	check_all(f);
	shift(f, 0, 0, WINDOW_BYTES, true);
	shift(f, 0, PAGE, WINDOW_BYTES, false);
	write_at(f, 1, 0, 1000);
	commit(f);
	shift(f, 1, 0, PAGE, true);
	/* What is written next is packed again. */
	assert_int_equal(fs_truncate(f->file[1], 0), 0);
	f->size[1] = 0;
	write_at(f, 1, 0, 1000);
	commit(f);
	get_map(f, 1, &w);
	assert_int_equal(w.len[0], 1000);
	reopen(f);
	check_all(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small_files_share_pages,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_store_of_format_1_stays_one, setup_1, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_sweep_leaves_what_shares_its_page, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_claims_hold_the_gaps,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_small_file_in_the_bulk_head_is_durable, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_block_that_is_read_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_an_append_that_fails_leaves_the_block_whole, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_grows, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_copies_of_packed_blocks,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_shifted_blocks_are_packed_no_more, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
