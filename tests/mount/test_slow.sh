#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# No handler can deadlock: each slow path is held at the device while everything
# else that the filesystem can do is tried. What need not wait answers; what
# waits ends when the device goes on.
. "$(dirname "$0")/lib.sh"
slow=$build/tests/mount/slow
export SLOWDEV=$work/slowdev
mkdir -p "$D" "$SLOWDEV"
"$slow" "$D" prepare || fail prepare
make_store

start() {
	LD_PRELOAD=$build/tests/mount/slowdev txnfs "$D" -f \
		>>"$work/daemon.log" 2>&1 &
	mounts+=("$D")
	wait_for mountpoint -q "$D" || fail "mount: $(cat "$work/daemon.log")"
}
start
ctl "snapshot start" || fail snapshot

# hold NAME KIND CMD...: expects on stdin the operations that wait; a ? before it:
# may wait, it depends on what is in memory
hold() {
	local name=$1
	shift
	ctl "restore start" || fail "$name: restore"
	commit
	ctl "delete tried" 2>/dev/null
	echo staged >"$D/staged"
	cat >"$work/all"
	grep -v '^?' "$work/all" >"$work/waits"
	sed -n 's/^?//p' "$work/all" >"$work/may"
	"$slow" "$D" try "$SLOWDEV" "$@" <"$work/waits" >"$work/out" 2>"$work/err" ||
		fail "$name: $(cat "$work/err")"
	[ ! -s "$work/err" ] || fail "$name: $(cat "$work/err")"
	grep ' waits$' "$work/out" | cut -d' ' -f1 | grep -vxFf "$work/may" | sort >"$work/got"
	sort "$work/waits" | diff - "$work/got" >"$work/diff" ||
		fail "$name: < should wait and answers, > waits: $(cat "$work/diff")"
	echo "figure: $name: $(grep -c ' answers$' "$work/out") answer, $(wc -l <"$work/got") wait"
}
command() { echo "echo '$*' >$D/.txn/ctl"; }

# What makes something durable waits for the device, or for a command before it;
# nothing else waits for a flush.
durable="fsync fsync-dir write-sync msync commit snapshot restore set"
waits() { printf '%s\n' "$@"; }
# Pushing mappings waits for reads of the files; with open=fast nobody pushes.
push=
[ ! -L "$D/.txn" ] || push="?"

{
waits $durable | hold "fsync" sync sync "$D/staged" &&
	waits $durable | hold "commit" sync bash -c "$(command commit)" &&
	waits $durable | hold "snapshot" sync bash -c "$(command snapshot s)" &&
	waits $durable | hold "abort" sync bash -c "$(command abort)" &&
	waits $durable | hold "restore" sync bash -c "$(command restore start stat/f)" &&
	waits $durable | hold "rollback" sync bash -c "$(command rollback start)" &&
	# Data that goes out by itself does so beside its writer.
	waits $durable "?unlink-open" "?rename-written" "?write" |
	hold "commit, writing" write bash -c "$(command commit)" &&
	# Verifying holds nobody but those who read what is not in memory: also
	# those who change a part of a block of it.
	waits read-cold "?read-state-cold" "?read" "?read-state" "?write" "?append" "?map" \
		"?truncate" "?fallocate" "?copy" "?write-direct" "?sync-range" \
		"?unlink-open" "?rename-written" "?msync" "?fsync" "?fsync-dir" \
		"?write-sync" "${push}commit" "${push}snapshot" restore "?set" |
	hold "verify" read txn -C "$D" verify &&
	waits commit snapshot restore set | hold "sweep" punch txn -C "$D" gc
} || exit 1

# A part of the tree that is not in memory holds nobody but those who look there,
# and read.
umount_it
start
find "$D" -path "$D/.txn" -prune -o -path "$D/cold-nodes" -prune -o -type f -print |
	while read -r f; do getfattr -d "$f" && cat "$f"; done >"$work/warm"
waits read-cold "?read-state-cold" "?read" "?read-state" "?write" "?append" "?map" \
	"?truncate" "?fallocate" "?copy" "?write-direct" "?sync-range" \
	"?unlink-open" "?rename-written" "?msync" "?fsync" "?fsync-dir" \
	"?write-sync" "?commit" "?snapshot" "?restore" "?set" |
	hold "a cold node" read stat "$D/cold-nodes/n500" || exit 1

# --- a writer 64 MiB ahead of the host waits for it ---
size_of() { stat -c %s "$D/ahead" 2>/dev/null || echo 0; }
size=0 looks=0
stands_still() {
	local was=$size
	size=$(size_of)
	looks=$((size == was ? looks + 1 : 0))
	[ $looks -ge 25 ]
}
touch "$SLOWDEV/write"
head -c 128M /dev/zero >"$D/ahead" &
writer=$!
wait_for stands_still || fail "ahead: it goes on, $size bytes"
is_gone $writer && fail "ahead: it did not wait"
[ "$size" -le $((66 << 20)) ] || fail "ahead: it has written $size"
rm "$SLOWDEV/write"
wait $writer || fail "ahead: it failed"

# --- the end of the daemon ---
echo last >"$D/last"
touch "$SLOWDEV/sync"
pid=$(daemon_pid)
txn umount "$D" >"$work/umount" 2>&1 &
umount=$!
wait_for test -e "$SLOWDEV/sync.held" || fail "umount: nothing was held"
wait_for eval '! mountpoint -q "$D"' || fail "umount: still mounted"
timeout 10 ls "$D" >/dev/null || fail "ls while the daemon ends"
timeout 60 txn mount "$D" 2>"$work/err" && fail "mounted beside a daemon that ends"
grep -q "in use by process $pid" "$work/err" || fail "mount: $(cat "$work/err")"
kill -0 $umount || fail "umount did not wait for its daemon"
rm "$SLOWDEV/sync"
wait $umount || fail "umount: $(cat "$work/umount")"
wait_gone "$pid" || fail "the daemon is still there"
txn -C "$D" verify || fail verify
mount_it
same "what was written before the end" "$(cat "$D/last")" last
umount_it
