/* SPDX-License-Identifier: GPL-2.0-or-later */
/* adopt.c - see adopt.h. */
#include "fs/adopt.h"

#include "fs/home.h"
#include "fs/plain_internal.h"

#include <fcntl.h>
#include <unistd.h>

struct adopter {
	const struct adopt_params *params;
	struct plain_reader r;
	struct store_error *err;
	struct store *store;
	struct fs *fs;
};

/* --- the store --- */

static int fill_store(struct adopter *a, struct dev *dev, int dirfd)
{
	struct store_params sp = { .dev = dev,
				   .env = a->params->env,
				   .no_thread = a->params->no_thread,
				   .check_item = fs_check_item };
	static const char message[] = "init";
	struct plain_state shown = { 0 };
	struct root head;
	struct stat st;
	int err;

	err = store_create(&sp, &a->store, a->err);
	if (err)
		return err;
	err = fs_open(a->store, NULL, &a->fs);
	if (!err)
		err = plain_reader_init(&a->r, a->fs, fs_working(a->fs));
	if (!err && fstat(dirfd, &st))
		err = -errno;
	if (!err)
		err = plain_reader_fill(&a->r, dirfd, FS_ROOT_INO, &st);
	if (!err)
		err = plain_reader_doubt_recent(&a->r);
	if (!err)
		err = fs_commit(a->fs, getuid(), message, strlen(message),
				&shown.number);
	if (!err) {
		store_head(a->store, &head, NULL);
		shown.root = head.ptr;
		root_put(store_tree(a->store), &head);
		err = plain_put_state(a->fs, PLAIN_STATE_SHOWN, &shown);
	}
	if (err) {
		const char *why = NULL;

		if (store_failed(a->store, &why) && why && !a->err->text[0])
			snprintf(a->err->text, sizeof(a->err->text), "%s", why);
		fs_abandon(a->fs);
		store_abandon(a->store);
		return err;
	}
	err = fs_close(a->fs);
	if (err)
		store_abandon(a->store);
	else
		err = store_close(a->store);
	return err;
}

/* The folder of the store to be, with its lock; in DIR, or elsewhere. */
int adopt_make_folder(struct plain_reader *r, int dirfd,
		      struct holder **holder_out, int *fd_out)
{
	struct holder_info info;
	int fd, err;

	fd = openat(dirfd, HOME_NEW_NAME,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		/* Of an adoption that was interrupted, or is under way. */
		err = holder_take(fd, false, "", 0, holder_out, &info);
		close(fd);
		if (err)
			return plain_reader_failed(
				r, err, "another init (process %ld) is at work",
				info.pid);
		holder_release(*holder_out);
		*holder_out = NULL;
		err = plain_remove_tree(dirfd, HOME_NEW_NAME);
		if (err)
			return plain_reader_failed(
				r, err, "cannot remove " HOME_NEW_NAME);
	}
	if (mkdirat(dirfd, HOME_NEW_NAME, 0700))
		return plain_reader_failed(r, -errno,
					   "cannot make " HOME_NEW_NAME);
	fd = openat(dirfd, HOME_NEW_NAME,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return plain_reader_failed(r, -errno,
					   "cannot open " HOME_NEW_NAME);
	err = holder_take(fd, false, "", 0, holder_out, &info);
	if (err) {
		close(fd);
		return plain_reader_failed(r, err, "cannot lock the new store");
	}
	*fd_out = fd;
	return 0;
}

static int adopt_locked(struct adopter *a, int dirfd, int storefd,
			struct home *home)
{
	struct dev *dev = NULL;
	int err;

	err = dev_host_new(storefd, false, &dev);
	if (!err)
		err = fill_store(a, dev, dirfd);
	if (dev)
		dev->ops->release(dev);
	/*
	 * The plain files before the name: they may be in the host's cache
	 * only, and a store whose plain files a power cut took back cannot be
	 * mounted. One call, not one for each file: most are long durable.
	 */
	if (!err && syncfs(dirfd))
		err = plain_reader_failed(&a->r, -errno,
					  "cannot flush the plain files");
	if (!err && home)
		return home_finish(home, a->err);
	/* Everything in it is durable: the name makes it the store. */
	if (!err && renameat(dirfd, HOME_NEW_NAME, dirfd, HOME_NAME))
		err = -errno;
	if (!err && fsync(dirfd))
		err = -errno;
	return err;
}

static int adopter_init(struct adopter *a, const struct adopt_params *params,
			struct store_error *err_out, int *dirfd_out)
{
	*a = (struct adopter){ .params = params,
			       .r = { .err = err_out,
				      .progress = params->progress,
				      .arg = params->arg },
			       .err = err_out };
	err_out->text[0] = '\0';
	*dirfd_out = open(params->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd_out < 0)
		return plain_reader_failed(&a->r, -errno, "cannot open %s",
					   params->dir);
	return 0;
}

int adopt_into(const struct adopt_params *params, struct dev *dev,
	       struct adopt_progress *out, struct store_error *err_out)
{
	struct adopter a;
	int dirfd, err;

	err = adopter_init(&a, params, err_out, &dirfd);
	if (err)
		return err;
	err = fill_store(&a, dev, dirfd);
	close(dirfd);
	*out = a.r.p;
	plain_reader_release(&a.r);
	return err;
}

/* In DIR, or in the folder of one that is elsewhere. */
static int adopt_in(struct adopter *a, int dirfd, struct home *home)
{
	int base = home ? home->fd : dirfd, storefd = -1, err;
	struct holder *holder = NULL;

	err = home ? 0 : home_check_free(dirfd, a->params->dir, a->err);
	if (!err)
		err = adopt_make_folder(&a->r, base, &holder, &storefd);
	if (!err) {
		err = adopt_locked(a, dirfd, storefd, home);
		if (err) {
			(void)plain_reader_failed(&a->r, err,
						  "cannot make the store");
			(void)plain_remove_tree(base, HOME_NEW_NAME);
		}
	}
	holder_release(holder);
	if (storefd >= 0)
		close(storefd);
	return err;
}

static int adopt_elsewhere(struct adopter *a, int dirfd)
{
	struct home home;
	int err;

	err = home_begin(&home, dirfd, a->params->dir, a->params->store,
			 a->err);
	if (err < 0)
		return err;
	if (err == 1) {
		err = home_link(&home, a->err);
		err = err ? err : 1;
	} else {
		err = adopt_in(a, dirfd, &home);
	}
	if (err < 0)
		home_cancel(&home);
	else
		home_end(&home);
	return err;
}

int adopt(const struct adopt_params *params, struct adopt_progress *out,
	  struct store_error *err_out)
{
	struct adopter a;
	int dirfd, err;

	err = adopter_init(&a, params, err_out, &dirfd);
	if (err)
		return err;
	err = params->store ? adopt_elsewhere(&a, dirfd)
			    : adopt_in(&a, dirfd, NULL);
	close(dirfd);
	*out = a.r.p;
	plain_reader_release(&a.r);
	return err;
}
