#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The tool as people and scripts use it, rightly and wrongly: what it says, and
# what it leaves alone.
. "$(dirname "$0")/lib.sh"

mkdir -p "$D/sub"
echo one >"$D/f"
echo two >"$D/sub/g"
make_store

# --- closed standard descriptors: no file of the store takes their place ---
mounts+=("$D")
txn mount "$D" <&- >&- 2>&- || fail "mount without descriptors"
pid=$(daemon_pid)
for fd in 0 1 2; do
	same "descriptor $fd" "$(readlink "/proc/$pid/fd/$fd")" /dev/null
done
echo more >>"$D/f"
txn -C "$D" commit -m closed <&- >&- 2>&- || fail "commit without descriptors"
umount_it
same "plain file" "$(tail -n 1 "$D/f")" more
txnfs -f "$D" <&- >&- 2>&- &
pid=$!
wait_for test -f "$D/.txn/status" || fail "-f without descriptors"
for fd in 0 1 2; do
	same "descriptor $fd, -f" "$(readlink "/proc/$pid/fd/$fd")" /dev/null
done
umount_it
wait $pid || fail "-f without descriptors: status $?"
txn -C "$D" verify --repair <&- >&- 2>&-
txn -C "$D" verify >/dev/null || fail "verify"

# --- what else a caller leaves behind: blocked and ignored signals, a limit of
# the size of files, a umask that takes away what the owner needs ---
left() { # CMD...
	perl -MPOSIX -e '$SIG{CHLD} = "IGNORE";
		my $all = POSIX::SigSet->new; $all->fillset;
		sigprocmask(SIG_BLOCK, $all); umask 0777; exec @ARGV' "$@"
}
if [ -n "$(command -v perl)" ]; then
	behind=$work/behind
	mkdir "$behind"
	txn init --quiet "$behind" >/dev/null || fail "init"
	mounts+=("$behind")
	(
		ulimit -S -f 1000
		left txn mount "$behind"
	) || fail "mount with what a caller left behind"
	head -c 3000000 /dev/zero >"$behind/three"
	txn -C "$behind" commit >/dev/null || fail "commit"
	left txn -C "$behind" export head "$work/left" || fail "export: SIGCHLD is ignored"
	same "exported" "$(stat -c %s "$work/left/three")" 3000000
	pid=$(jq -r .pid "$behind/.txn/status")
	kill "$pid"
	wait_gone "$pid" || fail "SIGTERM is blocked"
	same "plain file" "$(stat -c %s "$behind/three")" 3000000
	same "what the owner may not" "$(find "$behind/.txn" ! -perm -600)" ""
fi

# said STATUS TEXT CMD...: it ends so, and tells this on standard error
said() {
	local want=$1 text=$2 rc
	shift 2
	"$@" >"$work/out" 2>"$work/said"
	rc=$?
	same "status of $*" "$rc" "$want"
	grep -qF -- "$text" "$work/said" ||
		fail "$*: no '$text' in: $(cat "$work/said")"
}

# --- output that cannot be written is told, and is a failure where it is all ---
for how in mounted unmounted; do
	[ $how = unmounted ] || mount_it
	for c in status "status --json" log "log --json" diff "diff --json" \
		"snapshots --json" "ls head" "cat head:f" verify; do
		# shellcheck disable=SC2086
		txn -C "$D" $c >/dev/full 2>"$work/said"
		same "status of $c, $how" $? 1
		grep -q "cannot write the output" "$work/said" ||
			fail "$c, $how: $(cat "$work/said")"
	done
	[ $how = unmounted ] || umount_it
done
mount_it
echo x >>"$D/f"
txn -C "$D" commit >/dev/full 2>"$work/said" || fail "commit into a full disk"
grep -q "cannot write the output" "$work/said" || fail "$(cat "$work/said")"
umount_it

# --- a mount whose daemon died: told, not taken for no store ---
outer=$work/outer
inner=$outer/inner
mkdir -p "$inner/sub"
echo inner >"$inner/f"
txn init --quiet "$inner" >/dev/null && txn init --quiet "$outer" >/dev/null ||
	fail "init"
mounts+=("$inner")
txn mount "$inner" || fail "mount"
echo staged >"$inner/f"
sync "$inner/f"
pid=$(jq -r .pid "$inner/.txn/status")
kill -9 "$pid"
wait_gone "$pid"
for c in status log diff "ls head" commit; do
	# shellcheck disable=SC2086
	said 1 "txn mount $inner mounts it again" txn -C "$inner" $c
	[ ! -s "$work/out" ] || fail "$c of another store: $(cat "$work/out")"
