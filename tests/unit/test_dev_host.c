/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LDFLAGS: -Wl,--wrap=pwritev64,--wrap=pread64 */
/*
 * A host that writes and reads less than it was asked to, is interrupted, or
 * fails in the middle. (pwritev with 64 bit offsets is pwritev64 to the
 * linker.)
 */
#include "txn/dev.h"

#include "tests/lib/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PIECES = 300, LEN = 1000 };

static struct {
	size_t most; /* bytes of a call; 0: all */
	unsigned int calls, fail_at; /* 0: never */
	int err;
} host;

ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off_t off);
ssize_t __real_pread64(int fd, void *buf, size_t len, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t off);

/* Every other call is interrupted first. */
static bool refuse(void)
{
	host.calls++;
	errno = host.calls == host.fail_at ? host.err : EINTR;
	return host.calls == host.fail_at || (host.most && host.calls % 2);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off)
{
	struct iovec first = iov[0];

	if (refuse())
		return -1;
	if (!host.most)
		return __real_pwritev64(fd, iov, n, off);
	if (first.iov_len > host.most)
		first.iov_len = host.most;
	return __real_pwritev64(fd, &first, 1, off);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t off)
{
	if (refuse())
		return -1;
	return __real_pread64(
		fd, buf, host.most && len > host.most ? host.most : len, off);
}

struct fixture {
	char path[32];
	struct dev *dev;
	struct dev_file *f;
	uint8_t data[PIECES * LEN], got[PIECES * LEN];
	struct dev_iov iov[PIECES];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	assert_non_null(f);
	*state = f;
	memset(&host, 0, sizeof(host));
	snprintf(f->path, sizeof(f->path), "/tmp/txnfs-dev.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	fd = open(f->path, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(dev_host_new(fd, false, &f->dev), 0);
	close(fd);
	assert_int_equal(f->dev->ops->create(f->dev, "f", &f->f), 0);
	for (size_t i = 0; i < sizeof(f->data); i++)
		f->data[i] = (uint8_t)(i * 31 + i / LEN);
	for (size_t i = 0; i < PIECES; i++)
		f->iov[i] = (struct dev_iov){ f->data + i * LEN, LEN };
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->dev->ops->close(f->f);
	(void)f->dev->ops->remove(f->dev, "f");
	f->dev->ops->release(f->dev);
	(void)rmdir(f->path);
	free(f);
	return 0;
}

static void test_the_rest_follows(void **state)
{
	struct fixture *f = *state;
	size_t got;

	for (host.most = 1; host.most < 2 * LEN; host.most += 333) {
		memset(f->got, 0, sizeof(f->got));
		assert_int_equal(f->dev->ops->writev(f->f, 7, f->iov, PIECES),
				 0);
		assert_int_equal(f->dev->ops->read(f->f, 7, f->got,
						   sizeof(f->got), &got),
				 0);
		assert_int_equal(got, sizeof(f->got));
		assert_memory_equal(f->got, f->data, sizeof(f->got));
		assert_int_equal(f->dev->ops->truncate(f->f, 0), 0);
	}
}

static void test_an_error_in_the_middle(void **state)
{
	struct fixture *f = *state;
	const int errs[] = { EIO, ENOSPC };
	size_t got;

	host.most = 500;
	for (size_t i = 0; i < 2; i++) {
		host.err = errs[i];
		for (unsigned int at = 1; at < 1200; at += 47) {
			host.calls = 0;
			host.fail_at = at;
			assert_int_equal(f->dev->ops->writev(f->f, 0, f->iov,
							     PIECES),
					 -errs[i]);
		}
	}
	host.fail_at = 0;
	assert_int_equal(f->dev->ops->writev(f->f, 0, f->iov, PIECES), 0);
	host.calls = 0;
	host.fail_at = 9;
	host.err = EIO;
	assert_int_equal(
		f->dev->ops->read(f->f, 0, f->got, sizeof(f->got), &got), -EIO);
}

/* What took a file's name meanwhile is not waited for. */
static void test_a_fifo_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	char path[sizeof(f->path) + 8];
	struct dev_file *file = NULL;
	uint8_t b;
	size_t got;

	snprintf(path, sizeof(path), "%s/fifo", f->path);
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(10);
	if (!f->dev->ops->open(f->dev, "fifo", false, &file))
		assert_int_not_equal(f->dev->ops->read(file, 0, &b, 1, &got),
				     0);
	alarm(0);
	f->dev->ops->close(file);
	assert_int_equal(f->dev->ops->remove(f->dev, "fifo"), 0);
}

static int leased = -1;

static void give_up_lease(int sig)
{
	(void)fcntl(leased, F_SETLEASE, F_UNLCK);
}

/* Who has a lease of a file is asked for it, and waited for. */
static void test_a_lease_is_waited_for(void **state)
{
	struct fixture *f = *state;
	char path[sizeof(f->path) + 8];
	struct dev_file *file = NULL;

	snprintf(path, sizeof(path), "%s/leased", f->path);
	assert_int_equal(f->dev->ops->create(f->dev, "leased", &file), 0);
	f->dev->ops->close(file);
	leased = open(path, O_RDWR);
	assert_true(leased >= 0);
	assert_true(signal(SIGIO, give_up_lease) != SIG_ERR);
	if (fcntl(leased, F_SETLEASE, F_WRLCK))
		skip(); /* the host has none */
	assert_int_equal(f->dev->ops->open(f->dev, "leased", false, &file), 0);
	f->dev->ops->close(file);
	close(leased);
	assert_int_equal(f->dev->ops->remove(f->dev, "leased"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_rest_follows, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_an_error_in_the_middle,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_fifo_is_not_waited_for,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_lease_is_waited_for,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
