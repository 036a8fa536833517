/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any path, quoted for people and read again, is the same path; any text can be
 * read as a quoted one. */
#include "fs/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *path = malloc(size + 1), *quoted = malloc(4 * size + 3);

	if (path && quoted) {
		memcpy(path, data, size);
		path[size] = '\0';
		ASSERT(fs_quote_path(path, quoted, 4 * size + 3) <
		       4 * size + 3);
		(void)fs_unquote_path(quoted);
		ASSERT(!strcmp(path, quoted));
		(void)fs_unquote_path(path);
	}
	free(path);
	free(quoted);
	return 0;
}
