#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The plain files beneath follow commits, whatever changed, and edits made while
# unmounted become staged changes.
. "$(dirname "$0")/lib.sh"

in_step() { # what: the unmounted directory is what the mount showed
	manifest "$D" | diff "$work/want" - || fail "$1: plain files differ"
	du -a --apparent-size -B1 "$D/sparse" | cut -f1 >/dev/null
}
leave() { # what: unmount, compare
	manifest "$D" >"$work/want"
	umount_it
	in_step "$1"
}
plain() { jq -r ".plain.$1" "$D/.txn/status"; }

fill_sample
make_store
mount_it

# --- out: every kind of change ---
echo more >>"$D/file"
rm -r "$D/deep"
mv "$D/dir" "$D/dir2"
mv "$D/empty" "$D/dir2/sub/empty-moved"
rm "$D/fifo"
mkdir "$D/fifo"
echo inside >"$D/fifo/a"
ln "$D/nothing" "$D/nothing-too"
setfattr -n user.note -v other "$D/file"
setfacl -m u:1234:rwx "$D/large" 2>/dev/null || :
dd if=/dev/urandom of="$D/sparse" bs=4096 seek=10 count=3 conv=notrunc 2>/dev/null
chmod 2750 "$D/dir2"
[ "$(id -u)" != 0 ] || chown 77:88 "$D/large"
ln -sfn elsewhere "$D/dir2/link"
cp -a "$top/txn" "$D/dir2/sub/txn"
touch -h -d '2010-01-01 01:02:03.456789' "$D/dir2/link" "$D/dir2"
commit
leave "a bit of everything"
same "blocks of the sparse file" "$(($(stat -c %b "$D/sparse") * 512 < 100000))" 1
same "no folder is left" "$(ls -A "$D/.txn" | grep -c sync)" 0

# a directory and a file change places; a directory into its own former child
mount_it
mv "$D/dir2" "$D/x"
mv "$D/file" "$D/dir2"
mv "$D/x" "$D/file"
mkdir -p "$D/p/q/r"
echo 1 >"$D/p/q/r/f"
commit
mv "$D/p/q" "$D/q"
mv "$D/p" "$D/q/r/p"
rm "$D/large"
ln -s nowhere "$D/large"
commit
leave "swaps"
mount_it
mv "$D/q" "$D/p"
mv "$D/p/r/p" "$D/q"
mv "$D/p/r" "$D/q/q"
for i in 1 2 3; do mkdir "$D/d$i"; echo $i >"$D/d$i/f"; done
commit
mv "$D/d1" "$D/t"; mv "$D/d2" "$D/d1"; mv "$D/d3" "$D/d2"; mv "$D/t" "$D/d3"
commit
leave "a ring of directories"

# staged changes are not in it; they are there again after a mount
mount_it
same "nothing is staged" "$(cat "$D/.txn/changes")" ""
manifest "$D" >"$work/want"
echo staged >"$D/staged"
rm "$D/d1/f"
umount_it
in_step "staged changes"
mount_it
same "staged" "$(cat "$D/staged")" staged
[ ! -e "$D/d1/f" ] || fail "a staged deletion is gone"
abort

# --- cost follows the change: a large file is written over where it differs ---
head -c 64M /dev/urandom >"$D/big"
commit
ctl sync || fail "sync"
same "status" "$(plain state) $(plain commit)" "in step $(jq .head.number "$D/.txn/status")"
umount_it
ino=$(stat -c %i "$D/big")
mount_it
dd if=/dev/urandom of="$D/big" bs=4096 seek=1000 count=2 conv=notrunc 2>/dev/null
truncate -s 60M "$D/big"
commit
leave "a patched file"
same "the host's inode" "$(stat -c %i "$D/big")" "$ino"
# not when somebody else has a link to it
ln "$D/big" "$work/elsewhere"
cp "$work/elsewhere" "$work/copy"
mount_it
same "a link elsewhere is no edit" "$(cat "$D/.txn/changes")" ""
dd if=/dev/urandom of="$D/big" bs=4096 seek=10 count=1 conv=notrunc 2>/dev/null
commit
leave "a file with a link elsewhere"
cmp "$work/elsewhere" "$work/copy" || fail "a link elsewhere was written over"
rm "$work/elsewhere" "$work/copy"

