/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl_parse.h - what one write to .txn/ctl asks for: commands, one for each
 * line, the last with or without a newline. All lines are judged before the
 * first is done, so that a malformed one changes nothing.
 */
#ifndef FS_CTL_PARSE_H
#define FS_CTL_PARSE_H

#include "txn/base.h"

/* A path of PATH_MAX bytes, each as an escape of four, and what precedes. */
enum { CTL_LINE_MAX = 20000 };

enum ctl_verb {
	CTL_COMMIT,
	CTL_ABORT,
	CTL_SNAPSHOT,
	CTL_TAG,
	CTL_DELETE,
	CTL_RESTORE,
	CTL_ROLLBACK,
	CTL_UNDO,
	CTL_GC,
	CTL_SET,
	CTL_SYNC,
	/* Questions, for the tool: the answer is lines of text. */
	CTL_DIFF,
	CTL_NAMES,
	CTL_VERIFY
};

struct ctl_command {
	enum ctl_verb verb;
	/* Into the input, not NUL-terminated. word: the first of two arguments;
	 * arg: the rest, or the only one. Lengths 0: none. */
	const char *word, *arg;
	size_t word_len, arg_len;
};

/*
 * The command of the line that starts at buf (len > 0): 0, *used_out is what it
 * takes of the input, its newline included. -EINVAL: unknown, empty, too long,
 * not text (control bytes but tab, invalid UTF-8), too many or too few
 * arguments.
 */
int ctl_parse_line(const char *buf, size_t len, struct ctl_command *out,
		   size_t *used_out);
/* Every line of a write: 0 or -EINVAL. An empty write is invalid. */
int ctl_check(const char *buf, size_t len);

/* Why a write is refused, for people: which line, and what of it. */
void ctl_explain(const char *buf, size_t len, char *out, size_t size);

const char *ctl_verb_name(enum ctl_verb verb);

#endif