done
said 0 "removed the mount" txn umount "$inner"
same "what is left" "$(cat "$inner/f")" inner
txn mount "$inner" 2>/dev/null || fail "mount"
same "what was staged" "$(cat "$inner/f")" staged
# what keeps it is named
mkdir "$work/other"
mount --bind "$work/other" "$inner/sub" || fail "bind"
said 3 "$inner/sub is mounted in it" txn umount "$inner"
umount "$inner/sub"
# and another place where it is mounted
mount --bind "$inner" "$work/other" || fail "bind"
txn umount "$inner" >/dev/null 2>"$work/said" &
wait_for grep -q "mounted at $work/other, too" "$work/said" || fail "not named"
umount "$work/other"
wait $! || fail "umount: $(cat "$work/said")"
# a directory that is named is unmounted and ejected itself, or nothing is
mounts+=("$outer")
txn mount "$outer" 2>/dev/null || fail "mount"
mkdir "$outer/plain"
said 1 "$outer/plain has no store and is no mount; it lies in $outer" \
	txn umount "$outer/plain"
mountpoint -q "$outer" || fail "unmounted by the name of a directory in it"
txn -C "$outer" commit >/dev/null || fail "commit"
txn umount "$outer" >/dev/null || fail "umount"
said 1 "$outer/plain has no store" txn eject --yes "$outer/plain"
said 1 "$outer/plain has no store" txn -C / eject --yes "$outer/plain/"
(cd "$outer" && said 1 "$outer/plain has no store" txn eject --yes plain) || exit 1
[ -d "$outer/.txn" ] || fail "ejected by the name of a directory in it"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 755 "$work" "$outer" "$inner"
	as=(setpriv --reuid 12345 --regid 12345 --clear-groups)
	said 1 "$inner/.txn/ctl: Permission denied" "${as[@]}" \
		"$build/txn" -C "$inner" status
	mount_it
	chmod 755 "$D"
	said 1 "whoever mounted it" "${as[@]}" "$build/txn" umount "$D"
	said 1 "the directory's owner" "${as[@]}" "$build/txn" -C "$D" commit
	umount_it
fi

# --- looking into states: the same on a mount and without ---
mkfifo "$D/fifo"
ln -s sub "$D/inside"
ln -s "$D" "$D/outside"
ln -s f "$D/link"
echo last >"$D/z"
touch -d '1969-12-31 23:59:59.5 UTC' "$D/early"
mkdir "$D/sub/deep"
mount_it
txn -C "$D" commit >/dev/null || fail "commit"
for how in mounted unmounted; do
	in=(timeout 30 "$build/txn" -C "$D")
	for name in .. . "" nope head~ head~x head~99 @ @99 @x @01 / head/..; do
		said 1 "there is no state $name" "${in[@]}" ls "$name"
	done
	said 1 "there is no state @01;" "${in[@]}" cat @01:f
	said 1 "there is no state @01;" "${in[@]}" diff @01
	said 1 "there is no state @01;" "${in[@]}" export @01 "$work/exported"
	said 1 "there is no state ..;" "${in[@]}" cat ..:ctl
	said 1 "there is no state ..;" "${in[@]}" export .. "$work/exported"
	[ ! -e "$work/exported" ] || fail "exported, $how"
	for path in .. sub/../../f sub/../f nope outside/f; do
		must_fail "${in[@]}" ls "head:$path"
		must_fail "${in[@]}" cat "head:$path"
	done
	said 1 "head:sub: Is a directory" "${in[@]}" cat head:sub
	said 1 "head:fifo: not a file" "${in[@]}" cat head:fifo
	said 1 "head:link: not a file" "${in[@]}" cat head:link
	same "cat, $how" "$("${in[@]}" cat head:sub/g)" two
	same "ls, $how" "$("${in[@]}" ls head | awk '{ printf "%s ", $5 }')" \
		"early f fifo inside link outside sub z "
	same "ls below, $how" "$("${in[@]}" ls head:/sub/ | awk '{ print $5 }')" \
		"$(printf 'deep\ng')"
	for path in sub/g ./sub/g sub/./g /sub//g sub/g/; do
		same "ls $path, $how" "$("${in[@]}" ls "head:$path" | awk '{ print $5 }')" sub/g
		same "cat $path, $how" "$("${in[@]}" cat "head:$path")" two
	done
	same "ls ., $how" "$("${in[@]}" ls head:./.)" "$("${in[@]}" ls head)"
	same "a time, $how" "$("${in[@]}" ls head:early | awk '{ print $4 }')" 1969-12-31T23:59:59Z
	[ $how = unmounted ] || umount_it
