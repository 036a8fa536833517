#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The device fails under a mount: writers hear of it, the mount is read-only and
# says why, there and in the system log, reading goes on, what is staged can be
# saved elsewhere, and what was acknowledged is there after mounting again.
if [ -z "${FAULT_NS:-}" ]; then
	# A /dev/log of our own, in a mount namespace of our own.
	FAULT_NS=1 unshare -m --propagation private bash "$0" "$@"
	rc=$?
	[ $rc != 1 ] || unshare -m true 2>/dev/null || {
		echo "skipped: no mount namespaces here"
		exit 77
	}
	exit $rc
fi
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root, for the namespace"

faulty=$build/tests/mount/faulty
export FAULT=$work/fault
log=$work/syslog

# --- a system log ---
mkdir "$work/dev"
for n in fuse null zero full random urandom; do
	: >"$work/dev/$n"
	mount --bind "/dev/$n" "$work/dev/$n" || skip "no bind mounts here"
done
ln -s /proc/self/fd "$work/dev/fd"
"$build/tests/mount/logsink" "$work/dev/log" >"$log" &
wait_for test -S "$work/dev/log" || fail "logsink"
mount --rbind "$work/dev" /dev || skip "no bind mounts here"
rm_dev() { # before the folder is removed
	umount -l /dev "$work"/dev/*
} 2>/dev/null
at_exit+=(rm_dev)

mount_faulty() {
	mounts+=("$D")
	LD_PRELOAD=$faulty txn mount "$D" || fail "mount"
}
health() { jq -r .health "$D/.txn/status"; }

# What one call says, when it fails.
says() { # TEXT CMD...
	local text=$1 out
	shift
	out=$("$@" 2>&1) && fail "went well: $*"
	[[ $out == *"$text"* ]] || fail "$*: '$out', not '$text'"
}

put() { dd of="$1" bs=64k status=none conv=notrunc "${@:2}"; }

# One failure: CALL ERRNO, and what the first writer to wait for the device does
stop_by() { # CALL ERRNO CMD...
	local fault="$1 $2"
	shift 2
	rm -rf "$D"
	fill_sample
	make_store
	mount_faulty
	head -c 300000 /dev/urandom >"$D/committed"
	commit
	head -c 300000 /dev/urandom >"$D/synced"
	sync "$D/synced" || fail "sync"
	head -c 700000 /dev/urandom >"$D/buffered"
	mkdir -p "$D/newdir/sub"
	head -c 100 /dev/urandom >"$D/newdir/sub/tiny"
	ln "$D/newdir/sub/tiny" "$D/newdir/again"
	truncate -s 1M "$D/newdir/holes"
	echo end >>"$D/newdir/holes"
	ln -s nowhere "$D/newdir/link"
	setfattr -n user.kept -v yes "$D/newdir/sub/tiny"
	chown 12:34 "$D/newdir/sub"
	chmod 2750 "$D/newdir/sub"
	echo more >>"$D/committed"
	mv "$D/deep/a" "$D/deep/moved"
	rm "$D/dir/sub/x"
	touch -d '2002-03-04 05:06:07.123456789' "$D/newdir/sub/tiny" "$D/newdir"
	manifest "$D" >"$work/before"
	cp "$D/synced" "$work/synced"
	cp "$D/.txn/head/committed" "$work/committed"
	echo "$fault" >"$FAULT"
	says "Input/output error" "$@"
	rm "$FAULT"

	# writers
	says "Read-only file system" touch "$D/new"
	says "Read-only file system" put "$D/buffered" if=/dev/zero count=1
	says "Read-only file system" rm "$D/file"
	says "Read-only file system" chmod 700 "$D/file"
	says "Read-only file system" truncate -s 0 "$D/file"
	# what makes durable
	says "Input/output error" sync "$D/buffered"
	says "Input/output error" ctl commit
	says "Input/output error" ctl "snapshot late"
	says "Input/output error" ctl abort
	[[ $(txn -C "$D" commit 2>&1) == *"the store has stopped: "*".txn/log/"* ]] ||
		fail "commit does not say why"
	# readers
	manifest "$D" | diff "$work/before" - || fail "reading goes on"
	# what it says
	[[ $(health) == *" .txn/log/"*"Input/output error" || $(health) == *"No space left"* ]] ||
		fail "health: $(health)"
	same "mode" "$(jq -r .mode "$D/.txn/status")" read-only
	grep -q "txnfs\[[0-9]*\]: $D: the store has stopped: $(health | cut -c1-20)" "$log" ||
		fail "the system log: $(cat "$log")"
	for o in "" --json; do
		# shellcheck disable=SC2086
		txn -C "$D" status $o >/dev/null
		same "status of status $o" $? 1
	done
	txn -C "$D" diff >"$work/diff" || fail "diff"
	for f in "A buffered" "A newdir/sub/tiny" "M committed" "D dir/sub/x" \
		"R deep/a -> deep/moved"; do
		grep -q "^$f" "$work/diff" || fail "diff lacks $f: $(cat "$work/diff")"
	done
	grep -q "^A buffered" "$D/.txn/changes" || fail "changes"
}

rescue_all() {
	txn -C "$D" rescue "$work/all" || fail "rescue"
	manifest "$work/all" | diff "$work/before" - || fail "rescue differs"
	says "File exists" txn -C "$D" rescue "$work/all"
	rm -rf "$work/all"
}

rescue_staged() {
	local f
	txn rescue --staged "$D" "$work/staged" || fail "rescue --staged"
	for f in buffered committed newdir/sub/tiny newdir/again newdir/holes \
		deep/moved/b/c/17; do
		cmp "$D/$f" "$work/staged/files/$f" || fail "rescue: $f"
	done
	for f in newdir newdir/sub newdir/sub/tiny newdir/link; do
		same "$f" "$(stat -c '%a %u %g %y %F %h' "$work/staged/files/$f")" \
			"$(stat -c '%a %u %g %y %F %h' "$D/$f")"
	done
	same "xattr" "$(getfattr --absolute-names --only-values -n user.kept \
		"$work/staged/files/newdir/again")" yes
	[ "$(du -k "$work/staged/files/newdir/holes" | cut -f1)" -lt 100 ] ||
		fail "the hole is full"
	[ ! -e "$work/staged/files/file" ] || fail "not staged, and saved"
	same "deleted" "$(sort "$work/staged/deleted")" "$(printf 'deep/a\ndir/sub/x')"
	rm -rf "$work/staged"
}

# All that was acknowledged is there.
mount_again() {
	umount_it 2>/dev/null || :
	mount_it
	cmp "$D/synced" "$work/synced" || fail "a synced file is lost"
	cmp "$D/.txn/snapshots/@2/committed" "$work/committed" ||
		fail "the commit is lost"
	txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
	same "health" "$(health)" ok
	touch "$D/new" || fail "writing after mounting again"
	says "is in the mount" txn -C "$D" rescue "$D/inside"
	commit
	umount_it
}

stop_by sync 5 sync "$D/buffered"
rescue_all
rescue_staged
mount_again

stop_by write 5 ctl commit
rescue_staged
mount_again

stop_by short 28 ctl commit
mount_again

# --- and some of it cannot be read either ---
rm -rf "$D"
mkdir -p "$D/sub"
head -c 300000 /dev/urandom >"$D/sub/unreadable"
echo small >"$D/small"
make_store
mount_faulty
head -c 300000 /dev/urandom >"$D/buffered"
find "$D" -ls >/dev/null
echo "sync 5" >"$FAULT"
says "Input/output error" sync "$D/buffered"
echo "read 5" >"$FAULT"
out=$(txn -C "$D" rescue "$work/some" 2>&1)
same "the exit status of rescue" $? 1
[[ $out == *"sub/unreadable': Input/output error"* ]] || fail "not named: $out"
[[ $out == *"everything else is in $work/some"* ]] || fail "rescue says: $out"
cmp "$D/buffered" "$work/some/buffered" || fail "rescue beside damage"
cmp "$D/small" "$work/some/small" || fail "rescue beside damage"
rm "$FAULT"
cmp "$D/sub/unreadable" <(cat "$D/.txn/head/sub/unreadable") || fail "readable again"
umount_it 2>/dev/null || :

# --- an abort that cannot be made durable: it has happened or not ---
rm -rf "$D"
fill_sample
make_store
mount_faulty
echo staged >"$D/staged"
sync "$D/staged"
echo "sync 5" >"$FAULT"
says "Input/output error" ctl abort
rm "$FAULT"
says "Read-only file system" touch "$D/new"
says "Input/output error" ctl commit
[ "$(health)" != ok ] || fail "health after an abort"
umount_it 2>/dev/null || :
mount_it
[ ! -e "$D/staged" ] || same "staged" "$(cat "$D/staged")" staged
same "a file" "$(cat "$D/file")" "first line"
txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
umount_it
