#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# open=fast: no messages for opening, files that lose their names while they are
# open, .txn on a mount of its own. All other tests run in this mode with
# MOUNT_OPTIONS=open=fast.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "not root: /run/txnfs"
side() { readlink "$D/.txn"; }
# A dead mount cannot be looked at: by name.
is_left() { [ -n "$(find "${1%/*}" -maxdepth 1 -name "${1##*/}")" ]; }
# Requests that the daemon has read so far, by its read calls.
reads() { awk '/^syscr/ { print $2 }' "/proc/$(daemon_pid)/io"; }

mkdir -p "$D/many"
echo old >"$D/f"
make_store
mount_it -o open=fast

# --- .txn is a link, and works ---
[ -L "$D/.txn" ] || fail ".txn is no link"
[[ $(side) == /run/txnfs/* ]] || fail ".txn leads to $(side)"
mountpoint -q "$(side)" || fail "nothing is mounted at $(side)"
same "told" "$(jq -r .open "$D/.txn/status")" fast
must_fail rm "$D/.txn"
must_fail mv "$D/.txn" "$D/other"
must_fail ln -s x "$D/.txn"
if command -v setpriv >/dev/null; then
	chmod 755 "$work"
	same "who it is, for others" "$(setpriv --reuid 12345 --clear-groups \
		jq -r .open "$D/.txn/status")" fast
fi
echo new >"$D/f"
same "changes" "$(cat "$D/.txn/changes")" "M f"
same "head" "$(cat "$D/.txn/head/f")" old
commit
same "snapshots" "$(cd "$D/.txn/snapshots" && echo *)" "@1 @2"
same "through the tool" "$(cd "$D/many" && txn cat @1:f)" old
must_fail rm "$D/.txn/status"
same "two mounts, one number each" "$(stat -c %i "$D/f" "$D/.txn/snapshots/@1/f" | sort -u | wc -l)" 2

# --- no message for what the kernel knows ---
cat "$D/f" "$D/f" >/dev/null
before=$(reads)
seq 2000 | sed "s|.*|$D/f|" | xargs -n 2000 cat >"$work/out" || fail "open"
same "read" "$(wc -l <"$work/out")" 2000
n=$(($(reads) - before))
[ $n -lt 200 ] || fail "$n requests for 2,000 openings"

# --- open files that lose their names: more than are kept in use ---
cat >"$work/nameless.pl" <<'END'
my ($dir, $n) = @ARGV;
my @f;

sub put {
	open(my $f, ">", "$dir/$_[0]") or die "$_[0]: $!";
	print $f $_[1];
	close($f);
}

put($_, "file $_\n") for (1 .. $n);
for (1 .. $n) {
	open(my $f, "+<", "$dir/$_") or die "$_: $!";
	push(@f, $f);
}
for (1 .. $n) { # one is removed, one replaced
	if ($_ % 2) {
		unlink("$dir/$_") or die "$_: $!";
	} else {
		put("new", "other\n");
		rename("$dir/new", "$dir/$_") or die "$_: $!";
	}
}
for (1 .. $n) {
	my $f = $f[$_ - 1];
	my $line = <$f>;

	$line eq "file $_\n" or die "$_ reads $line";
	seek($f, 0, 0);
	print $f "over $_\n";
	$f->flush or die "$_: $!";
	seek($f, 0, 0);
	<$f> eq "over $_\n" or die "$_ does not read what it wrote";
	truncate($f, 3) or die "$_: truncate: $!";
	(stat($f))[3] == 0 and (stat($f))[7] == 3 or die "$_: stat";
}
END
perl -MIO::Handle "$work/nameless.pl" "$D/many" 3000 || fail "files without names"
same "names" "$(ls "$D/many" | wc -l)" 1500
sync "$D/many"
same "the others" "$(cat "$D/many/2")" other
rm -r "$D/many"
commit
txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"

# --- a switch: what was open before reads on, and cannot be written ---
echo staged >"$D/f"
exec 3<"$D/f" 4>>"$D/f"
abort
same "opened before" "$(cat <&3)" staged
must_fail sh -c 'echo x >&4'
same "by name" "$(cat "$D/f")" new
exec 3<&- 4>&-
# never read before the switch: the kernel opened it, nobody else knew
echo staged >"$D/unread"
exec 3<"$D/unread"
abort
same "never read before" "$(cat <&3)" staged
exec 3<&-

# --- somebody takes its mount away: the files go on, and it is told ---
pid=$(daemon_pid)
place=$(side)
(
	cd "$place/snapshots" || exit 1
	txn umount "$D" >"$work/out" || fail "umount: $(cat "$work/out")"
	wait_gone "$pid" || fail "the daemon stays for who looks at a snapshot"
	must_fail ls .
) || exit 1
! is_left "$place" || fail "$place is left"
mounts+=("$D")
txnfs -f "$D" -o open=fast 2>"$work/told" &
daemon=$!
wait_for grep -q serving "$work/told" || fail "$(cat "$work/told")"
umount "$(side)" || fail "umount of .txn"
wait_for grep -q "where .txn of" "$work/told" || fail "not told: $(cat "$work/told")"
same "goes on" "$(cat "$D/f")" new
umount "$D"
wait $daemon || fail "ended with $?"

# --- a daemon that was killed: the next one clears up after it ---
mount_it -o open=fast
place=$(side)
echo more >"$D/f"
sync "$D/f"
crash
must_fail stat "$place/status"
mount_it -o open=fast
! is_left "$place" || fail "$place is left"
same "resumed" "$(cat "$D/f")" more
abort

# --- a command that is under way when the mount goes: done, or refused ---
for i in 1 2 3 4 5; do
	head -c 3000000 /dev/urandom >"$D/large"
	exec 3>"$D/.txn/ctl"
	head=$(readlink "$D/.txn/head")
	timeout 20 bash -c 'echo commit >&3' 2>/dev/null &
	ctl=$!
	read -rt "0.00$i" <> <(:)
	umount "$D"
	wait $ctl
	rc=$?
	[ $rc != 124 ] || fail "the command was not answered"
	exec 3>&-
	wait_for eval "! mountpoint -q '$D'"
	mount_it -o open=fast
	[ $rc != 0 ] || [ "$(readlink "$D/.txn/head")" != "$head" ] ||
		fail "$i: a commit that was done is not there"
done
umount_it
mount_it -o open=ask
[ -d "$D/.txn" ] && [ ! -L "$D/.txn" ] || fail "open=ask has a link"
umount_it
out=$(txn mount "$D" -o open=often 2>&1) && fail "open=often is taken"
[[ $out == *"open=ask"* ]] || fail "$out"
txn mount "$D" -o open=fast,nonsense >"$work/out" 2>&1
same "an option that nobody knows" "$?" 2
! mountpoint -q "$D" || fail "mounted all the same"
