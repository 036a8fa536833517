/* SPDX-License-Identifier: GPL-2.0-or-later */
/* verify.c - txn verify: is every byte that is kept what it was? */
#include "tools/tool.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

struct bar {
	struct timespec start;
	bool tty, shown;
	int64_t last_ms;
};

static int64_t ms_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 +
	       (now.tv_nsec - start->tv_nsec) / 1000000;
}

static void show_bar(struct bar *b, uint64_t bytes, uint64_t total)
{
	int64_t ms = ms_since(&b->start);
	uint64_t rate = ms > 0 ? bytes * 1000 / (uint64_t)ms : 0;

	if (!b->tty || ms - b->last_ms < 200 || !total)
		return;
	b->last_ms = ms;
	b->shown = true;
	fprintf(stderr,
		"\r%3" PRIu64 "%%  %" PRIu64 " MiB  %" PRIu64 " MiB/s  %" PRIu64
		" s left   ",
		bytes < total ? bytes * 100 / total : 100, bytes >> 20,
		rate >> 20, rate && bytes < total ? (total - bytes) / rate : 0);
	fflush(stderr);
}

static void print_place(const char *how, const char *state, const char *path,
			const char *what)
{
	printf("%s: %s%s", how, state, path ? ":" : "");
	print_quoted(path ? path : "");
	printf(": %s\n", what);
}

static void print_damaged(void *arg, const char *state, const char *path,
			  const char *what)
{
	print_place("damaged", state, path, what);
}

static void print_healed(void *arg, const char *state, const char *path,
			 const char *what)
{
	print_place("healed", state, path, what);
}

static int result(const struct bar *b, uint64_t states, uint64_t bytes,
		  uint64_t damaged)
{
	int64_t ms = ms_since(&b->start);

	if (b->shown)
		fputc('\n', stderr);
	printf("verified %" PRIu64 " states, %" PRIu64 " bytes in %" PRId64
	       " ms (%" PRIu64 " MiB/s): %" PRIu64 " damaged places\n",
	       states, bytes, ms,
	       (bytes * 1000 / (uint64_t)(ms ? ms : 1)) >> 20, damaged);
	return damaged ? EXIT_DAMAGE : 0;
}

/* --- offline --- */

static int on_progress(void *arg, const struct fs_verify_stats *st)
{
	show_bar(arg, st->bytes, st->total_bytes);
	return 0;
}

static int verify_store(const struct place *p, struct bar *b, bool repair)
{
	struct fs_verify_params vp = { .damaged = print_damaged,
				       .progress = on_progress,
				       .healed = print_healed,
				       .plain_fd = -1,
				       .arg = b };
	struct fs_verify_stats st;
	struct reader r;
	int err, status;

	status = repair ? reader_open_repairing(p, &r) : reader_open(p, &r);
	if (status)
		return status;
	if (repair)
		vp.plain_fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = fs_verify(r.fs, &vp, &st);
	reader_close(&r);
	if (vp.plain_fd >= 0)
		close(vp.plain_fd);
	if (err)
		return tool_fail(tool_status(err), "verify: %s",
				 strerror(-err));
	if (repair)
		printf("healed %" PRIu64 " blocks, %" PRIu64 " nodes, %" PRIu64
		       " records\n",
		       st.healed_blocks, st.healed_nodes, st.healed_records);
	return result(b, st.states, st.bytes, st.damaged);
}

/* --- through the mount: the daemon does it; status tells how far --- */

struct watcher {
	const struct place *p;
	struct bar *b;
	pthread_mutex_t lock; /* guards stop */
	pthread_cond_t cond;
	bool stop;
};

static void look_once(struct watcher *w, const char *path)
{
	char *text = read_text(path);
	json_t *j = text ? json_loads(text, 0, NULL) : NULL;
	const json_t *v = json_object_get(j, "verify");

	show_bar(w->b,
		 (uint64_t)json_integer_value(json_object_get(v, "bytes")),
		 (uint64_t)json_integer_value(json_object_get(v, "total")));
	json_decref(j);
	free(text);
}

static void *watch(void *arg)
{
	struct watcher *w = arg;
	char *path = place_txn(w->p, "status");

	pthread_mutex_lock(&w->lock);
	while (!w->stop && path) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 300000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&w->cond, &w->lock, &until);
		if (!w->stop)
			look_once(w, path);
	}
	pthread_mutex_unlock(&w->lock);
	free(path);
	return NULL;
}

static int ask_watched(const struct place *p, struct bar *b, char **answer)
{
	struct watcher w = { .p = p, .b = b };
	pthread_condattr_t attr;
	bool watching;
	pthread_t t;
	int status;

	pthread_mutex_init(&w.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w.cond, &attr);
	pthread_condattr_destroy(&attr);
	watching = b->tty && !pthread_create(&t, NULL, watch, &w);
	status = ctl_ask(p, "verify", answer);
	if (!watching)
		return status;
	pthread_mutex_lock(&w.lock);
	w.stop = true;
	pthread_cond_signal(&w.cond);
	pthread_mutex_unlock(&w.lock);
	pthread_join(t, NULL);
	return status;
}

static int verify_mount(const struct place *p, struct bar *b)
{
	char *answer = NULL, *next, *f[6];
	uint64_t states = 0, bytes = 0, damaged = 0;
	int status;

	status = ask_watched(p, b, &answer);
	if (status)
		return status;
	for (char *line = answer; *line && *line != '{'; line = next) {
		tool_fields(line, 6, f, &next);
		if (!strcmp(f[0], "verified")) {
			states = strtoull(f[1], NULL, 10);
			bytes = strtoull(f[4], NULL, 10);
			damaged = strtoull(f[5], NULL, 10);
			continue;
		}
		(void)fs_unquote_path(f[2]);
		print_damaged(NULL, f[1], *f[2] ? f[2] : NULL, f[3]);
	}
	free(answer);
	return result(b, states, bytes, damaged);
}

int cmd_verify(int argc, char **argv)
{
	static const struct option options[] = {
		{ "repair", no_argument, NULL, 'r' }, { 0 }
	};
	struct bar b = { .tty = isatty(2) };
	bool repair = false;
	struct place p;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'r')
			return tool_usage(argv[0]);
		repair = true;
	}
	if (optind < argc)
		return tool_usage(argv[0]);
	clock_gettime(CLOCK_MONOTONIC, &b.start);
	status = place_find(tool_start_dir, &p);
	if (!status && p.mount && repair)
		status = tool_fail(EXIT_REFUSED,
				   "%s is mounted; unmount it for --repair: "
				   "txn umount %s",
				   p.dir, p.mount);
	else if (!status)
		status = p.mount ? verify_mount(&p, &b)
				 : verify_store(&p, &b, repair);
	place_release(&p);
	return status;
}