# --- what is held twice is told, mounted or not ---
space() { txn -C "$D" status --json | jq ".space.$1"; }
files_bytes() { # once each, in blocks
	find "$D" -path "$D/.txn" -prune -o -type f -printf '%i %s\n' | sort -u |
		awk '{ n += int(($2 + 4095) / 4096) * 4096 } END { printf "%d", n }'
}
same "unmounted" "$(space plain_bytes)" "$(files_bytes)"
same "the store" "$(space store_bytes)" "$(find "$D/.txn" -mindepth 1 -printf '%b\n' |
	awk '{ n += $1 * 512 } END { printf "%d", n }')"
same "shared" "$(space shared)" false
mount_it
wait_for grep -q store_bytes "$D/.txn/status"
head -c 3000000 /dev/urandom >"$D/counted"
rm "$D/big"
echo x >>"$D/dir2"
commit
ctl sync
running=$(space plain_bytes)
umount_it
same "what followed is counted" "$running" "$(files_bytes)"
mount_it
rm "$D/counted"
head -c 60M /dev/urandom >"$D/big"
commit
umount_it
txn -C "$D" status | grep -q '^space: .* MiB of plain files hold' ||
	fail "status: $(txn -C "$D" status)"

# --- plain off and on ---
mount_it
manifest "$D" >"$work/want"
ctl set plain off
ctl sync
same "off" "$(plain state)" off
same "nothing twice" "$(space plain_bytes)" 0
umount_it
same "what is left" "$(ls -A "$D")" .txn
same "told" "$(txn -C "$D" status --json | jq -r .plain.state)" off
mount_it
manifest "$D" | diff "$work/want" - || fail "plain off changed the mount"
ctl set plain on
umount_it
in_step "on again"

# --- in: edits made while unmounted ---
edit_everything() {
	echo edited >>"$D/dir2"
	rm "$D/nothing"
	echo new >"$D/new-file"
	mkdir -p "$D/new-dir/sub"
	echo x >"$D/new-dir/sub/x"
	ln "$D/new-dir/sub/x" "$D/new-dir/y"
	ln "$D/inline-past" "$D/inline-linked"
	mv "$D/file" "$D/renamed-dir"
	echo inside >"$D/renamed-dir/sub/inside"
	chmod 700 "$D/d1"
	chmod 600 "$D/d2/f"
	setfattr -n user.new -v 1 "$D/d3/f"
	rm -r "$D/fifo"
	mkfifo "$D/fifo"
	ln -sfn changed "$D/dangling"
	dd if=/dev/urandom of="$D/big" bs=4096 seek=5 count=1 conv=notrunc 2>/dev/null
	touch -d '2005-05-05' "$D/sparse"
}
bytes() { jq '.log.bulk_bytes + .log.small_bytes' "$D/.txn/status"; }
edit_everything
manifest "$D" >"$work/edited"
mount_it 2>"$work/told"
manifest "$D" | diff "$work/edited" - || fail "the edits are not all there"
told 'new-file was added while unmounted: staged' ||
	told 'and .* more' || fail "edits were not told"
[ "$(bytes)" -lt 2000000 ] || fail "a patched file was stored whole: $(bytes)"
grep -q "renamed-dir" "$D/.txn/changes" || fail "edits are not staged"
abort
manifest "$D" | diff "$work/want" - || fail "abort of edits"
umount_it
in_step "aborted edits are taken back, too"
edit_everything
manifest "$D" >"$work/edited"
mount_it 2>/dev/null
commit
manifest "$D" | diff "$work/edited" - || fail "committed edits"
leave "committed edits"
mount_it
same "found once" "$(cat "$D/.txn/changes")" ""
same "shown" "$(plain commit)" "$(jq .head.number "$D/.txn/status")"