done
mount_it
same "link inside" "$(txn -C "$D" cat head:inside/g)" two
said 1 "leads out of the state" txn -C "$D" cat head:outside/f
umount_it

# --- a command that is refused says what of it is wrong ---
mount_it
t() { txn -C "$D" "$@"; }
said 1 "there is no state nope;" t diff nope
said 1 "there is no state nope;" t diff head nope
said 1 "txn: there is no state nope;" t restore nope
said 1 "txn: there is no state nope;" t rollback nope
said 1 "head has no nope;" t restore head nope
said 1 "nothing to undo" t undo
said 1 "a/b cannot be a name" t snapshot a/b
said 1 "staged cannot be a name" t tag staged @1
said 1 "first: the number of a commit is wanted" t tag x first
said 1 "there is no commit @99" t tag x @99
said 1 "@01: the number of a commit is wanted" t tag x @01
said 1 "@: the number of a commit is wanted" t tag x @
said 1 "there is no state @01;" t restore @01
said 1 "there is no state @01;" t rollback @01
said 1 "there is no name nope" t delete nope
said 1 "@1 is no name" t delete @1
said 1 "keep.last: a number is wanted, not few" t set keep.last few
said 1 "push-maps: on or off is wanted, not 1" t set push-maps 1
said 1 "keep.lots cannot be set" t set keep.lots 1
said 1 "staged is what is here now" t rollback staged
# what follows a state is no command
echo staged >"$D/staged"
said 1 'there is no state "staged\nabort"' t diff head $'staged\nabort'
said 1 'there is no state "head\nabort"' t diff $'head\nabort'
said 1 'there is no state "head\nabort"' t rollback $'head\nabort'
said 1 'there is no state "head\nabort"' t restore $'head\nabort'
said 1 'delete: "a\nabort" is no name' t delete $'a\nabort'
same "staged" "$(cat "$D/staged")" staged
rm "$D/staged"
said 1 "commit: not text" t commit -m $'\377'
# a message that looks like an option is one
echo help >"$D/help"
t commit -m --help >/dev/null || fail "commit -m --help"
same "the message" "$(t log | grep -c -- --help)" 1
t snapshot taken || fail "snapshot"
said 3 "the name taken is taken" t snapshot taken
said 3 "the name taken is taken" t tag taken @1
said 2 "a message has at most" t commit -m "$(printf 'x%.0s' {1..3901})"
said 2 "a message has at most" t snapshot -m "$(printf 'x%.0s' {1..3901})" s
said 2 "a message is one line" t snapshot -m $'a\nb' s
# no name can be so: it is told as any other that is not there
for name in "" "a b" " " a/b "$(printf 'x%.0s' {1..65})" "$(printf 'x%.0s' {1..9999})"; do
	case $name in "" | " ") shown="\"$name\"" ;; *) shown=${name:0:50} ;; esac
	for c in ls diff "diff head" restore rollback; do
		# shellcheck disable=SC2086
		said 1 "there is no state $shown" t $c "$name"
	done
	said 1 "there is no state $shown" t cat "$name:f"
	said 1 "there is no state $shown" t export "$name" "$work/e"
	for c in "snapshot NAME" "tag NAME @1" "delete NAME"; do
		# shellcheck disable=SC2086
		said 1 " name" t ${c/NAME*/} "$name" ${c#*NAME}
		grep -q "^txn: ${c%% *}: " "$work/said" && ! grep -q 'line 1' "$work/said" ||
			fail "$c: $(cat "$work/said")"
	done
done
said 1 'tag: "" is no commit' t tag x ""
said 1 'tag: @1 @2 is no commit' t tag x "@1 @2"
said 1 'set: "" is no key' t set "" 1
said 1 'set: "" is no value' t set keep.last ""
printf 'commit %s' "$(printf 'x%.0s' {1..3901})" >"$work/cmd"
must_fail cp "$work/cmd" "$D/.txn/ctl"
grep -q "a message has at most 3900 bytes" "$D/.txn/error" || fail "error"
printf 'commit\nfrobnicate now\n' >"$work/cmd"
must_fail cp "$work/cmd" "$D/.txn/ctl"
grep -q "ctl: Invalid argument: line 2: frobnicate is not a command" \
	"$D/.txn/error" || fail "error: $(cat "$D/.txn/error")"
# a path of which every byte takes four on the line
name=$(printf '\377%.0s' {1..200})
long=$name/$name/$name/$name/$name
mkdir -p "$D/$long"
echo kept >"$D/$long/file"
commit
echo changed >"$D/$long/file"
t restore head "$long/file" || fail "restore of a long path"
same "long path" "$(cat "$D/$long/file")" kept
# no companion can have such a name
name=$(printf 'n%.0s' {1..253})
echo kept >"$D/$name"
commit
echo changed >"$D/$name"
t restore head "$name" 2>"$work/said" || fail "restore of a long name"
same "said of a long name" "$(cat "$work/said")" ""
same "long name" "$(cat "$D/$name")" kept
same "long path" "$(t ls "staged:$long/file" | wc -c)" \
	"$(($(t ls "staged:$long" | wc -c) + 2 + 4 * (${#long} - 4) + 5))"
umount_it

# --- "--" ends the options of every command ---
mkdir "$work/-dir"
echo x >"$work/-dir/-file"
(
	cd "$work" || exit 1
	txn init --quiet -- -dir >/dev/null || fail "init --"
	mounts+=("$work/-dir")
	txn mount -o ro -- -dir || fail "mount -o ro --"
	txn umount -- -dir >/dev/null || fail "umount --"
	txn mount -- -dir || fail "mount --"
	echo y >-dir/-file
	cd ./-dir || exit 1
	for c in status diff "ls -- staged" "cat -- staged:-file" "tag -- a @1" \
		snapshots "snapshot -m x -- b" log "set -- plain on" "gc --" "sync --" \
		"delete -- b" "restore -- head -file" commit "rollback -- @1" \
		abort undo "abort --" verify "export -- head ../exported" "rescue -- ../saved"; do
		case $c in *" -- "* | *--) ;; *) c="$c --" ;; esac
		# shellcheck disable=SC2086
		txn $c >/dev/null 2>"$work/said" || fail "$c: $(cat "$work/said")"
	done
	same "exported" "$(cat ../exported/-file)" x
	for c in "ls -x" "tag -x @1" "delete -x" "set -x on" "gc -x" "export -x y" \
		"umount -x" "sync -x"; do
		# shellcheck disable=SC2086
		said 2 "usage: txn" txn $c
	done
	said 1 "-1" txn set keep.last -1
	cd ..
	txn umount -- -dir >/dev/null || fail "umount --"
	txn sync -- -dir >/dev/null || fail "sync -- -dir"
	txn eject --yes -- -dir >/dev/null || fail "eject --"
	[ ! -e ./-dir/.txn ] || fail "not ejected"
) || exit 1

