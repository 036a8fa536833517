#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# demo.sh - the main job on real input, told while it runs: a copy of /etc, a
# git repository and an SQLite database become one transactional directory; real
# programs change them; the changes are looked at, dropped, made again,
# committed; the daemon is killed. Every step is checked.
set -u -o pipefail
export LC_ALL=C
top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-build}
case $build in /*) ;; *) build=$top/$build ;; esac
export PATH=$build:$PATH GIT_CONFIG_NOSYSTEM=1 HOME=/nonexistent
work=$(mktemp -d "${TMPDIR:-/tmp}/txnfs-demo.XXXXXX")
D=$work/data
bold='' plain=''
[ ! -t 1 ] || { bold=$'\e[1m' plain=$'\e[0m'; }

cleanup() {
	cd /
	while mountpoint -q "$D" || ! stat "$D" >/dev/null 2>&1; do
		fusermount3 -u "$D" 2>/dev/null || umount -l "$D" || break
	done
	rm -rf "$work"
}
trap cleanup EXIT

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
show() {
	printf '   $ %s\n' "$*"
	"$@" 2>&1 | sed 's/^/     /'
	return "${PIPESTATUS[0]}"
}
fail() {
	printf '\nFAILED: %s\n' "$*" >&2
	exit 1
}
check() { # what CMD...
	local what=$1
	shift
	"$@" >/dev/null 2>&1 || fail "$what"
	printf '   ok: %s\n' "$what"
}
git() { command git -C "$D/repo" -c user.name=demo -c user.email=demo@example.org \
	-c safe.directory='*' -c init.defaultBranch=main "$@"; }
rows() { sqlite3 "$D/app.db" 'select count(*), sum(balance) from accounts'; }
state() { # one line that tells contents, names and modes of all
	(cd "$1/" && {
		find . -path ./.txn -prune -o -mindepth 1 -printf '%P %y %m %s %l\n' |
			grep -v ' d ' | sort
		find . -path ./.txn -prune -o -type f -print0 | sort -z |
			xargs -0 sha256sum
	}) | sha256sum
}
log_count() { git log --oneline | wc -l; }

for tool in git sqlite3 tar sed; do
	command -v $tool >/dev/null || fail "$tool is needed"
done

step "A directory as applications have it: configuration, a repository, a database"
mkdir "$D"
tar -C / -cf - etc 2>/dev/null | tar -C "$D" -xf - 2>/dev/null
[ -d "$D/etc" ] || fail "cannot copy /etc"
mkdir "$D/repo"
git init -q
for i in 1 2 3 4 5; do
	seq 1 $((i * 100)) >"$D/repo/numbers"
	echo "note $i" >"$D/repo/note$i"
	git add -A
	git commit -q -m "change $i"
done
sqlite3 "$D/app.db" "create table accounts(id integer primary key, name text,
	balance integer); with recursive n(i) as (select 1 union all select i + 1
	from n where i < 5000) insert into accounts select i, 'account ' || i, 100
	from n;" || fail sqlite3
before=$(state "$D")
count=$(find "$D" | wc -l)
echo "   $count files and directories, $(du -sh "$D" | cut -f1)"

step "Make it transactional. The plain files stay as they are"
show txn init "$D" || fail "txn init"
check "the plain files are untouched" [ "$(state "$D")" = "$before" ]

step "Mount it, over itself"
show txn mount "$D" || fail "txn mount"
check "the mount shows the same" [ "$(state "$D")" = "$before" ]
check "all in git is in order" git fsck --strict
check "all in the database is in order" [ "$(rows)" = "5000|500000" ]

upgrade() {
	sed -i 's/root/ROOT/' "$D/etc/passwd" "$D/etc/group"
	rm -rf "$D/etc/cron.d" "$D/etc/profile.d"
	tar -C "$top" -cf - txn fs | tar -C "$D/etc" -xf -
	echo "generation $1" >"$D/repo/generation"
	git add -A && git commit -q -m "generation $1"
	git mv note1 renamed && git commit -q -m "rename"
	git gc -q
	sqlite3 "$D/app.db" "begin; update accounts set balance = balance - 1
		where id % 2; insert into accounts(name, balance)
		values('new', $1); commit; vacuum;"
}
step "An upgrade by real programs: sed, rm, tar, git, sqlite3. All of it is staged"
upgrade 1
check "programs see their changes" grep -q ROOT "$D/etc/passwd"
check "the last commit does not have them" grep -q root "$D/.txn/head/etc/passwd"
show txn -C "$D" status || fail status
txn -C "$D" diff >"$work/diff" || fail diff
{ head -n 4 "$work/diff"; echo ...; tail -n 1 "$work/diff"; } | sed 's/^/     /'

step "It went wrong. Everything vanishes at one instant:  echo abort > .txn/ctl"
echo abort >"$D/.txn/ctl" || fail abort
check "the directory is as it was" [ "$(state "$D")" = "$before" ]
check "git is as it was" [ "$(log_count)" = 5 ]
check "git is in order" git fsck --strict
check "the database is as it was" [ "$(rows)" = "5000|500000" ]

step "Once more, and this time it is good:  echo commit > .txn/ctl"
upgrade 2
after=$(state "$D")
echo "commit upgrade to generation 2" >"$D/.txn/ctl" || fail commit
check "nothing is staged any more" [ -z "$(cat "$D/.txn/changes")" ]
show txn -C "$D" log || fail log

step "More work, not committed; then the daemon is killed with -9"
echo "half done" >"$D/etc/half"
sqlite3 "$D/app.db" "delete from accounts where id < 1000;"
pid=$(sed -n 's/^  "pid": \([0-9]*\),$/\1/p' "$D/.txn/status")
kill -9 "$pid" || fail "kill -9 $pid"
printf '   $ kill -9 %s\n' "$pid"

step "Mount it again"
show txn mount "$D" || fail "txn mount"
echo abort >"$D/.txn/ctl" || fail abort
check "everything that was committed is there" [ "$(state "$D")" = "$after" ]
check "git is in order" git fsck --strict
check "git has the upgrade" [ "$(log_count)" = 7 ]
check "the database has it" [ "$(rows)" = "5001|497502" ]
check "the database is in order" [ "$(sqlite3 "$D/app.db" 'pragma integrity_check')" = ok ]

step "And before the upgrade it was so, in .txn/snapshots/@1"
check "the old state is still there" [ "$(state "$D/.txn/snapshots/@1")" = "$before" ]

step "A name for this state, then an accident: rm -rf, and a database overwritten"
show txn -C "$D" snapshot good -m "all is well" || fail snapshot
rm -rf "${D:?}/etc" "$D/repo/.git/objects"
dd if=/dev/urandom of="$D/app.db" bs=4096 seek=3 count=20 conv=notrunc 2>/dev/null
check "git is broken" bash -c "! command git -C '$D/repo' -c safe.directory='*' log"
check "the database is broken" \
	bash -c "! sqlite3 '$D/app.db' 'pragma integrity_check' | grep -qx ok"
echo "commit an accident" >"$D/.txn/ctl" || fail commit
echo "   and it was committed"
accident=$(state "$D")

step "Look into the snapshot; restore one file; then go back as a whole"
txn -C "$D" ls good:etc | head -n 3 | sed 's/^/     /'
show txn -C "$D" restore good etc/passwd || fail restore
check "the file is back, staged" cmp "$D/etc/passwd" "$D/.txn/snapshots/good/etc/passwd"
show txn -C "$D" rollback --force good || fail rollback
check "everything is back, at one instant" [ "$(state "$D")" = "$after" ]
check "git is in order" git fsck --strict
check "the database is in order" [ "$(sqlite3 "$D/app.db" 'pragma integrity_check')" = ok ]

step "A rollback can be undone, and rolled back itself"
show txn -C "$D" undo --force || fail undo
check "the file that was restored before is there" [ -s "$D/etc/passwd" ]
check "and the rest of the accident" [ ! -e "$D/etc/group" ]
show txn -C "$D" rollback --force head~1 || fail rollback
check "the accident, from the history" [ "$(state "$D")" = "$accident" ]
show txn -C "$D" rollback --force good || fail rollback
check "and back for good" [ "$(state "$D")" = "$after" ]

step "Every byte of every state is checked; a state leaves as plain files"
show txn -C "$D" verify || fail verify
show txn -C "$D" export good "$work/exported" || fail export
check "they are the same" [ "$(state "$work/exported")" = "$after" ]
show txn -C "$D" snapshots || fail snapshots

step "Unmount"
show txn umount "$D" || fail "txn umount"
check "the plain files are the last commit" [ "$(state "$D")" = "$after" ]
printf '\n%sdone: every step was checked%s\n' "$bold" "$plain"
