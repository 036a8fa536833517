/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dev_host.c - the device seam on a real folder; see dev.h. */
#include "txn/dev.h"

#include "txn/pace.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum { IOV_BATCH = 256, ALLOCATE_BYTES = 2 << 20 };

struct host_dev {
	struct dev dev;
	int dirfd;
	bool read_only;
};

struct dev_file {
	int fd;
	bool read_only;
};

static struct host_dev *host_of(struct dev *dev)
{
	return CONTAINER_OF(dev, struct host_dev, dev);
}

static int open_file(struct dev *dev, const char *name, int flags,
		     struct dev_file **out)
{
	struct dev_file *f;

	f = malloc(sizeof(*f));
	if (!f)
		return -ENOMEM;
	/* A fifo is not waited for; who has a lease of the file is. */
	flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	do {
		f->fd = openat(host_of(dev)->dirfd, name, flags, 0600);
		if (f->fd < 0 && errno == EWOULDBLOCK && flags & O_NONBLOCK)
			flags &= ~O_NONBLOCK;
		else if (f->fd >= 0 || errno != EINTR)
			break;
	} while (true);
	if (f->fd < 0) {
		int err = -errno;

		free(f);
		return err;
	}
	f->read_only = (flags & O_ACCMODE) == O_RDONLY;
	*out = f;
	return 0;
}

static int host_create(struct dev *dev, const char *name, struct dev_file **out)
{
	if (host_of(dev)->read_only)
		return -EROFS;
	return open_file(dev, name, O_RDWR | O_CREAT | O_EXCL, out);
}

static int host_open(struct dev *dev, const char *name, bool write,
		     struct dev_file **out)
{
	if (write && host_of(dev)->read_only)
		return -EROFS;
	return open_file(dev, name, write ? O_RDWR : O_RDONLY, out);
}

static void host_close(struct dev_file *f)
{
	if (!f)
		return;
	(void)close(f->fd); /* what matters was told by sync */
	free(f);
}

static int host_read(struct dev_file *f, uint64_t off, void *buf, size_t len,
		     size_t *got_out)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(f->fd, (char *)buf + got, len - got,
				  (off_t)(off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		got += (size_t)n;
	}
	*got_out = got;
	return 0;
}