# another name is no change of what a file holds
mkdir "$D/tight"
echo small >"$D/tight/inline"
head -c 20000 /dev/urandom >"$D/tight/packed"
head -c 3M /dev/urandom >"$D/tight/large"
commit
umount_it
for f in inline packed large; do mv "$D/tight/$f" "$D/$f-renamed"; done
mount_it 2>/dev/null
same "renamed" "$(sort "$D/.txn/changes" | tr '\t\n' ' ;')" "R tight/inline \
inline-renamed;R tight/large large-renamed;R tight/packed packed-renamed;"

# holes beside what is edited stay holes
at() { dd of="$D/holey" bs=4096 seek="$1" conv=notrunc 2>/dev/null; }
truncate -s 1000000 "$D/holey"
echo one | at 3
echo two | at 100
commit
umount_it
echo three | at 102
truncate -s 1100000 "$D/holey"
mount_it 2>/dev/null
same "holey" "$(du -k "$D/holey" | cut -f1)" 12

# staged changes win; the edit is kept beside
echo first >"$D/both"
echo first >"$D/gone"
mkdir "$D/sub"
echo first >"$D/sub/both"
commit
echo staged >"$D/both"
echo staged >"$D/sub/both"
echo staged >"$D/gone"
echo staged >"$D/made"
umount_it
echo offline >"$D/both"
echo offline >"$D/sub/both"
rm "$D/gone"
echo offline >"$D/made"
echo offline >"$D/other"
mount_it 2>"$work/told"
same both "$(cat "$D/both") $(cat "$D/both@offline-1")" "staged offline"
same sub "$(cat "$D/sub/both") $(cat "$D/sub/both@offline-1")" "staged offline"
same made "$(cat "$D/made") $(cat "$D/made@offline-1")" "staged offline"
same gone "$(cat "$D/gone")" staged
same other "$(cat "$D/other")" offline
told 'the edit is staged as both@offline-1' || fail "not told"
commit
leave "both"

# what is staged in a directory stays, whatever was done to the directory; what
# has no directory to be in any more gets one beside
mount_it
mkdir -p "$D/changed/deep" "$D/replaced" "$D/way"
for f in changed replaced way; do echo first >"$D/$f/f"; done
commit
echo staged | tee "$D/changed/f" "$D/changed/deep/new" "$D/replaced/f" >/dev/null
rm -r "$D/way"
echo staged >"$D/way"
umount_it
chmod 700 "$D/changed"
setfattr -n user.dir -v 1 "$D/changed" 2>/dev/null
setfattr -n user.dir -v 1 "$D" 2>/dev/null
rm -r "$D/replaced"
echo offline | tee "$D/replaced" "$D/way/f" "$D/way/g" >/dev/null
marks=$(getfattr -h -n user.dir "$D" "$D/changed" 2>/dev/null)
mount_it 2>/dev/null
same "in a changed one" "$(stat -c %a "$D/changed") $(cat "$D/changed/f" \
	"$D/changed/deep/new" | tr '\n' ' ')" "700 staged staged "
same "its attributes" "$(getfattr -h -n user.dir "$D" "$D/changed" 2>/dev/null)" "$marks"
same "in a replaced one" "$(cat "$D/replaced/f" "$D/replaced@offline-1")" \
	"staged
offline"
same "on the way" "$(cat "$D/way" "$D/way@offline-1/"* | tr '\n' ' ')" \
	"staged offline offline "
commit
leave "staged work in edited directories"

# refuse, ignore
echo again >"$D/other"
must_fail txn mount -o offline=refuse "$D"
must_fail txn mount -o offline=nonsense "$D"
mount_it -o offline=ignore
same ignored "$(cat "$D/other")" offline
echo mounted >"$D/other"
commit
umount_it
same "kept beside" "$(cat "$D/other") $(cat "$D/other@offline-1")" "mounted again"
mount_it 2>/dev/null
same "and found" "$(cat "$D/other@offline-1")" again
commit
umount_it

# bytes that changed behind stat's back: only --checksum finds them
stamp=$(stat -c %y "$D/other")
mount_it -o offline=refuse
umount_it
printf 'MOUNTED\n' >"$D/other"
touch -d "$stamp" "$D/other"
mount_it 2>/dev/null -o checksum
same "by checksum" "$(cat "$D/.txn/changes")" "M other"
abort
umount_it

