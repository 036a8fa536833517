#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A directory is moved into its store and out again, with what else goes on on a
# host: files open for writing elsewhere, links outside, a writer that comes in
# the middle, kills at random moments, other users.
. "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-6}
held_kib() { du -sk "$D" | cut -f1; } # each inode once, the store included
move_it() { txn init --move "$@" "$D" >"$work/told" 2>&1; }
is_want() { # what
	manifest "$1" | grep -v '^\. ' | diff "$work/want" - || fail "$2: not as it was"
}
want() { manifest "$D" | grep -v '^\. ' >"$work/want"; }
only_store() { same "what is left in DIR" "$(ls -A "$D")" .txn; }

# --- in and out: everything is as it was, and nothing large is copied ---
fill_sample
head -c 150M /dev/urandom >"$D/huge" # three pieces
head -c 1M /dev/urandom >"$D/dir/large"
head -c 500K /dev/urandom >"$D/to-change"
ln "$D/dir/large" "$D/deep/a/large-too"
truncate -s 40M "$D/hole-first"
head -c 300K /dev/urandom >>"$D/hole-first"
setfacl -d -m u:1234:rwx "$D/dir" 2>/dev/null || :
setfacl -m u:1234:r "$D/dir/large" 2>/dev/null || :
echo under >"$D/dir/under-a-default-acl"
setfacl -b "$D/dir/under-a-default-acl" 2>/dev/null || :
chmod 750 "$D/huge"
[ "$(id -u)" != 0 ] || chown 1234:4321 "$D/huge"
touch -d '2001-02-03 04:05:06.789' "$D/huge" "$D/deep/a" "$D/deep"
want
before=$(held_kib)
inos=$(cd "$D" && stat -c %i huge dir/large to-change sparse hole-first)
move_it || fail "init --move: $(cat "$work/told")"
grep -q 'commit @1 holds its files' "$work/told" || fail "not told"
only_store
after=$(held_kib)
[ $((after * 100)) -le $((before * 103)) ] || fail "held twice: $before KiB, then $after"
same "moved files are ours alone" "$(stat -c %a%u "$D"/.txn/log/*.m | sort -u)" "600$(id -u)"
mount_it
is_want "$D" "mounted"
same "nothing is staged" "$(cat "$D/.txn/changes")" ""
txn -C "$D" verify >/dev/null || fail "verify"

# --- a store like any other ---
dd if=/dev/urandom of="$D/huge" bs=4096 seek=20000 count=3 conv=notrunc 2>/dev/null
rm "$D/hole-first"
abort
is_want "$D" "after an abort"
cp "$D/huge" "$work/huge"
dd if=/dev/urandom of="$D/huge" bs=4096 seek=20000 count=3 conv=notrunc 2>/dev/null
rm -r "$D/dir"
rm "$D/hole-first"
commit
txn -C "$D" export @1 "$work/export" || fail "export"
is_want "$work/export" "exported"
rm -r "$work/export"
ctl rollback @1
is_want "$D" "rolled back"
cmp "$D/huge" "$work/huge" || fail "rolled back contents"
rm "$D/hole-first" "$D/deep/a/large-too"
truncate -s 100M "$D/huge" # its last piece, and the end of the second
ctl set keep.last 1
commit
for i in 1 2 3; do ctl delete "@discarded-$i" 2>/dev/null || :; done
umount_it
mount_it # the kernel holds on to nothing
ctl gc
umount_it
kib=$(held_kib)
[ "$kib" -lt $((after - 45 * 1024)) ] ||
	fail "nothing of a moved file was given back: $after KiB, then $kib"
mount_it
txn -C "$D" verify >/dev/null || fail "verify after gc"
cmp -n $((100 << 20)) "$D/huge" "$work/huge" || fail "contents after gc"
cp "$work/huge" "$D/huge-again"
cp "$D/dir/large" "$D/dir/large-copy" # shares all its blocks
printf x | dd of="$D/to-change" bs=1 seek=99999 conv=notrunc 2>/dev/null
commit
want
touch "$D/dir/taken-back" && rm "$D/dir/taken-back" # is nothing staged
umount_it

# --- out ---
must_fail txn eject "$D" </dev/null # it asks
txn eject --yes "$D" >"$work/told" 2>&1 || fail "eject: $(cat "$work/told")"
is_want "$D" "ejected"
[ ! -e "$D/.txn" ] || fail "the store is still there"
same "moved, not copied" "$(stat -c %i "$D/dir/large" "$D/sparse")" \
	"$(echo "$inos" | sed -n '2p;4p')"
[ "$(stat -c %i "$D/to-change")" != "$(echo "$inos" | sed -n 3p)" ] ||
	fail "a changed file was given out as it lies"
rm -r "$D" "$work/huge"