# --- init: which directory is said, and what there is in it already is told ---
again=$work/again
mkdir "$again"
echo x >"$again/f"
cd "$again" || exit 1
said 2 "init: DIR is missing" txn init
said 2 "init: DIR is missing" txn -C "$again" init --move
said 2 "init: DIR is missing" txn init --relink
[ ! -e .txn ] || fail "the working directory has a store"
cd / || exit 1
for how in "" --move "--store $work/stored"; do
	mkdir "$again/.txn"
	# shellcheck disable=SC2086
	said 3 "txn: $again: $again/.txn is there already and is no store: move it away" \
		txn init $how "$again"
	rmdir "$again/.txn"
	echo file >"$again/.txn"
	# shellcheck disable=SC2086
	said 3 "txn: $again: $again/.txn is there already and is no store: move it away" \
		txn init $how "$again"
	same ".txn" "$(cat "$again/.txn")" file
	rm "$again/.txn"
	# shellcheck disable=SC2086
	txn init --quiet $how "$again" >/dev/null || fail "init $how"
	for then in "" --move "--store $work/other-store"; do
		# shellcheck disable=SC2086
		said 3 "txn mount $again uses it, txn eject $again ends it" \
			txn init $then "$again"
		grep -q "^txn: $again: it has a store already" "$work/said" ||
			fail "init $then after $how: $(cat "$work/said")"
	done
	mounts+=("$again")
	txn mount "$again" || fail "mount"
	said 3 "txn: $again: it has a store already, and is mounted" txn init "$again"
	txn umount "$again" >/dev/null || fail "umount"
	txn eject --yes "$again" >/dev/null || fail "eject"
	same "what is left of $how" "$(ls -A "$again") $(cat "$again/f")" "f x"
