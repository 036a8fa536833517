#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What no program does: system calls with any arguments, from several processes
# at once (SEED, ROUNDS); 100,000 open files; 8,192 attributes; directories
# 10,000 deep; names of 255 bytes; contents up to 2^60. The same daemon serves
# on, in bounds.
. "$(dirname "$0")/lib.sh"
hostile=$build/tests/mount/hostile
rounds=${ROUNDS:-200}
seed=${SEED:-1}

mkdir -p "$D"
echo 1 >"$D/a"
make_store
mount_it -o nodev
pid=$(daemon_pid)
grown() { # KiB at most
	local kib
	kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
	echo "figure: $1: daemon $kib KiB"
	[[ $build == *san-* ]] || [ "$kib" -le "$2" ] || fail "$1: the daemon takes $kib KiB"
}
lives() {
	same "$1: daemon" "$(daemon_pid)" "$pid"
	same "$1: health" "$(jq -r .health "$D/.txn/status")" ok
	echo "$1" >"$D/after" && same "$1: written" "$(cat "$D/after")" "$1"
	commit
	txn -C "$D" verify >"$work/verify" || fail "$1: $(cat "$work/verify")"
}

for s in $(seq "$seed" $((seed + 3))); do
	echo "SEED=$s ROUNDS=$rounds"
	timeout 500 "$hostile" "$D" "$s" "$rounds" 4 || fail "SEED=$s"
	lives "SEED $s"
done
grown "calls" 600000

# --- open files: they are the kernel's, and none is the daemon's ---
before=$(ls "/proc/$pid/fd" | wc -l)
coproc OPEN { "$hostile" "$D" open 100000; }
exec 5<&"${OPEN[0]}" 6>&"${OPEN[1]}"
read -r n <&5 || n=0
if [ "$n" = 100000 ]; then
	after=$(ls "/proc/$pid/fd" | wc -l)
	[ "$after" -le $((before + 150)) ] || fail "$after files open, $before before"
	grown "100,000 open files" 800000
	lives open
else
	echo "skipped: only $n open files are allowed here"
fi
echo >&6
wait
exec 5<&- 6>&-

# --- as many attributes as the kernel can list: 64 KiB of names ---
attributes=8192
[[ $build != *san-* ]] || attributes=512
touch "$D/x"
"$hostile" "$D" attributes $attributes >"$work/out" || fail "attributes: $(cat "$work/out")"
lives attributes

# --- far out in a file ---
"$hostile" "$D" far 1 || fail "far"
lives far

# --- deep, and long names ---
"$hostile" "$D" deep 10000 || fail "10,000 deep"
mkdir "$D/long"
perl -e 'chdir $ARGV[0] or die; for (1..5000) { open my $f, ">", sprintf("%0255d", $_) or die $! }' "$D/long" ||
	fail "names of 255 bytes"
same "names of 255 bytes" "$(ls "$D/long" | wc -l)" 5000
lives long
grown "the end" 800000
# The host may not have files as long as the far ones.
but_missing() { "$@" >"$work/out" 2>&1 || grep -q "is missing cannot" "$work/out"; }
but_missing txn -C "$D" sync || fail "the plain files: $(cat "$work/out")"
but_missing txn umount "$D" || fail "umount: $(cat "$work/out")"
txn -C "$D" verify || fail "verify, unmounted"
mount_it
same "names of 255 bytes, mounted again" "$(ls "$D/long" | wc -l)" 5000
"$hostile" "$D" far 0 || fail "far, mounted again"
same "attributes, mounted again" "$(getfattr -dm- "$D/x" 2>/dev/null | grep -c '^user')" $attributes
but_missing txn umount "$D" || fail "umount: $(cat "$work/out")"
