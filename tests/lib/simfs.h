/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * simfs.h - a store on a simulated disk with files on it: what tests of the
 * store and of files begin with. It lies in the test's own fixture:
 *
 *	struct fixture {
 *		struct simfs s;
 *		...
 *	};
 *
 *	simfs_init(&f->s, 1 << 20);
 *	f->s.params.cache_bytes = 64 << 10; (what the test wants otherwise)
 *	simfs_create(&f->s);
 *	... f->s.fs, f->s.store, f->s.sim ...
 *	simfs_release(&f->s);
 *
 * What cannot fail here fails the test, but for simfs_try_open(). Paths are
 * relative; credentials are simfs_cred, where there is no other.
 */
#ifndef TESTS_LIB_SIMFS_H
#define TESTS_LIB_SIMFS_H

#include "fs/fs.h"
#include "tests/lib/simdev.h"

extern const struct fs_cred simfs_cred; /* root, who may keep set-id bits */

struct simfs {
	struct simdev *sim;
	struct env env; /* says nothing */
	struct store_params params; /* of all openings; dev: what is opened */
	struct fs_params fs_params;
	bool store_only; /* no files on it: fs stays NULL */
	/* NULL: it is not open. */
	struct store *store;
	struct fs *fs;
};

/* An empty disk. Segments and reserve have so many bytes; 0: what is usual. */
void simfs_init(struct simfs *s, uint64_t segment_bytes);
/* Whatever is open, as after kill -9, and the disk. All zeros is fine. */
void simfs_release(struct simfs *s);

void simfs_create(struct simfs *s);
void simfs_open(struct simfs *s);
/* disk: s->sim, or a copy of it. Other than 0: it is not open. */
int simfs_try_open(struct simfs *s, struct simdev *disk, bool create,
		   struct store_error *text);
void simfs_close(struct simfs *s);
/* As after kill -9, if it is open. */
void simfs_abandon(struct simfs *s);
/* The same, and the disk is what the power left of it; not open then. */
void simfs_lose_power(struct simfs *s, enum sim_mode mode, uint64_t seed);

/* The last commit, read-only. */
struct fs_view *simfs_head_view(struct simfs *s);
void simfs_set(struct simfs *s, enum store_setting which, uint64_t number);
/* Something was staged. Its number. */
uint64_t simfs_commit(struct simfs *s);

/* --- files of the working view --- */

/* The directory that a path's last name is in, and that name. */
uint64_t simfs_parent(struct simfs *s, const char *path, const char **name_out);
/* An object of any type; target: of a symlink. Its number. */
uint64_t simfs_make(struct simfs *s, const char *path, uint32_t mode,
		    const char *target);
/* A regular file, new, or there. fs_file_put() it. */
struct fs_file *simfs_make_file(struct simfs *s, const char *path);
struct fs_file *simfs_open_file(struct simfs *s, const char *path);
void simfs_write(struct fs_file *file, uint64_t off, const void *data,
		 size_t len);

#endif
