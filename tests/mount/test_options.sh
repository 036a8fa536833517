#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Mount options: those that are given win over our own; those of /etc/fstab, by
# the helper of mount(8).
. "$(dirname "$0")/lib.sh"

make_store

# shown: the options that the kernel has, with the source in front
shown() { awk -v at="$D" '$2 == at { print $1 "," $4 }' /proc/mounts; }
has() { [[ ,$(shown), == *,$1,* ]] || fail "no $1 in $(shown)"; }
has_not() { [[ ,$(shown), != *,$1,* ]] || fail "$1 in $(shown)"; }

mount_it
has "$D"
has rw
has default_permissions
umount_it

mount_it -o nosuid,nodev,noexec,fsname=somewhere
has somewhere
has nosuid
has nodev
has noexec
umount_it

# --- transports: what cannot be had is refused, and why is said ---
refused() { # STATUS TEXT OPTION
	"$build/txnfs" "$D" -o "$3" >"$work/said" 2>&1
	same "$3" $? "$1"
	grep -q "$2" "$work/said" || fail "$3: $(cat "$work/said")"
}
refused 2 "dev or io_uring is wanted" transport=none
refused 2 "use transport=io_uring" io_uring
mount_it -o transport=dev
same "transport=dev" "$(jq .kernel.io_uring "$D/.txn/status")" false
umount_it
if ! "$build/txnfs" --help | grep -q "^  transport=io_uring "; then
	refused 3 "leave the option out" transport=io_uring
fi

# what mount(8) gives its helper
helper() { "$top/tools/mount.fuse.txnfs" "$D" "$D" "$@"; }
mounts+=("$D")
helper -n -s -v -o rw,relatime,noexec,user,nofail,_netdev,noauto \
	-o x-a.b=c,comment=d,defaults,users,fsname=somewhere ||
	fail "the helper"
has somewhere
has rw
has noexec
has_not nosuid
if [ "$(id -u)" = 0 ]; then
	# a remount has options of the mount that is there, too
	helper -o ro,noexec,remount,user_id=0,allow_other,fsname=x ||
		fail "remount"
	has ro
	has somewhere
	must_fail touch "$D/x"
	helper -o rw,remount || fail "remount"
	has rw
	has_not noexec
fi
touch "$D/x" || fail "not writable"
umount_it

helper -f -o ro || fail "fake"
mountpoint -q "$D" && fail "mounted, and was told not to"
must_fail helper -N /proc/self/ns/mnt
must_fail helper -o no-such-option

# a dead mount is cleared away
helper -o ctldir=visible || fail "the helper"
[ -d "$D/.txn" ] || fail "no .txn"
pid=$(daemon_pid)
kill -9 "$pid"
wait_gone "$pid" || fail "the daemon survived kill -9"
helper -o ro || fail "over a dead mount"
has ro
umount_it

# --- it reads ahead as the filesystem below, at most two requests ---
ahead() { cat "/sys/class/bdi/$(mountpoint -d "$1")/read_ahead_kb"; }
reads_ahead() { # of the host, expected of the mount: KiB
	echo "$1" >"/sys/class/bdi/$(mountpoint -d "$work/small")/read_ahead_kb"
	mount_it
	[ "$(ahead "$D")" = "$2" ] ||
		fail "reads ahead $(ahead "$D") KiB, not $2, above $1"
	umount_it
}
mkdir "$work/small"
truncate -s 64M "$work/img"
mkfs.ext4 -q -F "$work/img" || fail mkfs
if [ "$(id -u)" = 0 ] && [ -w /sys/class/bdi ] &&
	mount -o loop "$work/img" "$work/small" 2>/dev/null; then
	loops+=("$work/small")
	D=$work/small/data
	make_store
	reads_ahead 512 512
	reads_ahead 4096 2048
	reads_ahead 16 128
	D=$work/data
else
	echo "skipped: reading ahead: no loop device, or not root"
fi

# --- a copy of the mount in another namespace keeps the daemon: it is named ---
if ! unshare --mount --propagation private true 2>/dev/null; then
	echo "skipped: copies of the mount: no mount namespace of our own"
else
	mount_it
	mkfifo "$work/end"
	unshare --mount --propagation private sh -c "echo >'$work/ready'; read _ <'$work/end'" &
	wait_for test -e "$work/ready" || fail "unshare"
	txn umount "$D" >/dev/null 2>"$work/said" &
	wait_for grep -q "has a copy of the mount" "$work/said" ||
		fail "umount does not say who keeps the mount: $(cat "$work/said")"
	echo >"$work/end"
	wait %+ || fail "umount when the copy was gone"
	wait

	# --- and one that is only there cannot be asked from here ---
	mkdir "$work/there"
	unshare --mount --propagation private sh -c "txn mount '$D' '$work/there'
		echo >'$work/up'; read _ <'$work/end'; txn umount '$work/there'" \
		>/dev/null &
	wait_for test -e "$work/up" || fail "mount in a namespace"
	txn -C "$D" log >/dev/null 2>"$work/said"
	same "a mount elsewhere" "$?" 3
	grep -q "mounted on $work/there by process .* another namespace" "$work/said" ||
		fail "a mount in another namespace: $(cat "$work/said")"
	echo >"$work/end"
	wait %+ || fail "umount in the namespace"
fi

# --- another mount that got the number of its device is no copy of it ---
if [ "$(id -u)" = 0 ]; then
	export SLOWDEV=$work/slowdev
	mkdir -p "$SLOWDEV" "$work/other"
	make_store "$work/other"
	LD_PRELOAD=$build/tests/mount/slowdev mount_it
	echo staged >"$D/staged"
	touch "$SLOWDEV/sync"
	txn umount "$D" >/dev/null 2>"$work/said" &
	wait_for eval '! mountpoint -q "$D"' || fail "not unmounted"
	mounts+=("$work/other")
	txn mount "$work/other" || fail "mount of another directory"
	wait_for grep -q "is finishing" "$work/said" ||
		fail "another mount goes for a copy: $(cat "$work/said")"
	rm "$SLOWDEV/sync"
	wait %+ || fail "umount beside another mount"
	txn umount "$work/other" >/dev/null || fail "umount of another directory"
	mount_it
	abort
	umount_it
fi

# --- asked while the daemon closes what was unmounted ---
mkdir -p "$work/side"
mounts+=("$work/side")
for i in 1 2 3 4 5; do
	at=$work/side
	[ $i -gt 2 ] || at=$D
	txn mount "$D" "$at" || fail "mount on $at"
	seq $((i * 20000)) >"$at/numbers"
	echo commit >"$at/.txn/ctl" || fail "commit on $at"
	fusermount3 -u "$at" || fail "fusermount3 -u $at"
	txn -C "$D" log >/dev/null 2>"$work/said" ||
		fail "log while the daemon closes: $(cat "$work/said")"
done