done

# --- restore: exactly the path that was given ---
for name in e "e " " e"; do echo "of '$name'" >"$D/$name"; done
mount_it
t commit >/dev/null || fail "commit"
change() { for name in e "e " " e" sub/g; do echo changed >"$D/$name"; done; }
change
t restore head "e " || fail "restore 'e '"
same "changes" "$(t diff | head -n 3)" 'M " e"  (8 -> 8 bytes)
M e  (7 -> 8 bytes)
M sub/g  (4 -> 8 bytes)'
t restore head " e" || fail "restore ' e'"
same "restored" "$(cat "$D/ e" "$D/e " "$D/e")" "of ' e'
of 'e '
changed"
change
for path in "" / . .. sub/../f; do
	said 2 "a path below the directory is wanted" t restore head "$path"
	same "changes after '$path'" "$(t diff | grep -c '^M')" 4
done
exec 7>>"$D/sub/g"
said 0 "open for writing $D/sub/g" t restore head ./sub//
exec 7>&-
same "changes after ./sub//" "$(t diff | grep -c '^M')" 3
abort
# what is staged otherwise is in the commit, too; of nothing there is none
n=$(jq .head.number "$D/.txn/status")
same "nothing" "$(t restore --commit head)" "nothing is staged; head is @$n"
echo other >"$D/e"
echo changed >"$D/sub/g"
same "restored" "$(t restore --commit head sub/g)" "committed @$((n + 1))"
same "staged otherwise" "$(t cat head:e) $(t cat head:sub/g)" "other two"
# holes are not read
truncate -s 4T "$D/holes"
t commit >/dev/null || fail "commit"
rm "$D/holes"
timeout 30 "$build/txn" -C "$D" restore head holes || fail "restore of 4 TiB of nothing"
rm "$D/holes"
t commit >/dev/null || fail "commit"
umount_it

# --- who holds what an undo changes is named, as for what it undoes ---
mount_it
echo once >"$D/e"
t commit >/dev/null || fail "commit"
for i in 1 2 3 4 5 6 7 8 9 10; do # @discarded-10 is after @discarded-9
	echo "staged $i" >"$D/e"
	exec 7<"$D/e"
	said 0 "open $D/e" t abort
	exec 7<"$D/e"
	said 0 "open $D/e" t undo
	exec 7<&-
	same "undone" "$(cat "$D/e")" "staged $i"
done
abort
exec 7<"$D/e"
t undo --force 2>"$work/said" || fail "undo --force"
same "named in spite of --force" "$(cat "$work/said")" ""
abort
exec 7<&- 8<"$D/sub/g"
t undo 2>"$work/said" || fail "undo"
same "what is not changed" "$(cat "$work/said")" ""
exec 8<&-
abort
umount_it

# --- messages: quoted for people, as they are in JSON ---
mount_it
odd=$'say "hi" \\ \t back'
echo odd >"$D/e"
t commit -m "$odd" >/dev/null || fail "commit"
t snapshot -m "$odd" odd || fail "snapshot"
said 2 "usage: txn [-C DIR] log" t log -n -1
for how in mounted unmounted; do
	same "log, $how" "$(t log -n 1 | sed 's/.* bytes  //')" \
		'"say \"hi\" \\ \t back"'
	same "snapshots, $how" "$(t snapshots | sed -n 's/^odd .*uid [0-9]*  //p')" \
		'"say \"hi\" \\ \t back"'
	same "log --json, $how" "$(t log --json | jq -r '.commits[0].message')" "$odd"
	same "snapshots --json, $how" "$(t snapshots --json |
		jq -r '.names[] | select(.name == "odd").message')" "$odd"
	[ $how = unmounted ] || umount_it
done

# --- a mount that is refused for its options changes nothing ---
echo edited >"$D/edited"
store=$(txn -C "$D" status --json | jq -c '.head, .staged')
for o in nonsense staged=keep offline=x compare=x ctl=1 open=x at=x; do
	said 2 "$o" txn mount "$D" -o "$o"
	same "store after -o $o" "$(t status --json | jq -c '.head, .staged')" "$store"
