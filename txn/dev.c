/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dev.c - whole small files over any device; see dev.h. */
#include "txn/dev.h"

int dev_read_all(struct dev *dev, const char *name, size_t max, char **buf_out,
		 size_t *len_out)
{
	struct dev_file *f = NULL;
	uint64_t size;
	char *text = NULL;
	size_t got = 0;
	int err;

	err = dev->ops->open(dev, name, false, &f);
	if (err)
		return err;
	err = dev->ops->size(f, &size);
	if (!err && size > max)
		err = -EFBIG;
	if (err)
		goto out;
	text = malloc(size + 1);
	if (!text) {
		err = -ENOMEM;
		goto out;
	}
	err = dev->ops->read(f, 0, text, size, &got);
	if (err)
		goto out;
	text[got] = '\0';
	*buf_out = text;
	*len_out = got;
	text = NULL;
out:
	free(text);
	dev->ops->close(f);
	return err;
}

int dev_read_text(struct dev *dev, const char *name, size_t max,
		  char **text_out)
{
	size_t len;

	return dev_read_all(dev, name, max, text_out, &len);
}

/* The folder part of a name: "" for the store's own. */
static void folder_of(const char *name, char out[DEV_NAME_MAX])
{
	const char *slash = strchr(name, '/');
	size_t n = slash ? (size_t)(slash - name) : 0;

	ASSERT(n < DEV_NAME_MAX);
	memcpy(out, name, n);
	out[n] = '\0';
}

int dev_replace(struct dev *dev, const char *name, const void *buf, size_t len)
{
	static const char tmp[] = "tmp/replace";
	struct dev_iov iov = { buf, len };
	char folder[DEV_NAME_MAX];
	struct dev_file *f = NULL;
	int err;

	folder_of(name, folder);
	err = dev->ops->remove(dev, tmp); /* left by a crash */
	if (err && err != -ENOENT)
		return err;
	err = dev->ops->create(dev, tmp, &f);
	if (err)
		return err;
	err = dev->ops->writev(f, 0, &iov, 1);
	/* The bytes before the name: a crash shows the old text or the new. */
	if (!err)
		err = dev->ops->sync(f);
	dev->ops->close(f);
	if (!err)
		err = dev->ops->rename(dev, tmp, name);
	if (!err)
		err = dev->ops->sync_dir(dev, folder);
	return err;
}

int dev_replace_text(struct dev *dev, const char *name, const char *text)
{
	return dev_replace(dev, name, text, strlen(text));
}
