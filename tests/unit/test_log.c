/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/log.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct log *open_log(struct simdev *sim, struct env *env)
{
	struct log_params p = { .dev = simdev_dev(sim), .env = env };
	struct log *log;

	assert_int_equal(log_open(&p, &log), 0);
	return log;
}

struct fixture {
	struct simdev *sim;
	struct env env;
	struct log *log;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct dev *dev;

	assert_non_null(f);
	*state = f;
	f->sim = simdev_new();
	dev = simdev_dev(f->sim);
	env_init_host(&f->env);
	assert_int_equal(dev->ops->mkdir(dev, "log"), 0);
	assert_int_equal(dev->ops->sync_dir(dev, ""), 0);
	f->log = open_log(f->sim, &f->env);
	assert_int_equal(log_start(f->log, LOG_USE), 0);
	assert_int_equal(log_room(f->log, 65536, 0, false), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	log_close(f->log, false);
	simdev_free(f->sim);
	free(f);
	return 0;
}

static uint64_t append_to(struct log *log, enum log_head head, size_t len,
			  int byte)
{
	struct lbuf *b = lbuf_new(len);
	uint64_t pos = 0;

	assert_non_null(b);
	memset(b->data, byte, len);
	assert_int_equal(log_append(log, head, 1, &b, 1, &pos), 0);
	return pos;
}

static uint64_t append(struct log *log, size_t len, int byte)
{
	return append_to(log, LOG_SMALL, len, byte);
}

static void assert_bytes(struct log *log, uint64_t pos, size_t len, int byte)
{
	uint8_t *got = calloc(1, len);

	assert_non_null(got);
	assert_int_equal(log_read(log, pos, got, len), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got[i], byte);
	free(got);
}

/* After the flush more is appended and written to the host: wherever the
 * power goes from the flush on, the flushed bytes are there. */
static void test_flushed_bytes_survive_a_power_cut(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = append(f->log, 5000, 0x5a);
	size_t done, cut;

	assert_bytes(f->log, pos, 5000, 0x5a);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	done = simdev_ops(f->sim);
	for (int i = 0; i < 4; i++) {
		(void)append(f->log, 3000, 0x11);
		assert_int_equal(log_write_out(f->log, LOG_SMALL), 0);
	}
	assert_true(simdev_ops(f->sim) >= done + 4);
	for (cut = done; cut <= simdev_ops(f->sim); cut++) {
		for (int mode = 0; mode < SIM_MODES; mode++) {
			struct simdev *img = simdev_image(f->sim, cut, mode, 7);
			struct log *l = open_log(img, &f->env);

			assert_bytes(l, pos, 5000, 0x5a);
			log_close(l, false);
			simdev_free(img);
		}
	}
}

/* Neighbours of which one was written out and the other waits in memory. */
static void test_a_read_joins_the_file_and_what_waits(void **state)
{
	struct fixture *f = *state;
	uint8_t got[300];
	struct log_range r[2] = { { .buf = got, .len = 100 },
				  { .buf = got + 100, .len = 200 } };

	r[0].pos = append(f->log, 100, 1);
	assert_int_equal(log_write_out(f->log, LOG_SMALL), 0);
	r[1].pos = append(f->log, 200, 2);
	assert_int_equal(r[1].pos, r[0].pos + 100);
	assert_int_equal(log_readv(f->log, r, 2), 0);
	assert_int_equal(got[99], 1);
	assert_int_equal(got[100], 2);
	assert_int_equal(got[299], 2);
}

enum { BEHIND_BYTES = 4096, BEHIND_ROUNDS = 500, BEHIND_THREADS = 4 };

struct behind {
	struct log *log;
	pthread_barrier_t barrier;
	uint64_t most; /* that was left after a round */
};

static void *write_behind(void *arg)
{
	struct behind *b = arg;

	for (int i = 0; i < BEHIND_ROUNDS; i++) {
		int rc;

		(void)append(b->log, BEHIND_BYTES, 1);
		assert_int_equal(
			log_write_behind(b->log, LOG_SMALL, BEHIND_BYTES), 0);
		rc = pthread_barrier_wait(&b->barrier);
		if (rc == PTHREAD_BARRIER_SERIAL_THREAD) {
			uint64_t left = log_unwritten_bytes(b->log, LOG_SMALL);

			b->most = max_u64(b->most, left);
		}
		(void)pthread_barrier_wait(&b->barrier);
	}
	return NULL;
}

/* Nobody waits for another's writing, and what he leaves somebody writes. */
static void test_writing_behind_leaves_little(void **state)
{
	struct fixture *f = *state;
	struct behind b = { .log = f->log };
	pthread_t t[BEHIND_THREADS];

	(void)append(f->log, BEHIND_BYTES - 1, 2);
	assert_int_equal(log_write_behind(f->log, LOG_SMALL, BEHIND_BYTES), 0);
	assert_int_equal(log_unwritten_bytes(f->log, LOG_SMALL),
			 BEHIND_BYTES - 1);
	(void)append(f->log, 1, 2);
	assert_int_equal(log_write_behind(f->log, LOG_SMALL, BEHIND_BYTES), 0);
	assert_int_equal(log_unwritten_bytes(f->log, LOG_SMALL), 0);
	assert_int_equal(log_room(f->log,
				  BEHIND_THREADS * BEHIND_ROUNDS * BEHIND_BYTES,
				  0, false),
			 0);
	assert_int_equal(pthread_barrier_init(&b.barrier, NULL, BEHIND_THREADS),
			 0);
	for (int i = 0; i < BEHIND_THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_behind, &b),
				 0);
	for (int i = 0; i < BEHIND_THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	pthread_barrier_destroy(&b.barrier);
	assert_true(b.most < BEHIND_BYTES);
}

/* Durable, 4 KiB at a time. */
static void fill(struct log *log, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes; done += 4096)
		(void)append(log, 4096, 7);
	assert_int_equal(log_flush(log, LOG_SMALL, NULL), 0);
}

