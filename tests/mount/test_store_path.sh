#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store that lies elsewhere: DIR/.txn is a symlink to it. What an interrupted
# init leaves, copies and moves of either, links of others, another filesystem.
. "$(dirname "$0")/lib.sh"

S=$work/stores/data
mkdir "$work/stores"
refused() { # WHAT MESSAGE CMD...
	local got
	got=$("${@:3}" 2>&1) && fail "$1: should have failed"
	[[ $got == *"$2"* ]] || fail "$1: $got"
}
init_it() { txn init --quiet --store "${1:-$S}" "$D" >"$work/out" || fail init; }
leave() { # what
	manifest "$D" >"$work/want"
	umount_it
	manifest "$D" | diff "$work/want" - || fail "$1: plain files differ"
	[ -z "$(ls -A "$D" | grep '^\.txn\.')" ] || fail "$1: $(ls -A "$D")"
	mounts=() # it may move from here on
}

fill_sample
manifest "$D" >"$work/sample"

# --- what is refused, and leaves nothing ---
refused "no parent" "No such file" txn init --store "$work/no/store" "$D"
refused "within" "would hold itself" txn init --store "$D/dir/store" "$D"
refused "itself" "other things in it" txn init --store "$work" "$D"
mkdir "$work/stores/used"
echo x >"$work/stores/used/log"
refused "used" "other things in it" txn init --store "$work/stores/used" "$D"
same "is as it was" "$(ls -A "$work/stores/used")" log
[ ! -e "$D/dir/store" ] && [ ! -L "$D/.txn" ] || fail "something is left"
touch -d '2001-02-03 04:05:06.789' "$D/dir"
manifest "$D" | diff "$work/sample" - || fail "init changed the directory"

# --- the life of one ---
mkdir -m 755 "$S"
init_it "$work/stores/../stores/data/"
same "link" "$(readlink "$D/.txn")" "$S"
same "mode" "$(stat -c %a "$S")" 700
refused "twice" "already" txn init --store "$work/stores/two" "$D"
[ ! -e "$work/stores/two" ] || fail "a folder is left"
txn -C "$D/dir" status >"$work/out" || fail "status"
grep -q "head:    @1" "$work/out" || fail "status: $(cat "$work/out")"
mount_it
same "nothing is staged" "$(cat "$D/.txn/changes")" ""
same "beneath it is hidden" "$(stat -L -c %F "$D/.txn/ctl") $(readlink "$D/.txn" | grep -c "^$work/stores")" \
	"regular empty file 0"
same "listed" "$(ls -A "$D" | grep -c '^\.txn')" 0
refused "lock" "is mounted already" txn mount "$D" "$work/stores/used"
flock -n "$S/lock" true && fail "the lock is not held"
for name in .txn.sync .txn.new .txn.gone; do
	must_fail mkdir "$D/$name"
	must_fail touch "$D/$name"
	must_fail mv "$D/file" "$D/$name"
	must_fail ln -s x "$D/$name"
done
mkdir "$D/dir/.txn.sync" || fail "only the root's names are taken"
echo more >>"$D/file"
mv "$D/dir" "$D/moved"
mv "$D/deep/a" "$D/deep-a"
commit
leave "followed"
same "nothing in the store" "$(ls "$S" | grep -c sync)" 0
echo offline >"$D/offline"
mount_it 2>/dev/null
same "edited" "$(cat "$D/.txn/changes")" "A offline"
commit
umount_it
txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
txn -C "$D" export head "$work/exported" || fail export
same "exported" "$(cat "$work/exported/offline")" offline
rm -r "$work/exported"
[ ! -e "$work/exported" ] || fail "exported"
txn sync "$D" >/dev/null || fail sync

# --- killed while the files follow ---
for i in $(seq 1 "${ROUNDS:-6}"); do
	mount_it
	rm -rf "$D/work"
	mkdir -p "$D/work/a/b"
	for j in $(seq 1 40); do echo "$i $j" >"$D/work/a/b/$j"; done
	[ ! -d "$D/swap" ] || mv "$D/swap" "$D/work/swap"
	commit
	mv "$D/work/a" "$D/swap"
	commit
	manifest "$D" >"$work/want"
	crash_in_sync
	mount_it 2>"$work/told"
	same "round $i: staged" "$(cat "$D/.txn/changes")" ""
	leave "round $i"
done

# --- moved and copied ---
mv "$D" "$work/other"
D=$work/other
mount_it || fail "a directory that moved"
same "moved" "$(cat "$D/.txn/changes")" ""
leave "moved"
cp -a "$D" "$work/copy"
refused "a copy" "belongs to" txn mount "$work/copy"
refused "a copy" "belongs to" txn -C "$work/copy" status
refused "a copy" "belongs to" txn -C "$work/copy" verify
refused "a copy" "belongs to" txn eject --yes "$work/copy"
txn init --relink "$work/copy" >/dev/null || fail relink
refused "the other one, then" "belongs to" txn mount "$D"
D=$work/copy
mount_it
same "the copy" "$(cat "$D/.txn/changes")" ""
echo copy >"$D/copy"
commit
leave "a copy"
rm -r "$work/other"

