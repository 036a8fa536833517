#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Cost follows the change: one byte in 1 GiB; a directory of 100,000 files.
. "$(dirname "$0")/lib.sh"

free_kib=$(df -Pk "$work" | awk 'NR == 2 {print $4}')
[ "$free_kib" -gt $((4 << 20)) ] || skip "less than 4 GiB free in $work"

ms() { # what CMD...: its duration in ms, in $took
	local start end
	start=$(date +%s%N)
	"$@" || fail "$*"
	end=$(date +%s%N)
	took=$(((end - start) / 1000))
}
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
appended() { jq '.log.small_bytes + .log.bulk_bytes' "$D/.txn/status"; }

# --- 1 GiB ---
mkdir -p "$D"
openssl enc -aes-128-ctr -K 00 -iv 00 </dev/zero 2>/dev/null |
	head -c 1G >"$D/huge" || head -c 1G /dev/urandom >"$D/huge"
sum=$($digest <"$D/huge")
make_store
data_kib=$(du -sk --exclude=.txn "$D" | cut -f1)
store_kib=$(du -sk "$D/.txn" | cut -f1)
echo "figure: store of 1 GiB: $((store_kib * 100 / data_kib))% of the data"
mount_it
same "huge" "$($digest <"$D/huge")" "$sum"
before=$(appended)
printf X | dd of="$D/huge" bs=1 seek=500000001 conv=notrunc 2>/dev/null
commit
written=$(($(appended) - before))
echo "figure: 1 byte of 1 GiB staged and committed: $written bytes written"
[ "$written" -lt $((1 << 20)) ] || fail "$written bytes for one byte"
same "X" "$(dd if="$D/huge" bs=1 skip=500000001 count=1 2>/dev/null)" X
printf Y | dd of="$D/huge" bs=1 seek=5 conv=notrunc 2>/dev/null
abort
dd if="$D/.txn/snapshots/@1/huge" bs=1 skip=500000001 count=1 2>/dev/null |
	dd of="$D/huge" bs=1 seek=500000001 conv=notrunc 2>/dev/null
same "put back" "$($digest <"$D/huge")" "$sum"
umount_it
rm -rf "$D"

# --- many files ---
times() { # FILES: medians of commit and abort, in us
	local n=$1 i
	rm -rf "$D"
	mkdir -p "$D/many"
	(cd "$D/many" && seq 1 "$n" | split -l 1 -a 5 -d - f)
	same "files" "$(find "$D/many" -type f | wc -l)" "$n"
	ms make_store
	echo "figure: init of $n files: $((took / 1000)) ms"
	mount_it
	same "listed" "$(ls -f "$D/many" | grep -c ^f)" "$n"
	same "by find" "$(find "$D/many" -type f -size +0 | wc -l)" "$n"
	: >"$work/c"
	: >"$work/a"
	for i in $(seq 1 21); do
		echo "$i" >"$D/many/f00007"
		ms ctl commit
		echo $took >>"$work/c"
		echo "$i" >"$D/many/f00008"
		ms ctl abort
		echo $took >>"$work/a"
	done
	c=$(median <"$work/c") a=$(median <"$work/a")
	echo "figure: $n files: commit of one changed file $c us, abort $a us"
	before=$(appended)
	echo again >"$D/many/f00009"
	commit
	echo "figure: $n files: $(($(appended) - before)) bytes written per commit of one small file"
}
times 1000
umount_it
c1=$c a1=$a
times 100000
# flat, with room for noise: one more level of the tree
[ "$c" -lt $((c1 * 5 + 3000)) ] || fail "commit: $c1 us, then $c us"
[ "$a" -lt $((a1 * 5 + 3000)) ] || fail "abort: $a1 us, then $a us"
same "readdir while it changes" "$(
	n=0
	while read -r f; do
		n=$((n + 1))
		[ $((n % 1000)) != 0 ] || rm "$D/many/$f"
		echo "$f"
	done < <(ls -f "$D/many" | grep ^f) | sort -u | wc -l
)" 100000
abort
same "after abort" "$(ls -f "$D/many" | grep -c ^f)" 100000
umount_it