static struct log_stats stats_of(struct log *log)
{
	struct log_stats st;

	log_get_stats(log, &st);
	return st;
}

/* What was prepared for claims that are gone goes; what is claimed stays, and
 * is appended without a segment made late. */
static void test_trimming_keeps_what_is_claimed(void **state)
{
	enum { CLAIM = 1500 << 10 };
	struct fixture *f = *state;
	struct log_stats before, st;
	struct log *again;

	assert_int_equal(log_room(f->log, 8 << 20, 8 << 20, false), 0);
	before = stats_of(f->log);
	assert_true(before.prepared_bytes >= 16 << 20);
	log_claim(f->log, LOG_SMALL, CLAIM);
	log_trim(f->log, false);
	st = stats_of(f->log);
	assert_true(st.prepared_bytes >= CLAIM && st.prepared_bytes < 4 << 20);
	assert_true(st.segment_file_bytes < before.segment_file_bytes / 4);
	for (int i = 0; i < CLAIM / 4096; i++)
		(void)append(f->log, 4096, 7);
	log_unclaim(f->log, LOG_SMALL, CLAIM);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	st = stats_of(f->log);
	assert_int_equal(st.unprepared_segments, 0);
	/* The files went, too. */
	again = open_log(f->sim, &f->env);
	assert_int_equal(stats_of(again).segments, st.segments);
	log_close(again, false);
	/* And come again. */
	assert_int_equal(log_room(f->log, 4 << 20, 4 << 20, false), 0);
	assert_true(stats_of(f->log).prepared_bytes >= 8 << 20);
}

/* Within ten seconds. */
static bool gets_ready(struct log *log, uint64_t bytes)
{
	for (int i = 0; i < 10000; i++) {
		if (stats_of(log).prepared_bytes >= bytes)
			return true;
		usleep(1000);
	}
	return false;
}

static void test_what_a_burst_took_is_prepared(void **state)
{
	enum { BURST = 6 << 20, MOST = 32 << 20 };
	struct fixture *f = *state;
	uint64_t prepared, all;

	log_expect(f->log, BURST);
	assert_true(gets_ready(f->log, BURST));
	log_trim(f->log, false);
	prepared = stats_of(f->log).prepared_bytes;
	assert_true(prepared >= BURST && prepared < BURST + (2 << 20));
	/* Who appends is not kept waiting for it: it is there. */
	fill(f->log, BURST);
	assert_int_equal(stats_of(f->log).unprepared_segments, 0);
	log_expect(f->log, UINT64_MAX);
	assert_true(gets_ready(f->log, MOST));
	log_trim(f->log, true);
	assert_true(stats_of(f->log).prepared_bytes < 2 << 20);
	/* Also while it is prepared. */
	log_expect(f->log, UINT64_MAX);
	log_trim(f->log, true);
	usleep(100000);
	assert_true(stats_of(f->log).prepared_bytes < 2 << 20);
	/* Where little would be left, there is none. */
	all = stats_of(f->log).segment_file_bytes;
	simdev_set_capacity(f->sim, all + 8 * BURST);
	log_expect(f->log, 2 * BURST);
	assert_int_equal(log_room(f->log, 0, 4096, false), 0);
	usleep(100000);
	assert_true(stats_of(f->log).prepared_bytes < BURST);
}