# --- killed while the files follow: the next mount finishes ---
mount_it
n=${ROUNDS:-12}
for i in $(seq 1 "$n"); do
	rm -rf "$D/work" "$D/work2"
	mkdir -p "$D/work/a/b"
	for j in $(seq 1 40); do echo "$i $j" >"$D/work/a/b/$j"; done
	[ $((i % 2)) = 0 ] || { [ ! -d "$D/swap" ] || mv "$D/swap" "$D/work/swap"; }
	[ $((i % 2)) = 1 ] || mv "$D/work/a" "$D/swap"
	dd if=/dev/urandom of="$D/big" bs=4096 seek=$((RANDOM % 10000)) count=9 \
		conv=notrunc 2>/dev/null
	commit
	manifest "$D" >"$work/want"
	crash_in_sync
	mount_it 2>"$work/told"
	same "round $i: staged" "$(cat "$D/.txn/changes")" ""
	[ ! -s "$work/told" ] || grep -v "removed the mount\|offline" "$work/told"
	umount_it
	in_step "round $i"
	mount_it
done

# --- a run that cannot be finished: a directory that cannot move ---
mkdir "$D/stuck"
echo below >"$D/stuck/f"
commit
umount_it
if chattr +i "$D/stuck" 2>/dev/null; then
	mount_it
	mv "$D/stuck" "$D/moved"
	commit
	must_fail ctl sync
	same "half" "$(plain state)" "between two commits"
	must_fail txn umount "$D"
	must_fail txn mount -o offline=refuse "$D"
	mount_it 2>"$work/told"
	grep -q "mounted all the same" "$work/told" || fail "not told: $(cat "$work/told")"
	same "the mount shows" "$(cat "$D/moved/f")" below
	echo more >>"$D/moved/f"
	commit
	must_fail txn umount "$D"
	chattr -i "$D/stuck"
	mount_it
	same "nothing is an edit" "$(cat "$D/.txn/changes")" ""
	leave "finished"
	mount_it
else
	echo "skipped: no immutable directories here"
	mount_it
fi

# --- what cannot be removed or replaced is no edit, until it is edited ---
mkdir "$D/emptied"
for f in kept moving removed emptied/in; do echo old >"$D/$f"; done
commit
umount_it
if chattr +i "$D/kept" "$D/moving" "$D/removed" "$D/emptied/in" 2>/dev/null; then
	mount_it
	echo new >"$D/kept"
	mv "$D/moving" "$D/moved-file"
	rm -r "$D/removed" "$D/emptied"
	commit
	ctl sync || fail "sync"
	same "not as committed" "$(plain unlike)" 4
	must_fail txn umount "$D" # moved-file is missing
	mount_it 2>/dev/null
	same "the file that lives on" "$(cat "$D/.txn/changes")" "A moving"
	abort
	must_fail txn umount "$D"
	echo more >>"$D/moved-file"
	mount_it 2>/dev/null
	same "an edit under its new name" "$(cat "$D/.txn/changes")" "M moved-file"
	abort
	must_fail txn umount "$D"
	chattr -i "$D/kept" "$D/moving" "$D/removed" "$D/emptied/in"
	mount_it 2>/dev/null
	same "no edit" "$(cat "$D/.txn/changes")" ""
	wait_for [ -s "$D/.txn/status" ]
	umount_it
	same "replaced now" "$(cat "$D/kept" "$D/kept@"* 2>/dev/null)" new
	rm "$D/moving"
	echo edited >>"$D/removed"
	echo added >"$D/emptied/added"
	mount_it 2>/dev/null
	same "edited" "$(tr '\n' ' ' <"$D/.txn/changes")" \
		"A emptied A emptied/added A emptied/in A removed "
	commit
	leave "edits of what was left"
	mount_it
fi

