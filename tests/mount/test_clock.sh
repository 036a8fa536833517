#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Somebody sets the clock: nothing waits for a time of day, and whatever it is,
# commits follow each other, and what they say can be read.
. "$(dirname "$0")/lib.sh"

clock=$build/tests/mount/clock
export CLOCK_AHEAD=$work/ahead
at_clock() { LD_PRELOAD=$clock timeout 20 "$@"; }
set_clock() { echo $(($(date -d "$1" +%s) - $(date +%s))) >"$CLOCK_AHEAD"; }

echo 86400 >"$CLOCK_AHEAD"
LD_PRELOAD=$clock date +%s >"$work/now" # a program that is not preloaded is none
[ "$(cat "$work/now")" -gt $(($(date +%s) + 80000)) ] || skip "no preloading here"

mkdir "$D"
echo 0 >"$D/f"
make_store
mounts+=("$D")
at_clock txn mount "$D" || fail "mount: the clock was set back"
n=1
for day in 2100-01-01 1970-01-01 1915-01-01 2250-01-01 2026-01-01; do
	set_clock $day
	echo $day >"$D/f"
	echo $day >"$D/f$day"
	at_clock txn -C "$D" commit -m $day >/dev/null || fail "commit in $day"
	at_clock txn -C "$D" snapshot s$day || fail "snapshot in $day"
	n=$((n + 1))
	same "$day" "$(head -n 1 "$D/.txn/log" | cut -f1,2,6 | sed 's/T.*Z//')" \
		"@$n	$day	$day"
	same "$day, status" "$(jq -r '.head | "\(.number) \(.time[:10])"' "$D/.txn/status")" \
		"$n $day"
	same "$day, mtime" "$(date -ur "$D/f" +%F)" $day
	echo gone >"$D/f"
	abort
	same "$day, aborted" "$(cat "$D/f")" $day
	# looked at, and forgotten by the sweep
	cat "$D/.txn/snapshots/@1/f" >/dev/null
	ctl gc || fail "gc in $day"
done
txn -C "$D" snapshots >"$work/out" || fail "snapshots"
same "snapshots" "$(grep -c ' snapshot ' "$work/out")" 5
txn -C "$D" verify >/dev/null || fail "verify"
pid=$(daemon_pid)
timeout 20 "$build/txn" umount "$D" >/dev/null || fail "umount"
wait_gone "$pid" || fail "the daemon stays"
same "plain file" "$(date -ur "$D/f" +%F)" 2026-01-01
mount_it -o offline=refuse
for day in 2100-01-01 1970-01-01 2250-01-01; do
	same "after a mount" "$(date -ur "$D/f$day" +%F)" $day
done
umount_it
