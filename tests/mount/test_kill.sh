#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# kill -9: what was committed is there; head is intact; fsynced staged work is
# there; and so on, many times while programs write.
. "$(dirname "$0")/lib.sh"

mkdir -p "$D"
seq 1 100 >"$D/a"
make_store
mount_it

echo committed >"$D/b"
rm "$D/a"
commit
manifest "$D" >"$work/committed"
crash
mount_it
manifest "$D" | diff "$work/committed" - || fail "a commit was lost"

echo staged >"$D/fsynced"
sync "$D/fsynced"
echo other >"$D/b"
crash
mount_it
same "fsynced" "$(cat "$D/fsynced")" staged
same "head" "$(ls "$D/.txn/head/")" b
same "head's b" "$(cat "$D/.txn/head/b")" committed
abort
manifest "$D" | diff "$work/committed" - || fail "head was not intact"

# an aborted state does not come back
echo dropped >"$D/dropped"
sync "$D/dropped"
abort
crash
mount_it
[ ! -e "$D/dropped" ] || fail "an aborted file came back"

# a directory fsync makes names durable
mkdir "$D/dir"
mv "$D/b" "$D/dir/b2"
sync "$D/dir"
crash
mount_it
same "names" "$(cat "$D/dir/b2")" committed
[ ! -e "$D/b" ] || fail "the old name is back"
commit

# Generations: each commit holds one number in every file. Killed at any
# moment, head is whole and not older than the last that was acknowledged.
for i in $(seq 0 19); do echo 0 >"$D/g$i"; done
commit
acked=0
writer() {
	local n=$1 i
	while :; do
		n=$((n + 1))
		for i in $(seq 0 19); do echo $n >"$D/g$i" || exit 0; done
		[ $((n % 7)) != 0 ] || sync "$D/g3" 2>/dev/null
		ctl commit 2>/dev/null || exit 0
		echo $n >"$work/acked"
	done
}
for round in $(seq 1 "${ROUNDS:-25}"); do
	echo "$acked" >"$work/acked"
	writer "$acked" 2>/dev/null &
	w=$!
	read -rt "0.$((RANDOM % 4))$((RANDOM % 10))" <> <(:) || :
	crash $w
	mount_it
	low=$(cat "$work/acked")
	abort
	got=$(cat "$D"/g* | sort -u)
	[ "$(echo "$got" | wc -l)" = 1 ] || fail "round $round: halves: $got"
	[ "$got" -ge "$low" ] || fail "round $round: $got, acknowledged $low"
	[ "$got" -le $((low + 1)) ] || fail "round $round: $got past $low"
	acked=$got
done
echo "figure: $acked commits over ${ROUNDS:-25} kills"
umount_it
