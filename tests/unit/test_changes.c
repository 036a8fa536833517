/* SPDX-License-Identifier: GPL-2.0-or-later */
/* changes.c, delta.c and path.c: what people read about a difference. */
#include "fs/fs.h"

#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <sys/stat.h>

struct fixture {
	struct simfs s;
	char *text;
	size_t len;
	FILE *out;
};

static void rewrite(struct fixture *f, const char *path, const char *data)
{
	struct fs_file *file = simfs_open_file(&f->s, path);

	simfs_write(file, 0, data, strlen(data));
	fs_file_put(file);
}

/* data: what is in a file, where a symlink leads; NULL: nothing. */
static void make(struct fixture *f, const char *path, uint32_t mode,
		 const char *data)
{
	(void)simfs_make(&f->s, path, mode, data);
	if (S_ISREG(mode) && data)
		rewrite(f, path, data);
}

static void move(struct fixture *f, const char *from, const char *to,
		 unsigned int flags)
{
	const char *a, *b;
	uint64_t da = simfs_parent(&f->s, from, &a),
		 db = simfs_parent(&f->s, to, &b);

	assert_int_equal(fs_rename(fs_working(f->s.fs), NULL, da, a, strlen(a),
				   db, b, strlen(b), flags, NULL),
			 0);
}

static void drop(struct fixture *f, const char *path)
{
	const char *name;
	uint64_t dir = simfs_parent(&f->s, path, &name);

	if (fs_unlink(fs_working(f->s.fs), dir, name, strlen(name), NULL))
		assert_int_equal(fs_rmdir(fs_working(f->s.fs), dir, name,
					  strlen(name), NULL),
				 0);
}

