#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The host is full, on small ext4 and XFS filesystems of our own: dead space is
# given back before a writer hears of it; a writer hears of it early; commit,
# abort and deletion work, and deletion frees.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root, for loop mounts"

head_number() { jq -r .head.number "$D/.txn/status"; }
ok() { same "health" "$(jq -r .health "$D/.txn/status")" ok; }
free_kib() { df -Pk "$1" | awk 'NR == 2 {print $4}'; }

full() { # CMD...
	local out
	out=$("$@" 2>&1) && fail "there is space: $*"
	[[ $out == *"No space left"* ]] || fail "$*: $out"
}
fill_up() { head -c 2G /dev/zero >"$1"; }
fill_mount() { head -c 2G /dev/zero >"$D/$1"; }
head -c 16M /dev/urandom >"$work/16M"

# Twice what the host has, written over itself.
overwrite() { # WHERE
	local i n=$(($(free_kib "$1") * 2 / 1024 / 16))
	for i in $(seq $n); do
		cat "$work/16M" >"$D/over" || fail "overwrite $i of $n"
		[ -z "${2:-}" ] || [ $((i % 3)) != 0 ] || commit
	done
	ok
}

data() { # WHERE
	local where=$1 n
	D=$where/data
	mkdir "$D"
	for i in $(seq 50); do echo "file $i" >"$D/f$i"; done
	head -c 8M /dev/urandom >"$D/kept"
	cp "$D/kept" "$work/kept"
	make_store
	mount_it
	ctl set keep.last 1
	ctl set keep.discarded 1
	overwrite "$where"
	overwrite "$where" commits
	n=$(head_number)

	# --- by others ---
	fill_up "$where/others" 2>/dev/null
	echo staged >"$D/small" 2>/dev/null || :
	full fill_mount big
	rm -f "$D/big" || fail "rm on a full host"
	truncate -s 4096 "$D/kept" || fail "truncate on a full host"
	fallocate -p -o 0 -l 4096 "$D/kept" || fail "punch on a full host"
	rm "$D/f1" || fail "rm"
	commit
	same "head" "$(head_number)" $((n + 1))
	cp "$D/f2" "$work/f2"
	echo "not kept" 2>/dev/null >"$D/f2" || :
	abort
	cmp "$D/f2" "$work/f2" || fail "abort on a full host"
	ok
	rm "$where/others"
	head -c 4M /dev/urandom >"$D/after" || fail "space is there again"
	commit

	# --- by ourselves ---
	full fill_mount big
	commit
	# Where nothing is shared there is no room for it a second time; or the log
	# has none for what is written down first.
	out=$(txn -C "$D" sync 2>&1) || [[ $out == *"No space left"* ]] ||
		fail "sync: $out"
	[ "$(stat -f -c %T "$where")" = xfs ] || [[ $out == *"No space left"* ]] ||
		fail "sync: $out"
	[[ $out != *"files below :"* ]] || fail "sync names no path: $out"
	ok
	rm "$D/big" "$D/over"
	commit
	ctl delete @discarded-1 2>/dev/null || :
	head -c 40M /dev/urandom >"$D/big" || fail "deletion frees nothing"
	abort
	ok

	# --- by many at once ---
	for i in $(seq 64); do
		dd if=/dev/zero of="$D/many$i" bs=1M 2>>"$work/many" &
	done
	wait
	# (Their lines may be mixed.)
	same "told" "$(grep -o 'No space left' "$work/many" | wc -l)" 64
	ok
	commit
	rm "$D"/many* "$work/many"
	commit
	ctl gc
	umount_it
	txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
	mount_it
	same "a file" "$(cat "$D/f3")" "file 3"
	[ ! -e "$D/f1" ] || fail "f1 is back"
	umount_it
}

# Nothing but names. Deleting some, all over the tree, and settings took more than
# half of the reserve: what that leaves on the host is enough for a mount.
names() { # WHERE
	D=$1/data
	mkdir "$D"
	make_store
	mount_it
	ctl set plain off
	ctl sync # or they have no room to go
	ctl set keep.last 1
	ctl tag empty @1
	perl -e 'my $n = 0;
		1 while symlink "x" x 900, "$ARGV[0]/n" . $n++;
		$!{ENOSPC} or die "symlink: $!";
		my $i = 0;
		1 while $i < $n && unlink "$ARGV[0]/n" . $i++ * 7919 % ($n - 1);
		$!{ENOSPC} or die "unlink: $!"' "$D" >"$work/out" 2>&1 ||
		fail "$(cat "$work/out")"
	commit
	for i in $(seq 40); do ctl set keep.last $((i % 2 + 1)); done
	umount_it
	mount_it
	full mkdir "$D/dir"
	ctl rollback empty
	ctl delete @discarded-1
	ctl gc
	mkdir "$D/dir" || fail "the names are gone, but not their space"
	ok
	umount_it
}

try() { "$of" "$1"; }
of=names
on ext4 20 mkfs.ext4 -q -F
of=data
on ext4 120 mkfs.ext4 -q -F
on xfs 320 mkfs.xfs -q -f
