/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plaindir.c - see plaindir.h. */
#include "tests/lib/plaindir.h"

#include "fs/plain_internal.h"
#include "tests/lib/test.h"

#include <fcntl.h>
#include <unistd.h>

struct plaindir *plaindir_new(void)
{
	struct plaindir *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	struct plain_state none = { 0 };

	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "%s/test-plain.XXXXXX",
		 tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(f->dirfd, ".txn", 0700), 0);
	f->storefd = openat(f->dirfd, ".txn", O_RDONLY | O_DIRECTORY);
	simfs_init(&f->s, 1 << 20);
	f->s.params.bulk_segment_bytes = 8 << 20;
	f->s.params.no_thread = true;
	simfs_create(&f->s);
	assert_int_equal(plain_put_state(f->s.fs, PLAIN_STATE_SHOWN, &none), 0);
	return f;
}

void plaindir_free(struct plaindir *f)
{
	simfs_release(&f->s);
	close(f->storefd);
	close(f->dirfd);
	assert_int_equal(plain_remove_tree(AT_FDCWD, f->dir), 0);
	free(f);
}

uint64_t plaindir_follow(struct plaindir *f)
{
	struct plain_out_params p = { .dirfd = f->dirfd,
				      .storefd = f->storefd };
	struct plain_out_result r;
	struct store_error text;

	(void)simfs_commit(&f->s);
	if (plain_sync(f->s.fs, &p, &r, &text) < 0)
		fail_msg("%s", text.text);
	return r.kept;
}