mv "$S" "$work/stores/new"
refused "gone" "which is not there" txn mount "$D"
refused "gone" "--relink" txn -C "$D" status
refused "gone, for init" "already" txn init "$D"
S=$work/stores/new
txn init --relink --store "$S" "$D" >/dev/null || fail "relink of a store"
same "link" "$(readlink "$D/.txn")" "$S"
rm "$D/.txn" # git clean
refused "no link" "no store" txn mount "$D"
init_it # finds it whole
grep -q "interrupted is finished" "$work/out" || fail "$(cat "$work/out")"
mount_it
leave "linked again"
refused "no store" "is no store" txn init --relink --store "$work/stores/used" "$D"

# a store that lay in the directory
D=$work/inside
mkdir "$D"
echo x >"$D/x"
make_store
mv "$D/.txn" "$work/stores/inside"
ln -s "$work/stores/inside" "$D/.txn"
refused "by hand" "does not say" txn mount "$D"
txn init --relink "$D" >/dev/null || fail "relink of one that moved out"
printf x | dd of="$work/stores/inside/home" conv=notrunc 2>/dev/null # damaged
refused "damaged" "txn init --relink $D" txn mount "$D"
txn init --relink "$D" >/dev/null || fail "relink of one whose home is damaged"
mount_it
echo y >"$D/x"
mv "$D/x" "$D/y"
commit
leave "one that moved out"
rm -r "$D" "$work/stores/inside"
D=$work/copy

# --- links of others ---
if [ "$(id -u)" = 0 ]; then
	chown -h 1234 "$D/.txn"
	refused "of another user" "is not followed" txn mount "$D"
	refused "of another user" "is not followed" txn -C "$D" status
	refused "of another user" "is not followed" txn eject --yes "$D"
	chown -h 0 "$D/.txn"
	chown 1234 "$S"
	refused "a folder of another user" "is not used" txn mount "$D"
	chown 0 "$S"
	chmod 770 "$S"
	refused "a folder for others" "is not used" txn mount "$D"
	chmod 700 "$S"
	chmod 666 "$S/home"
	refused "a note of others" "not permitted" txn mount "$D"
	chmod 600 "$S/home"
fi

# --- interrupted: killed at any moment, finished or begun again ---
half=0 whole=0
mkdir "$work/k"
D=$work/k
for i in $(seq 300); do echo "$i" >"$D/$i"; done
manifest "$D" >"$work/want"
S=$work/stores/k
for i in $(seq 1 "${INITS:-25}"); do
	txn init --quiet --store "$S" "$D" >/dev/null 2>&1 &
	sleep "0.$(printf %03d $((RANDOM % 60)))"
	kill -9 $! 2>/dev/null
	wait $! 2>/dev/null
	if [ -L "$D/.txn" ]; then
		whole=$((whole + 1))
	else
		[ ! -e "$S" ] || half=$((half + 1))
		refused "round $i" "no store" txn mount "$D"
		init_it
	fi
	mount_it
	same "round $i" "$(cat "$D/.txn/changes")" ""
	leave "round $i"
	txn eject --yes "$D" >/dev/null || fail "eject, round $i"
	[ ! -e "$S" ] && [ ! -L "$D/.txn" ] || fail "eject left something"
done
echo "interrupted inits: $half begun, $whole whole"
# each step by itself: as the three of them leave it
init_it
mkdir "$S/.txn.new"
mv "$S/format" "$S/.txn.new/format"
rm "$D/.txn"
refused "no format" "no store" txn mount "$D"
init_it
grep -q "holds 300" "$work/out" || fail "begun again: $(cat "$work/out")"
mkdir "$S/.txn.new"
rm "$D/.txn"
init_it
grep -q "interrupted is finished" "$work/out" || fail "$(cat "$work/out")"
[ ! -e "$S/.txn.new" ] || fail "a folder is left"
rm "$D/.txn"
mkdir "$work/l"
refused "of another" "belongs to" txn init --store "$S" "$work/l"
init_it

# --- eject, interrupted too ---
mv "$D/.txn" "$D/.txn.gone"
rm -r "$S/log"
txn eject --yes "$D" >/dev/null || fail "eject goes on"
[ ! -e "$S" ] && [ -z "$(ls -A "$D" | grep txn)" ] || fail "eject left something"
manifest "$D" | diff "$work/want" - || fail "ejected"
ln -s "$work/stores/used" "$D/.txn.gone"
refused "eject of what is no store" "does not say" txn eject --yes "$D"
same "is as it was" "$(ls -A "$work/stores/used")" log
rm "$D/.txn.gone"

# --- another filesystem ---
[ "$(id -u)" = 0 ] || exit 0
mkdir "$work/tmpfs"
mount -t tmpfs -o size=300m tmpfs "$work/tmpfs" 2>/dev/null || {
	echo "skipped: no tmpfs"
	exit 0
}
loops+=("$work/tmpfs")
D=$work/data
S=$work/tmpfs/store
fill_sample
init_it
for i in $(seq 1 "${ROUNDS:-6}"); do
	mount_it
	mv "$D/dir" "$D/t"
	mv "$D/deep" "$D/dir"
	mv "$D/t" "$D/deep"
	echo "$i" >>"$D/large"
	head -c 3M /dev/urandom >"$D/new$i"
	commit
	manifest "$D" >"$work/want"
	crash_in_sync
	mount_it 2>"$work/told"
	same "other filesystem, $i: staged" "$(cat "$D/.txn/changes")" ""
	leave "other filesystem, $i"
done
umount -l "$work/tmpfs" && loops=()
refused "not mounted" "which is not there" txn mount "$D"
