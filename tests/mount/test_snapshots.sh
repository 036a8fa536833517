#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Commits looked at: read-only, immutable, distinct from the working view.
. "$(dirname "$0")/lib.sh"

fill_sample
rm -f "$D/fifo" "$D/null" # diff takes any two for different
make_store
mount_it
S=$D/.txn/snapshots
same "list" "$(ls "$S")" @1
echo two >"$D/file"
rm -r "$D/deep"
commit
echo three >"$D/file"
same "list" "$(echo $(ls "$S"))" "@1 @2"
same "head" "$(readlink "$D/.txn/head")" snapshots/@2
[ "$(stat -c %s "$D/.txn/head")" -ge 12 ] || fail "head is shorter than what it says"
same "@1" "$(cat "$S/@1/file")" "first line"
same "@2" "$(cat "$S/@2/file")" two
same "head" "$(cat "$D/.txn/head/file")" two
must_fail ls "$S/@3"
must_fail ls "$S/@0"
must_fail ls "$S/@01"
must_fail ls "$S/1"

# somebody inside head stays on that commit
(
	cd "$D/.txn/head" || exit 1
	commit
	same "inside" "$(cat file)" two
) || exit 1
same "head moved" "$(cat "$D/.txn/head/file")" three

# names that begin like those that move
for name in headroom head-1 staged2 workings; do
	ctl "snapshot $name" || fail "snapshot $name"
	same "$name" "$(cat "$S/$name/file")" three
	ctl "delete $name" || fail "delete $name"
done
for name in head 'head~0' staged working; do
	must_fail ls "$S/$name"
done

# nothing can be written
must_fail touch "$S/@1/new"
must_fail bash -c "echo x >'$S/@1/file'"
must_fail bash -c "echo x >>'$S/@1/file'"
must_fail rm "$S/@1/file"
must_fail mkdir "$S/@9"
must_fail chmod 777 "$S/@1/file"
must_fail mv "$S/@1/file" "$D/stolen" # copies, cannot remove
rm "$D/stolen"
must_fail ln "$S/@1/file" "$D/stolen"
must_fail setfattr -n user.x -v y "$S/@1/file"
must_fail truncate -s 0 "$S/@1/file"

# diff, cp and tar see two files where there are two
diff -r "$S/@1" "$S/@2" >"$work/diff"
grep -q "Only in $S/@1: deep" "$work/diff" || fail "diff -r: $(cat "$work/diff")"
diff -r --no-dereference "$S/@3" "$D" >"$work/diff" 2>&1
[ ! -s "$work/diff" ] || fail "head and working differ: $(cat "$work/diff")"
[ "$(stat -c %i "$S/@1/large")" != "$(stat -c %i "$D/large")" ] ||
	fail "equal inode numbers in two views"
cp -a "$S/@1/deep" "$D/deep" || fail "cp from a snapshot"
diff -r "$S/@1/deep" "$D/deep" || fail "copied"
cp "$S/@1/file" "$D/file" || fail "cp over its own later version"
same "copied" "$(cat "$D/file")" "first line"
tar -C "$S/@1" -cf "$work/t.tar" . || fail tar
abort

# what was looked at is given back when its names are gone, though the kernel
# remembers it; who is in it stays there
bytes() { jq .space.store_bytes "$D/.txn/status"; }
ctl set keep.last 1 && ctl set keep.discarded 1 || fail "set"
looked_at() { # how to look at the names of a state
	head -c 96M /dev/urandom >"$D/seen"
	commit
	ctl snapshot seen && ctl tag also "@$(jq .head.number "$D/.txn/status")" ||
		fail "names"
	"$1"
	before=$(bytes)
	rm "$D/seen"
	commit
	ctl delete seen && ctl delete also || fail "delete"
	echo "$SECONDS" >"$D/later"
	commit # drops what had the tag
	txn -C "$D" sync >/dev/null || fail "sync" # the plain files hold it, too
	ctl gc || fail "gc"
}
freed() { [ $((before - $(bytes))) -gt $((90 << 20)) ]; }
all_names() { cat "$D/.txn/head/seen" "$S/seen/seen" "$S/also/seen" >"$work/seen"; }
looked_at all_names
freed || fail "space of what was looked at: $before, $(bytes)"
find_all() { find "$S" -type f >/dev/null; }
looked_at find_all
freed || fail "space of what find saw: $before, $(bytes)"
hold_it() {
	exec 8<"$S/seen/seen"
	cat "$S/also/seen" >"$work/seen"
}
looked_at hold_it
freed && fail "space of an open file is given back"
cmp "$work/seen" <(cat <&8) || fail "a file of a dropped state"
exec 8<&-
given_back() { ctl gc && freed; }
wait_for given_back || fail "space of what was held: $before, $(bytes)"

# files that are being created while a sweep asks what is open
mkdir "$D/made"
makers=()
for k in 1 2 3 4; do
	for i in $(seq 1000); do : >"$D/made/$k.$i"; done &
	makers+=($!)
done
for i in $(seq 30); do ctl gc || fail "gc $i beside creations"; done
wait "${makers[@]}" || fail "creating beside sweeps"
rm -r "$D/made"

# a database opened in a snapshot
command -v sqlite3 >/dev/null || skip "no sqlite3"
sqlite3 "$D/db" "pragma journal_mode=wal; create table t(x);
	insert into t values(1),(2),(3);" >/dev/null
commit
n=$(jq -r .head.number "$D/.txn/status")
sum=$($digest <"$S/@$n/db")
sqlite3 "$D/db" "insert into t values(4);"
sqlite3 "file:$S/@$n/db?mode=ro&immutable=1" "select count(*) from t" >"$work/rows" ||
	fail "cannot read it"
must_fail sqlite3 "$S/@$n/db" "insert into t values(9)"
same "rows" "$(cat "$work/rows")" 3
same "unchanged" "$($digest <"$S/@$n/db")" "$sum"
same "working" "$(sqlite3 "$D/db" 'select count(*) from t')" 4
same "no companions" "$(ls "$S/@$n/" | grep -c '^db-')" 0
abort
same "aborted" "$(sqlite3 "$D/db" 'select count(*) from t')" 3
umount_it
