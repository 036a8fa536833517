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

static const struct verb {
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

static size_t line_length(const char *buf, size_t len)
{
	const char *nl = memchr(buf, '\n', len);

	return nl ? (size_t)(nl - buf) : len;
}

/* NULL: unknown. */
static const struct verb *verb_at(const char *buf, size_t len, size_t *next)
{
	size_t n = word_at(buf, len, next);

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strlen(verbs[i].name) == n &&
		    !memcmp(verbs[i].name, buf, n))
			return &verbs[i];
	return NULL;
}

int ctl_parse_line(const char *buf, size_t len, struct ctl_command *out,
		   size_t *used_out)
{
	size_t line = line_length(buf, len), next;
	const struct verb *v;

	if (line > CTL_LINE_MAX || !is_text(buf, line))
		return -EINVAL;
	*used_out = line + (line < len);
	while (line && is_blank(buf[line - 1]))
		line--;
	v = verb_at(buf, line, &next);
	if (!v)
		return -EINVAL;
	out->verb = v->verb;
	return parse_args(buf + next, line - next, v->args, out);
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

static const char *takes(enum args args)
{
	switch (args) {
	case NOTHING:
		return "takes nothing after it";
	case ONE_WORD:
		return "takes one word";
	case TWO_WORDS:
		return "takes two words";
	case WORD_AND_TEXT:
		return "takes a word, and text";
	default:
		return "takes text";
	}
}

void ctl_explain(const char *buf, size_t len, char *out, size_t size)
{
	struct ctl_command c;
	size_t at = 0, used, line, next, number = 1;
	const struct verb *v;
	int n = 0;

	while (at < len && !ctl_parse_line(buf + at, len - at, &c, &used)) {
		at += used;
		number++;
	}
	line = line_length(buf + at, len - at);
	v = verb_at(buf + at, line, &next);
	if (line_length(buf, len) + 1 < len) /* more than one */
		n = snprintf(out, size, "line %zu: ", number);
	if (n < 0 || (size_t)n >= size)
		return;
	out += n;
	size -= (size_t)n;
	if (line > CTL_LINE_MAX)
		snprintf(out, size, "longer than %d bytes", CTL_LINE_MAX);
	else if (!is_text(buf + at, line))
		snprintf(out, size,
			 "not text: UTF-8 without control characters is "
			 "wanted");
	else if (v)
		snprintf(out, size, "%s %s; see txnfs(8)", v->name,
			 takes(v->args));
	else if (!line)
		snprintf(out, size, "an empty line is not a command");
	else
		snprintf(out, size, "%.*s is not a command; see txnfs(8)",
			 (int)word_at(buf + at, line, &next), buf + at);
}