static size_t bulk_segments(struct log *log)
{
	struct log_segment *segs;
	size_t n, bulk = 0;

	assert_int_equal(log_list_segments(log, &segs, &n), 0);
	for (size_t i = 0; i < n; i++)
		bulk += segs[i].head == LOG_BULK;
	free(segs);
	return bulk;
}

static uint64_t bulk_bytes(struct log *log)
{
	struct log_segment *segs;
	uint64_t bytes = 0;
	size_t n;

	assert_int_equal(log_list_segments(log, &segs, &n), 0);
	for (size_t i = 0; i < n; i++)
		bytes += segs[i].head == LOG_BULK ? segs[i].bytes : 0;
	free(segs);
	return bytes;
}

/* Little was written into a bulk segment: the rest of it is the host's again,
 * but for what is claimed, and what was written stays. */
static void test_trimming_cuts_the_last_bulk_segment(void **state)
{
	enum { SEGMENT = 64 << 20, CLAIM = 20 << 20, LEFT = 5 << 20 };
	struct fixture *f = *state;
	struct log_params p = { .dev = simdev_dev(f->sim),
				.env = &f->env,
				.bulk_segment_bytes = SEGMENT };
	struct log *log;
	uint64_t pos, next;

	log_close(f->log, true);
	assert_int_equal(log_open(&p, &f->log), 0);
	log = f->log;
	assert_int_equal(log_start(log, LOG_USE), 0);
	assert_int_equal(log_room(log, 0, CLAIM, false), 0);
	log_claim(log, LOG_BULK, CLAIM);
	assert_int_equal(bulk_bytes(log), SEGMENT);
	log_trim(log, false);
	assert_in_range(bulk_bytes(log), CLAIM, CLAIM + LEFT);
	assert_in_range(stats_of(log).prepared_bytes, CLAIM, CLAIM + LEFT);
	pos = append_to(log, LOG_BULK, 65536, 3);
	log_unclaim(log, LOG_BULK, CLAIM);
	log_trim(log, false);
	assert_in_range(bulk_bytes(log), 65536, LEFT);
	/* Getting ready for small appends makes no bulk segment. */
	log_expect(log, 1 << 20);
	assert_true(gets_ready(log, 5 << 20));
	assert_int_equal(bulk_segments(log), 1);
	/* It goes on in what is left, and then in a new one. */
	next = append_to(log, LOG_BULK, 65536, 4);
	assert_int_equal(next, pos + 65536);
	assert_int_equal(log_room(log, 0, LEFT, false), 0);
	assert_in_range(bulk_bytes(log), SEGMENT, SEGMENT + LEFT);
	for (int i = 0; i < LEFT / 65536; i++)
		(void)append_to(log, LOG_BULK, 65536, 5);
	assert_int_equal(log_flush(log, LOG_BULK, NULL), 0);
	assert_int_equal(stats_of(log).unprepared_segments, 0);
	/* The file is as long, too. */
	assert_int_equal(bulk_segments(log), 2);
	log_trim(log, false);
	pos = bulk_bytes(log);
	log = open_log(f->sim, &f->env);
	assert_int_equal(bulk_bytes(log), pos);
	assert_bytes(log, next, 65536, 4);
	assert_bytes(log, next - 65536, 65536, 3);
	log_close(log, false);
}

/* What the small head has in line and does not need is bulk data's, and not the
 * other way. */
static void test_a_full_host_gives_what_is_ahead(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	log_expect(f->log, 4 << 20);
	assert_true(gets_ready(f->log, 4 << 20));
	simdev_fill(f->sim);
	before = stats_of(f->log).segments;
	assert_int_equal(log_room(f->log, 0, 1 << 20, false), 0);
	assert_int_equal(stats_of(f->log).segments, before);
	assert_int_equal(log_room(f->log, 0, 64 << 20, false), -ENOSPC);
	assert_true(log_try_room(f->log, 65536, false));
	log_give_room(f->log, 65536, 0);
	simdev_set_capacity(f->sim, 0);
	assert_int_equal(log_room(f->log, 0, 4 << 20, false), 0);
	simdev_fill(f->sim);
	before = bulk_segments(f->log);
	assert_int_equal(log_room(f->log, 64 << 20, 0, false), -ENOSPC);
	assert_int_equal(bulk_segments(f->log), before);
}

/* More is appended than was prepared, so that what is being made right now will
 * not be used; then a sweep that finds nothing in use below the end. */
