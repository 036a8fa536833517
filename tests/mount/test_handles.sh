#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Handles, working directories and mappings across abort and commit.
. "$(dirname "$0")/lib.sh"

mkdir -p "$D/dir/inner" "$D/gone" "$D/other"
echo old >"$D/f"
echo same >"$D/untouched"
echo in >"$D/dir/in"
echo g >"$D/gone/g"
make_store
mount_it
map=$build/tests/mount/map

stale() {
	local err
	err=$({ echo x >&"$1"; } 2>&1) && fail "$2: wrote to a stale handle"
	[[ $err == *"Stale file handle"* ]] || fail "$2: $err"
}

# --- abort ---
echo changed >"$D/f"
echo created >"$D/new"
exec 3<"$D/f" 4>>"$D/f" 5<"$D/untouched" 6>>"$D/untouched" 7<"$D/new" 8>>"$D/new"
abort
same "reading goes on" "$(cat <&3)" changed
same "a created file reads on" "$(cat <&7)" created
stale 4 "changed file"
stale 8 "created file"
same "untouched" "$(cat <&5)" same
echo more >&6 || fail "untouched: not writable"
same "by name" "$(cat "$D/f")" old
[ ! -e "$D/new" ] || fail "new is still there"
same "links of the old one" "$(stat -L -c %h "/proc/$$/fd/3")" 0
exec 3<&- 4>&- 5<&- 6>&- 7<&- 8>&-
abort

# Two files at once are two numbers, wherever they are shown; and the one that
# is open keeps its own.
ino() { stat -L -c %i "$@"; }
was=$(ino "$D/f")
seen="$was"
for i in 1 2 3; do
	echo changed >"$D/f"
	exec {fd}<"$D/f"
	is=$(ino "$D/f")
	abort
	same "the open one's number" "$(ino "/proc/$$/fd/$fd")" "$is"
	now=$(ino "$D/f")
	[[ " $seen " != *" $now "* ]] || fail "numbers: $now again after $seen"
	seen="$seen $now"
	same "listed" "$(ls -i "$D" | awk '$2 == "f" {print $1}')" "$now"
	same "by find" "$(find "$D" -inum "$now")" "$D/f"
done
for fd in $(seq $((fd - 2)) "$fd"); do exec {fd}<&-; done
echo changed >"$D/f"
abort
[ -L "$D/.txn" ] || same "nobody has it open: the number stays" "$(ino "$D/f")" "$now"

# --- replaced by renames: at any time there is one ---
mkdir "$D/replaced"
"$build/tests/mount/replace" "$D/replaced" "${ROUNDS:-1000}" || fail "a name that was there was not"
ln -s first "$D/sym"
link=$D/sym python3 -c 'import os
fd = os.open(os.environ["link"], os.O_PATH | os.O_NOFOLLOW)
os.unlink(os.environ["link"])
assert os.readlink("", dir_fd=fd) == "first"
assert os.fstat(fd).st_nlink == 0' || fail "a symlink that is gone, by O_PATH"
mkdir "$D/here"
(cd "$D/here" && rmdir ../here && same "xattrs of a directory that is gone" "$(getfattr -d . 2>&1)" "")
rm -rf "$D/replaced"
abort

# --- in a directory that the abort moves back: what is in it was, too ---
is_stale() {
	local err
	err=$("$@" 2>&1) && fail "it worked: $*"
	[[ $err == *"Stale file handle"* ]] || fail "$*: $err"
}
append() { echo x >>"$1"; }
mkdir -p "$D/moves/sub"
echo m | tee "$D/moves/m" >"$D/moves/sub/m"
ctl commit
mv "$D/moves" "$D/moved"
cd "$D/moved" || fail cd
abort
same "its file is read" "$(cat m)" m
same "and one further down" "$(cat sub/m)" m
is_stale append m
is_stale append sub/m
is_stale append "sub/new"
is_stale truncate -s 0 sub/m
is_stale chmod 600 sub/m
is_stale rm -f sub/m
is_stale mkdir sub/dir
is_stale setfattr -n user.a -v b sub/m
perl_do() { perl -e "$1(\$ARGV[0], \$ARGV[1]) or die \"\$!\n\"" "$2" "$3"; }
for i in m sub/m; do
	is_stale perl_do link $i "$D/taken"
	is_stale perl_do rename $i "$D/taken"
	is_stale perl_do rename "$D/f" $i
done
cd "$work" || fail cd
rm -r "$D/moves"
ctl commit

# unlinked while open, then brought back
exec 3<"$D/f" 4>>"$D/f"
rm "$D/f"
same "unlinked, open" "$(cat <&3)" old
abort
same "back" "$(cat "$D/f")" old
echo appended >&4 || fail "the same file: its handle works"
same "through the handle" "$(tail -n 1 "$D/f")" appended
exec 3<&- 4>&-
abort

