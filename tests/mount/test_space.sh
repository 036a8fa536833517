#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Space is given back, commits stay as fast as they were, and what going back
# costs follows the change.
. "$(dirname "$0")/lib.sh"

free_kib=$(df -Pk "$work" | awk 'NR == 2 {print $4}')
[ "$free_kib" -gt $((3 << 20)) ] || skip "less than 3 GiB free in $work"

store_kib() { du -sk "$D/.txn" | cut -f1; }

# --- 2,000 commits that rewrite random blocks, 10 of them kept ---
mkdir -p "$D"
head -c 256M /dev/urandom >"$D/file"
make_store
mounts+=("$work/mnt")
mkdir "$work/mnt"
txn mount "$D" "$work/mnt" || fail mount
curve=$(store_kib)
for part in 1 2 3 4; do
	read -r first last < <("$build/tests/mount/rewrite" "$work/mnt/file" \
		"$work/mnt/.txn/ctl" 500 64) || fail rewrite
	[ $part != 1 ] || start=$first
	curve="$curve $(store_kib)"
done
is_small() { [ "$(store_kib)" -lt $((256 * 1024 * 3 / 2)) ]; }
# In the background, which may take its time on a busy machine.
for _ in 1 2 3 4; do
	wait_for is_small && break
done
is_small || fail "the store stays at $(store_kib) KiB"
echo "figure: store of 256 MiB over 2,000 commits of 64 random blocks (KiB): $curve, settled $(store_kib)"
echo "figure: commit in the first 50: $start us, in the last 50: $last us (medians)"
# What is slow for a while is the machine.
is_slower() { [ "$last" -ge $((start * 3 / 2 + 500)) ]; }
for _ in 1 2 3 4; do
	is_slower || break
	sleep 5
	read -r _ last < <("$build/tests/mount/rewrite" "$work/mnt/file" \
		"$work/mnt/.txn/ctl" 100 64) || fail rewrite
done
is_slower && fail "commits became slower: $start us, $last us"
same "kept" "$(wc -l <"$work/mnt/.txn/log")" 10
txn -C "$work/mnt" verify >"$work/out" || fail "verify: $(cat "$work/out")"
echo "figure: $(cat "$work/out")"
txn umount "$work/mnt" >/dev/null || fail umount

# --- deleting a snapshot frees what only it held ---
txn mount "$D" "$work/mnt" || fail mount
txn -C "$work/mnt" snapshot big || fail snapshot
head -c 256M /dev/urandom >"$work/mnt/file"
echo "set keep.last 1" >"$work/mnt/.txn/ctl"
echo "set keep.discarded 1" >"$work/mnt/.txn/ctl"
for i in 1 2; do
	echo $i >"$work/mnt/small"
	echo commit >"$work/mnt/.txn/ctl" || fail commit
done
[ "$(store_kib)" -gt $((450 * 1024)) ] || fail "the snapshot holds nothing?"
txn -C "$work/mnt" delete big || fail delete
txn -C "$work/mnt" sync >/dev/null || fail sync # the plain files hold it, too
txn -C "$work/mnt" sync >/dev/null || fail sync # the plain files hold it, too
txn -C "$work/mnt" gc || fail gc
[ "$(store_kib)" -lt $((384 * 1024)) ] || fail "after gc $(store_kib) KiB"
txn -C "$work/mnt" verify >/dev/null || fail "verify after gc"
txn umount "$work/mnt" >/dev/null || fail umount
# Unmounted, since what a mount keeps prepared for its reserve and ahead of the
# tails depends on where they are.
echo "figure: 256 MiB, once a snapshot of as many is deleted (KiB): $(store_kib)"
[ "$(store_kib)" -lt $((264 * 1024)) ] || fail "deleted, and $(store_kib) KiB"
rm -rf "$D"

# --- what is staged is overwritten, and nothing is ever committed ---
mkdir -p "$D"
make_store
mount_it
for _ in 1 2 3 4 5 6 7 8; do
	head -c 96M /dev/zero >"$D/f" || fail "overwrite"
done
given_back() { [ "$(jq .log.segment_bytes "$D/.txn/status")" -lt $((400 << 20)) ]; }
wait_for given_back ||
	fail "staged and overwritten: $(jq .log.segment_bytes "$D/.txn/status") bytes"
umount_it
rm -rf "$D"

# --- going back, at 1,000 and at 100,000 files ---
us() { # CMD...: in $took
	local start
	start=$(date +%s%N)
	"$@" || fail "$*"
	took=$((($(date +%s%N) - start) / 1000))
}
times() {
	local n=$1 snap restore one many i m=$2
	rm -rf "$D"
	mkdir -p "$D/many"
	(cd "$D/many" && seq 1 "$n" | split -l 1 -a 5 -d - f)
	make_store
	mount_it
	us ctl snapshot base
	snap=$took
	rm "$D/many/f00001"
	us ctl restore base many/f00001
	restore=$took
	commit
	echo x >"$D/many/f00002"
	commit
	us ctl rollback base
	one=$took

	(cd "$D/many" && for f in $(ls -f | grep ^f | head -n "$m"); do
		echo other >"$f"
	done)
	commit
	us ctl rollback base
	many=$took
	same "files" "$(cat "$D/many/f00000")" 1
	umount_it
	echo "figure: $n files: snapshot $snap us, restore of one path $restore us, rollback of 1 change $one us, of $m changes $many us"
}
times 1000 1000
times 100000 10000