static void overtake(void *arg)
{
	struct fixture *f = arg;
	uint64_t late = stats_of(f->log).unprepared_segments, end;
	struct log_segment *segs;
	size_t n;

	while (stats_of(f->log).unprepared_segments == late)
		(void)append(f->log, 65536, 1);
	assert_int_equal(log_flush(f->log, LOG_SMALL, &end), 0);
	assert_int_equal(log_list_segments(f->log, &segs, &n), 0);
	for (size_t i = 0; i < n; i++) {
		uint64_t left = (end >> LOG_SEG_SHIFT) - segs[i].number;

		assert_int_not_equal(left, 2);
		if (segs[i].head == LOG_SMALL && left && left < 1 << 20)
			assert_int_equal(
				log_drop_segment(f->log, segs[i].number), 0);
	}
	free(segs);
}

static void test_a_sweep_leaves_what_is_being_made(void **state)
{
	struct fixture *f = *state;

	simdev_interrupt(f->sim, SIM_WRITE, 1, overtake, f);
	assert_int_equal(log_room(f->log, 16 << 20, 0, false), 0);
	assert_int_equal(stats_of(f->log).unprepared_segments, 1);
	(void)append(f->log, 100, 0x22);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
}

struct taker {
	pthread_t thread;
	struct log *log;
	enum log_head head;
	uint64_t times; /* it was given room */
	bool too_much; /* more was claimed than is prepared */
};

enum { TAKERS = 8, TAKEN_BYTES = 64 << 10, TAKES = 10000 };

static void *take(void *arg)
{
	struct taker *t = arg;
	bool bulk = t->head == LOG_BULK;

	while (!log_take_room(t->log, bulk ? 0 : TAKEN_BYTES,
			      bulk ? TAKEN_BYTES : 0, false))
		t->times++;
	return NULL;
}

static void *take_and_give(void *arg)
{
	struct taker *t = arg;

	for (int i = 0; i < TAKES; i++) {
		struct log_stats st;

		if (!log_try_room(t->log, 1 << 20, false))
			continue;
		log_get_stats(t->log, &st);
		t->too_much |= st.claimed_bytes > 4 << 20;
		log_give_room(t->log, 1 << 20, 0);
		t->times++;
	}
	return NULL;
}

/* On a full host; what was given together fits in what is prepared. */
static void take_all(struct fixture *f, enum log_head head)
{
	struct taker t[TAKERS];
	uint64_t sum = 0;

	for (int i = 0; i < TAKERS; i++) {
		t[i] = (struct taker){ .log = f->log, .head = head };
		assert_int_equal(
			pthread_create(&t[i].thread, NULL, take, &t[i]), 0);
	}
	for (int i = 0; i < TAKERS; i++) {
		assert_int_equal(pthread_join(t[i].thread, NULL), 0);
		sum += t[i].times * TAKEN_BYTES;
	}
	assert_true(sum);
	assert_int_equal(stats_of(f->log).claimed_bytes, sum);
	for (uint64_t at = 0; at < sum; at += 4096) {
		struct lbuf *b = lbuf_new(4096);
		uint64_t pos;

		assert_non_null(b);
		memset(b->data, 1, 4096);
		assert_int_equal(log_append(f->log, head, 4096, &b, 1, &pos),
				 0);
	}
	log_unclaim(f->log, head, sum);
	assert_int_equal(log_flush(f->log, head, NULL), 0);
	assert_int_equal(stats_of(f->log).unprepared_segments, 0);
}

static void test_room_is_taken_by_one(void **state)
{
	struct fixture *f = *state;
	struct taker t[TAKERS];

	assert_int_equal(log_room(f->log, 4 << 20, 4 << 20, false), 0);
	simdev_fill(f->sim);
	for (int i = 0; i < TAKERS; i++) {
		t[i] = (struct taker){ .log = f->log };
		assert_int_equal(pthread_create(&t[i].thread, NULL,
						take_and_give, &t[i]),
				 0);
	}
	for (int i = 0; i < TAKERS; i++) {
		assert_int_equal(pthread_join(t[i].thread, NULL), 0);
		assert_false(t[i].too_much);
	}
	take_all(f, LOG_SMALL);
	take_all(f, LOG_BULK);
	/* Nothing is kept where there is room for one half only. */
	assert_int_equal(log_take_room(f->log, 0, 64 << 20, false), -ENOSPC);
	assert_int_equal(log_take_room(f->log, 64, 64 << 20, false), -ENOSPC);
	assert_int_equal(stats_of(f->log).claimed_bytes, 0);
}

static const struct dev_ops *host_ops;
static unsigned int small_opened; /* files of small segments */

static int count_open(struct dev *dev, const char *name, bool write,
		      struct dev_file **out)
{
	small_opened += name[strlen(name) - 1] == 's';
	return host_ops->open(dev, name, write, out);
}