# one without a name in the last commit, closed since: nothing to abort, which
# does not take the place of what undo brings back
echo log >"$D/log"
exec 3<"$D/log"
rm "$D/log"
commit
echo wanted >"$D/wanted"
abort
exec 3<&-
ls "$D" >/dev/null
abort
ctl undo || fail "undo"
same "undo after an abort of nothing" "$(cat "$D/wanted")" wanted
abort
ctl "restore head" || fail "restore"
ctl "rollback head" || fail "rollback"
ctl undo || fail "undo"
same "undo after going nowhere" "$(cat "$D/wanted")" wanted
abort

# --- working directories ---
(
	cd "$D/dir" || exit 1
	touch listing-changed
	mkdir sub
	abort
	same "cwd, listing changed" "$(ls)" "$(printf 'in\ninner')"
	touch works || fail "cwd: cannot create"
	[ -e "$D/dir/works" ] || fail "cwd: created elsewhere"
	abort
	cd "$D/other" || exit 1
	mv "$D/other" "$D/renamed"
	touch "$D/renamed/inside"
	abort
	[ -d "$D/other" ] || fail "renamed directory is not back"
	# its old self can be left without harm
	cd .. 2>/dev/null || cd "$D" || exit 1
	[ -z "$(ls "$D/other")" ] || fail "a staged file stayed"
) || exit 1

# a removed directory that comes back while somebody holds the old one
(
	cd "$D/gone" || exit 1
	rm -r "$D/gone"
	must_fail touch here
	abort
	same "back" "$(cat "$D/gone/g")" g
	touch "$D/gone/created" || fail "cannot create in what came back"
	mkdir "$D/gone/sub" || fail "cannot mkdir in what came back"
	same "listing" "$(echo $(ls "$D/gone"))" "created g sub"
	abort
) || exit 1

# --- another name of a file comes and goes; the file is the same one ---
exec 3>>"$D/f"
ln "$D/f" "$D/another"
abort
same "links, another name aborted" "$(stat -c %h "$D/f")" 1
echo written >&3 || fail "handle, another name of its file aborted"
echo more >>"$D/f" || fail "append, another name aborted"
ln "$D/f" "$D/another" || fail "link again"
exec 3>&-
abort

# --- what was removed is still somebody's: attributes, and no links ---
removed() { # what, kind, path of what holds it
	local got

	# the time of change is what makes the kernel ask
	got=$(stat -L -c '%F %a %h %Z' "$3") || fail "$1: no attributes"
	same "$1" "${got% *}" "$2 0"
}
mkdir -m 750 "$D/held" "$D/held2" "$D/over"
exec 3<"$D/held" 4<"$D/held2"
rmdir "$D/held"
removed "rmdir" "directory 750" "/proc/$$/fd/3"
mv -T "$D/over" "$D/held2"
removed "rename over it" "directory 750" "/proc/$$/fd/4"
same "the one that is there" "$(stat -c %h "$D/held2")" 2
abort
removed "rmdir, aborted" "directory 750" "/proc/$$/fd/3"
exec 3<&- 4<&-
if [ "$(id -u)" = 0 ]; then
	# no handle keeps these, only the kernel does
	: >"$work/at"
	for how in unlink rename; do
		echo held >"$D/held"
		chmod 640 "$D/held"
		mount --bind "$D/held" "$work/at"
		loops+=("$work/at")
		if [ $how = unlink ]; then
			rm "$D/held"
		else
			echo over >"$D/over"
			mv "$D/over" "$D/held"
		fi
		removed "$how" "regular file 640" "$work/at"
		umount "$work/at"
	done
	abort
fi

# --- a mapping ---
printf 'A%4095s' >"$D/mapped"
commit
exec 3> >("$map" "$D/mapped" >"$work/answers")
answer() { # command, lines so far
	echo "$1" >&3
	wait_for eval "[ \$(wc -l <'$work/answers') -ge $2 ]" || fail "map: $1"
	sed -n "$2p" "$work/answers"
}
wait_for test -s "$work/answers" || fail "map did not start"
same "mapped" "$(answer get 2)" A
same "set" "$(answer 'set B' 3)" ok
# Nobody knows of mappings where the kernel opens files by itself.
hows=(abort "rollback head" "restore head mapped")
if [ -L "$D/.txn" ]; then
	hows=()
	echo "skipped: stores that were not synced (open=fast)"
	same "sync" "$(answer sync 4)" ok
	: >"$work/answers"
	exec 3>&-
	exec 3> >("$map" "$D/mapped" >"$work/answers")
	wait_for test -s "$work/answers" || fail "map did not start"
	same "mapped" "$(answer get 2)" B
	same "set" "$(answer 'set B' 3)" ok
fi
commit
same "a commit takes what is mapped" "$(head -c 1 "$D/.txn/head/mapped")" B
ctl set push-maps off || fail "set push-maps"
same "set" "$(answer 'set C' 4)" ok
commit
same "not pushed" "$(head -c 1 "$D/.txn/head/mapped")" B
ctl set push-maps on
same "sync" "$(answer sync 5)" ok
printf D >"$D/untouched"
abort
same "by name" "$(head -c 1 "$D/mapped")" B
same "an abort drops what was synced" "$(cat "$D/.txn/changes")" ""
got=$(answer get 6)
[ "$got" = C ] || [ "$got" = B ] || fail "the mapping shows '$got'"
exec 3>&-