# --- files that somebody has open for writing, or links to ---
new_tree() {
	rm -rf "$D" "$work/outside"
	mkdir -p "$D/sub" "$work/outside"
	for i in 1 2 3 4 5 6; do
		head -c 400K /dev/urandom >"$D/sub/f$i"
		head -c 9K /dev/urandom >"$D/s$i"
	done
	ln "$D/sub/f1" "$D/link"
}
moved() { ls "$D/.txn/log" | grep -c '\.m$'; }
inode_moved() { stat -c %i "$D"/.txn/log/*.m | grep -qx "$1"; }

new_tree
ln "$D/sub/f2" "$work/outside/f2"
exec 7>>"$D/sub/f3" # no byte changes
cp /bin/bash "$D/program" # runs: nobody can open it for writing
"$D/program" -c 'while :; do sleep 0.1; done' &
program=$!
inos=$(stat -c %i "$D/sub/f2" "$D/sub/f3")
must_fail txn init --move "$D"
[ ! -e "$D/.txn" ] || fail "a refused move left a store"
manifest "$D" | grep -v '^\. ' | sed '/^sub\/f2|/s/|2$/|1/;/^ sub\/f2$/d' \
	>"$work/want"
move_it --force || fail "init --move --force: $(cat "$work/told")"
for i in $inos; do
	inode_moved "$i" && fail "a file that is written to or linked elsewhere was moved"
done
same "the others were moved" "$(moved)" 5
echo later >&7 # into nobody's file
exec 7>&-
echo edited >>"$work/outside/f2"
mount_it --force
is_want "$D" "with writers and links"
txn -C "$D" verify >/dev/null || fail "verify: somebody else wrote into the store"
kill $program
umount_it

# --- a writer that comes in the middle waits, and its file is copied ---
# A lease is broken at the time that this program looks at one.
if python3 -c 'import fcntl; fcntl.F_SETLEASE' 2>/dev/null; then
	for i in $(seq "$rounds"); do
		new_tree
		want
		cat >"$work/writer.py" <<-'EOF'
			import os, sys, time
			done = 0
			files = sys.argv[1:]
			os.close(1)
			while files:
			    for f in list(files):
			        try:
			            fd = os.open(f, os.O_WRONLY)
			        except OSError:
			            files.remove(f)
			            continue
			        os.close(fd) # whatever it may write has an effect on nobody
		EOF
		python3 "$work/writer.py" "$D"/sub/f* &
		writer=$!
		move_it --force || fail "beside a writer: $(cat "$work/told")"
		wait $writer
		mount_it
		is_want "$D" "beside a writer"
		txn -C "$D" verify >/dev/null || fail "verify beside a writer"
		umount_it
		fuser -s "$D"/.txn/log/*.m 2>/dev/null && fail "somebody has a moved file"
	done
fi

# --- killed at any moment, and gone on with ---
killed=0
for i in $(seq "$rounds"); do
	new_tree
	head -c $((40 << 20)) /dev/urandom >"$D/huge"
	for k in $(seq 300); do echo "$k" >"$D/sub/small$k"; done
	want
	before=$(stat -c %i "$D/huge")
	for k in 1 2 3 4 5 6; do
		txn init --move --quiet "$D" >/dev/null 2>&1 &
		p=$!
		read -rt "0.0$((RANDOM % 9 + 1))" <> <(:) || :
		kill -9 $p 2>/dev/null && killed=$((killed + 1))
		wait $p 2>/dev/null
		[ ! -e "$D/.txn" ] || [ -z "$(ls -A "$D" | grep -vx .txn)" ] || {
			must_fail txn mount "$D"
			txn mount "$D" >"$work/told" 2>&1
			grep -q 'init --move goes on' "$work/told" ||
				fail "mount does not tell what to do: $(cat "$work/told")"
		}
	done
	move_it || grep -q 'it has a store already' "$work/told" ||
		fail "going on: $(cat "$work/told")"
	only_store
	mount_it
	is_want "$D" "killed and gone on with"
	umount_it
	for k in 1 2 3; do
		txn eject --yes "$D" >/dev/null 2>&1 &
		p=$!
		read -rt "0.0$((RANDOM % 9 + 1))" <> <(:) || :
		kill -9 $p 2>/dev/null && killed=$((killed + 1))
		wait $p 2>/dev/null
	done
	txn eject --yes "$D" >"$work/told" 2>&1 ||
		{ [ ! -e "$D/.txn" ] && [ ! -e "$D/.txn.gone" ]; } ||
		fail "eject goes on: $(cat "$work/told")"
	is_want "$D" "ejected, killed and gone on with"
	same "not copied" "$(stat -c %i "$D/huge")" "$before"
done
echo "$killed kills"

# an interrupted move can also be put back at once
new_tree
want
(
	ulimit -f 512 # blocks of 1 KiB: no room for the log
	txn init --move "$D" >/dev/null 2>&1
) 2>/dev/null && fail "there was no limit"
manifest "$D" | grep -v '^\. ' | diff "$work/want" - ||
	fail "a move that could not begin"
mkdir "$D/.txn.new" # as a signal at that moment leaves it
txn init --move --quiet "$D" >/dev/null &
p=$!
until [ -e "$D/.txn" ] && [ -n "$(ls -A "$D/.txn/log" 2>/dev/null | grep '\.m$')" ]; do
	is_gone $p && break
done
kill -9 $p 2>/dev/null
wait $p 2>/dev/null
txn eject --yes "$D" >/dev/null || fail "eject"
is_want "$D" "put back"

# --- somebody who is not root ---
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	new_tree
	chmod 755 "$work"
	chown -R 1234:1234 "$D"
	chown 0:0 "$D/sub/f4" "$D/s4"
	chmod 644 "$D/sub/f4"
	want
	foreign=$(stat -c %i "$D/sub/f4")
	setpriv --reuid 1234 --regid 1234 --clear-groups "$build/txn" init \
		--move "$D" >"$work/told" 2>&1 || fail "not root: $(cat "$work/told")"
	inode_moved "$foreign" && fail "somebody else's file was moved"
	only_store
	mount_it
	is_want "$D" "moved by another user"
	umount_it
fi