/* What was written and not flushed keeps its file, however many others are read
 * meanwhile: who opens it anew may not hear that it could not be written. */
static void test_a_written_file_is_flushed_itself(void **state)
{
	enum { SEGMENTS = LOG_OPEN_FILES + 8 };
	struct fixture *f = *state;
	struct dev *dev = simdev_dev(f->sim);
	struct dev_ops ops = *dev->ops;
	uint64_t at[SEGMENTS];

	for (int i = 0; i < SEGMENTS; i++) {
		at[i] = append_to(f->log, LOG_BULK, LOG_APPEND_MAX, i);
		(void)append_to(f->log, LOG_BULK, LOG_APPEND_MAX, i);
	}
	assert_int_equal(log_flush(f->log, LOG_BULK, NULL), 0);
	host_ops = dev->ops;
	ops.open = count_open;
	dev->ops = &ops;
	(void)append(f->log, 100, 1);
	assert_int_equal(log_write_out(f->log, LOG_SMALL), 0);
	small_opened = 0;
	for (int i = 0; i < SEGMENTS; i++)
		assert_bytes(f->log, at[i], 10, i);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	assert_int_equal(small_opened, 0);
	/* Flushed, it is closed like any. */
	for (int i = 0; i < SEGMENTS; i++)
		assert_bytes(f->log, at[i], 10, i);
	(void)append(f->log, 100, 1);
	assert_int_equal(log_write_out(f->log, LOG_SMALL), 0);
	assert_int_equal(small_opened, 1);
	dev->ops = host_ops;
}

/* Who asked hears of it, and the log goes on. */
static void test_what_is_wanted_stops_nothing(void **state)
{
	static const int errs[] = { ENOSPC, ENOMEM, EMFILE, ENFILE };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
		simdev_fail(f->sim, SIM_CREATE, 1, errs[i], false);
		assert_int_equal(log_room(f->log, 0, (i + 1) * (64 << 20),
					  LOG_USE),
				 -errs[i]);
		assert_true(simdev_has_failed(f->sim));
	}
	assert_int_equal(log_room(f->log, 0, 64 << 20, LOG_USE), 0);
	simdev_fail(f->sim, SIM_CREATE, 1, EIO, false);
	assert_int_equal(log_room(f->log, 0, 256 << 20, LOG_USE), -EIO);
	assert_int_equal(log_room(f->log, 0, 1, LOG_USE), -EROFS);
}

static void test_a_failed_flush_stops_the_log(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = append(f->log, 100, 1);
	uint64_t other;

	simdev_fail(f->sim, SIM_SYNC, 1, EIO, false);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), -EIO);
	assert_true(simdev_has_failed(f->sim));
	/* The device works again: still nothing is retried. */
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), -EIO);
	assert_int_equal(log_room(f->log, 1, 0, true), -EROFS);
	/* In memory, to be looked at. */
	other = append(f->log, 10, 2);
	assert_bytes(f->log, other, 10, 2);
	assert_bytes(f->log, pos, 100, 1);
}

/* --- writing out a part --- */

static uint64_t append_bulk(struct log *log, int byte)
{
	struct lbuf *b = lbuf_new(LOG_PAGE_BYTES);
	uint64_t pos = 0;

	assert_non_null(b);
	memset(b->data, byte, LOG_PAGE_BYTES);
	assert_int_equal(log_append(log, LOG_BULK, LOG_PAGE_BYTES, &b, 1, &pos),
			 0);
	return pos;
}

/* While somebody else writes. */
static void write_some_beside(void *arg)
{
	struct fixture *f = arg;
	uint64_t before = log_unwritten_bytes(f->log, LOG_BULK);

	assert_int_equal(log_write_some(f->log, LOG_BULK), 0);
	assert_int_equal(log_unwritten_bytes(f->log, LOG_BULK), before);
}

static void test_a_part_is_written_and_nobody_waited_for(void **state)
{
	enum { PAGES = 2000 };
	const uint64_t bytes = (uint64_t)PAGES * LOG_PAGE_BYTES;
	struct fixture *f = *state;
	uint64_t pos[PAGES], left = bytes, now;
	int n = 0;

	assert_int_equal(log_room(f->log, 0, bytes, false), 0);
	for (int i = 0; i < PAGES; i++)
		pos[i] = append_bulk(f->log, i & 0x7f);
	simdev_interrupt(f->sim, SIM_WRITE, 1, write_some_beside, f);
	for (; left; left = now, n++) {
		assert_int_equal(log_write_some(f->log, LOG_BULK), 0);
		now = log_unwritten_bytes(f->log, LOG_BULK);
		assert_true(now < left);
		assert_true(left - now <= 4 << 20);
	}
	assert_true(n > 1);
	assert_int_equal(log_write_some(f->log, LOG_BULK), 0);
	for (int i = 0; i < PAGES; i++)
		assert_bytes(f->log, pos[i], LOG_PAGE_BYTES, i & 0x7f);
}

