#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# transport=io_uring: what waits on a core does not hold the others of that core,
# commands cannot take all places of a core, and the daemon ends in order. (Every
# other test runs with it by MOUNT_OPTIONS=transport=io_uring.)
. "$(dirname "$0")/lib.sh"

offer_uring
command -v taskset >/dev/null || skip "no taskset"
export SLOWDEV=$work/slowdev
mkdir -p "$SLOWDEV" "$D/dir"
seq 100 >"$D/dir/f"
make_store

start() {
	LD_PRELOAD=$build/tests/mount/slowdev txnfs "$D" -o transport=io_uring \
		-f >"$work/daemon.log" 2>&1 &
	daemon=$!
	mounts+=("$D")
	wait_for mountpoint -q "$D" || fail "mount: $(cat "$work/daemon.log")"
	same "io_uring" "$(jq .kernel.io_uring "$D/.txn/status")" true
}
threads() { cat /proc/"$daemon"/task/*/comm; }
start
# one for each place of each core
cores=$(getconf _NPROCESSORS_CONF)
places=$((256 / cores))
[ $places -le 32 ] || places=32
[ $places -ge 4 ] || places=4
same "threads of rings" "$(threads | grep -c '^txnfs-ring$')" $((cores * places))

# --- all from one core, where each flush is held ---
core() { taskset -c 0 "$@"; }
seq 10000 >"$D/staged" # room for what follows is made
commit
touch "$SLOWDEV/sync"
echo staged >"$D/staged"
pids=()
for i in $(seq $((places / 2 + 1))); do
	core bash -c "echo 'commit $i' >'$D/.txn/ctl'" 2>"$work/said.$i" &
	pids+=($!)
done
wait_for test -e "$SLOWDEV/sync.held" || fail "nothing was held"
# half of the places may wait, and one more is refused
refused() { grep -l "temporarily unavailable" "$work"/said.*; }
wait_for refused >/dev/null || fail "a command too many: $(cat "$work"/said.*)"
same "refused" "$(refused | wc -l)" 1
# and a file that waits for its flush
core sync "$D/staged" &
pids+=($!)
for op in "stat $D/dir" "cat $D/dir/f" "touch $D/dir/new" "mkdir $D/dir/d" \
	"mv $D/dir/new $D/dir/d/n" "rm $D/dir/d/n" "ls -l $D/dir" "stat -f $D" \
	"truncate -s 5000 $D/dir/t" "cat $D/.txn/status"; do
	# shellcheck disable=SC2086 # words
	core timeout 5 $op >/dev/null || fail "$op waits, too"
done
rm "$SLOWDEV/sync"
failed=0
for p in "${pids[@]}"; do
	wait "$p" || failed=$((failed + 1))
done
same "failed, but for the one that was refused" $failed 1

# --- asked to end while a command waits: it is done and answered ---
touch "$SLOWDEV/sync"
echo last >"$D/last"
rm -f "$SLOWDEV/sync.held"
core bash -c "echo 'commit last' >'$D/.txn/ctl'" &
command=$!
wait_for test -e "$SLOWDEV/sync.held" || fail "nothing was held"
kill -TERM "$daemon"
core timeout 5 cat "$D/dir/f" >/dev/null || fail "not served until the command is done"
rm "$SLOWDEV/sync"
wait $command || fail "the command under way"
wait "$daemon" || fail "the daemon ended with $?: $(cat "$work/daemon.log")"
txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
same "head" "$(txn -C "$D" log | head -n 1 | grep -c last)" 1

# --- the connection is gone: nobody waits for it, nothing is lost ---
start
echo kept >"$D/kept"
sync "$D/kept"
exec 5<"$D/dir/f"
umount -l "$D"
exec 5<&-
wait "$daemon" || fail "the daemon ended with $?: $(cat "$work/daemon.log")"
mount_it
same "kept" "$(cat "$D/kept")" kept
umount_it
