#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The tool as people and scripts use it, rightly and wrongly: what it says, and
# what it leaves alone.
. "$(dirname "$0")/lib.sh"

mkdir -p "$D/sub"
echo one >"$D/f"
echo two >"$D/sub/g"
make_store

# --- closed standard descriptors: no file of the store takes their place ---
mounts+=("$D")
txn mount "$D" <&- >&- 2>&- || fail "mount without descriptors"
pid=$(daemon_pid)
for fd in 0 1 2; do
	same "descriptor $fd" "$(readlink "/proc/$pid/fd/$fd")" /dev/null
done
echo more >>"$D/f"
txn -C "$D" commit -m closed <&- >&- 2>&- || fail "commit without descriptors"
umount_it
same "plain file" "$(tail -n 1 "$D/f")" more
txnfs -f "$D" <&- >&- 2>&- &
pid=$!
wait_for test -f "$D/.txn/status" || fail "-f without descriptors"
for fd in 0 1 2; do
	same "descriptor $fd, -f" "$(readlink "/proc/$pid/fd/$fd")" /dev/null
done
umount_it
wait $pid || fail "-f without descriptors: status $?"
txn -C "$D" verify --repair <&- >&- 2>&-
txn -C "$D" verify >/dev/null || fail "verify"