done
said 2 "third: only DIR and MOUNTPOINT" txnfs "$D" "$D" third

# --- export: what cannot be done is told, and .txn is in no copy ---
mount_it -o ctldir=visible
said 3 "take a snapshot" t export staged "$work/visible"
[ ! -e "$work/visible" ] || fail "exported with .txn"
t snapshot visible || fail "snapshot"
t export visible "$work/visible" || fail "export of a snapshot"
[ -e "$work/visible/f" ] && [ ! -e "$work/visible/.txn" ] || fail "exported a snapshot"
t delete visible
said 1 "cp cannot be run" env PATH=/nowhere "$build/txn" -C "$D" export head "$work/none"
umount_it

# --- an interrupted command leaves no mount behind, whatever it had done ---
asides() { ls -d /tmp/txn-*.?????? 2>/dev/null; }
before=$(asides)
for i in 1 2 3 4 5 6 7 8 9; do
	for c in "sync $D" "export head $work/interrupted" "eject $D"; do
		# shellcheck disable=SC2086
		txn -C "$D" $c </dev/null >/dev/null 2>&1 &
		sleep 0.0$i
		kill $! 2>/dev/null
		wait $! 2>/dev/null
		wait_for rm -rf "$work/interrupted" 2>/dev/null # while cp goes on
		same "mounts after $c" "$(grep "^$D " /proc/mounts)" ""
	done
done
same "folders" "$(asides)" "$before"
wait_for txn sync "$D" >/dev/null 2>&1 || fail "sync after it was interrupted"

# --- a copy of a mount's .txn takes no commands ---
mount_it -o ctldir=visible
mkdir -p "$work/copied/.txn"
cp "$D/.txn/ctl" "$D/.txn/status" "$work/copied/.txn/" || fail "cp"
for c in commit status abort "snapshot x" "ls staged" "sync" "umount $work/copied" \
	"eject --yes $work/copied"; do
	# shellcheck disable=SC2086
	said 1 "$work/copied/.txn is neither a store nor a mount's" txn -C "$work/copied" $c
done
[ ! -s "$work/copied/.txn/ctl" ] || fail "written to: $(cat "$work/copied/.txn/ctl")"
umount_it

# --- read-only: what is answered, and what is told of the rest ---
mount_it -o ro
for c in status log "ls head" "cat head:f"; do
	# shellcheck disable=SC2086
	t $c >/dev/null || fail "$c of a read-only mount"
done
for c in commit diff verify snapshots sync; do
	said 1 "with -o ro only" t $c
done
same "last byte of status" "$(tail -c 1 "$D/.txn/status" | od -An -c | tr -d ' ')" '\n'
umount_it

# --- completion ---
mount_it
t commit >/dev/null || fail "commit"
(
	complete() { :; }
	compopt() { :; }
	# shellcheck source=tools/completion.bash
	. "$top/tools/completion.bash"
	completed() {
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
		_txn
		echo "${COMPREPLY[*]}"
	}
	same "a command" "$(completed txn comm)" commit
	same "a state" "$(completed txn -C "$D" restore od)" odd
	same "a path" "$(completed txn -C "$D" restore --force head su)" sub/
	same "below" "$(completed txn -C "$D" restore head sub/d)" sub/deep/
	same "diff" "$(completed txn -C "$D" diff head stag)" staged
	same "set" "$(completed txn set plain '')" "on off"
	same "export" "$(cd "$work" && completed txn -C "$D" export head dat)" data
) || exit 1
umount_it

# --- a directory whose name is not UTF-8 ---
mkdir "$work"/$'\377'
txn init --quiet "$work"/$'\377' >/dev/null || fail "init"
mounts+=("$work"/$'\377')
txn mount "$work"/$'\377' || fail "mount"
echo x >"$work"/$'\377'/x
txn -C "$work"/$'\377' commit >/dev/null || fail "commit"
txn umount "$work"/$'\377' >/dev/null || fail "umount"
same "plain file" "$(cat "$work"/$'\377'/x)" x
same "dir" "$(txn -C "$work"/$'\377' status --json | jq -r .dir)" "\"$work/\\377\""
same "bytes" "$(txn -C "$work"/$'\377' status --json | jq -r .dir_base64 |
	base64 -d | od -An -c | tail -n 1)" "$(printf %s "$work"/$'\377' | od -An -c | tail -n 1)"
