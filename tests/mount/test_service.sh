#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The unit txnfs@.service: what it says is right for systemd, and does what it
# should: ready when the mount answers; a daemon that is killed is started again,
# in the place of the dead mount, and staged work that was fsynced is there.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "not root"
unit=$work/txnfs@.service
sed "s|/usr/local/bin|$build|" "$top/tools/txnfs@.service" >"$unit"
grep -q "^ExecStart=$build/txnfs " "$unit" || fail "the unit names no txnfs"

mkdir -p "$D"
echo 1 >"$D/a"
make_store
mounts+=("$D")

if command -v systemd-analyze >/dev/null; then
	(cd "$work" && systemd-analyze verify --man=no "./txnfs@srv-data.service") \
		>"$work/out" 2>&1 || fail "systemd-analyze: $(cat "$work/out")"
	same "systemd-analyze" "$(cat "$work/out")" ""
else
	echo "skipped: systemd-analyze: not there"
fi

# --- its lines, under a small supervisor ---
setting() { sed -n "s/^$1=//p" "$unit"; }
command=$(setting ExecStart)
command=${command//%f/$D}
options=$(setting Environment)
export "${options?}"
read -ra command <<<"${command//\$\{TXNFS_OPTIONS\}/$TXNFS_OPTIONS}"
same "kind" "$(setting Type) $(setting Restart)" "notify on-failure"
perl -MIO::Socket::UNIX -e '
	$| = 1;
	my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0])
		or die;
	print "listening\n";
	print "$_\n" while defined($s->recv($_, 4096));' \
	"$work/notify" >"$work/notified" &
wait_for grep -qs listening "$work/notified" || fail "no socket"
supervise() {
	local rc
	while :; do
		NOTIFY_SOCKET=$work/notify "${command[@]}" 2>>"$work/log" &
		echo $! >"$work/main"
		wait $!
		rc=$?
		echo "$rc" >>"$work/ends"
		[ $rc != 0 ] || break
		[[ " $(setting RestartPreventExitStatus) " != *" $rc "* ]] || break
	done
} 2>/dev/null
ready() { [ "$(grep -c READY=1 "$work/notified")" = "$1" ]; }
starts() { wait_for ready "$1" || fail "start $1: $(cat "$work/log")"; }
: >"$work/ends"
supervise &
supervisor=$!
starts 1
# a client that opens by name each time
(
	until [ -e "$work/stop" ]; do
		echo line >>"$D/app.log" || :
	done
) 2>/dev/null &
client=$!
for i in 1 2 3; do
	echo "$i" >"$D/synced"
	sync "$D/synced"
	kill -9 "$(cat "$work/main")"
	starts $((i + 1))
	same "staged and fsynced" "$(cat "$D/synced")" "$i"
	lines=$(wc -l <"$D/app.log")
	goes_on() { [ "$(wc -l <"$D/app.log")" -gt "$lines" ]; }
	wait_for goes_on || fail "the client does not go on"
done
: >"$work/stop"
wait $client
kill -TERM "$(cat "$work/main")"
wait $supervisor
same "ends" "$(tr '\n' ' ' <"$work/ends")" "137 137 137 0 "
same "plain files" "$(ls "$D")" a
# what wants a look first is not tried again
exec 8<"$D/a" # a plain file in use
: >"$work/ends"
supervise
same "refused" "$(cat "$work/ends")" 3
exec 8<&-

# --- under systemd itself, when it can run here: a manager of its own ---
mkdir -p "$work/run" "$work/config/systemd/user"
chmod 700 "$work/run"
cp "$unit" "$work/config/systemd/user"
name=txnfs@$(systemd-escape --path "$D" 2>/dev/null).service
cat >"$work/config/systemd/user/app.service" <<-EOC
	[Unit]
	Requires=$name
	After=$name
	[Service]
	ExecStart=/bin/sh -c 'cat $D/synced >>$work/app; exec sleep 1000'
EOC
cat >"$work/in-systemd" <<'EOC'
mount -t tmpfs none /run && mkdir -p /run/systemd/system || exit 1
[ -x /lib/systemd/systemd ] || exit 77
export XDG_RUNTIME_DIR=$work/run XDG_CONFIG_HOME=$work/config HOME=$work
/lib/systemd/systemd --user >"$work/systemd.log" 2>&1 &
manager=$!
control() { systemctl --user "$@"; }
trap 'kill $manager; wait $manager' EXIT
up() { [ -S "$work/run/systemd/private" ] && control show >/dev/null 2>&1; }
wait_for up || exit 77
control start app.service || fail "start: $(cat "$work/systemd.log")"
mountpoint -q "$D" || fail "started, and not mounted"
wait_for grep -qsx 3 "$work/app" || fail "the service that uses it"
echo again >"$D/synced"
sync "$D/synced"
pid=$(control show "$name" -p MainPID --value)
kill -9 "$pid"
restarted() { [ "$(cat "$work/app" 2>/dev/null | tail -n 1)" = again ]; }
wait_for restarted || fail "the service that uses it is not started again"
same "restarts" "$(control show "$name" -p NRestarts --value)" 1
same "state" "$(control show "$name" -p ActiveState --value)" active
control stop "$name" || fail stop
same "stopped" "$(control show "$name" -p Result --value)" success
mountpoint -q "$D" && fail "stopped, and still mounted"
same "who uses it" "$(control show app.service -p ActiveState --value)" inactive
EOC
export work D name
export -f wait_for same fail
unshare --mount --propagation private bash -u "$work/in-systemd"
rc=$?
[ $rc != 77 ] || echo "skipped: under systemd: it cannot run here"
[ $rc = 0 ] || [ $rc = 77 ] || fail "under systemd: status $rc"
