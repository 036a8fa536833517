/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ctl_parse.c - see ctl_parse.h. */
#include "fs/ctl_parse.h"

#include "fs/utf8.h"

/* What follows the verb. */
enum args {
	NOTHING,
	TEXT_OR_NOTHING, /* all of the line */
	ONE_WORD,
	TWO_WORDS,
	WORD_AND_TEXT, /* the text may be missing */
};

static const struct {
	const char *name;
	enum ctl_verb verb;
	enum args args;
} verbs[] = {
	{ "commit", CTL_COMMIT, TEXT_OR_NOTHING },
	{ "abort", CTL_ABORT, NOTHING },
	{ "snapshot", CTL_SNAPSHOT, WORD_AND_TEXT },
	{ "tag", CTL_TAG, TWO_WORDS },
	{ "delete", CTL_DELETE, ONE_WORD },
	{ "restore", CTL_RESTORE, WORD_AND_TEXT },
	{ "rollback", CTL_ROLLBACK, ONE_WORD },
	{ "undo", CTL_UNDO, NOTHING },
	{ "gc", CTL_GC, NOTHING },
	{ "set", CTL_SET, TWO_WORDS },
	{ "sync", CTL_SYNC, NOTHING },
	{ "diff", CTL_DIFF, TWO_WORDS },
	{ "names", CTL_NAMES, NOTHING },
	{ "verify", CTL_VERIFY, NOTHING },
};

const char *ctl_verb_name(enum ctl_verb verb)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (verbs[i].verb == verb)
			return verbs[i].name;
	return "?";
}

static bool is_text(const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = s[i] == '\t' ? 1 : utf8_printable(s + i, len - i);

		if (!n)
			return false;
		i += n;
	}
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The word at buf, and what follows it and the blanks behind. */
static size_t word_at(const char *buf, size_t len, size_t *next)
{
	size_t n = 0;

	while (n < len && !is_blank(buf[n]))
		n++;
	*next = n;
	while (*next < len && is_blank(buf[*next]))
		(*next)++;
	return n;
}

static int parse_args(const char *s, size_t len, enum args args,
		      struct ctl_command *out)
{
	size_t next, n = word_at(s, len, &next);

	out->word = s;
	out->word_len = 0;
	out->arg = s;
	out->arg_len = len;
	if (args == NOTHING)
		return len ? -EINVAL : 0;
	if (args == TEXT_OR_NOTHING)
		return 0;
	if (args == ONE_WORD)
		return len && n == len ? 0 : -EINVAL;
	out->word_len = n;
	out->arg = s + next;
	out->arg_len = len - next;
	if (!n)
		return -EINVAL;
	if (args == TWO_WORDS &&
	    (!out->arg_len ||
	     word_at(out->arg, out->arg_len, &next) != out->arg_len))
		return -EINVAL;
	return 0;
}

int ctl_parse_line(const char *buf, size_t len, struct ctl_command *out,
		   size_t *used_out)
{
	const char *nl = memchr(buf, '\n', len);
	size_t line = nl ? (size_t)(nl - buf) : len;
	size_t n, next;

	if (line > CTL_LINE_MAX || !is_text(buf, line))
		return -EINVAL;
	*used_out = line + (nl != NULL);
	while (line && is_blank(buf[line - 1]))
		line--;
	n = word_at(buf, line, &next);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strlen(verbs[i].name) != n ||
		    memcmp(verbs[i].name, buf, n) != 0)
			continue;
		out->verb = verbs[i].verb;
		return parse_args(buf + next, line - next, verbs[i].args, out);
	}
	return -EINVAL;
}

int ctl_check(const char *buf, size_t len)
{
	if (!len)
		return -EINVAL;
	for (size_t at = 0; at < len;) {
		struct ctl_command c;
		size_t used;
		int err = ctl_parse_line(buf + at, len - at, &c, &used);

		if (err)
			return err;
		at += used;
	}
	return 0;
}
