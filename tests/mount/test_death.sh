#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The daemon's end: its exit status and the log tell why; what was staged is
# there again; the next mount clears a dead one away, whatever is in it.
. "$(dirname "$0")/lib.sh"

mkdir -p "$D"
echo 1 >"$D/a"
make_store

log=$work/daemon.log
# serve: in the foreground, in $daemon
serve() {
	mounts+=("$D")
	rm -f "$log"
	# SIGXFSZ ignored: a write past a limit is an error, not the end
	(
		trap '' XFSZ
		exec txnfs "$D" -f >"$log" 2>&1
	) &
	daemon=$!
	wait_for grep -qs "serving" "$log" || fail "txnfs -f: $(cat "$log")"
}
# ended STATUS TEXT
ended() {
	local rc
	wait_gone "$daemon" || fail "the daemon goes on"
	wait "$daemon" 2>/dev/null
	rc=$?
	[ $rc = "$1" ] || fail "status $rc, not $1: $(cat "$log")"
	grep -q -- "$2" "$log" || fail "no '$2' in: $(cat "$log")"
}

# --- unmounted, and asked to end ---
serve
echo staged >"$D/b"
umount "$D" 2>/dev/null || fusermount3 -u "$D"
ended 0 "was unmounted"
for s in TERM INT HUP; do
	serve
	same "before SIG$s" "$(cat "$D/b")" staged
	echo "$s" >"$D/$s"
	exec 3<"$D/a" # it is in use
	kill -"$s" $daemon
	ended 0 "unmounting: signal"
	exec 3<&-
	mountpoint -q "$D" && fail "SIG$s: still mounted"
done
serve
same "after signals" "$(cat "$D/TERM" "$D/INT" "$D/HUP")" $'TERM\nINT\nHUP'

# --- asked to end while a commit waits for a mapped file to be pushed ---
exec 3<>"$D/a" # it may be mapped
pusher=$(pgrep -P $daemon)
kill -STOP "$pusher"
echo pushed >"$D/p"
ctl commit 2>/dev/null & # done or not: it ends
committer=$!
read -rt 0.3 <> <(:)
kill -TERM $daemon
read -rt 0.3 <> <(:)
kill -CONT "$pusher"
ended 0 "unmounting: signal"
wait $committer
exec 3<&-
serve
same "after a commit that was cut short" "$(cat "$D/p")" pushed

# --- and while an abort recalls names that others look up ---
mkdir "$D/looked"
ctl commit
for i in 1 2 3 4; do
	for k in {1..300}; do echo "$i" >"$D/looked/$k"; done
	(while ls -l "$D"/looked/{1..50} >/dev/null 2>&1; do :; done) &
	looker=$!
	ctl abort 2>/dev/null &
	aborter=$!
	read -rt 0.00$i <> <(:)
	kill -TERM $daemon
	ended 0 "unmounting: signal"
	wait $aborter $looker
	serve
done
rm -r "$D/looked"
ctl commit

# --- killed: the next one says so ---
echo fsynced >"$D/c"
sync "$D/c"
kill -9 $daemon
ended 137 serving
was=$daemon
umount -l "$D"
serve
grep -q "process $was, which had .* did not end by itself" "$log" ||
	fail "killed, and not told: $(cat "$log")"
same "fsynced" "$(cat "$D/c")" fsynced
umount_it
ended 0 "was unmounted"
serve
grep -q "did not end by itself" "$log" && fail "told of an orderly end"

# --- killed while an abort recalls names that others look up: whoever waits for
# an answer would wait for ever if the connection stayed ---
all_gone() { ! ls "/proc/$1/task" 2>/dev/null | grep -qvx "$1"; }
if [ "$(id -u)" = 0 ]; then
	mkdir "$D/looked"
	ctl commit
	for i in {1..8}; do
		for k in {1..300}; do echo "$i" >"$D/looked/$k"; done
		for k in 1 2 3; do
			(while stat "$D"/looked/{1..80}; do :; done) >/dev/null 2>&1 &
		done
		(for k in {1000..2000}; do echo >"$D/looked/$k" || exit; done) 2>/dev/null &
		ctl abort 2>/dev/null &
		read -rt 0.0$((i / 2))$((RANDOM % 10)) <> <(:)
		kill -9 $daemon
		wait_for all_gone $daemon || {
			umount -f "$D" 2>/dev/null
			fail "killed in an abort, and its threads wait for ever"
		}
		umount -l "$D"
		wait
		serve
	done
	rm -rf "$D/looked"
	ctl commit
