#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Snapshots, tags, restore of all and of paths, rollback, undo, retention,
# verification, export.
. "$(dirname "$0")/lib.sh"

txn_() { txn -C "$D" "$@"; }
expect() { # STATUS TEXT CMD...
	local want=$1 text=$2 rc
	shift 2
	"$@" >"$work/out" 2>&1
	rc=$?
	[ $rc = "$want" ] || fail "$*: status $rc, want $want: $(cat "$work/out")"
	[ -z "$text" ] || grep -q -- "$text" "$work/out" ||
		fail "$*: no '$text' in: $(cat "$work/out")"
}
tree() { manifest "$1/"; }

fill_sample
rm -f "$D/fifo" "$D/null"
make_store
mount_it
S=$D/.txn/snapshots
tree "$D" >"$work/first"

# --- a snapshot holds staged changes, moves nothing, survives a crash ---
echo staged >"$D/staged"
rm "$D/large"
tree "$D" >"$work/with-staged"
txn_ snapshot one -m "with staged changes" || fail snapshot
same "changes" "$(wc -l <"$D/.txn/changes")" 2
same "head" "$(jq -r .head.number "$D/.txn/status")" 1
tree "$S/one" | diff "$work/with-staged" - || fail "the snapshot"
abort
tree "$S/one" | diff "$work/with-staged" - || fail "the snapshot after abort"
crash
mount_it
tree "$S/one" | diff "$work/with-staged" - || fail "the snapshot after a crash"
tree "$D" | diff "$work/first" - || fail "working after a crash"
expect 0 "one .*snapshot .*with staged changes" txn_ snapshots
same "json" "$(txn_ snapshots --json | jq -r '.names[] | select(.kind == "snapshot") | .name')" one

# --- names ---
expect 3 "taken" txn_ snapshot one
for bad in head staged working .x a/b -x 'x y' "$(printf 'n%.0s' {1..65})"; do
	must_fail txn_ snapshot -- "$bad"
done
txn_ snapshot "$(printf 'n%.0s' {1..64})" || fail "the longest name"
expect 0 "" txn_ delete "$(printf 'n%.0s' {1..64})"
expect 1 "there is no name missing" txn_ delete missing
expect 1 "there is no commit @99" txn_ tag t @99
expect 2 "" txn_ tag t
txn_ tag base @1 || fail tag
expect 3 "taken" txn_ tag base @1

# --- restore: all, staged ---
txn_ restore one || fail restore
tree "$D" | diff "$work/with-staged" - || fail "restore one"
same "head" "$(jq -r .head.number "$D/.txn/status")" 1
abort
tree "$D" | diff "$work/first" - || fail "abort of a restore"
txn_ undo || fail undo
tree "$D" | diff "$work/with-staged" - || fail "undo of an abort"
abort

# --- restore: paths ---
rm -r "$D/dir" "$D/deep"
echo other >"$D/file"
commit
txn_ restore base deep/a/b/c/7 || fail "restore a file"
same "file" "$(cat "$D/deep/a/b/c/7")" 7
same "parents alone come along" "$(find "$D/deep" | wc -l)" 5
txn_ restore base dir "$(printf 'new\nline')" || fail "restore two paths"
diff -r --no-dereference "$S/base/dir" "$D/dir" || fail "the directory"
same "one inode" "$(stat -c %i "$D/dir/x-again")" "$(stat -c %i "$D/dir/sub/x")"
same "the rest is untouched" "$(cat "$D/file")" other
txn_ restore base file --commit || fail "restore --commit"
same "file" "$(cat "$D/file")" "first line"
same "staged" "$(cat "$D/.txn/changes")" ""
same "xattr" "$(getfattr --only-values -n user.note "$D/file" 2>/dev/null)" \
	"$(getfattr --only-values -n user.note "$S/base/file" 2>/dev/null)"
same "mtime" "$(stat -c %y "$D/file")" "$(stat -c %y "$S/base/file")"

# a parent that became a file; what does not exist
rm -r "$D/deep"
echo "in the way" >"$D/deep"
expect 1 "in the way" txn_ restore base deep/a/b/c/7
same "nothing moved" "$(cat "$D/deep")" "in the way"
expect 1 "base has no not/there" txn_ restore base not/there
expect 1 'base has no "not\\303"' txn_ restore base $'not\xc3'
expect 1 "there is no state nowhere" txn_ restore nowhere file
rm "$D/deep"

# one of two hard links: the other keeps what it is
echo changed >"$D/dir/x-again"
same "both" "$(cat "$D/dir/sub/x")" changed
txn_ restore base dir/sub/x || fail "one link"
same "restored" "$(cat "$D/dir/sub/x")" x
same "the other" "$(cat "$D/dir/x-again")" changed
commit

