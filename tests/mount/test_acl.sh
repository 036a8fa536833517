#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An access ACL that is set takes the set-group-id bit away, unless the caller
# is in the file's group or is root.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "not root"
command -v setpriv >/dev/null || skip "no setpriv"

chmod 755 "$work"
mkdir -p "$D/dir"
: >"$D/file"
chown 12345:12345 "$D/file" "$D/dir"
make_store
mount_it

acl=0x0200000001000700ffffffff04000700ffffffff20000700ffffffff # u,g,o::rwx
as() { # groups of the caller, the mode that results, user
	local f

	for f in file dir; do
		chmod 2755 "$D/$f"
		setpriv --reuid "${3:-12345}" --regid "${1%%,*}" --groups "$1" \
			setfattr -n system.posix_acl_access -v "$acl" "$D/$f" ||
			fail "setfattr as $*"
		same "$f as $*" "$(stat -c %a "$D/$f")" "$2"
	done
}
as 12345 2777
as 54321,1,12345 2777
as 54321 777
as 54321,1,2,3 777
as 54321 2777 root
abort
umount_it
