#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A mount that is up while the plain files are still compared: what did not
# change can be read, what did is never shown as it was, and whoever would change
# something, or commands, waits until the edits are staged. Held up at one
# directory; ended in the middle; failing.
. "$(dirname "$0")/lib.sh"
export SLOWDEV=$work/slow
mkdir "$SLOWDEV"
hold_nothing() { rm -rf "$SLOWDEV"; }
at_exit+=(hold_nothing)

# Nothing below is compared before "held": it has the lowest number.
fill() {
	mkdir -p "$D/held" "$D/w"
	echo "before held/f" >"$D/held/f"
	(
		cd "$D/w" || exit 1
		mkdir -p clean/sub/deep edited attr links/a links/b links/c \
			from/dir to gone/dir names solo
		for f in clean/a clean/b clean/sub/c clean/sub/deep/d \
			edited/f edited/other attr/mode attr/note links/a/one \
			links/c/three from/dir/x from/stays gone/dir/x \
			names/old names/stays solo/f; do
			echo "before $f" >"$f"
		done
		ln links/a/one links/b/two
		ln links/c/three links/c/four
		ln links/c/three links/unlinked
	)
}
# No names in the root, nor in w.
edit() {
	(
		cd "$D/w" || exit 1
		echo "after edited/f" >edited/f
		chmod 600 attr/mode
		setfattr -n user.note -v 1 attr/note
		echo "after links" >links/b/two
		rm links/unlinked
		mv from/dir to/dir
		rm -r gone/dir
		mv names/old names/new
		echo "after solo/f" >solo/f
	)
}
held_mount() { # it comes up, and the comparison does not go on
	: >"$SLOWDEV/list"
	rm -f "$SLOWDEV"/*.held "$work"/out.*
	waiting=() names=()
	mounts+=("$D")
	LD_PRELOAD=$build/tests/mount/slowdev \
		txn mount "$D" -o compare=beside 2>"$work/told" ||
		fail "mount: $(cat "$work/told")"
	wait_for test -e "$SLOWDEV/list.held" || fail "it was not held"
}
let_go() { rm "$SLOWDEV/list"; }
state() { jq -r .plain.state "$D/.txn/status"; }
is_state() { [ "$(state)" = "$1" ]; }
is_done() { is_state "in step"; }

# What waits: each command's output in $work/out.N. Who waits to make a name has
# the kernel's lock of that directory, and lookups of new names in it wait, too.
waiting=() names=()
start() { # COMMAND
	(eval "exec $1") >"$work/out.${#waiting[@]}" 2>&1 &
	waiting+=("$!")
	names+=("$1")
}
all_wait() {
	local i
	timeout 10 cat "$D/w/clean/a" >/dev/null || fail "clean/a beside those"
	read -rt 0.5 <> <(:) || :
	for i in "${!waiting[@]}"; do
		kill -0 "${waiting[i]}" 2>/dev/null ||
			fail "${names[i]}: did not wait: $(cat "$work/out.$i")"
	done
}
all_end() {
	local i
	for i in "${!waiting[@]}"; do
		wait_gone "${waiting[i]}" || fail "${names[i]}: still waits"
		wait "${waiting[i]}" 2>/dev/null
	done
}
said() { # COMMAND: what that one printed
	local i
	for i in "${!names[@]}"; do
		[ "${names[i]}" != "$1" ] || cat "$work/out.$i"
	done
}
quick() { # WHAT WANT COMMAND...: without waiting
	local out
	out=$(timeout 10 "${@:3}" 2>&1)
	[ $? != 124 ] || fail "$1 waits"
	same "$1" "$out" "$2"
}

make_store
mount_it
fill
commit
txn -C "$D" snapshot before >/dev/null || fail snapshot
manifest "$D" >"$work/before"
umount_it
in_dir=$D/w

# --- what waits, and what does not ---
edit
manifest "$D" >"$work/edited"
held_mount
grep -q "still being compared" "$work/told" || fail "not told: $(cat "$work/told")"
same "state" "$(state)" comparing
quick "the log" 2 sh -c "wc -l <'$D/.txn/log'"
quick "a snapshot" "before edited/f" cat "$D/.txn/snapshots/before/w/edited/f"
quick "the root" "held w" sh -c "ls '$D' | xargs"
quick "names of directories" 9 sh -c "ls '$in_dir' | wc -l"
quick "a clean directory" "a b sub" sh -c "ls '$in_dir/clean' | xargs"
quick "with attributes" 3 sh -c "ls -l '$in_dir/clean' | grep -c :"
quick "a clean file" "before clean/a" cat "$in_dir/clean/a"
quick "further down" "before clean/sub/deep/d" cat "$in_dir/clean/sub/deep/d"
quick "no such name" "" sh -c "ls '$in_dir/clean/none' 2>/dev/null"
quick "statfs" 255 stat -f -c %l "$D"
start "cat $in_dir/solo/f"
start "cat $in_dir/edited/f"
start "cat $in_dir/edited/other"
start "ls $in_dir/edited"
start "stat -c %a $in_dir/attr/mode"
start "getfattr --only-values --absolute-names -n user.note $in_dir/attr/note"
start "cat $in_dir/links/a/one"
start "stat -c %h $in_dir/links/c/four"
start "cat $in_dir/to/dir/x"
start "ls $in_dir/from"
start "cat $in_dir/from/dir/x"
start "ls $in_dir/gone"
start "cat $in_dir/names/old"
start "cat $in_dir/names/new"
start "stat -c %Y $in_dir/to"
start "cat $D/.txn/changes"
start "ls $D/held"
start "echo written >$in_dir/clean/w"
start "mkdir $in_dir/clean/made"
start "mv $in_dir/clean/b $in_dir/clean/b2"
start "ln $in_dir/clean/a $in_dir/clean/a2"
start "rm $in_dir/clean/sub/c"
start "chmod 640 $in_dir/clean/a"
start "setfattr -n user.x -v 1 $in_dir/clean/a"
start "echo more >>$in_dir/clean/sub/deep/d"
start "txn -C $D snapshot waited"
all_wait

# who is killed does not wait any more (where nobody else looks up the same name,
# for whom the kernel waits), and who is not, does
kill -TERM "${waiting[0]}"
wait_gone "${waiting[0]}" || fail "not interrupted"
unset 'waiting[0]' 'names[0]'
all_wait

let_go
all_end
wait_for is_done || fail "state: $(state)"
same "a name beside the edited one" \
	"$(said "cat $in_dir/edited/other")" "before edited/other"
same "a listing" "$(said "ls $in_dir/edited" | xargs)" "f other"
same "an attribute" "$(said "stat -c %a $in_dir/attr/mode")" 600
same "an xattr" "$(said "getfattr --only-values --absolute-names -n \
user.note $in_dir/attr/note")" 1
same "a link edited elsewhere" "$(said "cat $in_dir/links/a/one")" "after links"
same "a link removed elsewhere" "$(said "stat -c %h $in_dir/links/c/four")" 2
same "a moved directory" "$(said "cat $in_dir/to/dir/x")" "before from/dir/x"
same "where it was" "$(said "ls $in_dir/from")" stays
[[ $(said "cat $in_dir/from/dir/x") == *"No such file"* ]] || fail "from/dir/x is there"
same "what went" "$(said "ls $in_dir/gone")" ""
[[ $(said "cat $in_dir/names/old") == *"No such file"* ]] || fail "names/old is there"
same "a new name" "$(said "cat $in_dir/names/new")" "before names/old"
same "written" "$(cat "$in_dir/clean/w")" written
same "moved" "$(cd "$in_dir/clean" && echo *)" "a a2 b2 made sub w"
same "mode" "$(stat -c %a "$in_dir/clean/a")" 640
same "appended" "$(tail -n 1 "$in_dir/clean/sub/deep/d")" more
said "cat $D/.txn/changes" | grep -q '^M w/edited/f$' || fail "changes: $(
	said "cat $D/.txn/changes")"
ctl restore before || fail "restore"
manifest "$D" | diff "$work/before" - || fail "what was before"
txn -C "$D" restore waited >/dev/null || fail "restore what was commanded meanwhile"
grep -q after "$D/w/edited/f" || fail "the snapshot lacks the edits"
abort
umount_it
manifest "$D" | diff "$work/before" - || fail "aborted edits are taken back"

# --- nothing changed: nothing waits at its end ---
held_mount
start "touch $in_dir/clean/a"
all_wait
let_go
all_end
wait_for is_done || fail "state: $(state)"
same "only that" "$(cat "$D/.txn/changes")" "M w/clean/a"
abort
umount_it

# --- a name in the root: .txn can be reached all the same ---
echo new >"$D/new"
mtime=$(stat -c %Y.%y "$D")
held_mount
same "state" "$(state)" comparing
quick "the root's time" "$mtime" stat -c %Y.%y "$D"
start "ls $D"
start "cat $in_dir/clean/sub/deep/d"
read -rt 0.5 <> <(:) || :
for p in "${waiting[@]}"; do kill -0 "$p" || fail "the root did not wait"; done
let_go
all_end
same "the root" "$(said "ls $D" | xargs)" "held new w"
same "the root's time then" "$(stat -c %Y.%y "$D")" "$mtime"
abort
umount_it
[ ! -e "$D/new" ] || fail "new is still there"

# --- ended in the middle: nothing was changed ---
unchanged() { # WHAT: all of it is found by the next mount, and only then
	# it may come to its end before it hears of an unmount
	[ "$1" = umount ] || manifest "$D" | diff "$work/edited" - ||
		fail "$1: plain files changed"
	mount_it -o compare=before 2>"$work/told"
	manifest "$D" | diff "$work/edited" - || fail "$1: edits are lost"
	grep -q '^M w/edited/f$' "$D/.txn/changes" || fail "$1: not staged"
	abort
	umount_it
}
for how in umount term kill stage; do
	edit
	echo "after held/f" >"$D/held/f"
	manifest "$D" >"$work/edited"
	held_mount
	pid=$(daemon_pid)
	case $how in
	umount)
		fusermount3 -u "$D" || fail "fusermount3 -u"
		;;
	term)
		start "cat $in_dir/edited/f"
		start "mkdir $in_dir/clean/sub/made"
		all_wait
		kill -TERM "$pid"
		all_end # whatever the comparison waits for
		;;
	kill)
		crash
		rm "$SLOWDEV/list"
		unchanged "$how"
		continue
		;;
	stage) # while they are being staged
		: >"$SLOWDEV/plain"
		let_go
		wait_for test -e "$SLOWDEV/plain.held" || fail "no edit is read"
		same "state" "$(state)" "staging edits"
		quick "clean meanwhile" "a b sub" \
			sh -c "ls '$in_dir/clean' | xargs"
		start "cat $in_dir/edited/f"
		read -rt 0.5 <> <(:) || :
		kill -0 "${waiting[-1]}" || fail "it did not wait"
		kill -TERM "$pid"
		all_end
		rm "$SLOWDEV/plain"
		;;
	esac
	rm -f "$SLOWDEV/list" "$SLOWDEV"/*.held
	all_end
	wait_gone "$pid" || fail "$how: the daemon does not end"
	mountpoint -q "$D" && fail "$how: still mounted"
	! grep -q after "$work"/out.* 2>/dev/null || fail "$how: an edit was told"
	! grep -q before "$work"/out.* 2>/dev/null || fail "$how: what was before"
	unchanged "$how"
done

# --- it fails: nothing is changed, and it is told ---
edit
manifest "$D" >"$work/edited"
held_mount
start "touch $in_dir/clean/a"
start "cat $in_dir/edited/f"
all_wait
: >"$SLOWDEV/list-fails"
let_go
all_end
wait_for is_state "not compared" || fail "state: $(state)"
for c in "touch $in_dir/clean/a" "cat $in_dir/edited/f"; do
	[[ $(said "$c") == *"Input/output error"* ]] || fail "$c: $(said "$c")"
done
must_fail touch "$in_dir/clean/a"
must_fail ctl commit
must_fail cat "$in_dir/edited/f"
must_fail ls "$D/held"
quick "clean files" "before clean/a" cat "$in_dir/clean/a"
quick "snapshots" "before edited/f" cat "$D/.txn/snapshots/before/w/edited/f"
grep -q "cannot be staged: .*: held: Input/output error" "$D/.txn/error" ||
	fail "error: $(cat "$D/.txn/error")"
txn -C "$D" status | grep -q 'not compared' || fail "txn status"
rm "$SLOWDEV/list-fails"
umount_it
unchanged "failed"

# --- edited after it was read, beneath a mount at another place ---
at=$work/at
mkdir "$at"
mounts+=("$at")
: >"$SLOWDEV/list"
rm -f "$SLOWDEV"/*.held
LD_PRELOAD=$build/tests/mount/slowdev txn mount "$D" "$at" -o compare=beside \
	2>"$work/told" || fail "mount: $(cat "$work/told")"
wait_for test -e "$SLOWDEV/list.held" || fail "it was not held"
exec 5<"$at/w/clean/a"
same "before" "$(cat "$at/w/clean/a")" "before clean/a"
echo "AFTER! clean/a" >"$in_dir/clean/a"
let_go
wait_for grep -q '"in step"' "$at/.txn/status" || fail "not in step"
same "after" "$(cat "$at/w/clean/a")" "AFTER! clean/a"
same "who has it open" "$(cat <&5)" "before clean/a"
exec 5<&-
echo abort >"$at/.txn/ctl" || fail abort
txn umount "$at" >/dev/null || fail umount

# --- gone, or another, while edits are being staged ---
edit
echo "after held/f" >"$D/held/f" # the first that is read
: >"$SLOWDEV/list"
rm -f "$SLOWDEV"/*.held
LD_PRELOAD=$build/tests/mount/slowdev txn mount "$D" "$at" -o compare=beside \
	2>"$work/told" || fail "mount: $(cat "$work/told")"
wait_for test -e "$SLOWDEV/list.held" || fail "it was not held"
: >"$SLOWDEV/plain"
let_go
wait_for test -e "$SLOWDEV/plain.held" || fail "no edit is read"
rm "$in_dir/edited/f" "$in_dir/solo/f"
mkdir "$in_dir/solo/f"
rm -r "$in_dir/to" "$in_dir/names"
echo "a file now" >"$in_dir/names"
manifest "$D" >"$work/edited"
rm "$SLOWDEV/plain"
wait_for test -e "$at/w/attr/mode" || fail "$(cat "$at/.txn/error")"
manifest "$at" | diff "$work/edited" - || fail "not as it is by then"
echo abort >"$at/.txn/ctl" || fail abort
txn umount "$at" >/dev/null || fail umount
manifest "$D" | diff "$work/before" - || fail "aborted edits are taken back"

# --- where what is staged is merged, or the root is another, the mount waits ---
waits_before() { # WHAT
	local pid
	: >"$SLOWDEV/list"
	rm -f "$SLOWDEV/list.held"
	LD_PRELOAD=$build/tests/mount/slowdev \
		txn mount "$D" -o compare=beside 2>"$work/told" &
	pid=$!
	wait_for test -e "$SLOWDEV/list.held" || fail "$1: not held"
	read -rt 0.5 <> <(:) || :
	kill -0 $pid || fail "$1: the mount did not wait: $(cat "$work/told")"
	mountpoint -q "$D" && fail "$1: mounted"
	let_go
	wait $pid || fail "$1: mount"
}
mount_it
echo staged >"$in_dir/clean/a"
umount_it
waits_before "staged changes"
same "staged" "$(cat "$in_dir/clean/a")" staged
abort
umount_it
mode=$(stat -c %a "$D")
chmod 711 "$D"
waits_before "the root's mode"
same "mode" "$(stat -c %a "$D")" 711
abort
same "mode" "$(stat -c %a "$D")" "$mode"
umount_it

# --- not held up: edits are told while the daemon goes to the background ---
D=$work/small
mkdir "$D"
echo before >"$D/f"
make_store
for i in 1 2 3 4 5; do
	echo "edit $i" >"$D/f"
	mount_it -o compare=beside 2>"$work/told"
	same "the edit" "$(cat "$D/f")" "edit $i"
	same "only that" "$(cat "$D/.txn/changes")" "M f"
	abort
	umount_it
done
