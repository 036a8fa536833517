#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything at once: programs write, commits, restores, verifications, sweeps
# and readers of status and history run beside each other. Nothing is damaged,
# and a remount shows the same.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-40}

mkdir -p "$D"
echo 1 >"$D/a"
make_store
mount_it
txn -C "$D" set keep.last 3 || fail set

writer() {
	local i
	for i in $(seq "$rounds"); do
		rm -rf "$D/t$1"
		cp -r "$top/txn" "$D/t$1" || exit 1
		sync "$D/t$1" || exit 1
		diff -r "$top/txn" "$D/t$1" || exit 1
	done
}
committer() {
	local i
	for i in $(seq "$rounds"); do
		ctl "commit $i" || exit 1
		cat "$D/.txn/status" "$D/.txn/changes" "$D/.txn/log" >/dev/null || exit 1
	done
}
looker() {
	local i
	for i in $(seq $((rounds / 4 + 1))); do
		find "$D/.txn/head/" -type f -exec cat {} + >/dev/null 2>&1
		txn -C "$D" verify || exit 1
		txn -C "$D" gc || exit 1
	done
}
changer() {
	local i
	for i in $(seq $((rounds * 4))); do
		echo "$i" >>"$D/app"
		ctl "restore head a" 2>/dev/null # ENOENT, EAGAIN: others are busy
		dd if=/dev/zero of="$D/big" bs=1M count=3 conv=notrunc 2>/dev/null || exit 1
		rm -f "$D/x"
		mv "$D/app" "$D/x" || exit 1
	done
}
pids=()
writer 1 & pids+=($!)
writer 2 & pids+=($!)
committer & pids+=($!)
looker & pids+=($!)
changer & pids+=($!)
for p in "${pids[@]}"; do
	wait "$p" || fail "a program failed"
done
txn -C "$D" verify || fail verify
manifest "$D" >"$work/before"
umount_it
txn -C "$D" verify || fail "verify, unmounted"
mount_it
manifest "$D" | diff "$work/before" - || fail "a remount shows another tree"
umount_it
