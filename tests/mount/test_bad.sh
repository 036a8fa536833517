#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Bad input: damaged and foreign stores, stores in use, wrong directories, full
# disks. A clear message, the right status, nothing lost.
. "$(dirname "$0")/lib.sh"

# expect STATUS TEXT CMD...
expect() {
	local want=$1 text=$2 rc
	shift 2
	"$@" >"$work/out" 2>&1
	rc=$?
	[ $rc = "$want" ] || fail "$*: status $rc, want $want: $(cat "$work/out")"
	[ -z "$text" ] || grep -q -- "$text" "$work/out" || fail "$*: no '$text' in: $(cat "$work/out")"
}

mkdir -p "$D"
for i in $(seq 1 300); do echo "file $i" >"$D/f$i"; done
head -c 3M /dev/urandom >"$D/big"

# --- not a store, not a directory ---
expect 1 "txn init" txnfs "$D"
expect 1 "No such file" txn mount "$work/missing"
expect 1 "No such file" txn init "$work/missing"
expect 1 "not a directory" txn init "$D/f1"
expect 3 "cannot be made transactional" txn init /
expect 1 "no store" txn -C "$D" status
expect 2 "usage" txn status extra
expect 2 "not a command" txn frobnicate
expect 2 "usage" txn
mkdir "$work/has" && mkdir "$work/has/.txn"
expect 3 "already" txn init "$work/has"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 755 "$work"
	expect 1 "Permission denied" setpriv --reuid 12345 --regid 12345 \
		--clear-groups txn init "$D"
fi
# somebody writes below it
exec 3>>"$D/f1"
expect 3 "open for writing" txn init "$D"
exec 3>&-

make_store
expect 3 "already" txn init "$D"

# --- in use ---
exec 3<"$D/f1"
expect 3 "use files below" txn mount "$D"
exec 3<&-
(cd "$D" && expect 3 "working directory" txn mount "$D") || exit 1
mount_it
pid=$(daemon_pid)
expect 3 "mounted already" txn mount "$D"
mkdir "$work/elsewhere"
umount_it
echo x >"$work/file"
expect 1 "Not a directory" txn mount "$D" "$work/file"
mountpoint -q "$work/file" && fail "mounted over a file"
mounts+=("$work/elsewhere")
txn mount "$D" "$work/elsewhere" || fail "mount elsewhere"
pid=$(jq -r .pid "$work/elsewhere/.txn/status")
expect 3 "in use by process $pid" txn mount "$D"
same "by DIR" "$(txn -C "$D" status --json | jq -r .mountpoint)" "$work/elsewhere"
echo x >"$work/elsewhere/f1"
expect 0 "M f1" txn -C "$D" diff
expect 0 "committed @2" txn -C "$D" commit -m "from DIR"
txn umount "$D" >/dev/null || fail "umount by DIR"
expect 1 "is not mounted" txn umount "$D"
expect 1 "is not mounted" txn -C "$D" commit
must_fail ctl commit
# nor where the folder that keeps this from making a file was removed
rm -r "$D/.txn/ctl"
ctl commit
expect 1 "is not mounted" txn -C "$D" commit
expect 0 "verified [1-9]" txn -C "$D" verify
mount_it
echo y >"$D/f1"
expect 0 "committed @3" txn -C "$D" commit
umount_it
rm "$D/.txn/ctl"

# --- plain files edited while not mounted ---
echo edited >"$D/f2"
rm "$D/f3"
echo added >"$D/added"
expect 3 "f2 was changed" txn mount -o offline=refuse "$D"
grep -q "f3 was removed" "$work/out" || fail "f3"
grep -q "added was added" "$work/out" || fail "added"
echo "file 2" >"$D/f2"
expect 3 "f3 was removed" txn mount -o offline=refuse "$D"
rm "$D/added"
echo "file 3" >"$D/f3"
touch -d 2001-01-01 "$D/f2" "$D/f3"
expect 3 "changed" txn mount -o offline=refuse "$D" # another time
rm -rf "$work/copy"
cp -a "$work/has" "$work/copy"

