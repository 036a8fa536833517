/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block.c - see block.h. */
#include "tests/lib/block.h"

#include "tests/lib/test.h"

bool is_segment(struct simdev *sim, size_t file)
{
	return !strncmp(simdev_file_name(sim, file), "log/", 4);
}

uint64_t blocks_of(struct simdev *sim, size_t i)
{
	return (simdev_file_bytes(sim, i) + BLOCK - 1) / BLOCK;
}

void get_block(struct simdev *sim, size_t file, uint64_t block,
	       uint8_t buf[BLOCK])
{
	uint64_t size = simdev_file_bytes(sim, file);

	memset(buf, 0, BLOCK);
	for (uint64_t i = 0; i < BLOCK && block * BLOCK + i < size; i++)
		buf[i] = simdev_get_byte(sim, file, block * BLOCK + i);
}

void set_block(struct simdev *sim, size_t file, uint64_t block,
	       const uint8_t buf[BLOCK])
{
	uint64_t size = simdev_file_bytes(sim, file);

	for (uint64_t i = 0; i < BLOCK && block * BLOCK + i < size; i++)
		simdev_set_byte(sim, file, block * BLOCK + i, buf[i]);
}

bool is_zero_block(struct simdev *sim, size_t file, uint64_t block)
{
	static const uint8_t zeros[BLOCK];
	uint8_t buf[BLOCK];

	get_block(sim, file, block, buf);
	return !memcmp(buf, zeros, BLOCK);
}

void truncate_file(struct simdev *sim, const char *name, uint64_t size)
{
	struct dev *dev = simdev_dev(sim);
	struct dev_file *df;

	assert_int_equal(dev->ops->open(dev, name, true, &df), 0);
	assert_int_equal(dev->ops->truncate(df, size), 0);
	dev->ops->close(df);
}
