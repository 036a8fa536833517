#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The whole life as an ordinary user, through fusermount3.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "not root: all tests run as an ordinary user"
command -v setpriv >/dev/null || skip "no setpriv"
as() { setpriv --reuid nobody --regid nogroup --clear-groups "$@"; }
as test -r /dev/fuse -a -w /dev/fuse || skip "/dev/fuse is only for root here"
as test -x "$build/txn" || skip "nobody may not run what was built"

chmod 755 "$work"
mkdir "$D"
echo one >"$D/a"
chown -R nobody:nogroup "$D"
as txn init --quiet "$D" >/dev/null || fail init
mounts+=("$D")
as txn mount "$D" || fail mount
as bash -c "echo two >'$D/a'; echo commit >'$D/.txn/ctl'" || fail commit
as bash -c "echo three >'$D/a'; echo abort >'$D/.txn/ctl'" || fail abort
same "a" "$(as cat "$D/a")" two
as txn -C "$D" snapshot s || fail snapshot
as txn -C "$D" restore head~1 a || fail restore
same "a" "$(as cat "$D/a")" one
as txn -C "$D" rollback s || fail rollback
pid=$(as sed -n 's/^  "pid": \([0-9]*\),$/\1/p' "$D/.txn/status")
kill -9 "$pid"
wait_gone "$pid" || fail "kill -9"
as txn mount "$D" || fail "mount over a dead mount"
same "a" "$(as cat "$D/a")" two
as txn -C "$D" verify || fail verify
as txn umount "$D" || fail umount
chmod 777 "$work"
as txn -C "$D" export head "$work/out" || fail export
same "exported" "$(cat "$work/out/a")" two