# --- damage ---
rm -rf "$D"
mkdir "$D"
for i in $(seq 1 300); do echo "file $i" >"$D/f$i"; done
head -c 3M /dev/urandom >"$D/big"
make_store
mount_it
rm "$D/f9"
commit
umount_it
cp -a "$D" "$work/good"
restore() {
	rm -rf "$D"
	cp -a "$work/good" "$D"
}
restore # a copy with other inode numbers is fine
mount_it
same "copied store" "$(cat "$D/f5")" "file 5"
umount_it

restore
for f in "$D"/.txn/log/*.s; do truncate -s 100 "$f"; done
expect 4 "" txn mount "$D"
[ -s "$work/out" ] || fail "truncated: no message"
restore
rm "$D"/.txn/log/*
expect 4 "" txn mount "$D"
[ -s "$work/out" ] || fail "no log: no message"
restore
for f in "$D"/.txn/log/*; do
	dd if=/dev/urandom of="$f" bs=64k count=$((($(stat -c %s "$f") + 65535) / 65536)) \
		conv=notrunc 2>/dev/null
done
expect 4 "" txn mount "$D"
restore
sed -i -e 's/^txnfs-store [0-9]*$/txnfs-store 99/' -e '/^sum /d' "$D/.txn/format"
cmp -s "$D/.txn/format" "$work/good/.txn/format" && fail "format has no version"
expect 1 "version" txn mount "$D"
restore
echo garbage >"$D/.txn/format"
"$build/txn" mount "$D" >"$work/out" 2>&1 && fail "garbage format"
[ -s "$work/out" ] || fail "garbage format: no message"

# its description: a flipped bit anywhere is found, and turned back
restore
perl=$(command -v perl) || skip "no perl"
flip_format() { # BYTE BIT
	"$perl" -e 'open(my $h, "+<", $ARGV[0]) or die; seek($h, $ARGV[1], 0);
		read($h, my $c, 1); seek($h, $ARGV[1], 0);
		print $h chr(ord($c) ^ 1 << $ARGV[2])' "$D/.txn/format" "$1" "$2"
}
size=$(stat -c %s "$D/.txn/format")
for at in 0 12 13 20 40 55 60 76 77 120 $((size - 21)) $((size - 9)) $((size - 1)); do
	flip_format "$at" $((at % 7))
	expect 4 "verify --repair turns a flipped bit back" txn mount "$D"
	expect 4 "verify --repair turns a flipped bit back" txn -C "$D" verify
	expect 0 "a bit that was flipped is turned back" txn -C "$D" verify --repair
	cmp "$D/.txn/format" "$work/good/.txn/format" || fail "healed at $at"
done
flip_format 3 3
flip_format 90 2
expect 4 "more than one flipped bit" txn -C "$D" verify --repair
# a store that was made before there was a sum; a number in it does not fill the
# host
restore
sed -i '/^sum /d' "$D/.txn/format"
expect 0 " 0 damaged" txn -C "$D" verify
sed -i 's/^reserve_bytes .*/reserve_bytes 2000000000/' "$D/.txn/format"
mount_it
commit
bytes=$(jq .space.store_bytes "$D/.txn/status")
[ "$bytes" -lt $((400 << 20)) ] || fail "a reserve of 2 GB: $bytes bytes"
umount_it

# the copy of the last record, which tells of a log that lost its end
restore
rm "$D/.txn/last"
expect 0 "copy of the last record.*No such file" txn -C "$D" verify
expect 0 "copy of the last record.*No such file" txn mount "$D"
mounts+=("$D")
umount_it
expect 0 " 0 damaged" txn -C "$D" verify
grep -q "last record" "$work/out" && fail "the copy is not renewed"
printf x >"$D/.txn/last"
expect 0 "copy of the last record" txn -C "$D" verify

