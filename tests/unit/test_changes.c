/* SPDX-License-Identifier: GPL-2.0-or-later */
/* changes.c, delta.c and path.c: what people read about a difference. */
#include "fs/fs.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

#include <sys/stat.h>

struct fixture {
	struct simdev *sim;
	struct env env;
	struct store *store;
	struct fs *fs;
	char *text;
	size_t len;
	FILE *out;
};

static const struct fs_cred cred = { .fsetid = true };

static void quiet(struct env *env, enum env_level level, const char *text)
{
}

static uint64_t make(struct fixture *f, const char *path, uint32_t mode,
		     const char *data)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	struct fs_new w = { .mode = mode,
			    .target = data,
			    .target_len = data ? strlen(data) : 0 };
	char dir[256] = "";
	struct fs_attr attr;
	struct fs_file *file;

	if (slash)
		memcpy(dir, path, (size_t)(slash - path));
	assert_int_equal(fs_walk(fs_working(f->fs), dir, &attr), 0);
	assert_int_equal(fs_make(fs_working(f->fs), &cred, attr.ino, name,
				 strlen(name), &w, &attr, NULL),
			 0);
	if (S_ISREG(mode) && data) {
		assert_int_equal(
			fs_file_open(fs_working(f->fs), attr.ino, &file), 0);
		assert_int_equal(
			fs_write(file, &cred, 0, data, strlen(data), false), 0);
		fs_file_put(file);
	}
	return attr.ino;
}

static uint64_t dir_of(struct fixture *f, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char dir[256] = "";
	struct fs_attr attr;

	if (slash)
		memcpy(dir, path, (size_t)(slash - path));
	*name = slash ? slash + 1 : path;
	assert_int_equal(fs_walk(fs_working(f->fs), dir, &attr), 0);
	return attr.ino;
}

static void move(struct fixture *f, const char *from, const char *to,
		 unsigned int flags)
{
	const char *a, *b;
	uint64_t da = dir_of(f, from, &a), db = dir_of(f, to, &b);

	assert_int_equal(fs_rename(fs_working(f->fs), NULL, da, a, strlen(a),
				   db, b, strlen(b), flags, NULL),
			 0);
}

static void drop(struct fixture *f, const char *path)
{
	const char *name;
	uint64_t dir = dir_of(f, path, &name);

	if (fs_unlink(fs_working(f->fs), dir, name, strlen(name), NULL))
		assert_int_equal(fs_rmdir(fs_working(f->fs), dir, name,
					  strlen(name), NULL),
				 0);
}

static void chmod_of(struct fixture *f, const char *path, uint32_t mode)
{
	struct fs_attr attr;

	assert_int_equal(fs_walk(fs_working(f->fs), path, &attr), 0);
	attr.mode = mode;
	assert_int_equal(fs_setattr(fs_working(f->fs), attr.ino, FS_SET_MODE,
				    &attr, NULL),
			 0);
}

static void rewrite(struct fixture *f, const char *path, const char *data)
{
	struct fs_attr attr;
	struct fs_file *file;

	assert_int_equal(fs_walk(fs_working(f->fs), path, &attr), 0);
	assert_int_equal(fs_file_open(fs_working(f->fs), attr.ino, &file), 0);
	assert_int_equal(fs_write(file, &cred, 0, data, strlen(data), false),
			 0);
	fs_file_put(file);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_params p = { .env = &f->env,
				  .small_segment_bytes = 1 << 20,
				  .bulk_segment_bytes = 1 << 20,
				  .reserve_bytes = 1 << 20 };
	struct store_error err = { "" };
	uint64_t number;

	*state = f;
	f->sim = simdev_new();
	env_init_host(&f->env);
	f->env.log = quiet;
	p.dev = simdev_dev(f->sim);
	if (store_create(&p, &f->store, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fs_open(f->store, NULL, &f->fs), 0);
	make(f, "dir", S_IFDIR | 0755, NULL);
	make(f, "dir/a", S_IFREG | 0644, "aaa");
	make(f, "dir/b", S_IFREG | 0644, "bb");
	make(f, "dir/sub", S_IFDIR | 0755, NULL);
	make(f, "dir/sub/c", S_IFREG | 0644, "c");
	make(f, "x", S_IFREG | 0644, "xxxx");
	make(f, "y", S_IFREG | 0644, "y");
	make(f, "link", S_IFLNK | 0777, "target");
	assert_int_equal(fs_commit(f->fs, 0, NULL, 0, &number), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_abandon(f->fs);
	store_abandon(f->store);
	simdev_free(f->sim);
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
	assert_int_equal(fs_change_totals(f->fs, a, b, &t), 0);
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
	store_head(f->store, &head, NULL);
	assert_int_equal(fs_freeze(f->fs, &now), 0);
	assert_int_equal(fs_changes(f->fs, &head, &now, print, f), 0);
	fclose(f->out);
	assert_string_equal(f->text, want);
	expect_totals(f, &head, &now);
	root_put(store_tree(f->store), &head);
	root_put(store_tree(f->store), &now);
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
	assert_int_equal(fs_walk(fs_working(f->fs), "dir/a", &attr), 0);
	assert_int_equal(fs_link(fs_working(f->fs), attr.ino, FS_ROOT_INO,
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
	uint64_t number;

	assert_int_equal(fs_walk(fs_working(f->fs), "dir/a", &attr), 0);
	assert_int_equal(fs_link(fs_working(f->fs), attr.ino, FS_ROOT_INO,
				 "hard", 4, NULL),
			 0);
	assert_int_equal(fs_commit(f->fs, 0, NULL, 0, &number), 0);
	rewrite(f, "hard", "12345");
	expect(f, "M dir/a 3>5\n"
		  "M hard 3>5\n");
	assert_int_equal(fs_link(fs_working(f->fs), attr.ino, FS_ROOT_INO,
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
	store_head(f->store, &head, NULL);
	assert_int_equal(fs_freeze(f->fs, &now), 0);
	assert_int_equal(fs_change_totals(f->fs, &head, &now, &t), 0);
	root_put(store_tree(f->store), &head);
	root_put(store_tree(f->store), &now);
	assert_int_equal(t.deleted, 1);
	assert_int_equal(t.added, 1);
	assert_int_equal(t.renamed, 1);
	assert_int_equal(t.modified, 1);
	assert_int_equal(t.retyped, 0);
	assert_int_equal(t.bytes, 6);
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
		cmocka_unit_test(test_names_that_may_be_shown)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