else
	echo "skipped: killed in an abort: not root"
fi

# --- the connection is aborted: lost, and everything is saved ---
connection() { # in $conn: the folder of the mount's connection
	local dev
	dev=$(stat -c %d "$D") # minor numbers are in two places
	conn=$work/fusectl/$(((dev & 0xff) | (dev >> 12 & 0xfff00)))
	mkdir -p "$work/fusectl"
	mountpoint -q "$work/fusectl" || mount -t fusectl none "$work/fusectl" || return 1
	loops+=("$work/fusectl")
	[ -e "$conn/abort" ]
}
if [ "$(id -u)" = 0 ] && connection; then
	echo unsynced >"$D/d"
	exec 3>"$D/e"
	echo written >&3
	echo 1 >"$conn/abort"
	ended 6 "connection was aborted"
	{ echo more >&3; } 2>/dev/null && fail "an aborted connection takes writes"
	exec 3>&-
	txn mount "$D" >"$log" 2>&1 || fail "mount: $(cat "$log")"
	same "unsynced" "$(cat "$D/d" "$D/e")" $'unsynced\nwritten'
	umount_it
else
	umount_it
	echo "skipped: an aborted connection: not root, or no fusectl"
fi

# --- a failed write of the host: the store stops, and the end says so ---
serve
echo kept >"$D/kept"
commit
prlimit --pid $daemon --fsize=8192 || fail "prlimit"
(head -c 3M /dev/urandom >"$D/large" && sync "$D/large") 2>/dev/null &&
	fail "a failed write was acknowledged"
stopped=$(jq -r .health "$D/.txn/status")
[ "$stopped" != ok ] || fail "health: ok"
same "kept" "$(cat "$D/kept")" kept
umount "$D" 2>/dev/null || fusermount3 -u "$D"
ended 5 "had stopped"
serve
same "health" "$(jq -r .health "$D/.txn/status")" ok
same "kept" "$(cat "$D/.txn/head/kept")" kept
umount_it

# --- in the background the system log has it ---
if [ "$(id -u)" = 0 ] && [ ! -e /dev/log ]; then
	perl -MIO::Socket::UNIX -e '
		$| = 1;
		my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM,
			Local => "/dev/log") or die;
		print "ready\n";
		print "$_\n" while defined($s->recv($_, 4096));' >"$work/syslog" &
	wait_for grep -qs ready "$work/syslog" || fail "no /dev/log"
	rm_log() { rm -f /dev/log; }
	at_exit+=(rm_log)
	mount_it
	daemon=$(daemon_pid)
	kill -TERM "$daemon"
	wait_gone "$daemon" || fail "SIGTERM"
	wait_for grep -q "txnfs\[$daemon\]: $D: unmounting: signal 15" \
		"$work/syslog" || fail "system log: $(cat "$work/syslog")"
	grep -q "txnfs\[$daemon\]: $D: serving $D at $D" "$work/syslog" ||
		fail "system log: $(cat "$work/syslog")"
else
	echo "skipped: the system log: not root, or somebody has /dev/log"
fi

# --- dead mounts, and what is in them ---
# kill -9 the daemon of a mount; it stays, dead
die() { # MOUNTPOINT
	local pid
	pid=$(jq -r .pid "$1/.txn/status")
	kill -9 "$pid"
	wait_gone "$pid" || fail "the daemon survived kill -9"
}
mkdir -p "$work/other"
echo other >"$work/other/o"
make_store "$work/other"
mount_it
mkdir -p "$D/dir" "$D/inner"
sync "$D/dir"