# --- what cannot be made is told until it is there or gone, and no eject loses it ---
mkdir "$D/shut"
commit
umount_it
if chattr +i "$D/shut" 2>/dev/null; then
	mount_it
	echo alone >"$D/shut/alone"
	commit
	ctl sync || fail "sync"
	same "missing" "$(plain missing)" 1
	date +%N >"$D/other"
	commit
	must_fail txn sync "$D"
	same "missing after another run" "$(plain missing)" 1
	must_fail txn umount "$D"
	grep -q "1 missing" <(txn -C "$D" status) || fail "unmounted status"
	txn eject "$D" --yes >"$work/told" 2>&1
	same "status of eject" $? 3
	grep -q "shut/alone cannot be made" "$work/told" || fail "$(cat "$work/told")"
	same "in the store" "$(txn -C "$D" cat head:shut/alone)" alone
	chattr -i "$D/shut"
	mount_it
	umount_it
	same "made now" "$(cat "$D/shut/alone")" alone
fi
mount_it

# --- another file is mounted over one ---
echo beneath >"$D/beneath"
echo over >"$D/over"
commit
umount_it
if mount --bind "$D/over" "$D/beneath" 2>/dev/null; then
	mount_it
	same "no edit" "$(cat "$D/beneath" "$D/.txn/changes")" beneath
	umount_it
	umount "$D/beneath" || fail "umount of the file"
fi
mount_it

# --- eject ---
must_fail txn eject "$D" --yes
manifest "$D" >"$work/want"
echo staged >"$D/staged"
umount_it
must_fail txn eject "$D" --yes
mount_it
abort
# staged is what differs: not what was made and taken back, but attributes too
for what in "chmod 700 $D/staged" "setfattr -n user.x -v y $D/staged" "chmod 701 $D"; do
	echo kept >"$D/staged"
	commit
	$what 2>/dev/null || continue
	umount_it
	must_fail txn eject "$D" --yes
	mount_it
	abort
	rm "$D/staged"
	commit
done
mkdir "$D/taken" && echo back >"$D/taken/back" && rm -r "$D/taken" || fail "taken back"
umount_it
# what a commit has without a name, since it was open, is nothing that is staged
mount_it
echo open >"$D/open"
exec 3<"$D/open"
rm "$D/open"
date +%N >"$D/other"
commit
exec 3<&-
manifest "$D" >"$work/want"
umount_it
same "staged" "$(txn -C "$D" diff --json | jq .totals.changes)" 0
must_fail txn eject "$D" </dev/null
if [ -n "$(command -v script)" ]; then
	# nobody mounts it between what was looked at and the answer
	mkfifo "$work/answer"
	script -qec "$build/txn eject '$D'" /dev/null <"$work/answer" >"$work/asked" &
	p=$!
	exec 9>"$work/answer"
	wait_for grep -q "Go on" "$work/asked" || fail "eject does not ask: $(cat "$work/asked")"
	"$build/txn" mount "$D" 2>"$work/told" && fail "mounted while eject asks"
	grep -q "process [0-9]* (txn): open\|is in use by process" "$work/told" || fail "mount: $(cat "$work/told")"
	echo n >&9
	wait $p && fail "eject goes on with n"
	grep -q "nothing was changed" "$work/asked" || fail "no: $(cat "$work/asked")"
	: >"$work/asked"
	script -qec "$build/txn eject '$D'" /dev/null <"$work/answer" >"$work/asked" &
	p=$!
	wait_for grep -q "Go on" "$work/asked" || fail "eject does not ask: $(cat "$work/asked")"
	echo Y >&9
	wait $p || fail "eject: $(cat "$work/asked")"
	exec 9>&-
else
	txn eject "$D" --yes >/dev/null || fail eject
fi
in_step "ejected"
[ ! -e "$D/.txn" ] || fail "the store is still there"
must_fail txn mount "$D"
make_store
mount_it
umount_it
# a second store, beside what an interrupted eject left of the first
mv "$D/.txn" "$D/.txn.gone"
make_store
txn eject "$D" --yes >/dev/null || fail "eject of a second store"
same "stores that are left" "$(ls -A "$D" | grep '^\.txn')" ""
make_store
mv "$D/.txn" "$D/.txn.gone"
txn eject "$D" --yes >/dev/null || fail "eject goes on"
same "stores that are left" "$(ls -A "$D" | grep '^\.txn')" ""
make_store
mount_it
umount_it