# What was stored through a mapping and never synced is dropped as well: it
# neither stays nor comes back when the mapping is synced or goes away.
for how in "${hows[@]}"; do
	: >"$work/answers"
	exec 3> >(exec "$map" "$D/mapped" >"$work/answers")
	pid=$!
	wait_for test -s "$work/answers" || fail "map did not start"
	same "set" "$(answer 'set E' 2)" ok
	ctl "$how" || fail "$how"
	same "$how: what was mapped" "$(head -c 1 "$D/mapped")" B
	answer sync 3 >/dev/null # or EIO
	answer 'set F' 4 >/dev/null
	answer sync 5 >/dev/null
	exec 3>&-
	wait_gone $pid || fail "map did not end"
	same "$how: unmapped" "$(head -c 1 "$D/mapped")" B
	same "$how: staged" "$(cat "$D/.txn/changes")" ""
done

# Its path leads to something else, since that is mounted over it.
if [ "$(id -u)" = 0 ] && [ ! -L "$D/.txn" ]; then
	mkdir "$D/over"
	printf 'A%4095s' >"$D/over/mapped"
	commit
	: >"$work/answers"
	exec 3> >(exec "$map" "$D/over/mapped" >"$work/answers")
	wait_for test -s "$work/answers" || fail "map did not start"
	same "set" "$(answer 'set B' 2)" ok
	mount -t tmpfs none "$D/over" || fail "mount tmpfs"
	commit
	umount "$D/over" || fail "umount tmpfs"
	same "covered" "$(head -c 1 "$D/.txn/head/over/mapped")" B
	exec 3>&-
	rm -r "$D/over"
	commit
fi

# --- one file of a database changes: all of them do, beside many others too ---
for others in 0 40; do
	mkdir "$D/dbs"
	touch "$D/dbs/"{x,x-wal,y} $(seq -f "$D/dbs/o%g" "$others")
	commit
	for f in x y $(seq -f o%g "$others"); do echo changed >"$D/dbs/$f"; done
	exec 3>>"$D/dbs/x-wal" 4>>"$D/dbs/x" 5>>"$D/dbs/y"
	abort
	stale 3 "beside $others: what was not changed"
	stale 4 "beside $others: what was"
	stale 5 "beside $others: no database"
	exec 3>&- 4>&- 5>&-
	rm -r "$D/dbs"
	commit
done

# --- a database in WAL mode with a connection across an abort: its shared
# memory must not tell the next one about frames that are gone ---
if command -v sqlite3 >/dev/null; then
	sqlite3 "$D/db" "pragma journal_mode=wal; create table t(x);
		insert into t values(1);" >/dev/null
	commit
	coproc SQL { sqlite3 "$D/db" 2>&1; }
	sql_in=${SQL[1]} sql_out=${SQL[0]} sql_pid=$SQL_PID
	echo "insert into t values(2),(3); select count(*) from t;" >&"$sql_in"
	read -r -t 10 got <&"$sql_out"
	same "rows staged" "$got" 3
	abort
	same "rows after abort" "$(sqlite3 "$D/db" 'select count(*) from t')" 1
	sqlite3 "$D/db" "insert into t values(9)" || fail "insert after abort"
	same "integrity" "$(sqlite3 "$D/db" 'pragma integrity_check')" ok
	same "rows" "$(sqlite3 "$D/db" 'select sum(x) from t')" 10
	{ echo ".quit" >&"$sql_in"; } 2>/dev/null
	wait "$sql_pid" 2>/dev/null
	same "rows when it ended" "$(sqlite3 "$D/db" 'select sum(x) from t')" 10
	commit
fi

# A connection of before an abort knows that the database is another one, and
# keeps its hands off the journal of the new one.
if command -v sqlite3 >/dev/null; then
	rm -f "$D"/db*
	sqlite3 "$D/db" "create table t(x); insert into t values(1);"
	commit
	coproc SQL { sqlite3 "$D/db" 2>&1; }
	sql_in=${SQL[1]} sql_out=${SQL[0]} sql_pid=$SQL_PID
	echo "insert into t values(2); select count(*) from t;" >&"$sql_in"
	read -r -t 10 got <&"$sql_out"
	same "rows staged" "$got" 2
	abort
	echo "insert into t values(3);" >&"$sql_in"
	read -r -t 10 got <&"$sql_out"
	[[ $got == *readonly* ]] || fail "a connection of before: $got"
	[ ! -e "$D/db-journal" ] || fail "it made a journal"
	same "rows" "$(sqlite3 "$D/db" "insert into t values(4);
		select sum(x) from t")" 5
	echo ".quit" >&"$sql_in"
	wait "$sql_pid" 2>/dev/null
	same "rows when it ended" "$(sqlite3 "$D/db" 'select sum(x) from t')" 5
	commit
fi

# --- commit: nothing happens to anybody ---
exec 3<"$D/f" 4>>"$D/f"
echo one >&4
commit
echo two >&4 || fail "handle after commit"
same "across commit" "$(cat <&3)" "$(printf 'old\none\ntwo')"
exec 3<&- 4>&-
commit
umount_it
