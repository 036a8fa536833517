/* SPDX-License-Identifier: GPL-2.0-or-later */
/* verify.c, healer.c: small files, which share pages with others and with
 * nodes. Each one that is damaged is told, and none beside it; it is healed
 * from a copy that lies elsewhere in another page. */
#include "fs/fs_internal.h"

#include "tests/lib/simfs.h"
#include "tests/lib/test.h"
#include "tests/lib/window.h"
#include "txn/repair.h"

#include <sys/stat.h>

/* Each two files have the same bytes; they are of as many lengths as are
 * searched for at once, and more. */
enum { FILES = 24, FILLER = FILES, PAGE = FS_BLOCK_BYTES };

struct fixture {
	struct simfs s;
	struct item_window map[FILES];
	uint8_t data[FILES][3 * PAGE];
	size_t size[FILES];
	bool told[FILES];
	unsigned int others; /* told that are none of them */
	struct rng rng;
};

static const char *name_of(int i)
{
	static char name[16];

	snprintf(name, sizeof(name), "f%d", i);
	return name;
}

static void make(struct fixture *f, int i)
{
	struct fs_file *file = simfs_make_file(&f->s, name_of(i));

	for (size_t k = 0; k < f->size[i]; k++)
		f->data[i][k] = i % 2 ? f->data[i - 1][k]
				      : (uint8_t)(rng_next(&f->rng) >> 40);
	simfs_write(file, 0, f->data[i], f->size[i]);
	fs_file_put(file);
}

static void get_map(struct fixture *f, int i)
{
	struct fs_file *file = simfs_open_file(&f->s, name_of(i));

	assert_int_equal(window_get(fs_working(f->s.fs), fs_file_ino(file),
				    &f->map[i]),
			 0);
	fs_file_put(file);
}