/* --- moved files --- */

enum { PIECE = 64 << 20 };

/* A file of the host with a byte here and there. */
static int host_file(uint64_t bytes)
{
	FILE *t = tmpfile();
	int fd;

	assert_non_null(t);
	fd = dup(fileno(t));
	(void)fclose(t);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	for (uint64_t off = 0; off < bytes; off += PIECE) {
		uint8_t mark = (uint8_t)(1 + off / PIECE);

		assert_int_equal(pwrite(fd, &mark, 1, (off_t)off), 1);
	}
	assert_int_equal(pwrite(fd, "z", 1, (off_t)bytes - 1), 1);
	return fd;
}

static uint8_t byte_at(struct log *log, uint64_t number, uint64_t off)
{
	uint8_t b = 0;

	assert_int_equal(log_read(log, log_moved_pos(number, off), &b, 1), 0);
	return b;
}

static uint64_t adopt(struct fixture *f, uint64_t bytes)
{
	uint64_t number = 0;
	int fd = host_file(bytes);

	assert_int_equal(log_adopt(f->log, fd, bytes, &number), 0);
	assert_int_equal(log_sync_names(f->log), 0);
	close(fd);
	return number;
}

static void reopen(struct fixture *f, enum sim_mode mode)
{
	struct simdev *img = simdev_image(f->sim, simdev_ops(f->sim), mode, 11);

	assert_non_null(img);
	log_close(f->log, false);
	simdev_free(f->sim);
	f->sim = img;
	f->log = open_log(img, &f->env);
}

/* Across its pieces, up to the end of its last page and not beyond, while
 * appends wait before and behind it; the same after a power cut. */
static void test_a_moved_file_is_bulk_data(void **state)
{
	struct fixture *f = *state;
	const uint64_t bytes = 2 * (uint64_t)PIECE + 5000;
	uint64_t before, number, behind;
	uint8_t page[LOG_PAGE_BYTES];

	assert_int_equal(log_room(f->log, 0, 1 << 20, false), 0);
	before = append_bulk(f->log, 7);
	number = adopt(f, bytes);
	assert_true(log_head_of(log_moved_pos(number, 0)) == LOG_BULK);
	for (int i = 0; i < 2; i++)
		behind = append_bulk(f->log, 8);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(byte_at(f->log, number, 0), 1);
		assert_int_equal(byte_at(f->log, number, PIECE - 1), 0);
		assert_int_equal(byte_at(f->log, number, PIECE), 2);
		assert_int_equal(byte_at(f->log, number, 2 * PIECE), 3);
		assert_int_equal(byte_at(f->log, number, bytes - 1), 'z');
		assert_int_equal(
			log_read(f->log,
				 log_moved_pos(number, 2 * PIECE + 4096), page,
				 sizeof(page)),
			0);
		assert_int_equal(page[5000 - 4096 - 1], 'z');
		assert_int_equal(page[5000 - 4096], 0);
		assert_int_equal(page[sizeof(page) - 1], 0);
		assert_int_equal(
			log_read(f->log,
				 log_moved_pos(number, 2 * PIECE + 8192), page,
				 1),
			-ENXIO);
		if (round)
			break;
		assert_bytes(f->log, before, LOG_PAGE_BYTES, 7);
		assert_bytes(f->log, behind, LOG_PAGE_BYTES, 8);
		reopen(f, SIM_DROP);
	}
	/* What is made next lies above all of it. */
	assert_int_equal(log_start(f->log, LOG_USE), 0);
	assert_int_equal(log_room(f->log, 0, 4096, false), 0);
	assert_true(append_bulk(f->log, 9) > log_moved_pos(number, bytes));
}

