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

# said STATUS TEXT CMD...: it ends so, and tells this on standard error
said() {
	local want=$1 text=$2 rc
	shift 2
	"$@" >"$work/out" 2>"$work/said"
	rc=$?
	same "status of $*" "$rc" "$want"
	grep -qF -- "$text" "$work/said" ||
		fail "$*: no '$text' in: $(cat "$work/said")"
}

# --- output that cannot be written is told, and is a failure where it is all ---
for how in mounted unmounted; do
	[ $how = unmounted ] || mount_it
	for c in status "status --json" log "log --json" diff "diff --json" \
		"snapshots --json" "ls head" "cat head:f" verify; do
		# shellcheck disable=SC2086
		txn -C "$D" $c >/dev/full 2>"$work/said"
		same "status of $c, $how" $? 1
		grep -q "cannot write the output" "$work/said" ||
			fail "$c, $how: $(cat "$work/said")"
	done
	[ $how = unmounted ] || umount_it
done
mount_it
echo x >>"$D/f"
txn -C "$D" commit >/dev/full 2>"$work/said" || fail "commit into a full disk"
grep -q "cannot write the output" "$work/said" || fail "$(cat "$work/said")"
umount_it