/* Half of them in the bulk head, half in the small one, between nodes. */
static void fill(struct fixture *f)
{
	static uint8_t big[(WINDOW_BLOCKS - 1) * PAGE];
	struct fs_file *file = simfs_make_file(&f->s, name_of(FILLER));

	/* No whole windows: those would go out at once. */
	for (int i = 0; i < 2; i++)
		simfs_write(file, i * WINDOW_BYTES, big, sizeof(big));
	fs_file_put(file);
	for (int i = 0; i < FILES; i++) {
		f->size[i] = i % 2 ? f->size[i - 1]
				   : 901 + rng_below(&f->rng, 2 * PAGE);
		make(f, i);
		if (i % 4 == 3 && i >= FILES / 2 - 1)
			(void)simfs_commit(&f->s);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	f->rng.s = 3;
	simfs_init(&f->s, 1 << 20);
	simfs_create(&f->s);
	fill(f);
	for (int i = 0; i < FILES; i++)
		get_map(f, i);
	assert_true(log_head_of(f->map[0].pos[0]) == LOG_BULK);
	assert_true(log_head_of(f->map[FILES - 1].pos[0]) == LOG_SMALL);
	simfs_close(&f->s);
	f->s.params.read_only = true;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	simfs_release(&f->s);
	free(f);
	return 0;
}

/* The segment that has a position. */
static size_t segment_at(struct fixture *f, uint64_t pos)
{
	char name[64];

	snprintf(name, sizeof(name), "log/%016" PRIx64 ".%c",
		 pos >> LOG_SEG_SHIFT,
		 log_head_of(pos) == LOG_BULK ? 'b' : 's');
	for (size_t i = 0; i < simdev_file_count(f->s.sim); i++)
		if (!strcmp(simdev_file_name(f->s.sim, i), name))
			return i;
	fail_msg("no %s", name);
	return 0;
}

/* Other bytes than they were, or those again. */
static void turn(struct fixture *f, int i, unsigned int blk, uint8_t with)
{
	uint64_t pos = f->map[i].pos[blk];
	uint64_t off = pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
	size_t seg = segment_at(f, pos);

	for (uint64_t k = 0; k < f->map[i].len[blk]; k++)
		simdev_set_byte(f->s.sim, seg, off + k,
				simdev_get_byte(f->s.sim, seg, off + k) ^ with);
}

static void note(void *arg, const char *state, const char *path,
		 const char *what)
{
	struct fixture *f = arg;
	int i;

	if (path && sscanf(path, "f%d", &i) == 1 && i < FILES)
		f->told[i] = true;
	else
		f->others++;
}

static void verify(struct fixture *f, bool repair, struct fs_verify_stats *st)
{
	struct fs_verify_params p = {
		.damaged = note, .healed = NULL, .plain_fd = -1, .arg = f
	};

	memset(f->told, 0, sizeof(f->told));
	f->others = 0;
	f->s.params.repair = repair;
	simfs_open(&f->s);
	assert_int_equal(fs_verify(f->s.fs, &p, st), 0);
	assert_int_equal(f->others, 0);
}

static void check_bytes(struct fixture *f, int i)
{
	struct fs_file *file = simfs_open_file(&f->s, name_of(i));
	uint8_t buf[3 * PAGE];
	size_t got;

	assert_int_equal(fs_read(file, 0, buf, sizeof(buf), &got), 0);
	assert_int_equal(got, f->size[i]);
	assert_memory_equal(buf, f->data[i], got);
	fs_file_put(file);
}

static void test_damage_is_told_of_that_file_alone(void **state)
{
	struct fixture *f = *state;
	struct fs_verify_stats st;

	verify(f, false, &st);
	assert_int_equal(st.damaged, 0);
	simfs_close(&f->s);
	for (int i = 0; i < FILES; i++)
		for (uint64_t m = f->map[i].mask; m; m &= m - 1) {
			unsigned int blk = (unsigned int)__builtin_ctzll(m);

			turn(f, i, blk, 0x55);
			verify(f, false, &st);
			assert_int_equal(st.damaged, 1);
			for (int k = 0; k < FILES; k++) {
				assert_int_equal(f->told[k], k == i);
				if (k != i)
					check_bytes(f, k);
			}
			simfs_close(&f->s);
			turn(f, i, blk, 0x55);
		}
}

/* The other of the two has them, at another place of its page. All lengths at
 * once are more than one search is for. */
static void test_a_copy_elsewhere_heals(void **state)
{
	struct fixture *f = *state;
	struct fs_verify_stats st;
	unsigned int blocks = 0;

	assert_true(FILES / 2 > REPAIR_LENGTHS_MAX);
	for (int i = 0; i < FILES; i += 2)
		for (uint64_t m = f->map[i].mask; m; m &= m - 1) {
			turn(f, i, (unsigned int)__builtin_ctzll(m), 0x55);
			blocks++;
		}
	verify(f, true, &st);
	assert_int_equal(st.damaged, 0);
	assert_int_equal(st.healed_blocks, blocks);
	for (int i = 0; i < FILES; i++)
		check_bytes(f, i);
	simfs_close(&f->s);
	verify(f, false, &st);
	assert_int_equal(st.damaged, 0);
}

static void test_a_flipped_bit_of_a_short_block(void **state)
{
	struct fixture *f = *state;
	struct fs_verify_stats st;

	for (int i = 0; i < 2; i++) { /* both of two */
		unsigned int last = (unsigned int)(f->size[i] / PAGE);
		uint64_t pos = f->map[i].pos[last];
		uint64_t off = pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
		uint64_t at = off + f->map[i].len[last] - 1;
		size_t seg = segment_at(f, pos);

		assert_true(f->map[i].len[last] < PAGE);
		simdev_set_byte(f->s.sim, seg, at,
				simdev_get_byte(f->s.sim, seg, at) ^ 0x80);
	}
	verify(f, true, &st);
	assert_int_equal(st.damaged, 0);
	assert_int_equal(st.healed_blocks, 2);
	check_bytes(f, 0);
	check_bytes(f, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_damage_is_told_of_that_file_alone, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_a_copy_elsewhere_heals,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_flipped_bit_of_a_short_block, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