/* Write all of at most IOV_BATCH pieces; iov is used up. */
static int write_all(int fd, uint64_t off, struct iovec *iov, int n)
{
	while (n) {
		ssize_t done = pwritev(fd, iov, n, (off_t)off);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (!done)
			return -EIO;
		off += (uint64_t)done;
		while (n && (size_t)done >= iov->iov_len) {
			done -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int host_writev(struct dev_file *f, uint64_t off,
		       const struct dev_iov *iov, size_t n)
{
	struct iovec v[IOV_BATCH];

	if (f->read_only)
		return -EROFS;
	while (n) {
		size_t batch = min_u64(n, IOV_BATCH);
		uint64_t bytes = 0;
		int err;

		for (size_t i = 0; i < batch; i++) {
			v[i].iov_base = (void *)(uintptr_t)iov[i].buf;
			v[i].iov_len = iov[i].len;
			bytes += iov[i].len;
		}
		err = write_all(f->fd, off, v, (int)batch);
		if (err)
			return err;
		off += bytes;
		iov += batch;
		n -= batch;
	}
	return 0;
}

static int host_sync(struct dev_file *f)
{
	return fdatasync(f->fd) ? -errno : 0;
}

static void host_sync_start(struct dev_file *f, uint64_t off, uint64_t len)
{
	(void)sync_file_range(f->fd, (off_t)off, (off_t)len,
			      SYNC_FILE_RANGE_WRITE);
}

static int host_sync_pace(struct dev_file *f, uint64_t off, uint64_t len)
{
	int rc;

	do
		rc = sync_file_range(f->fd, (off_t)off, (off_t)len,
				     SYNC_FILE_RANGE_WAIT_BEFORE |
					     SYNC_FILE_RANGE_WRITE |
					     SYNC_FILE_RANGE_WAIT_AFTER);
	while (rc && errno == EINTR);
	/* Where the host has no such call, sync does it all. */
	return rc && errno != ENOSYS && errno != EINVAL && errno != ESPIPE
		       ? -errno
		       : 0;
}

static int do_fallocate(struct dev_file *f, int mode, uint64_t off,
			uint64_t len)
{
	int rc;

	if (f->read_only)
		return -EROFS;
	do
		rc = fallocate(f->fd, mode, (off_t)off, (off_t)len);
	while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

/* In pieces: a filesystem in memory clears each page at once, and until it has
 * cleared all of them nobody else gets this processor. */
static int host_allocate(struct dev_file *f, uint64_t off, uint64_t len)
{
	const uint64_t end = off + len;
	int err = 0;

	for (; off < end && !err; off += ALLOCATE_BYTES) {
		err = do_fallocate(f, 0, off,
				   min_u64(ALLOCATE_BYTES, end - off));
		pace();
	}
	return err;
}

static int host_punch(struct dev_file *f, uint64_t off, uint64_t len)
{
	return do_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
			    len);
}

static int host_truncate(struct dev_file *f, uint64_t size)
{
	int rc;

	if (f->read_only)
		return -EROFS;
	do
		rc = ftruncate(f->fd, (off_t)size);
	while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

static int host_size(struct dev_file *f, uint64_t *size_out)
{
	struct stat st;

	if (fstat(f->fd, &st))
		return -errno;
	*size_out = (uint64_t)st.st_size;
	return 0;
}

static int host_clone(struct dev_file *f, uint64_t off, int src_fd,
		      uint64_t src_off, uint64_t len)
{
	struct file_clone_range r = { .src_fd = src_fd,
				      .src_offset = src_off,
				      .src_length = len,
				      .dest_offset = off };

	if (f->read_only)
		return -EROFS;
	return ioctl(f->fd, FICLONERANGE, &r) ? -errno : 0;
}

static int host_share(struct dev_file *f, uint64_t off, uint64_t len,
		      int dst_fd, uint64_t dst_off)
{
	struct file_clone_range r = { .src_fd = f->fd,
				      .src_offset = off,
				      .src_length = len,
				      .dest_offset = dst_off };

	return ioctl(dst_fd, FICLONERANGE, &r) ? -errno : 0;
}

static int host_link(struct dev *dev, int fd, const char *name)
{
	struct host_dev *h = host_of(dev);
	char proc[32];

	if (h->read_only)
		return -EROFS;
	/* AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH before Linux 6.10. */
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, h->dirfd, name, AT_SYMLINK_FOLLOW)
		       ? -errno
		       : 0;
}

static int host_rename(struct dev *dev, const char *from, const char *to)
{
	struct host_dev *h = host_of(dev);

	if (h->read_only)
		return -EROFS;
	return renameat(h->dirfd, from, h->dirfd, to) ? -errno : 0;
}

static int host_remove(struct dev *dev, const char *name)
{
	struct host_dev *h = host_of(dev);

	if (h->read_only)
		return -EROFS;
	return unlinkat(h->dirfd, name, 0) ? -errno : 0;
}

static int host_mkdir(struct dev *dev, const char *name)
{
	struct host_dev *h = host_of(dev);

	if (h->read_only)
		return -EROFS;
	return mkdirat(h->dirfd, name, 0700) ? -errno : 0;
}

static int open_folder(struct dev *dev, const char *name)
{
	int fd = openat(host_of(dev)->dirfd, *name ? name : ".",
			O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static int host_sync_dir(struct dev *dev, const char *name)
{
	int fd, err = 0;

	if (host_of(dev)->read_only)
		return -EROFS;
	fd = open_folder(dev, name);
	if (fd < 0)
		return fd;
	if (fsync(fd))
		err = -errno;
	(void)close(fd);
	return err;
}

static int host_list(struct dev *dev, const char *name, dev_list_fn fn,
		     void *arg)
{
	struct dirent *de;
	DIR *dir;
	int fd, err = 0;

	fd = open_folder(dev, name);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	while (!err) {
		errno = 0;
		de = readdir(dir);
		if (!de) {
			err = -errno;
			break;
		}
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			err = fn(arg, de->d_name);
	}
	(void)closedir(dir);
	return err;
}

static int host_space(struct dev *dev, uint64_t *free_bytes_out)
{
	struct statvfs st;

	if (fstatvfs(host_of(dev)->dirfd, &st))
		return -errno;
	*free_bytes_out = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

static void host_release(struct dev *dev)
{
	struct host_dev *h = host_of(dev);

	(void)close(h->dirfd);
	free(h);
}

static const struct dev_ops host_ops = {
	.create = host_create,
	.open = host_open,
	.close = host_close,
	.read = host_read,
	.writev = host_writev,
	.sync = host_sync,
	.sync_start = host_sync_start,
	.sync_pace = host_sync_pace,
	.allocate = host_allocate,
	.truncate = host_truncate,
	.size = host_size,
	.punch = host_punch,
	.clone = host_clone,
	.share = host_share,
	.link = host_link,
	.rename = host_rename,
	.remove = host_remove,
	.mkdir = host_mkdir,
	.sync_dir = host_sync_dir,
	.list = host_list,
	.space = host_space,
	.release = host_release,
};

int dev_host_new(int dirfd, bool read_only, struct dev **dev_out)
{
	struct host_dev *h;

	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->dev.ops = &host_ops;
	h->read_only = read_only;
	h->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	if (h->dirfd < 0) {
		int err = -errno;

		free(h);
		return err;
	}
	*dev_out = &h->dev;
	return 0;
}