/* Not by recovery: by a sweep, when all of its pieces are dead. */
static void test_a_moved_file_goes_with_its_last_piece(void **state)
{
	struct fixture *f = *state;
	uint64_t number = adopt(f, PIECE + 4096), freed = 0, other, bytes;
	char name[DEV_NAME_MAX];

	reopen(f, SIM_KEEP);
	assert_int_equal(log_start(f->log, LOG_USE), 0);
	assert_int_equal(log_discard_after(f->log, 0, 0), 0);
	assert_int_equal(byte_at(f->log, number, PIECE), 2);
	assert_int_equal(log_punch(f->log, log_moved_pos(number, PIECE), 4096,
				   &freed),
			 0);
	assert_int_equal(freed, 4096);
	assert_int_equal(byte_at(f->log, number, PIECE), 0);
	assert_int_equal(byte_at(f->log, number, 0), 1);
	assert_int_equal(log_get_moved(f->log, log_moved_pos(number, PIECE),
				       &other, &bytes, name),
			 0);
	assert_int_equal(other, number);
	assert_int_equal(bytes, PIECE + 4096);
	log_begin_dropping(f->log);
	assert_int_equal(log_drop_segment(f->log, number + 2), 1);
	log_begin_dropping(f->log);
	assert_int_equal(log_drop_segment(f->log, number), 1);
	assert_int_equal(byte_at(f->log, number, 0), 1);
	log_begin_dropping(f->log);
	assert_int_equal(log_drop_segment(f->log, number + 2), 1);
	assert_int_equal(log_drop_segment(f->log, number), 0);
	assert_false(log_is_moved(f->log, log_moved_pos(number, 0)));
	assert_false(log_is_moved(f->log, log_moved_pos(number, PIECE)));
	reopen(f, SIM_KEEP);
	assert_false(log_is_moved(f->log, log_moved_pos(number, 0)));
}

/* Cut short, and names that somebody made up. */
static void test_odd_moved_files(void **state)
{
	static const char *const names[] = {
		"log/0000000000000005-0.m",
		"log/0000000000000005-.m",
		"log/0000000000000006-1000.m", /* small */
		"log/0000000000000001-1000.m",
		"log/ffffffffffffffff-1000.m",
		"log/0000003fffffffff-fffffffff.m", /* past all numbers */
		"log/0000000000000005-1000.b",
		"log/0000000000000005-01000.m",
	};
	struct fixture *f = *state;
	struct dev *dev = simdev_dev(f->sim);
	uint64_t number = adopt(f, 2 * (uint64_t)PIECE);
	struct dev_file *file;
	char name[DEV_NAME_MAX];
	struct log_stats st;
	uint64_t n, bytes, segments;

	assert_int_equal(log_get_moved(f->log, log_moved_pos(number, 0), &n,
				       &bytes, name),
			 0);
	log_get_stats(f->log, &st);
	segments = st.segments;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(dev->ops->create(dev, names[i], &file), 0);
		dev->ops->close(file);
	}
	/* Large by its name only; and one with numbers that are taken. */
	assert_int_equal(
		dev->ops->create(dev, "log/0000000000100001-fffffffffffff.m",
				 &file),
		0);
	dev->ops->close(file);
	(void)snprintf(name + strlen("log/") + 17, 16, "1000.m");
	assert_int_equal(dev->ops->create(dev, name, &file), 0);
	dev->ops->close(file);
	assert_int_equal(dev->ops->sync_dir(dev, "log"), 0);
	reopen(f, SIM_KEEP);
	log_get_stats(f->log, &st);
	assert_int_equal(st.segments, segments);
	assert_int_equal(log_start(f->log, LOG_USE), 0);
	assert_int_equal(log_room(f->log, 0, 4096, false), 0);
	assert_true(append_bulk(f->log, 9) >
		    log_moved_pos(0x100001, 1ull << 51));
}

static void test_adopting_fails_whole(void **state)
{
	struct fixture *f = *state;
	int fd = host_file(3 * (uint64_t)PIECE);
	uint64_t number;
	struct log_stats a, b;

	log_get_stats(f->log, &a);
	simdev_fail(f->sim, SIM_LINK, 1, EMLINK, false);
	assert_int_equal(log_adopt(f->log, fd, 3 * (uint64_t)PIECE, &number),
			 -EMLINK);
	log_get_stats(f->log, &b);
	assert_int_equal(a.segments, b.segments);
	assert_int_equal(log_error(f->log, NULL), 0);
	close(fd);
}

static uint64_t bytes_of_files(struct simdev *sim)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < simdev_file_count(sim); i++)
		bytes += simdev_file_bytes(sim, i);
	return bytes;
}

/* What frees space takes less than a segment, where the host has no more; its
 * file is as long as any. */
