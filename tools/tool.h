/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool.h - what the commands of txn share. A command is one file with one
 * function cmd_NAME(argc, argv), argv[0] being the command's name; its result
 * is the exit status.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <jansson.h>

#include "fs/fs.h"

enum {
	EXIT_USAGE = 2,
	EXIT_REFUSED = 3, /* refused, or in conflict with something */
	EXIT_DAMAGE = 4,
	EXIT_NOT_RUN = 127, /* tool_run()'s */
	JSON_FORMAT = 1
};

struct tool_command {
	const char *name;
	const char *args; /* for the usage line */
	const char *summary; /* one line */
	const char *help; /* the options, line by line */
	int (*run)(int argc, char **argv);
};

extern const struct tool_command tool_commands[]; /* ends with name NULL */
/* -C DIR, or "." */
extern const char *tool_start_dir;

int cmd_init(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_commit(int argc, char **argv);
int cmd_abort(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_snapshots(int argc, char **argv);
int cmd_tag(int argc, char **argv);
int cmd_delete(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_rollback(int argc, char **argv);
int cmd_undo(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_cat(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_sync(int argc, char **argv);
int cmd_eject(int argc, char **argv);
int cmd_rescue(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_set(int argc, char **argv);

/* --- messages: "txn: ...", returns status --- */

int tool_fail(int status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/*
 * Tell which processes hold files that a switch to a state (NULL: head) would
 * change, and ask on a terminal. path: only below it (NULL: all). 0: go on;
 * else an exit status.
 */
struct place;
int tool_ask_holders(const struct place *p, const char *state, const char *path,
		     bool force);
/* After a question on the terminal: 0: yes; else a status (told). */
int tool_confirm(void);
/* Options are only --force; -1: others. */
int tool_parse_force(int argc, char **argv, bool *force);
/* There are none, but maybe "--"; optind is behind it. What follows the first
 * operand is no option. -1: others. */
int tool_parse_none(int argc, char **argv);
/* A message that cannot be one is told: EXIT_USAGE; else 0. */
int tool_check_message(const char *message);
/* Usage of a command on stderr, EXIT_USAGE. */
int tool_usage(const char *name);
/* The exit status for an errno. */
int tool_status(int err);
/* Absolute, without symlinks; free(). NULL: told. */
char *tool_realpath(const char *path);
/* In a mount whose daemon is gone. */
bool tool_is_dead(const char *path);

/* Run a program, in dir unless that is NULL. Its exit status; EXIT_NOT_RUN: it
 * cannot be run. */
int tool_run(char *const argv[], const char *dir);
/* The same, out of reach of what a terminal sends to all that run in it. */
int tool_run_alone(char *const argv[]);

/* --- where the store is --- */

struct place {
	char *dir; /* has .txn, on disk or in the mount */
	char *mount; /* root of the mount; NULL: not mounted */
	long pid; /* of the daemon, when known */
};

/* From start upwards. 0, or a status (told). */
int place_find(const char *start, struct place *out);
/* What was named as DIR, itself, not what it lies in: for what would unmount or
 * end that. NULL: the same as place_find(tool_start_dir). */
int place_find_dir(const char *dir, struct place *out);
void place_release(struct place *p);
/* The folder of the store of a place that is not mounted, and DIR: descriptors.
 * A negative errno, not told. */
int place_open_store(const struct place *p, int *dirfd_out);
/* A path in the mount's .txn; free(). */
char *place_txn(const struct place *p, const char *name);

/* The store of a place that is not mounted, read-only. */
struct reader {
	struct env env;
	struct dev *dev;
	struct holder *holder;
	struct store *store;
	struct fs *fs;
};

int reader_open(const struct place *p, struct reader *r);
/* The same, alone, and healing what is read. */
int reader_open_repairing(const struct place *p, struct reader *r);
void reader_close(struct reader *r);

/* Mount it where nobody sees it: a descriptor of the root. 0, or a status
 * (told). */
int mount_aside(const struct place *p, bool read_only, int *fd_out);
/* Let it end, and wait until it has. */
int mount_aside_end(const struct place *p, int mount_fd);

/* Move a directory's files into a store, or go on with that (init.c). 0, or a
 * status (told). */
int tool_move_in(const char *dir, bool quiet, bool *resumed_out);

/* --- DIR's own files (sync.c) --- */

/* Let them follow the last commit. 0, or a status (told); what cannot be made
 * there is told, and no failure. */
int tool_sync(const struct place *p);
/* What they show: the object of .txn/status; NULL: told. */
json_t *plain_json(const struct place *p);
json_t *plain_json_of(struct reader *r);
/* Told, and a failure, when DIR does not have all of the last commit. */
int plain_missing(const json_t *j);
/* The same as words, in one line. */
void plain_words(const json_t *j, char *buf, size_t size);

/* --- ctl --- */

/* Give the mount one command line (without newline); *head_out and *nothing_out
 * from its answer. 0, or a status (told). */
int ctl_command(const struct place *p, const char *line, uint64_t *head_out,
		bool *nothing_out);

/* The same; the whole answer, free() it. */
int ctl_ask(const struct place *p, const char *line, char **answer_out);
/* Cut a line into fields at tabs, in place; missing ones are "". *next_out: the
 * next line. Returns fields. */
char **tool_fields(char *line, size_t want, char **fields, char **next_out);
/* "/a//b/./c/" as "a/b/c", in place; false, and as it was: it has a "..". */
bool tool_tidy_path(char *path);
/* Where a mount shows a state: a path, free(); NULL: it has none. */
char *place_state(const struct place *p, const char *name);
/* Can a state have that name? Then it is one word of a line for ctl, of
 * STORE_NAME_MAX bytes at most. */
bool tool_may_be_state(const char *name);
/* Are names of the mount's root to be copied one by one, since .txn is among
 * them? Only then (-o ctldir=visible). */
bool place_lists_txn(const struct place *p);
/* Told: there is no such state; the place is not mounted. A status. */
int tool_no_state(const char *name);
int tool_not_mounted(const struct place *p);

/* --- output --- */

/* A path as a JSON value: a string where it is UTF-8; else quoted, and
 * *raw_out its bytes in base64 (else NULL). */
json_t *json_path(const char *path, json_t **raw_out);
/* For a message, quoted where it has to be, "" too; a long one is cut. */
const char *shorten(const char *s, char buf[4 * STORE_NAME_MAX]);
/* To standard output, quoted where it has to be. */
void print_quoted(const char *s);
int json_print(json_t *j); /* takes the reference */
void time_text(int64_t ns, char buf[32]);
/* Whole small file; free(). NULL: told. */
char *read_text(const char *path);

#endif
