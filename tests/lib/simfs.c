/* SPDX-License-Identifier: GPL-2.0-or-later */
/* simfs.c - see simfs.h. */
#include "tests/lib/simfs.h"

#include "tests/lib/test.h"

#include <sys/stat.h>

const struct fs_cred simfs_cred = { .fsetid = true };

void simfs_init(struct simfs *s, uint64_t segment_bytes)
{
	*s = (struct simfs){
		.sim = simdev_new(),
		.params = { .check_item = fs_check_item,
			    .small_segment_bytes = segment_bytes,
			    .bulk_segment_bytes = segment_bytes,
			    .reserve_bytes = segment_bytes },
	};
	test_env_init(&s->env);
}

void simfs_release(struct simfs *s)
{
	simfs_abandon(s);
	simdev_free(s->sim);
	s->sim = NULL;
}

int simfs_try_open(struct simfs *s, struct simdev *disk, bool create,
		   struct store_error *text)
{
	struct store_params p = s->params;
	int err;

	p.dev = simdev_dev(disk);
	p.env = &s->env;
	text->text[0] = '\0';
	err = create ? store_create(&p, &s->store, text)
		     : store_open(&p, &s->store, text);
	if (err) {
		s->store = NULL;
		return err;
	}
	if (s->store_only)
		return 0;
	err = fs_open(s->store, &s->fs_params, &s->fs);
	if (err) {
		s->fs = NULL;
		fs_open_error(s->store, err, text);
		simfs_abandon(s);
	}
	return err;
}

static void must_open(struct simfs *s, bool create)
{
	struct store_error text;

	if (simfs_try_open(s, s->sim, create, &text))
		fail_msg("%s", text.text);
}

void simfs_create(struct simfs *s)
{
	must_open(s, true);
}

void simfs_open(struct simfs *s)
{
	must_open(s, false);
}

void simfs_close(struct simfs *s)
{
	if (s->fs)
		assert_int_equal(fs_close(s->fs), 0);
	s->fs = NULL;
	assert_int_equal(store_close(s->store), 0);
	s->store = NULL;
}

void simfs_abandon(struct simfs *s)
{
	if (s->fs)
		fs_abandon(s->fs);
	if (s->store)
		store_abandon(s->store);
	s->fs = NULL;
	s->store = NULL;
}

void simfs_lose_power(struct simfs *s, enum sim_mode mode, uint64_t seed)
{
	struct simdev *left;

	simfs_abandon(s);
	left = simdev_image(s->sim, simdev_ops(s->sim), mode, seed);
	simdev_free(s->sim);
	s->sim = left;
}

struct fs_view *simfs_head_view(struct simfs *s)
{
	struct root root;
	struct fs_view *v;

	store_head(s->store, &root, NULL);
	assert_int_equal(fs_view_new(s->fs, &root, &v), 0);
	root_put(store_tree(s->store), &root);
	return v;
}

void simfs_set(struct simfs *s, enum store_setting which, uint64_t number)
{
	struct catalog_change c = { .op = CATALOG_SET,
				    .setting = which,
				    .number = number };

	assert_int_equal(
		store_change_catalog(s->store, store_working(s->store), &c), 0);
}

uint64_t simfs_commit(struct simfs *s)
{
	uint64_t number;

	assert_int_equal(fs_commit(s->fs, 0, NULL, 0, &number), 0);
	return number;
}

uint64_t simfs_parent(struct simfs *s, const char *path, const char **name_out)
{
	const char *slash = strrchr(path, '/');
	char dir[256] = "";
	struct fs_attr attr;

	if (slash) {
		assert_true((size_t)(slash - path) < sizeof(dir));
		memcpy(dir, path, (size_t)(slash - path));
	}
	*name_out = slash ? slash + 1 : path;
	assert_int_equal(fs_walk(fs_working(s->fs), dir, &attr), 0);
	return attr.ino;
}

uint64_t simfs_make(struct simfs *s, const char *path, uint32_t mode,
		    const char *target)
{
	struct fs_new new_ = { .mode = mode,
			       .target = target,
			       .target_len = target ? strlen(target) : 0 };
	const char *name;
	uint64_t dir = simfs_parent(s, path, &name);
	struct fs_attr attr;

	assert_int_equal(fs_make(fs_working(s->fs), &simfs_cred, dir, name,
				 strlen(name), &new_, &attr, NULL),
			 0);
	return attr.ino;
}

struct fs_file *simfs_make_file(struct simfs *s, const char *path)
{
	uint64_t ino = simfs_make(s, path, S_IFREG | 0644, NULL);
	struct fs_file *file;

	assert_int_equal(fs_file_open(fs_working(s->fs), ino, &file), 0);
	return file;
}

struct fs_file *simfs_open_file(struct simfs *s, const char *path)
{
	struct fs_attr attr;
	struct fs_file *file;

	assert_int_equal(fs_walk(fs_working(s->fs), path, &attr), 0);
	assert_int_equal(fs_file_open(fs_working(s->fs), attr.ino, &file), 0);
	return file;
}

void simfs_write(struct fs_file *file, uint64_t off, const void *data,
		 size_t len)
{
	assert_int_equal(fs_write(file, &simfs_cred, off, data, len, false), 0);
}