# one flipped bit in contents: EIO and a message with the path, never bytes
restore
flip() {
	"$perl" -e '
	my ($dir, $plain) = @ARGV;
	open(my $p, "<", $plain) or die; binmode $p;
	read($p, my $head, 64) == 64 or die;
	for my $f (glob("$dir/*")) {
		open(my $h, "+<", $f) or die; binmode $h;
		local $/; my $all = <$h>; my $at = index($all, $head);
		next if $at < 0;
		seek($h, $at + 10, 0);
		print $h chr(ord(substr($head, 10, 1)) ^ 4); close($h);
		exit 0;
	}
	exit 1' "$D/.txn/log" "$work/good/big" || fail "cannot find the contents"
}
flip
txnfs "$D" -f -o ro >"$work/daemon.log" 2>&1 &
mounts+=("$D")
wait_for mountpoint -q "$D" || fail "mount -f"
must_fail cat "$D/big"
cat "$D/f5" >/dev/null || fail "another file"
umount_it
grep -q 'damage: contents .*(big)' "$work/daemon.log" ||
	fail "no message: $(cat "$work/daemon.log")"

# the same for verify: named, with the states that hold it
restore
mount_it
ctl snapshot kept || fail snapshot
rm "$D/big"
commit
umount_it
expect 0 " 0 damaged" txn -C "$D" verify
flip
expect 4 "damaged: kept:big: contents" txn -C "$D" verify
grep -q "damaged: @3" "$work/out" && fail "verify: @3 has no such file"
restore
expect 0 " 0 damaged" txn -C "$D" verify
flip
expect 4 "damaged: @1:big: contents" txn -C "$D" verify
grep -q "damaged: @2:big" "$work/out" || fail "verify: @2 is not named"
grep -q "1 damaged places" "$work/out" || fail "verify: $(cat "$work/out")"
mount_it
expect 4 "damaged: @1:big: contents" txn -C "$D" verify
# what is not damaged can be restored
rm "$D/f10"
expect 0 "" txn -C "$D" restore head f10
rm "$D/f10" "$D/big"
echo new >"$D/new"
expect 4 "damaged: head:big" txn -C "$D" restore head
[ ! -e "$D/f10" ] || fail "a refused restore did something"
expect 4 "damaged: head:big" txn -C "$D" restore head f10 big
grep -q "nothing is restored" "$work/out" || fail "restore of two: $(cat "$work/out")"
[ ! -e "$D/f10" ] || fail "a refused restore of two paths did something"
expect 1 "restore: head has no nope" txn -C "$D" restore head f10 nope
grep -q "nothing is restored" "$work/out" || fail "restore of two: $(cat "$work/out")"
[ ! -e "$D/f10" ] || fail "a restore of what is not there did something"
expect 0 "damaged: head:big" txn -C "$D" restore --skip-damaged head f10 big
[ -e "$D/f10" ] && [ ! -e "$D/big" ] || fail "--skip-damaged of two paths"
rm "$D/f10"
mv "$D/f20" "$D/g20"
mv "$D/f21" "$D/g21"
mv "$D/f22" "$D/f21"
mv "$D/g21" "$D/f22"
expect 0 "damaged: head:big" txn -C "$D" restore --skip-damaged head
[ -e "$D/f10" ] && [ ! -e "$D/big" ] && [ ! -e "$D/new" ] ||
	fail "--skip-damaged"
same "names" "$(ls "$D")" "$(ls "$work/good" | grep -v '^big$')"
for i in 20 21 22; do
	cmp "$D/f$i" "$work/good/f$i" || fail "--skip-damaged: f$i"
done
umount_it

# a directory in which something is damaged: what has its name meanwhile stays,
# and it does not come where nothing is
restore
rm -rf "$D"
mkdir -p "$D"/{gone,same,file}/deep
for d in gone same file; do
	cp "$work/good/big" "$D/$d/deep/big" # held once: shared
	echo whole | tee "$D/$d/whole" "$D/$d/deep/whole" >/dev/null
	chmod 750 "$D/$d/deep"
	touch -d '2001-02-03 04:05:06.789' "$D/$d/deep" "$D/$d"