# somebody works in it and has a file open
mkfifo "$work/go"
(
	cd "$D/dir" && exec 4>file || exit 1
	echo ready >"$work/ready"
	read -r _ <"$work/go"
	{ echo x >&4; } 2>"$work/said"
	{ echo x >by-name; } 2>>"$work/said"
) &
inside=$!
wait_for test -s "$work/ready" || fail "no process inside"
die "$D"
mount_it
echo new >"$D/dir/new" || fail "not writable"
sync "$D/dir/new"
echo >"$work/go"
wait $inside
same "held in a dead mount" "$(grep -c "not connected" "$work/said")" 2
same "in the new one" "$(ls "$D/dir")" new

# another mount inside: dead, and alive
inner() {
	mounts+=("$D/inner")
	txn mount "$work/other" "$D/inner" || fail "mount inside"
}
inner
echo inside >"$D/inner/i"
sync "$D/inner/i"
die "$D/inner"
die "$D"
mount_it
same "beneath the inner one" "$(ls "$D/inner")" ""
inner
same "inner" "$(cat "$D/inner/i")" inside
echo later >"$D/inner/later"
pid=$(jq -r .pid "$D/inner/.txn/status")
die "$D"
mount_it
wait_gone "$pid" || fail "the inner daemon goes on"
inner
same "inner, unmounted with the outer" "$(cat "$D/inner/later")" later

# two over one another, of another store too
txn umount "$D/inner" >/dev/null || fail umount
if [ "$(id -u)" = 0 ]; then
	below=$(daemon_pid)
	txn mount "$work/other" "$D" || fail "over a mount"
	same "over a mount" "$(cat "$D/o")" other
	pids=("$below" "$(head -n 1 "$work/other/.txn/lock")")
	kill -9 "${pids[@]}"
	for pid in "${pids[@]}"; do wait_gone "$pid" || fail "kill -9"; done
	mount_it
	same "two dead mounts" "$(cat "$D/dir/new")" new
	same "mounts" "$(grep -c " $D " /proc/mounts)" 1
fi

# --- between a death and the next mount nobody reaches the plain files ---
# Asks for mount namespaces and MOVE_MOUNT_BENEATH; else the gap is short.
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
	writers=()
	for i in 1 2; do
		(
			until [ -e "$work/stop" ]; do
				echo x 2>/dev/null >"$D/by-$i"
				echo x 2>/dev/null >"$D/dir/by-$i"
			done
		) 2>/dev/null &
		writers+=($!)
	done
	for i in $(seq "${DEATHS:-5}"); do
		die "$D"
		txn mount "$D" 2>"$work/out" || fail "$(cat "$work/out")"
		wait_for test -e "$D/by-1" || fail "writers do not go on"
		rm "$D/by-1"
	done
	: >"$work/stop"
	wait "${writers[@]}"
	head=$(ls "$D/.txn/head/")
	umount_it
	same "plain files" "$(ls "$D")" "$head"
else
	umount_it
	echo "skipped: writers beside a death: not root, or no mount namespaces"
fi

# --- four mounts at once, just after umount(8) ---
# One of them is made. Those that wait for it, the daemon that is just going, and
# who asks for the state meanwhile, are not taken for users of the plain files.
at_once() {
	local i up=0 pids=()
	for i in 1 2 3 4; do
		txn mount "$D" 2>"$work/at-once.$i" &
		pids+=($!)
	done
	txn status "$D" >/dev/null 2>&1
	for i in "${pids[@]}"; do
		wait "$i" && up=$((up + 1))
	done
	if grep -q "use files" "$work"/at-once.*; then
		fail "$(cat "$work"/at-once.*)"
	fi
	same "mounts made" "$up" 1
}
for _ in 1 2 3; do
	at_once
	umount "$D" 2>/dev/null || fusermount3 -u "$D"
done

# --- it cannot start ---
serve
txnfs "$D" -f >"$work/out" 2>&1
same "mounted already" $? 3
txnfs "$work/none" -f >"$work/out" 2>&1
same "no directory" $? 1
txnfs -f >"$work/out" 2>&1
same "usage" $? 2
umount_it
