#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Applications that start on the unmounted directory find whole data, and what
# they do there is staged by the next mount: an SQLite database in both journal
# modes, and a git repository.
. "$(dirname "$0")/lib.sh"
for c in sqlite3 git; do command -v $c >/dev/null || skip "no $c"; done
export HOME=$work GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t
export GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t GIT_CONFIG_NOSYSTEM=1

add_rows() { # FILE HOW-MANY
	sqlite3 -bail "$1" "begin immediate;
		with recursive n(v) as (select 1 union all select v + 1 from n
			where v < $2) insert into t select hex(randomblob(50))
			from n; update total set rows = rows + $2; commit;" ||
		fail "sqlite: $1"
}
good() { # WHAT ROWS COMMITS
	local mode
	for mode in delete wal; do
		same "$1, $mode" "$(sqlite3 "$D/$mode.db" 'pragma integrity_check;
			select count(*) from t; select rows from total' |
			tr '\n' ' ')" "ok $2 $2 "
	done
	git -C "$D/repo" fsck --strict >"$work/fsck" 2>&1 ||
		fail "$1: fsck: $(cat "$work/fsck")"
	same "$1: history" "$(git -C "$D/repo" rev-list --count HEAD)" "$3"
	same "$1: work tree" "$(git -C "$D/repo" status --porcelain)" ""
}
work_on() { # ROWS
	add_rows "$D/delete.db" "$1"
	add_rows "$D/wal.db" "$1"
	date +%N >>"$D/repo/file"
	mkdir -p "$D/repo/dir$1"
	echo "$1" >"$D/repo/dir$1/new"
	git -C "$D/repo" mv -k "dir$(($1 - 1))/new" "moved$1" 2>/dev/null
	git -C "$D/repo" add -A && git -C "$D/repo" commit -qm "$1" ||
		fail "git commit"
}

mkdir -p "$D/repo"
for mode in delete wal; do
	sqlite3 "$D/$mode.db" "pragma journal_mode=$mode; create table t(x);
		create index i on t(x); create table total(rows);
		insert into total values(0)" >/dev/null || fail create
done
git -C "$D/repo" init -q
work_on 10
make_store
mount_it
good "mounted" 10 1
work_on 11
commit
umount_it
good "unmounted" 21 2

# --- they work there; what they did is staged, whole ---
work_on 12
git -C "$D/repo" gc -q || fail "git gc"
git -C "$D/repo" checkout -qb branch || fail branch
good "after work on the unmounted directory" 33 3
mount_it 2>"$work/told"
told "delete.db was changed while unmounted: staged" ||
	told "and .* more" || fail "not told"
good "staged" 33 3
work_on 13
good "and gone on with" 46 4
commit
umount_it
good "committed" 46 4

# --- or is taken back, whole ---
work_on 14
mount_it 2>/dev/null
good "staged again" 60 5
abort
good "aborted" 46 4
same "branch" "$(git -C "$D/repo" branch --show-current)" branch
umount_it
good "aborted, unmounted" 46 4

# --- a connection that dies there: its journal is staged with the database ---
sqlite3 "$D/delete.db" "pragma cache_size=5; begin immediate;
	with recursive n(v) as (select 1 union all select v + 1 from n
	where v < 5000) insert into t select hex(randomblob(50)) from n;" \
	".shell kill -9 \$PPID" >/dev/null 2>&1
[ -s "$D/delete.db-journal" ] || fail "it left no hot journal"
mount_it 2>/dev/null
good "a hot journal" 46 4
commit
umount_it
good "rolled back, unmounted" 46 4
txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"

# --- an export that is killed leaves no mount behind ---
mkdir "$work/fake"
cat >"$work/fake/cp" <<EOS
#!/bin/sh
echo \$\$ >'$work/copying'
exec sleep 60
EOS
chmod 755 "$work/fake/cp"
PATH=$work/fake:$PATH txn -C "$D" export head "$work/exported" &
wait_for [ -s "$work/copying" ] || fail "it does not copy"
grep -q txn-export /proc/self/mounts && fail "the mount is to be seen"
txn mount "$D" >"$work/out" 2>&1 && fail "mounted beside a reader"
grep -q "process .*/lock" "$work/out" && grep -q "is being read" "$work/out" ||
	fail "beside a reader: $(cat "$work/out")"
kill -9 $! "$(cat "$work/copying")"
wait $! 2>/dev/null
mount_it
umount_it

# --- a read-only mount is gone when that says so ---
mkdir "$work/ro"
mounts+=("$work/ro")
txn mount -o ro "$D" "$work/ro" || fail "mount -o ro"
pid=$(jq -r .pid "$work/ro/.txn/status")
txn umount "$work/ro" >/dev/null || fail "umount"
is_gone "$pid" || fail "the daemon is still there"