done
attributes=$(stat -c '%n %a %u %y' "$D"/*/deep "$D"/*)
setfattr -n user.note -v "a note" "$D/same" 2>/dev/null
make_store
for f in "$D"/.txn/log/*.b; do
	"$perl" -e 'open(my $h, "+<", $ARGV[0]) or die; binmode $h; local $/;
		open(my $p, "<", $ARGV[1]) or die; read($p, my $head, 64);
		my $all = <$h>; my $at = -1;
		while (($at = index($all, $head, $at + 1)) >= 0) {
			seek($h, $at + 10, 0); print $h "\0\0\0\0" }' \
		"$f" "$work/good/big"
done
mount_it
rm -r "$D/gone" "$D/file"
echo in the way >"$D/file"
chmod 700 "$D/same" "$D/same/deep"
setfattr -n user.note -v "another" "$D/same" 2>/dev/null
echo mine >"$D/same/deep/big"
echo mine >"$D/same/deep/whole"
expect 4 "damaged: head:same/deep/big" txn -C "$D" restore head
expect 0 "damaged: head:same/deep/big" txn -C "$D" restore --skip-damaged head
same "what took the place of what is damaged" "$(cat "$D/same/deep/big")" mine
same "the rest" "$(cat "$D"/*/whole "$D"/*/deep/whole | sort | uniq -c | tr -s ' ')" " 6 whole"
[ ! -e "$D/gone/deep/big" ] && [ ! -e "$D/file/deep/big" ] || fail "what is damaged came"
same "attributes" "$(stat -c '%n %a %u %y' "$D"/*/deep "$D"/*)" "$attributes"
same "xattr" "$(getfattr -d "$D/same" 2>/dev/null | grep -c "another")" 0
# in a directory that has another name meanwhile, too
abort
mv "$D/gone" "$D/moved"
expect 4 "damaged: head:gone/deep/big" txn -C "$D" restore head gone/deep
[ ! -e "$D/gone" ] || fail "what is damaged came"
expect 0 "damaged: head:gone/deep/big" txn -C "$D" restore --skip-damaged head gone/deep
same "what is not" "$(ls -A "$D/gone" "$D/gone/deep" | tr '\n' ' ')" \
	"$D/gone: deep  $D/gone/deep: whole "
umount_it

# damaged metadata of a state that is not the last: nothing is taken for not
# being there, and it is damage for all who ask, mounted or not
flip_text() {
	"$perl" -e 'my ($dir, $text) = @ARGV;
	for my $f (glob("$dir/*")) {
		open(my $h, "+<", $f) or die; binmode $h;
		local $/; my $all = <$h>; my $at = index($all, $text);
		next if $at < 0;
		seek($h, $at, 0); print $h chr(ord($text) ^ 4);
		close($h); exit 0;
	}
	exit 1' "$D/.txn/log" "$1" || fail "cannot find $1"
}
restore
flip_text 'file 9
'
expect 4 "diff: " txn -C "$D" diff @1 @2
expect 4 "@1: " txn -C "$D" ls @1
mount_it
expect 4 "the store is damaged" txn -C "$D" diff @1 @2
expect 4 "the store is damaged" txn -C "$D" restore --force @1
expect 4 "the store is damaged" txn -C "$D" rollback @1
expect 4 "f9: Input/output error" txn -C "$D" ls @1
grep -q "@1: damaged, or cannot be read" "$work/out" || fail "ls: $(cat "$work/out")"
txn -C "$D" ls @1 >"$work/out" 2>"$work/told"
sed -n 's/^.*Z //p; s/^txn: \(f[0-9]*\): .*/\1/p' "$work/out" "$work/told" | sort |
	diff - <(ls "$D/.txn/snapshots/@1") || fail "names that are not told"
expect 4 "@1:f9: damaged" txn -C "$D" cat @1:f9
expect 4 "@1:f9: damaged" txn -C "$D" ls @1:f9
same "staged" "$(cat "$D/.txn/changes")" ""
umount_it
# nor is what is staged nothing, when that cannot be told
rm -rf "$D"
mkdir "$D"
for i in $(seq 1 300); do echo "file $i" >"$D/f$i"; done
make_store
mount_it
rm "$D/f9"
umount_it
flip_text 'file 9
'
for how in unmounted mounted; do
	[ $how = unmounted ] || mount_it
	expect 4 "what is staged cannot be told: the store is damaged" txn -C "$D" status
	grep -q "^staged:  unknown" "$work/out" || fail "status, $how: $(cat "$work/out")"
	txn -C "$D" status --json >"$work/out" 2>/dev/null
	same "status of status --json, $how" $? 4
	[ "$(jq .staged.error "$work/out")" -gt 0 ] || fail "staged.error, $how"
done
umount_it

# --- the end of the log is missing ---
last_segment() { # shellcheck disable=SC2012
	ls "$D"/.txn/log/*.s | tail -n 1
}
restore
expect 3 "opens by itself" txn mount --at @1 "$D"
expect 2 "@NUMBER" txn mount --at head "$D"
rm "$(last_segment)"
expect 4 "txn mount --at @1 .*gives up commit @2" txn mount "$D"
expect 4 "txn mount --at @1" txn mount -o ro "$D"
expect 4 "txn mount --at @1" txn -C "$D" verify
expect 4 "not there" txn mount --at @2 "$D"
cp -a "$D/.txn" "$work/before"
mounts+=("$D")
expect 0 "(@2) would be given up" txn mount -o ro --at @1 "$D"
same "at @1, to look at" "$(cat "$D/f9")" "file 9"
must_fail touch "$D/f9"
umount_it
diff -r "$D/.txn" "$work/before" || fail "a look changed the store"
expect 0 "(@2) are given up" txn mount --at @1 "$D"
same "at @1" "$(cat "$D/.txn/head/f9")" "file 9"
# the plain files still show @2: that is staged, and so not given up
same "from the plain files" "$(cat "$D/.txn/changes")" "D f9"
abort
same "at @1" "$(cat "$D/f9")" "file 9"
expect 0 "opened at @1: damage; given up: @2" txn -C "$D" log
same "number" "$(jq -r .head.number "$D/.txn/status")" 3
rm "$D/f8"
commit
umount_it
mount_it
same "after --at" "$(cat "$D/f9")" "file 9"
[ ! -e "$D/f8" ] || fail "a commit after --at is lost"
expect 0 " 0 damaged" txn -C "$D" verify
umount_it
# cut short, and as it was before the last run
restore
truncate -s 4096 "$(last_segment)"
expect 4 "txn mount --at @1" txn mount "$D"
restore
: >"$(last_segment)"
expect 4 "txn mount --at @1" txn mount "$D"

# --- repair ---
zero_block() { # of the log, that begins like this file
	"$perl" -e '
	my ($dir, $plain) = @ARGV;
	open(my $p, "<", $plain) or die; binmode $p;
	read($p, my $head, 64) == 64 or die;
	for my $f (glob("$dir/*")) {
		open(my $h, "+<", $f) or die; binmode $h;
		local $/; my $all = <$h>; my $at = index($all, $head);
		next if $at < 0;
		seek($h, $at, 0); print $h "\0" x 4096; close($h);
		exit 0;
	}
	exit 1' "$D/.txn/log" "$1" || fail "cannot find the contents of $1"
}
restore
head -c 300000 /dev/urandom >"$work/twice"
head -c 300000 /dev/urandom >"$work/once"
mount_it
cat "$work/twice" >"$D/twice"
cat "$work/twice" >"$D/again" # not a clone
expect 3 "is mounted" txn -C "$D" verify --repair
commit
cat "$work/once" >"$D/once" # staged: no plain file has it
umount_it
flip
zero_block "$work/twice"
expect 4 "damaged: @3:twice" txn -C "$D" verify
expect 0 "healed: @1:big: from the plain file" txn -C "$D" verify --repair
grep -q "healed: @3:twice: from" "$work/out" ||
	fail "twice: $(cat "$work/out")"
grep -q "healed 2 blocks" "$work/out" || fail "count: $(cat "$work/out")"
expect 0 " 0 damaged" txn -C "$D" verify
# what nothing else has is listed, and hinders nobody
zero_block "$work/once"
zero_block "$work/good/big"
expect 4 "damaged: staged:once: contents" txn -C "$D" verify --repair
grep -q "damaged: @1" "$work/out" && fail "@1 has no such file"
grep -q "healed: @2:big" "$work/out" || fail "big: $(cat "$work/out")"
mount_it
must_fail cat "$D/once"
cmp "$work/twice" "$D/again" || fail again
cmp "$work/good/big" "$D/big" || fail big
rm "$D/once"
commit
umount_it
# bulk segments that are gone, as far as plain files have their contents
restore
rm "$D"/.txn/log/*.b
expect 4 "damaged: @1:big" txn -C "$D" verify
expect 0 "healed: @1:big: from the plain file" txn -C "$D" verify --repair
mount_it
cmp "$work/good/big" "$D/big" || fail "big, of a lost segment"
umount_it

# after a kill the copy beside the log is not of the last record: it is no reason
# to go back to that
restore
mount_it
for i in 1 2 3; do
	echo "commit $i" >"$D/new"
	commit
done
crash
for last in "$D"/.txn/log/*.s; do # those after it are prepared: zeros
	! grep -q "[^[:cntrl:]]" "$last" || used=$last
done
last=$used
cp "$last" "$work/last"
truncate -s 0 "$last"
truncate -s "$(stat -c %s "$work/last")" "$last"
expect 4 "there may have been later ones" txn mount "$D"
expect 4 "there may have been later ones" txn -C "$D" verify --repair
expect 4 "txn mount --at @2" txn mount "$D"
cat "$work/last" >"$last"
mount_it
same "its end is back" "$(cat "$D/.txn/head/new")" "commit 3"
umount_it

# --- names ---
restore
odd=$(printf 'a\n"b\\\001\377')
mount_it
echo odd >"$D/$odd"
expect 0 'A "a\\n\\"b\\\\\\001\\377"' txn -C "$D" diff
txn -C "$D" diff --json | jq -e '.changes[0].path_base64' >/dev/null ||
	fail "no bytes of the odd name"
commit
same "odd" "$(cat "$D/.txn/head/$odd")" odd
mv "$D/$odd" "$D/$odd.2"
expect 0 'R "a' txn -C "$D" diff
abort
umount_it
must_fail touch "$D/$(printf 'x%.0s' {1..256})"

# --- a full disk ---
# The plain files have no room, and take none that the log needs; on a slow
# machine they followed before the disk was full, or after the abort.
umount_behind() {
	if txn umount "$D" >"$work/out" 2>&1; then
		cmp "$build/txnfs" "$D/kept" || fail "not in step, and not told"
	else
		grep -q "behind" "$work/out" || fail "umount: $(cat "$work/out")"
	fi
	! mountpoint -q "$D" || fail "umount"
}
full_disk() { # where
	local M=$1 n=0
	D=$M/data
	mkdir "$D"
	for i in $(seq 1 50); do echo "file $i" >"$D/f$i"; done
	make_store
	mount_it
	cp "$build/txnfs" "$D/kept"
	commit
	n=$(jq -r .head.number "$D/.txn/status")
	err=$({ cat /dev/zero >"$D/filler"; } 2>&1) && fail "no end of space"
	[[ $err == *"No space left"* ]] || fail "full: $err"
	# going back works, or says why it does not
	for cmd in "restore @1 f2" "snapshot full" "tag first @1" "delete first"; do
		err=$(ctl "$cmd" 2>&1) || [[ $err == *"No space left"* ]] ||
			fail "full: $cmd: $err"
	done
	# nothing acknowledged is lost, abort works, and so does what follows
	cmp "$build/txnfs" "$D/kept" || fail "kept differs"
	abort
	[ ! -e "$D/filler" ] || fail "abort on a full disk"
	same "health" "$(jq -r .health "$D/.txn/status")" ok
	umount_behind
	mount_it
	cmp "$build/txnfs" "$D/kept" || fail "kept differs after a remount"
	same "head" "$(jq -r .head.number "$D/.txn/status")" "$n"
	rm "$D/f1"
	commit
	umount_behind
	expect 0 " 0 damaged" txn -C "$D" verify
}
if [ "$(id -u)" = 0 ]; then
	mkdir "$work/small" "$work/tmpfs"
	truncate -s 200M "$work/img"
	mkfs.ext4 -q -F "$work/img" || fail mkfs
	if mount -o loop "$work/img" "$work/small" 2>/dev/null; then
		loops+=("$work/small")
		full_disk "$work/small"
		umount "$work/small"
	else
		echo "no loop devices: the full ext4 is not tried"
	fi
	mount -t tmpfs -o size=150M none "$work/tmpfs" || fail tmpfs
	loops+=("$work/tmpfs")
	full_disk "$work/tmpfs"
	umount "$work/tmpfs"
fi