static void test_a_part_of_a_segment_frees_space(void **state)
{
	enum { PART_BYTES = LOG_SEG_MIN_BYTES - (64 << 10), NEED = 65536 };
	struct fixture *f = *state;
	struct dev *dev = simdev_dev(f->sim);
	uint64_t prepared, files;
	struct dev_file *spare;

	assert_int_equal(dev->ops->create(dev, "spare", &spare), 0);
	assert_int_equal(dev->ops->allocate(spare, 0, PART_BYTES), 0);
	dev->ops->close(spare);
	simdev_fill(f->sim);
	assert_int_equal(log_room(f->log, 16 << 20, 0, LOG_USE_TO_FREE),
			 -ENOSPC);
	assert_int_equal(dev->ops->remove(dev, "spare"), 0);
	prepared = stats_of(f->log).prepared_bytes;
	files = bytes_of_files(f->sim);
	assert_int_equal(log_room(f->log, prepared + NEED, 0, LOG_USE),
			 -ENOSPC);
	assert_int_equal(bytes_of_files(f->sim), files);
	assert_int_equal(log_room(f->log, prepared + NEED, 0, LOG_USE_TO_FREE),
			 0);
	assert_int_equal(bytes_of_files(f->sim), files + LOG_SEG_MIN_BYTES);
	assert_int_equal(stats_of(f->log).prepared_bytes,
			 prepared + PART_BYTES - LOG_APPEND_MAX);
	for (uint64_t i = 0; i < prepared + NEED; i += LOG_PAGE_BYTES)
		(void)append(f->log, LOG_PAGE_BYTES, 1);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	assert_int_equal(stats_of(f->log).unprepared_segments, 0);
}

/* --- a clone that the host refuses, while somebody flushes --- */

enum { CLONE_BYTES = 2 * LOG_PAGE_BYTES };

/* The device with a clone that fails once a flush has begun beside it. */
struct refusing {
	struct dev_ops ops;
	struct log *log;
	uint64_t tail; /* before the clone */
	pthread_t flusher;
};

static struct refusing *refusing;

static void *flush_beside(void *arg)
{
	struct refusing *r = arg;

	return log_flush(r->log, LOG_BULK, NULL) ? r : NULL;
}

static int refuse_clone(struct dev_file *f, uint64_t off, int src_fd,
			uint64_t src_off, uint64_t len)
{
	const struct timespec moment = { .tv_nsec = 20000000 };

	assert_int_equal(log_tail(refusing->log, LOG_BULK),
			 refusing->tail + CLONE_BYTES);
	assert_int_equal(pthread_create(&refusing->flusher, NULL, flush_beside,
					refusing),
			 0);
	/* It has nothing to show before it waits for the lock that the clone
	 * holds. */
	nanosleep(&moment, NULL);
	return -EOPNOTSUPP;
}

/* What the flush has taken for the end of the log is not given out again. */
static void test_a_refused_clone_beside_a_flush(void **state)
{
	struct fixture *f = *state;
	struct dev *dev = simdev_dev(f->sim);
	const struct dev_ops *ops = dev->ops;
	struct refusing r = { .ops = *ops, .log = f->log };
	uint64_t pos, flushed;
	void *failed;

	assert_int_equal(log_room(f->log, 0, 65536, LOG_USE), 0);
	(void)append_to(f->log, LOG_BULK, LOG_PAGE_BYTES, 1);
	r.tail = log_tail(f->log, LOG_BULK);
	r.ops.clone = refuse_clone;
	refusing = &r;
	dev->ops = &r.ops;
	assert_int_equal(log_clone_in(f->log, 0, 0, CLONE_BYTES, &pos),
			 -EOPNOTSUPP);
	dev->ops = ops;
	pos = append_to(f->log, LOG_BULK, LOG_PAGE_BYTES, 2);
	assert_int_equal(pthread_join(r.flusher, &failed), 0);
	assert_null(failed);
	assert_true(pos >= log_flushed(f->log, LOG_BULK));
	assert_int_equal(log_flush(f->log, LOG_BULK, &flushed), 0);
	assert_true(flushed >= pos + LOG_PAGE_BYTES);
	assert_true(flushed <= log_tail(f->log, LOG_BULK));
	assert_bytes(f->log, pos, LOG_PAGE_BYTES, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_flushed_bytes_survive_a_power_cut, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_read_joins_the_file_and_what_waits, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_writing_behind_leaves_little, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_trimming_keeps_what_is_claimed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_what_a_burst_took_is_prepared, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_trimming_cuts_the_last_bulk_segment, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_full_host_gives_what_is_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_sweep_leaves_what_is_being_made, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_written_file_is_flushed_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_what_is_wanted_stops_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_failed_flush_stops_the_log, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_part_is_written_and_nobody_waited_for, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_a_moved_file_is_bulk_data,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_moved_file_goes_with_its_last_piece, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_odd_moved_files, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_adopting_fails_whole,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_part_of_a_segment_frees_space, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_refused_clone_beside_a_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_room_is_taken_by_one,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
