#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# kill -9: what was committed is there; head is intact; fsynced staged work is
# there; and so on, many times while programs write.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/load.sh"

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
rm -f "$D"/g*
commit

# A load that knows what has to be there, and SQLite: a transaction that it
# acknowledged is there. Rows come 5 by 5, their number is in the same
# transaction.
sql() { sqlite3 -bail "$D/$1.db" "${@:2}"; }
sqlite_create() { # MODE
	sql "$1" "pragma journal_mode=$1; create table t(n, what);
		create index by_n on t(n); create table total(n);
		insert into total values(0)" >/dev/null || fail "sqlite: $1"
}
# extra: with full, SQLite does not flush the end of a journal in mode delete,
# which is its commit. When it cannot open the directory to flush it, because
# the mount died that moment, it says that all is well: a transaction counts as
# acknowledged when the mount answered after it.
sqlite_start() { # MODE FROM: what it acknowledges goes to $work/MODE.acked
	local n=$2
	echo "$n" >"$work/$1.acked"
	{
		echo "pragma synchronous=extra;"
		while n=$((n + 1)); do
			echo "begin; with recursive i(v) as (select 1 union all
				select v + 1 from i where v < 5) insert into t
				select $n, hex(randomblob(300)) from i;
				update total set n = $n; commit;
				select $n from fsdir('$D/.txn/ctl');"
		done
	} 2>/dev/null | sql "$1" >>"$work/$1.acked" 2>/dev/null &
}
sqlite_check() { # MODE WHAT: the last one there, in $last
	local low
	low=$(tail -n 1 "$work/$1.acked")
	same "$2: $1" "$(sql "$1" 'pragma integrity_check')" ok
	last=$(sql "$1" 'select n from total')
	{ [ "$last" -ge "$low" ] && [ "$last" -le $((low + 1)) ]; } ||
		fail "$2: $1: $last transactions, acknowledged $low"
	same "$2: $1: rows" "$(sql "$1" \
		'select count(*), count(distinct n), coalesce(max(n), 0)
			from t')" \
		"$((last * 5))|$last|$last"
}
modes=()
if command -v sqlite3 >/dev/null; then
	modes=(wal delete)
else
	echo "skipped: SQLite: no sqlite3 (tools/deps.sh installs it)"
fi
declare -A rows
for mode in "${modes[@]}"; do sqlite_create $mode; rows[$mode]=0; done
operations=0
for round in $(seq "${ROUNDS:-20}"); do
	load_start 2
	commit
	for mode in "${modes[@]}"; do sqlite_start $mode "${rows[$mode]}"; done
	load_reach $((RANDOM % 600))
	crash
	load_end 3 4 # the kernel says EIO, too, to some who are under way
	operations=$((operations + $(load_done)))
	wait # SQLite, and who writes for it
	mount_it
	load_check crash
	for mode in "${modes[@]}"; do
		sqlite_check $mode "round $round"
		rows[$mode]=$last
	done
done
echo "figure: $operations operations over ${ROUNDS:-20} kills, all that was fsynced or committed there"
for mode in "${modes[@]}"; do
	echo "figure: SQLite, $mode: ${rows[$mode]} transactions, all that were acknowledged there"
done
umount_it