# a database without its companions is warned about
echo db >"$D/app.db"
echo wal >"$D/app.db-wal"
commit
n=$(jq -r .head.number "$D/.txn/status")
echo db2 >"$D/app.db"
expect 0 "companion app.db-wal" txn_ restore "@$n" app.db
txn_ restore "@$n" app.db app.db-wal >"$work/out" 2>&1 || fail "both"
grep -q 'companion app.db-wal' "$work/out" && fail "warned without need"

# while somebody writes elsewhere
(while :; do echo "$RANDOM" >>"$D/busy" || exit; done) &
w=$!
for i in $(seq 1 20); do
	echo "$i" >"$D/file"
	txn_ restore base file || fail "restore beside a writer"
	same "file" "$(cat "$D/file")" "first line"
done
kill $w
wait $w 2>/dev/null
lines=$(wc -l <"$D/busy")
[ "$lines" -gt 0 ] || fail "the writer wrote nothing"
commit

# --- rollback: committed at one instant, and undone ---
tree "$D" >"$work/before-rollback"
before=$(jq -r .head.number "$D/.txn/status")
echo staged >"$D/more"
expect 0 "head is @$((before + 1))" txn_ rollback base
tree "$D" | diff "$work/first" - || fail "rollback"
tree "$D/.txn/head" | diff "$work/first" - || fail "rollback: head"
same "staged" "$(cat "$D/.txn/changes")" ""
crash
mount_it
tree "$D" | diff "$work/first" - || fail "rollback after a crash"
expect 0 "rollback to base" txn_ log
txn_ undo || fail "undo of a rollback"
same "staged work is back" "$(cat "$D/more")" staged
rm "$D/more"
tree "$D" | diff "$work/before-rollback" - || fail "undo of a rollback"
expect 0 "head is" txn_ rollback "@$before"
tree "$D" | diff "$work/before-rollback" - || fail "a rollback rolled back"
expect 1 "there is no state nowhere" txn_ rollback nowhere
expect 1 "" txn_ rollback staged

# --- who holds what is told ---
exec 3<"$D/file"
echo held >"$D/file"
expect 0 "process .* open .*/file" txn_ abort
exec 3<&-
expect 0 "" txn_ abort --force

# --- looking, mounted and not ---
looks() {
	txn_ ls base | sed 's/ *[0-9]* 20/ 20/'
	txn_ ls base:dir
	txn_ cat base:dir/sub/x
	txn_ diff base one
	txn_ diff head~1 head
	txn_ snapshots
	txn_ log
	txn_ diff base one --json | jq .totals
}
looks | sort >"$work/looks"
[ -s "$work/looks" ] || fail looks
same "cat" "$(txn_ cat base:dir/sub/x)" x
expect 1 "No such file" txn_ cat base:nothing-here
expect 1 "" txn_ ls nowhere
txn_ export base "$work/exported" || fail export
tree "$work/exported" | diff <(grep -v '^\. ' "$work/first") <(grep -v '^\. ' -) ||
	fail "the export differs"
expect 3 "there already" txn_ export base "$work/exported"
expect 0 "0 damaged" txn_ verify
umount_it
looks | sort | diff "$work/looks" - || fail "unmounted it looks different"
txn_ export base "$work/exported2" || fail "export, unmounted"
diff -r --no-dereference "$work/exported" "$work/exported2" || fail "exports differ"
expect 0 "0 damaged" txn_ verify
expect 1 "not mounted" txn_ restore base file

# --- retention: unnamed commits go, tagged ones and snapshots stay ---
mount_it
txn_ set keep.last 3 || fail set
txn_ tag kept "@$before" || fail tag
for i in 1 2 3 4 5 6; do
	echo "$i" >"$D/counter"
	commit
done
same "unnamed commits" "$(txn_ log --json |
	jq -r --arg a 1 --arg b "$before" \
		'[.commits[] | select(.number != 1 and .number != ($b | tonumber))] | length')" 3
expect 0 "" txn_ cat base:dir/sub/x
expect 0 "" txn_ ls "@$before"
(
	cd "$S/one" || exit 1
	txn_ delete one || fail delete
	txn_ gc || fail gc
	[ ! -e "$S/one" ] || fail "the name is still there"
	same "the open view goes on" "$(cat staged)" staged
	sum=$(cat inline-past deep/a/b/c/* | $digest)
	same "all of it" "$sum" "$(cd "$S/base" && cat inline-past deep/a/b/c/* | $digest)"
) || exit 1
txn_ gc || fail gc
expect 0 "0 damaged" txn_ verify
crash
mount_it
expect 0 "0 damaged" txn_ verify
tree "$S/base" | diff "$work/first" - || fail "base after gc and crash"
umount_it
expect 0 "0 damaged" txn_ verify
