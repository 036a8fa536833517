/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * move_out.c - a store without plain files becomes a plain directory again;
 * move.h. The work is plain_sync()'s, from nothing to the last commit, with
 * moved files given out themselves. The mark is there before: what was given
 * may be written into by anybody, and is not the store's any more.
 */
#include "fs/move.h"

#include "fs/home.h"
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <unistd.h>

struct out {
	const struct move_params *p;
	struct store_error *err;
	struct store *store;
	struct fs *fs;
	int dirfd, storefd;
};

static int say(struct out *o, int err, const char *what)
{
	if (err && !o->err->text[0])
		snprintf(o->err->text, sizeof(o->err->text), "%s: %s", what,
			 strerror(-err));
	return err;
}

/* The mark and `plain` with one record. */
static int mark(struct out *o)
{
	const struct catalog_change on = { .op = CATALOG_SET,
					   .setting = STORE_PLAIN,
					   .number = 1,
					   .uid = getuid() };
	struct plain_state shown;
	bool staged;
	uint32_t now;
	int err;

	err = plain_get_mark(o->fs, &now);
	if (err || now == PLAIN_MARK_EJECT)
		return say(o, err, "the plain directory's table");
	err = fs_has_changes(o->fs, &staged);
	if (err)
		return say(o, err, "what is staged");
	if (now || staged)
		return say(o, -EBUSY,
			   now ? "its files are being moved into the store"
			       : "there are staged changes");
	err = plain_get_state(o->fs, PLAIN_STATE_SHOWN, &shown);
	if (err || shown.root.pos)
		return say(o, err < 0 ? err : -EBUSY, "it has plain files");
	err = plain_put_mark(o->fs, PLAIN_MARK_EJECT);
	if (!err)
		err = store_change_catalog(o->store, store_working(o->store),
					   &on);
	return say(o, err, "the store cannot be marked");
}

static int give(struct out *o)
{
	const struct plain_out_params pp = { .dirfd = o->dirfd,
					     .storefd = o->storefd,
					     .give = true,
					     .note = o->p->note,
					     .arg = o->p->arg };
	struct plain_out_result r;
	struct store_error text;
	int err = mark(o);

	if (err)
		return err;
	err = plain_sync(o->fs, &pp, &r, &text);
	if (err < 0)
		snprintf(o->err->text, sizeof(o->err->text), "%s", text.text);
	return err < 0 ? err : 0;
}

static int run(struct out *o)
{
	struct store_params sp = { .env = o->p->env,
				   .no_thread = o->p->no_thread,
				   .check_item = fs_check_item };
	struct dev *dev;
	int err;

	err = dev_host_new(o->storefd, false, &dev);
	if (err)
		return say(o, err, ".txn");
	sp.dev = dev;
	err = store_open(&sp, &o->store, o->err);
	if (!err) {
		err = fs_open(o->store, NULL, &o->fs);
		if (err)
			fs_open_error(o->store, err, o->err);
	}
	/* Files that have plain names again are nobody's to punch. */
	if (!err) {
		o->fs->whole_sweeps = true;
		err = give(o);
	}
	if (err) {
		if (o->fs)
			fs_abandon(o->fs);
		if (o->store)
			store_abandon(o->store);
	} else {
		/* The directory is as it should be, durably. */
		(void)fs_close(o->fs);
		(void)store_close(o->store);
	}
	dev->ops->release(dev);
	return err;
}

int move_mark(struct fs *fs, uint32_t *mark_out)
{
	_Static_assert((int)MOVE_MARK_IN == PLAIN_MARK_MOVE &&
			       (int)MOVE_MARK_OUT == PLAIN_MARK_EJECT,
		       "as on the disk");
	return plain_get_mark(fs, mark_out);
}

int move_out(const struct move_params *params, struct store_error *err_out)
{
	struct out o = { .p = params, .err = err_out, .storefd = -1 };
	struct holder *holder = NULL;
	struct holder_info info;
	int err = 0;

	err_out->text[0] = '\0';
	o.dirfd = open(params->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = o.dirfd < 0 ? -errno
			  : home_open(o.dirfd, params->dir, &o.storefd,
				      err_out);
	if (!err)
		err = holder_take(o.storefd, false, "", 0, &holder, &info);
	(void)say(&o, err,
		  err == -EBUSY ? "another process has the store" : ".txn");
	if (!err)
		err = run(&o);
	holder_release(holder);
	if (o.storefd >= 0)
		close(o.storefd);
	if (o.dirfd >= 0)
		close(o.dirfd);
	return err;
}
