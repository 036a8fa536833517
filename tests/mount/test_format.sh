#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Stores of older formats: format-1.tar.gz is one that a program made which
# knew format 1 alone. It is read, changed, verified, and stays what it is;
# copies of it, and new stores, say what they are.
. "$(dirname "$0")/lib.sh"

tar -C "$work" -xzf "${BASH_SOURCE[0]%/*}/format-1.tar.gz" ||
	fail "unpacking the store"
version() { sed -n 's/^txnfs-store //p' "$1/.txn/format"; }
verified() {
	txn -C "$D" verify >"$work/out" 2>&1 || fail "$1: $(cat "$work/out")"
}
of() { "$@" | $digest; }

same "version" "$(version "$D")" 1
same "plain" "$(of cat "$D/small")" "$(of seq 2 300)"
mount_it -o offline=refuse
s=$D/.txn/snapshots
same "staged" "$(of cat "$D/small")" "$( (seq 2 300 && echo staged) | $digest)"
same "grown" "$(of cat "$D/dir/more")" \
	"$( (seq 1 5000 && seq 1 2000) | $digest)"
same "inline" "$(of cat "$D/inline")" "$(seq 1 1000 | head -c 900 | $digest)"
same "large" "$(of cat "$D/large")" "$(yes large | head -c 300000 | $digest)"
same "old" "$(of cat "$s/@1/small")" "$(of seq 1 300)"
same "snapshot" "$(of cat "$s/first/dir/more")" "$(of seq 1 5000)"
same "new" "$(of cat "$D/dir/new")" "$(of seq 1 40)"
verified "as it was"

# what is written is what such a program reads: whole blocks
for i in $(seq 1 200); do seq "$i" $((i + 700)) >"$D/dir/$i"; done
cp --reflink=never "$D/dir/more" "$D/copied"
echo more >>"$D/dir/more"
manifest "$D" >"$work/want"
commit
ctl gc || fail "gc"
verified "changed"
umount_it
same "version after" "$(version "$D")" 1
mount_it
manifest "$D" >"$work/got"
cmp "$work/want" "$work/got" || fail "reopened: $(diff "$work/want" "$work/got")"
verified "reopened"
umount_it

# a new store packs them, and says so
rm -rf "$D/.txn"
make_store
same "new version" "$(version "$D")" 2
mount_it
manifest "$D" >"$work/got"
cmp "$work/want" "$work/got" || fail "anew: $(diff "$work/want" "$work/got")"
verified "anew"
umount_it

# An edit of a plain file behind the bytes that lie in the log: the file was
# made longer there by a hole.
mount_it
seq 1 500 >"$D/grown"
commit
truncate -s 6000 "$D/grown"
commit
umount_it
touch -r "$D/grown" "$work/time"
byte() { printf %s "$1" | dd of="$D/grown" bs=1 seek="$2" conv=notrunc 2>"$work/dd"; }
byte X 3000
touch -r "$work/time" "$D/grown"
mount_it -o checksum
txn -C "$D" diff | grep -q "^M grown" || fail "an edit with the time of before"
same "its byte" "$(tail -c +3001 "$D/grown" | head -c 1)" X
commit
umount_it
byte Y 3000
mount_it
same "another edit" "$(tail -c +3001 "$D/grown" | head -c 1)" Y
same "and no more" "$(tr -d '\0' <"$D/grown" | $digest)" "$( (seq 1 500 && printf Y) | $digest)"
umount_it