static void chmod_of(struct fixture *f, const char *path, uint32_t mode)
{
	struct fs_attr attr;

	assert_int_equal(fs_walk(fs_working(f->s.fs), path, &attr), 0);
	attr.mode = mode;
	assert_int_equal(fs_setattr(fs_working(f->s.fs), attr.ino, FS_SET_MODE,
				    &attr, NULL),
			 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	simfs_init(&f->s, 1 << 20);
	simfs_create(&f->s);
	make(f, "dir", S_IFDIR | 0755, NULL);
	make(f, "dir/a", S_IFREG | 0644, "aaa");
	make(f, "dir/b", S_IFREG | 0644, "bb");
	make(f, "dir/sub", S_IFDIR | 0755, NULL);
	make(f, "dir/sub/c", S_IFREG | 0644, "c");
	make(f, "x", S_IFREG | 0644, "xxxx");
	make(f, "y", S_IFREG | 0644, "y");
	make(f, "link", S_IFLNK | 0777, "target");
	(void)simfs_commit(&f->s);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	simfs_release(&f->s);
	free(f->text);
	free(f);
	return 0;
}

static int print(void *arg, const struct fs_change *c)
{
	struct fixture *f = arg;

	fprintf(f->out, "%c %s%s%s %d>%d\n", c->op, c->from ? c->from : "",
		c->from ? " " : "", c->path, (int)c->old_size,
		(int)c->new_size);
	return 0;
}

/* The totals are of the same lines, though nobody makes their paths. */
static void expect_totals(struct fixture *f, const struct root *a,
			  const struct root *b)
{
	struct fs_change_totals t;
	uint64_t n[256] = { 0 }, bytes = 0;
	const char *end;

	for (const char *l = f->text; *l; l = end + 1) {
		end = strchr(l, '\n');
		n[(uint8_t)*l]++;
		if (strchr("AMT", *l))
			bytes += strtoull(strchr(l, '>') + 1, NULL, 10);
	}
	assert_int_equal(fs_change_totals(f->s.fs, a, b, &t), 0);
	assert_int_equal(t.added, n['A']);
	assert_int_equal(t.modified, n['M']);
	assert_int_equal(t.deleted, n['D']);
	assert_int_equal(t.renamed, n['R']);
	assert_int_equal(t.retyped, n['T']);
	assert_int_equal(t.bytes, bytes);
}

static void expect(struct fixture *f, const char *want)
{
	struct root head, now;

	free(f->text);
	f->out = open_memstream(&f->text, &f->len);
	assert_non_null(f->out);
	store_head(f->s.store, &head, NULL);
	assert_int_equal(fs_freeze(f->s.fs, &now), 0);
	assert_int_equal(fs_changes(f->s.fs, &head, &now, print, f), 0);
	fclose(f->out);
	assert_string_equal(f->text, want);
	expect_totals(f, &head, &now);
	root_put(store_tree(f->s.store), &head);
	root_put(store_tree(f->s.store), &now);
}

static void test_nothing(void **state)
{
	struct fixture *f = *state;

	expect(f, "");
	/* there and back again */
	move(f, "x", "z", 0);
	move(f, "z", "x", 0);
	expect(f, "");
}

static void test_added_modified_deleted(void **state)
{
	struct fixture *f = *state;

	drop(f, "dir/sub/c");
	drop(f, "dir/sub");
	make(f, "dir/new", S_IFREG | 0644, "12345");
	make(f, "n", S_IFDIR | 0755, NULL);
	make(f, "n/o", S_IFREG | 0644, NULL);
	chmod_of(f, "x", 0600);
	chmod_of(f, "dir", 0700);
	expect(f, "D dir/sub/c 1>0\n"
		  "D dir/sub 0>0\n"
		  "M dir 0>0\n"
		  "A dir/new 0>5\n"
		  "A n 0>0\n"
		  "A n/o 0>0\n"
		  "M x 4>4\n");
}

static void test_renames(void **state)
{
	struct fixture *f = *state;

	move(f, "dir", "moved", 0);
	move(f, "x", "moved/x", 0);
	drop(f, "moved/b");
	expect(f, "D dir/b 2>0\n"
		  "R dir moved 0>0\n"
		  "R x moved/x 4>4\n");
}

static void test_replaced(void **state)
{
	struct fixture *f = *state;

	/* as editors save: a new file over the old name */
	make(f, "tmp", S_IFREG | 0644, "longer");
	move(f, "tmp", "x", 0);
	/* a file that was there already over another */
	move(f, "y", "dir/a", 0);
	/* another type */
	drop(f, "link");
	make(f, "link", S_IFDIR | 0755, NULL);
	expect(f, "R y dir/a 1>1\n"
		  "T link 6>0\n"
		  "M x 4>6\n");
}

static void test_exchanged_and_linked(void **state)
{
	struct fixture *f = *state;
	struct fs_attr attr;

	move(f, "x", "y", FS_RENAME_EXCHANGE);
	assert_int_equal(fs_walk(fs_working(f->s.fs), "dir/a", &attr), 0);
	assert_int_equal(fs_link(fs_working(f->s.fs), attr.ino, FS_ROOT_INO,
				 "hard", 4, NULL),
			 0);
	expect(f, "A hard 0>3\n"
		  "R y x 1>1\n"
		  "R x y 4>4\n");
}

/* Contents that several names show, old and new ones, and one that moved. */
static void test_changed_under_several_names(void **state)
{
	struct fixture *f = *state;
	struct fs_attr attr;

	assert_int_equal(fs_walk(fs_working(f->s.fs), "dir/a", &attr), 0);
	assert_int_equal(fs_link(fs_working(f->s.fs), attr.ino, FS_ROOT_INO,
				 "hard", 4, NULL),
			 0);
	(void)simfs_commit(&f->s);
	rewrite(f, "hard", "12345");
	expect(f, "M dir/a 3>5\n"
		  "M hard 3>5\n");
	assert_int_equal(fs_link(fs_working(f->s.fs), attr.ino, FS_ROOT_INO,
				 "third", 5, NULL),
			 0);
	rewrite(f, "x", "123456");
	move(f, "x", "z", 0);
	chmod_of(f, "", 0700);
	expect(f, "M . 0>0\n"
		  "M dir/a 3>5\n"
		  "M hard 3>5\n"
		  "A third 0>5\n"
		  "R x z 4>6\n"
		  "M z 4>6\n");
}

static void test_totals(void **state)
{
	struct fixture *f = *state;
	struct fs_change_totals t;
	struct root head, now;

	drop(f, "y");
	make(f, "n", S_IFREG | 0644, "123");
	move(f, "x", "z", 0);
	chmod_of(f, "dir/a", 0600);
	store_head(f->s.store, &head, NULL);
	assert_int_equal(fs_freeze(f->s.fs, &now), 0);
	assert_int_equal(fs_change_totals(f->s.fs, &head, &now, &t), 0);
	root_put(store_tree(f->s.store), &head);
	root_put(store_tree(f->s.store), &now);
	assert_int_equal(t.deleted, 1);
	assert_int_equal(t.added, 1);
	assert_int_equal(t.renamed, 1);
	assert_int_equal(t.modified, 1);
	assert_int_equal(t.retyped, 0);
	assert_int_equal(t.bytes, 6);
}

/* Staged is what a difference shows, not all that happened. */
static void test_what_was_taken_back(void **state)
{
	struct fixture *f = *state;
	struct fs_staged st;
	bool any = true;

	assert_int_equal(fs_has_changes(f->s.fs, &any), 0);
	assert_false(any);
	make(f, "dir/new", S_IFREG | 0644, "new");
	assert_int_equal(fs_has_changes(f->s.fs, &any), 0);
	assert_true(any);
	drop(f, "dir/new");
	fs_get_staged(f->s.fs, &st);
	assert_true(st.any);
	assert_int_equal(fs_has_changes(f->s.fs, &any), 0);
	assert_false(any);
	chmod_of(f, "", 0700);
	assert_int_equal(fs_has_changes(f->s.fs, &any), 0);
	assert_true(any);
}

static void test_names_that_may_be_shown(void **state)
{
	static const struct {
		const char *name, *shown;
	} t[] = { { "plain name", "plain name" },
		  { "gr\xc3\xb6\xc3\x9f", "gr\xc3\xb6\xc3\x9f" },
		  { "a\nb", "\"a\\nb\"" },
		  { "q\"q", "\"q\\\"q\"" },
		  { "b\\b", "\"b\\\\b\"" },
		  { "\xff", "\"\\377\"" },
		  { "\x01z", "\"\\001z\"" },
		  { "\xc2\x85", "\"\\302\\205\"" },
		  { " before", "\" before\"" },
		  { "behind ", "\"behind \"" },
		  { " ", "\" \"" },
		  { "", "" } };
	char buf[64];

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		assert_int_equal(fs_quote_path(t[i].name, buf, sizeof(buf)),
				 strlen(t[i].shown));
		assert_string_equal(buf, t[i].shown);
	}
	assert_int_equal(fs_quote_path("long", buf, 3), 4);
	assert_string_equal(buf, "lo");
}

static void commits_nothing(struct fixture *f, uint64_t head)
{
	uint64_t number;

	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 1);
	assert_int_equal(number, head);
}

/* A file that was removed while it was open is no change any more, when it is
 * written or goes in the end. */
static void test_without_a_name(void **state)
{
	struct fixture *f = *state;
	struct fs_staged st;
	struct fs_file *file;
	uint64_t head;

	make(f, "file", S_IFREG | 0644, "data");
	(void)simfs_commit(&f->s);
	file = simfs_open_file(&f->s, "file");
	drop(f, "file");
	head = simfs_commit(&f->s);
	simfs_write(file, 0, "more", 4);
	commits_nothing(f, head);
	fs_file_put(file);
	commits_nothing(f, head);
	/* Nor is it staged for whoever opens the store. */
	simfs_close(&f->s);
	simfs_open(&f->s);
	fs_get_staged(f->s.fs, &st);
	assert_false(st.any);
	make(f, "other", S_IFREG | 0644, NULL);
	assert_int_equal(simfs_commit(&f->s), head + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_added_modified_deleted,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_renames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exchanged_and_linked,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_changed_under_several_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_totals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_was_taken_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_without_a_name, setup,
						teardown),
		cmocka_unit_test(test_names_that_may_be_shown)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
