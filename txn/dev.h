/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dev.h - the device seam: every system call that the store makes on its
 * folder DIR/.txn goes through a struct dev. dev_host.c is the real one;
 * tests/lib/simdev.c is a disk in memory that can lose power and fail.
 *
 * Names are relative to the store's folder ("format", "log/00..12.s"); one
 * level of folders. All functions return 0 or a negative errno, may be called
 * from several threads, and restart after EINTR. writev() writes all or fails;
 * read() returns fewer bytes only at the end of the file. Nothing is durable
 * before sync() (the file's bytes and size) and sync_dir() (its name) return 0.
 * After a failed sync the caller must not sync again and call it good.
 */
#ifndef TXN_DEV_H
#define TXN_DEV_H

#include "txn/base.h"

struct dev;
struct dev_file;

struct dev_iov {
	const void *buf;
	size_t len;
};

enum { DEV_NAME_MAX = 64 };

/* One name of a folder; a return other than 0 ends the listing with it. */
typedef int (*dev_list_fn)(void *arg, const char *name);

struct dev_ops {
	/* New file for reading and writing, 0600; -EEXIST. */
	int (*create)(struct dev *dev, const char *name, struct dev_file **out);
	/* Existing file; -ENOENT, -EROFS (write on a read-only device). */
	int (*open)(struct dev *dev, const char *name, bool write,
		    struct dev_file **out);
	void (*close)(struct dev_file *f); /* f may be NULL */
	int (*read)(struct dev_file *f, uint64_t off, void *buf, size_t len,
		    size_t *got_out);
	int (*writev)(struct dev_file *f, uint64_t off,
		      const struct dev_iov *iov, size_t n);
	/* fdatasync: bytes and size are durable on return. */
	int (*sync)(struct dev_file *f);
	/* Start writing a range back; a hint, errors come with sync. */
	void (*sync_start)(struct dev_file *f, uint64_t off, uint64_t len);
	/* Write a range back and wait for it, so that little waits for the
	 * device at a time. Nothing is durable by it; an error is one of
	 * sync. */
	int (*sync_pace)(struct dev_file *f, uint64_t off, uint64_t len);
	/* Promise space for [off, off+len), size grows; -ENOSPC,
	 * -EOPNOTSUPP when the host cannot promise. */
	int (*allocate)(struct dev_file *f, uint64_t off, uint64_t len);
	int (*truncate)(struct dev_file *f, uint64_t size);
	int (*size)(struct dev_file *f, uint64_t *size_out);
	int (*punch)(struct dev_file *f, uint64_t off, uint64_t len);
	/* Share src_fd's range (FICLONERANGE); -EOPNOTSUPP, -EXDEV, -EINVAL
	 * when the host cannot. */
	int (*clone)(struct dev_file *f, uint64_t off, int src_fd,
		     uint64_t src_off, uint64_t len);
	/* The other way: f's range becomes dst_fd's; same errors. */
	int (*share)(struct dev_file *f, uint64_t off, uint64_t len, int dst_fd,
		     uint64_t dst_off);
	/* One more name for an open file of the same host; -EXDEV, -EMLINK,
	 * -EPERM when the host does not make it. */
	int (*link)(struct dev *dev, int fd, const char *name);
	int (*rename)(struct dev *dev, const char *from, const char *to);
	int (*remove)(struct dev *dev, const char *name);
	int (*mkdir)(struct dev *dev, const char *name);
	/* fsync of a folder; "" is the store's own. */
	int (*sync_dir)(struct dev *dev, const char *name);
	/* Names in a folder, in any order, without . and .. */
	int (*list)(struct dev *dev, const char *name, dev_list_fn fn,
		    void *arg);
	/* Bytes that an unprivileged writer may still allocate. */
	int (*space)(struct dev *dev, uint64_t *free_bytes_out);
	/* Release the device; open files must be closed before. */
	void (*release)(struct dev *dev);
};

struct dev {
	const struct dev_ops *ops;
};

/*
 * The real device on an open folder. dirfd is duplicated. read_only makes
 * every changing call fail with -EROFS. Free with dev->ops->release().
 */
int dev_host_new(int dirfd, bool read_only, struct dev **dev_out);

/* Whole small files: at most max bytes, -EFBIG beyond; a NUL follows them;
 * free() it. */
int dev_read_all(struct dev *dev, const char *name, size_t max, char **buf_out,
		 size_t *len_out);
int dev_read_text(struct dev *dev, const char *name, size_t max,
		  char **text_out);
/* New contents by a temporary name in tmp/, sync, rename, sync of the folder:
 * durable on return, old or new after a crash. */
int dev_replace(struct dev *dev, const char *name, const void *buf, size_t len);
int dev_replace_text(struct dev *dev, const char *name, const char *text);

#endif
