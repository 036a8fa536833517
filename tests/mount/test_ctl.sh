#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every way to write to .txn/ctl, and every wrong command.
. "$(dirname "$0")/lib.sh"

mkdir -p "$D"
echo start >"$D/f"
make_store
mount_it
C=$D/.txn/ctl
head_number() { jq -r .head.number "$D/.txn/status"; }

n=1
bump() {
	n=$((n + 1))
	same "$1" "$(head_number)" "$n"
}
edit() { echo "$RANDOM $SECONDS $n" >"$D/f"; }

edit; echo commit >"$C" || fail ">"; bump ">"
edit; echo commit >>"$C" || fail ">>"; bump ">>"
edit; echo commit | tee "$C" >/dev/null || fail tee; bump tee
edit; echo commit | tee -a "$C" >/dev/null || fail "tee -a"; bump "tee -a"
edit; printf commit >"$C" || fail printf; bump printf
edit; printf 'commit a message' >"$C" || fail message; bump message
same message "$(head -n 1 "$D/.txn/log" | cut -f6)" "a message"
edit; echo commit >"$work/cmd"; cp "$work/cmd" "$C" || fail cp; bump cp
edit; cat "$work/cmd" >"$C" || fail cat; bump cat
edit; dd if="$work/cmd" of="$C" 2>/dev/null || fail dd; bump dd
exec 3>"$C"
edit; echo commit >&3 || fail "exec 3>"; bump "exec 3>"
edit; echo commit >&3 || fail "exec 3> again"; bump "exec 3> again"
exec 3>&-
# nothing staged: success, no new number
echo commit >"$C" || fail "empty commit"
same "empty commit" "$(head_number)" "$n"
# several lines in one write
edit; printf 'commit one\nabort\n' >"$work/cmd"
cat "$work/cmd" >"$C" || fail lines; bump lines
# sed's way to write a file in place must not work on it
must_fail sed -i s/x/y/ "$C"

# the answer on the same descriptor
exec 3<>"$C"
edit; echo 'commit with answer' >&3 || fail "<>"
read -r answer <&3
exec 3>&-
bump "<>"
same answer "$(jq -r '"\(.command) \(.done) \(.head)"' <<<"$answer")" \
	"commit true $n"

# wrong ones: EINVAL, nothing changes
edit
wrong() {
	local err
	printf "$1" >"$work/cmd"
	# in one write: the shell's own printf writes line by line
	err=$({ cat "$work/cmd" >"$C"; } 2>&1) && fail "accepted: $1"
	[[ $err == *"Invalid argument"* ]] || fail "$1: $err"
	same "after '$1'" "$(head_number)" "$n"
	[ -n "$(cat "$D/.txn/changes")" ] || fail "'$1' dropped staged changes"
}
wrong 'bogus\n'
wrong '\n'
wrong ' \n'
wrong 'commitx\n'
wrong 'Commit\n'
wrong 'abort now\n'
wrong ' commit\n'
wrong 'commit \001\n'
wrong 'commit \377\n'
wrong 'commit a\0b\n'
wrong '\0\0\0\0'
wrong "commit $(printf 'x%.0s' {1..4100})\n"
wrong 'commit fine\nbogus\n'
wrong 'snapshot\n'
wrong 'rollback @1 @2\n'
wrong 'begin x\n'
wrong 'set keep.last\n'
wrong 'tag x 1\n'
wrong 'set keep.last x\n'
wrong 'snapshot head\n'
wrong 'snapshot a/b\n'
err=$({ head -c 300000 /dev/zero >"$C"; } 2>&1) && fail "accepted zeros"
same "after zeros" "$(head_number)" "$n"
grep -q 'not a command' "$D/.txn/error" || fail "error says nothing"
# the longest message that fits
printf 'commit %s\n' "$(printf 'y%.0s' {1..3800})" >"$C" || fail "long message"
bump "long message"

# .txn and ctl belong to the root's owner, at once, although the kernel keeps that
if [ "$(id -u)" = 0 ]; then
	owners() { echo $(stat -L -c %u "$D" "$D/.txn" "$D/.txn/ctl"); }
	same "owners" "$(owners)" "0 0 0"
	chown 4001 "$D"
	same "owners, changed" "$(owners)" "4001 4001 4001"
	abort
	same "owners, aborted" "$(owners)" "0 0 0"
fi

# only the owner, unless told otherwise
same "mode of ctl" "$(stat -c %a "$C")" 600
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 755 "$work"
	edit
	as() { setpriv --reuid 12345 --regid 12345 --clear-groups bash -c "$1"; }
	must_fail as "echo commit >'$C'"
	same "foreign commit" "$(head_number)" "$n"
	umount_it
	mount_it -o ctl=12345:12345:0600
	as "echo commit >'$C'" || fail "ctl=12345"
	bump "ctl=12345"
fi

# a child that ends while its parent waits for commands is no reason to give up
for _ in $(seq 40); do
	# shellcheck disable=SC2016
	perl -e '$SIG{CHLD} = sub {};
		open(my $f, ">", $ARGV[0]) or die;
		if (!fork) { select(undef, undef, undef, 0.005); exit 0 }
		syswrite($f, "gc\n" x 300) or die $!' "$C" || fail "SIGCHLD"
done

# names
must_fail mkdir "$D/.txn"
must_fail touch "$D/.txn/new"
must_fail ln "$D/f" "$D/.txn/new"
must_fail mv "$D/f" "$D/.txn/new"
must_fail mv "$D/.txn" "$D/other"
must_fail rm -r "$D/.txn"
must_fail rmdir "$D/.txn"
must_fail mv -T "$D/f" "$D/.txn"
must_fail rm "$C"
same "listing" "$(ls -A "$D")" f
same ".txn" "$(echo $(ls -A "$D/.txn"))" "changes ctl error head log snapshots status"
umount_it
mount_it -o ctldir=visible
same "visible" "$(echo $(ls -A "$D"))" ".txn f"
umount_it
must_fail ctl commit
[ -d "$D/.txn/ctl" ] || fail "no guard directory"
