/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/ctl_parse.h"
#include "fs/utf8.h"

#include "tests/lib/test.h"

static int check(const char *s)
{
	return ctl_check(s, strlen(s));
}

static void test_commands(void **state)
{
	struct ctl_command c;
	const char *s = "commit  a message \nabort";
	size_t used;

	assert_int_equal(ctl_parse_line(s, strlen(s), &c, &used), 0);
	assert_int_equal(c.verb, CTL_COMMIT);
	assert_int_equal(c.arg_len, strlen("a message"));
	assert_memory_equal(c.arg, "a message", c.arg_len);
	assert_int_equal(used, 19);
	s += used;
	assert_int_equal(ctl_parse_line(s, strlen(s), &c, &used), 0);
	assert_int_equal(c.verb, CTL_ABORT);
	assert_int_equal(c.arg_len, 0);
	assert_int_equal(used, 5);
	assert_int_equal(check("commit"), 0);
	assert_int_equal(check("commit\n"), 0);
	assert_int_equal(check("abort \n"), 0);
	assert_int_equal(check("commit gr\xc3\xb6\xc3\x9f"
			       "er\n"),
			 0);
}

static void test_arguments(void **state)
{
	struct ctl_command c;
	const char *s = "restore  before   dir/a file ";
	size_t used;

	assert_int_equal(ctl_parse_line(s, strlen(s), &c, &used), 0);
	assert_int_equal(c.verb, CTL_RESTORE);
	assert_int_equal(c.word_len, 6);
	assert_memory_equal(c.word, "before", 6);
	assert_int_equal(c.arg_len, strlen("dir/a file"));
	assert_memory_equal(c.arg, "dir/a file", c.arg_len);
	assert_int_equal(check("restore before"), 0);
	assert_int_equal(check("restore"), -EINVAL);
	assert_int_equal(check("tag a @1"), 0);
	assert_int_equal(check("tag a"), -EINVAL);
	assert_int_equal(check("tag a @1 x"), -EINVAL);
	assert_int_equal(check("delete a"), 0);
	assert_int_equal(check("delete a b"), -EINVAL);
	assert_int_equal(check("delete"), -EINVAL);
	assert_int_equal(check("undo"), 0);
	assert_int_equal(check("undo 1"), -EINVAL);
}

static void test_what_is_refused(void **state)
{
	static const char *const bad[] = { "",
					   "\n",
					   "x\n",
					   "commits\n",
					   "Commit\n",
					   " commit\n",
					   "abort x",
					   "commit \x01\n",
					   "commit \xff",
					   "commit \xc0\x80",
					   "commit\nx",
					   "commit\n\n",
					   "commit \x7f",
					   "commit \xed\xa0\x80" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(check(bad[i]), -EINVAL);
	assert_int_equal(ctl_check("commit\0", 7), -EINVAL);
	assert_int_equal(ctl_check("commit a\0b\n", 11), -EINVAL);
}

static void test_the_longest_line(void **state)
{
	char line[CTL_LINE_MAX + 2];

	memset(line, 'x', sizeof(line));
	memcpy(line, "commit ", 7);
	line[CTL_LINE_MAX] = '\n';
	assert_int_equal(ctl_check(line, CTL_LINE_MAX + 1), 0);
	line[CTL_LINE_MAX] = 'x';
	line[CTL_LINE_MAX + 1] = '\n';
	assert_int_equal(ctl_check(line, CTL_LINE_MAX + 2), -EINVAL);
}

static void check_why(const char *line, size_t len, const char *why)
{
	char text[128];

	ctl_explain(line, len, text, sizeof(text));
	assert_string_equal(text, why);
}

static void test_why(void **state)
{
	static char line[CTL_LINE_MAX + 2];
	char text[8];

	check_why("bogus x", 7, "bogus is not a command; see txnfs(8)");
	check_why("bogus x\n", 8, "bogus is not a command; see txnfs(8)");
	check_why("", 0, "an empty line is not a command");
	check_why("\n", 1, "an empty line is not a command");
	check_why("commit\n\n", 8, "line 2: an empty line is not a command");
	check_why("bogus\nabort\n", 12,
		  "line 1: bogus is not a command; see txnfs(8)");
	check_why("commit\nabort now\n", 17,
		  "line 2: abort takes nothing after it; see txnfs(8)");
	check_why("tag a\n", 6, "tag takes two words; see txnfs(8)");
	check_why("commit \xff", 8,
		  "not text: UTF-8 without control characters is wanted");
	memset(line, 'x', sizeof(line));
	check_why(line, sizeof(line), "longer than 20000 bytes");
	ctl_explain("bogus", 5, text, sizeof(text));
	assert_string_equal(text, "bogus i");
	ctl_explain("bogus\nabort", 11, text, sizeof(text));
	assert_string_equal(text, "line 1:");
}

static void check_clip(const char *s, const char *want)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "%s", s);
	utf8_clip(buf);
	assert_string_equal(buf, want);
}

static void test_clip(void **state)
{
	check_clip("", "");
	check_clip("abc", "abc");
	check_clip("gr\xc3\xb6", "gr\xc3\xb6");
	check_clip("gr\xc3", "gr");
	check_clip("\xe6\xbc", "");
	check_clip("x\xe6\xbc\xa2", "x\xe6\xbc\xa2");
	check_clip("x\xf0\x9f\x98", "x");
	check_clip("x\xf0\x9f\x98\x80", "x\xf0\x9f\x98\x80");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_the_longest_line),
		cmocka_unit_test(test_why), cmocka_unit_test(test_clip)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
