#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Calls at their limits answer as on other filesystems.
. "$(dirname "$0")/lib.sh"

make_store
mount_it

# why CMD...: what the C library says when CMD fails
why() { "$@" 2>&1 >/dev/null | sed 's/.*: //'; }

# a file of 2^60 bytes, and past it
: >"$D/f"
truncate -s $((1 << 60)) "$D/f" || fail "2^60 bytes"
same "a longer file" "$(why truncate -s $(((1 << 60) + 1)) "$D/f")" \
	"File too large"
for off in $((1 << 60)) $(((1 << 60) + 1)) $(((1 << 62) - 2)); do
	same "fallocate at $off" \
		"$(why fallocate -o $off -l 1 "$D/f")" "File too large"
	same "punch at $off" \
		"$(why fallocate -p -o $off -l 1 "$D/f")" "File too large"
done
umount_it
