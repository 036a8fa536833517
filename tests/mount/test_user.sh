#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The whole life as an ordinary user, through fusermount3; with what belongs to
# others, and others who look.
#
# Where /dev/fuse is for root alone: in a mount namespace of its own, with a
# device node in its place that is for all (not in a chroot: its root is no mount
# that could be made private).
if [ -c /dev/fuse ] && [ "$(id -u)" = 0 ] && [ -z "${IN_NAMESPACE-}" ] &&
	[ "$(stat -c %a /dev/fuse)" != 666 ] &&
	unshare --mount --propagation private true 2>/dev/null; then
	IN_NAMESPACE=1 exec unshare --mount --propagation private bash "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "not root: all tests run as an ordinary user"
command -v setpriv >/dev/null || skip "no setpriv"
as() { setpriv --reuid nobody --regid nogroup --clear-groups "$@"; }
other() { setpriv --reuid 4001 --regid 4001 --clear-groups "$@"; }
if [ -n "${IN_NAMESPACE-}" ]; then
	# shellcheck disable=SC2046 # two numbers
	mknod -m 666 "$work/fuse" c $(stat -c '0x%t 0x%T' /dev/fuse) &&
		mount --bind "$work/fuse" /dev/fuse || skip "no device node of our own"
fi
as test -r /dev/fuse -a -w /dev/fuse || skip "/dev/fuse is only for root here"
as test -x "$build/txn" || skip "nobody may not run what was built"

chmod 755 "$work"
mkdir "$D"
mkdir -m 711 "$work/run"
chown nobody:nogroup "$work/run"
export XDG_RUNTIME_DIR=$work/run # where .txn goes with open=fast
echo one >"$D/a"
mkdir -m 700 "$D/private"
echo hidden >"$D/private/f"
chmod 644 "$D/private/f"
chown -R nobody:nogroup "$D"
echo "of root" >"$D/foreign"
chown root:root "$D/foreign"
chmod 644 "$D/foreign"
as txn init --quiet "$D" >/dev/null || fail init
mounts+=("$D")
as txn mount "$D" || fail mount
as bash -c "echo two >'$D/a'; echo commit >'$D/.txn/ctl'" || fail commit
as bash -c "echo three >'$D/a'; echo abort >'$D/.txn/ctl'" || fail abort
same "a" "$(as cat "$D/a")" two
as txn -C "$D" snapshot s || fail snapshot
as txn -C "$D" restore head~1 a || fail restore
same "a" "$(as cat "$D/a")" one
as txn -C "$D" rollback s || fail rollback
pid=$(as sed -n 's/^  "pid": \([0-9]*\),$/\1/p' "$D/.txn/status")
kill -9 "$pid"
wait_gone "$pid" || fail "kill -9"
as txn mount "$D" || fail "mount over a dead mount"
same "a" "$(as cat "$D/a")" two
as txn -C "$D" verify || fail verify

# a directory moves that is read-only, then or before
as bash -c "mkdir -p '$D/here/ro' '$D/there'; echo x >'$D/here/ro/x'
	chmod 500 '$D/here/ro'; echo commit >'$D/.txn/ctl'
	echo sync >'$D/.txn/ctl'" || fail "a read-only directory"
as bash -c "chmod 700 '$D/here/ro'; mv '$D/here/ro' '$D/there'
	chmod 500 '$D/there/ro'; echo commit >'$D/.txn/ctl'
	echo sync >'$D/.txn/ctl'" || fail "a read-only directory does not move"
same "in step" "$(as jq -r .plain.state "$D/.txn/status")" "in step"
as txn umount "$D" || fail umount
same "moved" "$(as cat "$D/there/ro/x") $(stat -c %a "$D/there/ro")" "x 500"
as txn mount "$D" || fail mount

# little of a large file changed that is read-only by then: the plain one follows
rewritten() { # SOURCE BLOCK
	as bash -c "chmod -f 644 '$D/big'
		dd if=$1 of='$D/big' bs=4096 count=1000 seek=$2 conv=notrunc &&
		chmod 444 '$D/big' && echo commit >'$D/.txn/ctl' &&
		echo sync >'$D/.txn/ctl'" 2>/dev/null
}
rewritten /dev/urandom 0 || fail "a large file"
rewritten /etc/passwd 7 || fail "a read-only file does not follow"
big=$(as $digest "$D/big")

