#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# On XFS and btrfs the store and the plain files share their blocks: init takes
# no space for what is there, nor do files that follow a commit. What either
# writes or gives back stays whole with the other.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root, for loop mounts"

used_kib() { sync -f "$1"; df -k --output=used "$1" | tail -n 1; }
leave() { # what
	manifest "$D" >"$work/want"
	umount_it
	manifest "$D" | diff "$work/want" - || fail "$1: plain files differ"
}
least() { # WHAT GOT MAX
	echo "$type: $1: $2 KiB, at most $3"
	[ "$2" -le "$3" ] || fail "$type: $1 takes $2 KiB, not at most $3"
}

try() { # WHERE TYPE
	local before n
	D=$1/data
	type=$2
	mkdir "$D"
	head -c 144M /dev/urandom >"$D/large"
	for n in $(seq 50); do head -c 1M /dev/urandom >"$D/f$n"; done
	head -c 5M /dev/urandom | dd of="$D/holes" bs=1M seek=50 2>/dev/null
	head -c 1001001 /dev/urandom >"$D/odd"
	for n in $(seq 100); do echo "$n" >"$D/s$n"; done
	manifest "$D" >"$work/before"
	before=$(used_kib "$1")
	make_store
	least "init of 200 MiB" $(($(used_kib "$1") - before)) 20000
	manifest "$D" | diff "$work/before" - || fail "init changed the files"
	txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
	mount_it
	manifest "$D" | diff "$work/before" - || fail "not what was read"
	wait_for grep -q store_bytes "$D/.txn/status"
	same "told" "$(jq .space.shared "$D/.txn/status")" true

	# what is in the store does not follow the plain file
	umount_it
	dd if=/dev/urandom of="$D/large" bs=1M seek=7 count=3 conv=notrunc 2>/dev/null
	txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
	mount_it 2>/dev/null
	same "the edit" "$(cat "$D/.txn/changes")" "M large"
	abort
	leave "the edit is undone"
	manifest "$D" | diff "$work/before" - || fail "undone"

	# a file of a commit: once, for both
	mount_it
	before=$(used_kib "$1")
	head -c 64M /dev/urandom >"$D/new"
	echo changed >"$D/f7"
	commit
	ctl sync || fail sync
	umount_it
	least "a commit of 64 MiB" $(($(used_kib "$1") - before)) 80000
	mount_it

	# giving back on one side: the other keeps all of it
	ctl set keep.last 1
	ctl set keep.discarded 1
	cp "$D/large" "$work/large"
	head -c 1M /dev/urandom | dd of="$D/new" bs=1M seek=30 conv=notrunc 2>/dev/null
	rm "$D"/f1?
	commit
	ctl gc || fail gc
	leave "after a sweep"
	rm "$D/large"
	txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
	mount_it 2>/dev/null
	abort
	cmp "$D/large" "$work/large" || fail "large, in the store"
	leave "a plain file that was removed"
	cmp "$D/large" "$work/large" || fail "large, plain"

	# A full host: who writes hears of it, and all is there afterwards. (btrfs
	# promises no space, not even what it said it had: there the store may stop.)
	mount_it
	manifest "$D" >"$work/want"
	head -c 3G /dev/zero >"$1/fill" 2>/dev/null
	head -c 300M /dev/urandom >"$D/too-much" 2>/dev/null &&
		fail "there is space"
	[ "$(jq -r .health "$D/.txn/status")" = ok ] || [ "$type" = btrfs ] ||
		fail "stopped: $(jq -r .health "$D/.txn/status")"
	rm "$1/fill"
	txn umount "$D" >/dev/null 2>&1
	mount_it 2>/dev/null
	abort
	manifest "$D" | diff "$work/want" - || fail "on a full host"
	leave "a full host"
	txn eject --yes "$D" >/dev/null || fail eject
	manifest "$D" | diff "$work/want" - || fail "ejected"
}

on xfs 800 mkfs.xfs -q -f -m reflink=1
on btrfs 1000 mkfs.btrfs -q -f
