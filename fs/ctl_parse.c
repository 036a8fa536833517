/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ctl_parse.c - see ctl_parse.h. */
#include "fs/ctl_parse.h"

#include "fs/utf8.h"

static const struct {
	const char *name;
	enum ctl_verb verb;
	bool takes_arg;
} verbs[] = {
	{ "commit", CTL_COMMIT, true },
	{ "abort", CTL_ABORT, false },
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

int ctl_parse_line(const char *buf, size_t len, struct ctl_command *out,
		   size_t *used_out)
{
	const char *nl = memchr(buf, '\n', len);
	size_t line = nl ? (size_t)(nl - buf) : len;
	size_t word = 0, arg;

	if (line > CTL_LINE_MAX || !is_text(buf, line))
		return -EINVAL;
	*used_out = line + (nl != NULL);
	while (line && is_blank(buf[line - 1]))
		line--;
	while (word < line && !is_blank(buf[word]))
		word++;
	arg = word;
	while (arg < line && is_blank(buf[arg]))
		arg++;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strlen(verbs[i].name) != word ||
		    memcmp(verbs[i].name, buf, word) != 0)
			continue;
		if (arg < line && !verbs[i].takes_arg)
			return -EINVAL;
		*out = (struct ctl_command){ .verb = verbs[i].verb,
					     .arg = buf + arg,
					     .arg_len = line - arg };
		return 0;
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