# what belongs to others still does, and its owner alone may change it
same "foreign" "$(as stat -c '%U %G %a' "$D/foreign")" "root root 644"
must_fail as sh -c "echo x >>'$D/foreign'"
must_fail as chmod 600 "$D/foreign"
must_fail as chown nobody "$D/foreign"
as mv "$D/foreign" "$D/moved" || fail "the directory's owner may rename"
as txn -C "$D" commit -m moved >/dev/null || fail commit
same "moved" "$(as stat -c '%U %G' "$D/moved")" "root root"
same "in the commit" "$(as stat -c '%U %G' "$D/.txn/head/moved")" "root root"

# without allow_other nobody else sees anything
refused() { # what CMD...
	local got
	got=$("${@:2}" 2>&1) && fail "$1: another user may: ${*:2}"
	[[ $got == *"Permission denied"* ]] || fail "$1: $got"
}
if [ -z "$(sed -n '/^user_allow_other/p' /etc/fuse.conf 2>/dev/null)" ]; then
	refused "not allowed" other cat "$D/a"
	refused "not allowed" other ls "$D/.txn/snapshots"
fi
as txn umount "$D" || fail umount
same "read-only" "$(as $digest "$D/big")" "$big"

chmod 777 "$work"
as txn -C "$D" export head "$work/out" || fail export
same "exported" "$(cat "$work/out/a")" two
chmod 755 "$work"

# with it, modes decide: data, snapshots and ctl alike, also where only a parent
# keeps them out
if [ -n "${IN_NAMESPACE-}" ]; then
	echo user_allow_other >"$work/fuse.conf"
	mount --bind "$work/fuse.conf" /etc/fuse.conf || fail "fuse.conf"
	as txn mount "$D" || fail "mount for others"
	same "others" "$(other cat "$D/a")" two
	same "others, in a snapshot" "$(other cat "$D/.txn/head/a")" two
	refused "data" other sh -c "echo x >>'$D/a'"
	refused "parent" other cat "$D/private/f"
	refused "parent, in a snapshot" other cat "$D/.txn/head/private/f"
	refused "snapshot" other sh -c "echo x >>'$D/.txn/head/a'"
	refused "ctl" other sh -c "echo commit >'$D/.txn/ctl'"
	refused "changes" other cat "$D/.txn/changes"
	same "status is for all" "$(other cat "$D/.txn/status" | jq -r .health)" ok
	refused "tool" other txn -C "$D" rollback @1

	# What this daemon may not do to the plain files is kept, told, and no
	# edit: owners, devices, attributes of root's. (Root makes them in the
	# mount; ctl is nobody's.)
	chown root:root "$D/a" && chmod 4750 "$D/a" || fail "root in the mount"
	mknod "$D/device" c 1 3 || fail "mknod"
	setfattr -n trusted.note -v of-root "$D/moved" || fail "trusted"
	mkdir -m 755 "$D/roots"
	echo in >"$D/roots/f"
	ln "$D/roots/f" "$D/linked"
	as txn -C "$D" commit -m foreign >/dev/null || fail commit
	manifest "$D" >"$work/want"
	as sh -c "echo sync >'$D/.txn/ctl'" || fail sync
	same "state" "$(jq -r .plain.state "$D/.txn/status")" "in step"
	[ "$(jq .plain.unlike "$D/.txn/status")" -ge 4 ] ||
		fail "not told: $(jq -c .plain "$D/.txn/status")"
	as txn -C "$D" status | grep -q "not as committed" || fail "status"
	as txn umount "$D" || fail umount
	same "owner beneath" "$(stat -c %U "$D/a")" nobody
	[ ! -e "$D/device" ] || fail "a device beneath"
	for i in 1 2; do
		as txn mount -o offline=refuse "$D" || fail "taken for an edit"
		manifest "$D" | diff "$work/want" - || fail "not kept, $i"
		same "staged" "$(cat "$D/.txn/changes" 2>/dev/null)" ""
		as txn umount "$D" || fail umount
	done
	# an edit of such a file takes what was edited, not what could not be done
	as sh -c "echo edited >>'$D/a'"
	as txn mount "$D" 2>/dev/null || fail mount
	same "edited" "$(stat -c '%U %a' "$D/a") $(tail -n 1 "$D/a")" \
		"root 4750 edited"
	as txn -C "$D" abort || fail abort
	as txn umount "$D" || fail umount
	# root may do all of it, at the next mount
	txn mount "$D" || fail "mount as root"
	manifest "$D" | diff "$work/want" - || fail "not there for root"
	txn umount "$D" || fail umount
	manifest "$D" | diff "$work/want" - || fail "root's daemon did not apply it"
	txn mount -o offline=refuse "$D" || fail "applied, and taken for an edit"
	same "in step" "$(jq -r '"\(.plain.state) \(.plain.unlike)"' \
		"$D/.txn/status")" "in step 0"
	txn umount "$D" || fail umount
	chown -R nobody:nogroup "$D/.txn"
fi
