#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Direct writes and the page cache: who reads through it sees what was written.
. "$(dirname "$0")/lib.sh"

make_store
mount_it
"$build/tests/mount/aio" "$D/file" "${ROUNDS:-300}"
status=$?
[ $status != 77 ] || skip "no asynchronous direct writes"
[ $status = 0 ] || fail "asynchronous direct writes beside buffered reads"
commit
cmp "$D/file" "$D/.txn/head/file" || fail "the commit has other bytes"
umount_it
