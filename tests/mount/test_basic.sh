#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Staged changes are not in head; abort brings everything back; commit keeps.
. "$(dirname "$0")/lib.sh"

fill_sample
manifest "$D" >"$work/plain"
make_store
manifest "$D" >"$work/after-init"
cmp "$work/plain" "$work/after-init" || fail "init touched the plain files"
mount_it
manifest "$D" >"$work/mounted"
diff "$work/plain" "$work/mounted" || fail "the mount shows another tree"

change_everything() {
	echo more >>"$D/file"
	sed -i s/1/one/ "$D/large"
	chmod 600 "$D/inline-past"
	chmod 755 "$D/dir"
	touch "$D/nothing"
	rm -r "$D/deep"
	rm "$D/dir/x-again"
	ln "$D/nothing" "$D/nothing-too"
	mv "$D/dangling" "$D/dir/moved"
	mv "$D/empty" "$D/dir/empty-moved"
	rm "$D/fifo"
	mkdir "$D/fifo"
	setfattr -n user.note -v other "$D/file"
	setfattr -n user.new -v value "$D/dir"
	truncate -s 10 "$D/inline-edge"
	dd if=/dev/urandom of="$D/sparse" bs=4096 seek=10 count=3 conv=notrunc 2>/dev/null
	[ "$(id -u)" != 0 ] || chown 77:88 "$D/large"
	mkdir -p "$D/fresh/tree"
	cp -a "$top/txn" "$D/fresh/tree"
	ln -sfn elsewhere "$D/dir/link"
}
change_everything
manifest "$D" >"$work/changed"
cmp -s "$work/plain" "$work/changed" && fail "nothing changed"
manifest "$D/.txn/head/" | diff "$work/plain" - ||
	fail "head shows staged changes"
abort
manifest "$D" >"$work/aborted"
diff "$work/plain" "$work/aborted" || fail "abort did not bring all back"
same "changes after abort" "$(cat "$D/.txn/changes")" ""

# a chmod alone, a time alone, an owner alone
chmod 700 "$D/file"
abort
same mode "$(stat -c %a "$D/file")" "$(awk -F'|' '$1=="file" {print $3}' "$work/plain")"
touch "$D/file"
abort
manifest "$D" | diff "$work/plain" - || fail "abort of a time alone"

change_everything
manifest "$D" >"$work/changed"
commit
manifest "$D" | diff "$work/changed" - || fail "commit changed what is shown"
abort
manifest "$D" | diff "$work/changed" - || fail "abort after commit"
umount_it
manifest "$D" | diff "$work/changed" - || fail "the plain files did not follow"
mount_it
manifest "$D" | diff "$work/changed" - || fail "after a remount"

# staged work survives an orderly unmount, and can be dropped
echo staged >"$D/staged"
umount_it
mount_it
same "staged after remount" "$(cat "$D/staged")" staged
umount_it
mount_it -o staged=discard
[ ! -e "$D/staged" ] || fail "staged=discard kept a staged file"
umount_it

# over a longer file no old bytes
mount_it
seq 1 1000 >"$D/long"
commit
echo short >"$D/long"
same "short" "$(cat "$D/long")" short
commit
same "short" "$(cat "$D/long")" short

# link, unlink and rename are changes of a file that was just written, too
ctime() { stat -c %z "$D/written"; }
later() { # what: it made the time of change a later one, before and after fsync
	local now

	now=$(ctime)
	[[ $now > $before ]] || fail "$1: changed $now, $before before"
	sync "$D/written"
	same "$1, fsync" "$(ctime)" "$now"
	echo more >>"$D/written"
	before=$(ctime)
}
echo data >"$D/written"
before=$(ctime)
ln "$D/written" "$D/again"
later link
rm "$D/again"
later unlink
mv "$D/written" "$D/moved"
mv "$D/moved" "$D/written"
later rename
rm "$D/written"
commit

# more space than there is: nothing is promised, what the file has is not asked
# for again
kib=$(df -Pk "$D" | awk 'NR == 2 { print $4 }')
must_fail fallocate -l $((kib * 2))K "$D/space"
must_fail fallocate -n -l $((kib * 2))K "$D/space"
same "size" "$(stat -c %s "$D/space")" 0
fallocate -l 8M "$D/space" || fail "fallocate"
same "size" "$(stat -c %s "$D/space")" $((8 << 20))
rm "$D/space"
commit

# names as long as they can be, and short ones: a listing has each once
mkdir "$D/names"
for ((i = 100; i < 400; i++)); do
	printf "%0$((i % 3 ? 252 : 1))d$i\n" 0
done | (cd "$D/names" && xargs touch)
find "$D/names" -mindepth 1 -printf '%s %f\n' | sort >"$work/listed"
same "long names" "$(sort -u "$work/listed" | wc -l) $(wc -l <"$work/listed")" "300 300"
same "the longest" "$(awk '{ print length($2) }' "$work/listed" | sort -n | uniq -c |
	tr -s ' \n' ' ')" " 100 4 200 255 "
rm -r "$D/names"
commit

# SIGTERM keeps staged changes
echo sig >"$D/sig"
pid=$(daemon_pid)
kill -TERM "$pid"
wait_gone "$pid" || fail "SIGTERM"
mount_it
same "after SIGTERM" "$(cat "$D/sig")" sig

# read-only
umount_it
mount_it -o ro
must_fail touch "$D/x"
must_fail ctl commit
same "ro" "$(cat "$D/sig")" sig
umount_it
