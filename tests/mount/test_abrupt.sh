#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The mount ends, or stands still, in the middle of a load: lazily unmounted,
# asked to end, the connection aborted, no memory, stopped for a while, the
# disk full. What the load knows to be there is there.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/load.sh"
rounds=${ROUNDS:-2}

root=$([ "$(id -u)" != 0 ] || echo yes)
mkdir -p "$D"
echo 1 >"$D/a"
make_store
mount_it

# Head is a commit of the load's.
begin() {
	load_start 3
	commit
	load_reach $((200 + RANDOM % 800))
}
daemon() { daemon=$(daemon_pid); }

part_lazy() { # who has it open goes on
	begin
	daemon
	umount -l "$D"
	! mountpoint -q "$D" || fail "lazy: still mounted"
	load_reach 300
	load_end 0
	wait_gone "$daemon" || fail "lazy: the daemon goes on"
	mount_it
	load_check exact
}

part_term() {
	begin
	daemon
	kill -TERM "$daemon"
	load_end 3
	wait_gone "$daemon" || fail "SIGTERM: the daemon goes on"
	mount_it
	load_check exact
}

part_abort() { # the connection
	local dev conn
	dev=$(stat -c %d "$D")
	conn=$work/fusectl/$(((dev & 0xff) | (dev >> 12 & 0xfff00)))
	begin
	daemon
	echo 1 >"$conn/abort"
	load_end 3
	wait_gone "$daemon" || fail "aborted: the daemon goes on"
	mount_it
	load_check exact
}

# Killed by the kernel: a group of control whose memory is less than it needs.
memory_group() { # in $group, $limit
	local at
	for at in /sys/fs/cgroup /sys/fs/cgroup/unified; do
		grep -qsw memory $at/cgroup.subtree_control &&
			group=$at/txnfs-test.$$ limit=memory.max
	done
	[ -n "$group" ] || [ ! -e /sys/fs/cgroup/memory/memory.limit_in_bytes ] ||
		group=/sys/fs/cgroup/memory/txnfs-test.$$ limit=memory.limit_in_bytes
	[ -n "$group" ] && mkdir "$group"
}
stopped=0
gone_or_stopped() {
	local p
	is_gone "$daemon" && return
	for p in "${loads[@]}"; do is_gone "$p" || return 1; done
}
rm_group() { rmdir "$group"; }
part_memory() {
	local kib
	begin
	daemon
	kib=$(awk '/^VmRSS/ {print $2}' "/proc/$daemon/status")
	# what it has was charged elsewhere: that it needs more decides
	echo $((256 << 10)) >"$group/$limit" || fail "$limit"
	echo "$daemon" >"$group/cgroup.procs" || fail "cgroup.procs"
	wait_for gone_or_stopped || fail "memory: it goes on ($kib KiB)"
	if is_gone "$daemon"; then
		load_end 3 4
		grep -qs '^oom_kill [1-9]' "$group"/memory.{oom_control,events} ||
			fail "memory: not killed for that"
	else # a write of the host got ENOMEM
		kill -9 "$daemon"
		load_end 3 4
		wait_gone "$daemon" || fail "the daemon survived kill -9"
		stopped=$((stopped + 1))
	fi
	mount_it
	load_check crash
}

part_stopped() {
	local p
	begin
	daemon
	kill -STOP "$daemon"
	read -rt "${STOPPED:-1}" <> <(:)
	for p in "${loads[@]}"; do
		kill -0 "$p" || fail "stopped: a program ended: $(cat "$work/load.err")"
	done
	kill -CONT "$daemon"
	load_reach 500
	load_end 0
	load_check exact
}

each() { # PART
	local i start=$SECONDS
	for i in $(seq "$rounds"); do "part_$1"; done
	echo "part $1: $((SECONDS - start)) s"
}

each term
each stopped
if [ -n "$root" ]; then
	each lazy
	mkdir "$work/fusectl"
	if mount -t fusectl none "$work/fusectl"; then
		loops+=("$work/fusectl")
		each abort
	else
		echo "skipped: an aborted connection: no fusectl"
	fi
	group=
	if memory_group; then
		at_exit+=(rm_group)
		each memory
		echo "figure: no memory: $limit, $rounds rounds, $stopped by ENOMEM"
	else
		echo "skipped: no memory: no control group can be made"
	fi
else
	echo "skipped: lazy, aborted, no memory: not root"
fi
umount_it

# --- the host's disk fills up, and is given space again ---
full_disk() {
	local i err
	D=$work/small/data
	mkdir -p "$D"
	make_store
	mount_it
	for i in $(seq "$rounds"); do
		begin
		daemon
		# by others; and what is there for us goes on changing
		dd if=/dev/zero of="$work/small/filler" bs=1M >/dev/null 2>&1
		load_reach 300
		rm "$work/small/filler"
		load_reach 300
		if [ $((i % 2)) = 0 ]; then
			load_end 0
			load_check exact
			continue
		fi
		dd if=/dev/zero of="$work/small/filler" bs=1M >/dev/null 2>&1
		load_reach 100
		kill -9 "$daemon"
		load_end 3
		wait_gone "$daemon" || fail "full: the daemon survived kill -9"
		# full still: it can be mounted, or says what is wrong
		if err=$(txn mount "$D" 2>&1); then
			rm "$work/small/filler"
		else
			[[ $err == *"No space left"* ]] ||
				fail "full, after a kill: $err"
			rm "$work/small/filler"
			mount_it
		fi
		load_check crash
		same "health" "$(jq -r .health "$D/.txn/status")" ok
		: >"$D/goes-on" || fail "full: not writable afterwards"
		commit
	done
	umount_it
	txn -C "$D" verify >/dev/null || fail "full: verify"
}
mkdir "$work/small"
truncate -s 160M "$work/img"
mkfs.ext4 -q -F "$work/img" || fail mkfs
if [ -n "$root" ] && mount -o loop "$work/img" "$work/small" 2>/dev/null; then
	loops+=("$work/small")
	full_disk
else
	echo "skipped: a full disk: no loop device"
fi
