#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Applications on the mount, told right or wrong by their own tools, while
# commits and snapshots happen beside them: SQLite, git, rsync, tar, make and a
# compiler, inotify, tail -f, an executable that runs from the mount. APPS="a b"
# runs only these parts.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-15}

mkdir -p "$D"
echo 1 >"$D/a"
make_store
mount_it

needs() { # PART COMMAND...: false, and told, when one is missing
	local part=$1 c
	shift
	for c in "$@"; do
		command -v "$c" >/dev/null && continue
		echo "skipped: $part: no $c (tools/deps.sh installs it)"
		return 1
	done
}

# Commits and snapshots one after the other until told to stop. Named states are
# PART-1, PART-2, ... The pause makes no child: when one ends, SIGCHLD interrupts
# the command that waits.
mkfifo "$work/never"
exec {never}<>"$work/never"
beside_start() { # PART
	: >"$work/beside"
	rm -f "$work/stop"
	(
		n=0
		while [ ! -e "$work/stop" ]; do
			n=$((n + 1))
			ctl "commit beside $1" && ctl "snapshot $1-$n" &&
				{ [ $n -le 3 ] || ctl "delete $1-$((n - 3))"; } ||
				{ tail -n 3 "$D/.txn/error"; exit 1; }
			echo "$n" >>"$work/beside"
			read -rt 0.05 -u "$never" || :
		done
	) &
	beside=$!
	wait_for test -s "$work/beside" || fail "$1: no commit beside"
}
beside_stop() { # in $commits
	touch "$work/stop"
	wait "$beside" || fail "commits beside"
	commits=$(wc -l <"$work/beside")
}
state_of() { echo "$D/.txn/snapshots/$1"; }

# --- SQLite: 8 processes, each transaction 10 rows ---
sql() { sqlite3 -bail -cmd '.timeout 60000' "$@"; }
sqlite_writer() { # FILE WHO TRANSACTIONS
	local i
	{
		# Half of them read through a mapping.
		[ $(($2 % 2)) = 0 ] || echo "pragma mmap_size=268435456;"
		for i in $(seq "$3"); do
			echo "begin immediate;"
			echo "with recursive n(v) as (select 1 union all
				select v + 1 from n where v < 10)
				insert into t(who, what) select $2,
				hex(randomblob(40)) from n;"
			echo "update total set rows = rows + 10;"
			echo "commit;"
			[ $((i % 8)) != 0 ] ||
				echo "select count(*) from t where who = $2;"
		done
	} | sql "$1"
}
sqlite_good() { # FILE WHAT: the rows, in $rows
	same "$2: integrity" "$(sql "$1" 'pragma integrity_check')" ok
	rows=$(sql "$1" 'select count(*) from t')
	same "$2: rows" "$rows" "$(sql "$1" 'select rows from total')"
	same "$2: halves of transactions" "$(sql "$1" \
		'select count(*) from t group by who having count(*) % 10')" ""
}
sqlite_mode() { # MODE
	local db=$D/$1.db pids=() p i
	sql "$db" "pragma journal_mode=$1;
		create table t(id integer primary key, who, what);
		create index by_what on t(what); create index by_who on t(who);
		create table total(rows); insert into total values(0);" >/dev/null ||
		fail "$1: create"
	beside_start "sqlite-$1"
	for i in $(seq 8); do
		sqlite_writer "$db" "$i" "$rounds" >"$work/sql.$i" 2>&1 &
		pids+=($!)
	done
	i=0
	for p in "${pids[@]}"; do
		i=$((i + 1))
		wait "$p" || fail "$1: process $i: $(tail -n 3 "$work/sql.$i")"
	done
	beside_stop
	sqlite_good "$db" "$1"
	same "$1: rows" "$rows" $((8 * 10 * rounds))
	same "$1: mode" "$(sql "$db" 'pragma journal_mode')" "$1"

	# A state of that time, taken elsewhere: SQLite recovers it.
	txn -C "$D" export "sqlite-$1-$((commits - 1))" "$work/$1" || fail "export"
	sqlite_good "$work/$1/$1.db" "$1, exported"

	# Back to the last commit, and to a state of that time.
	commit
	sql "$db" "delete from t; vacuum;" || fail "$1: delete"
	same "$1: deleted" "$(sql "$db" 'select count(*) from t')" 0
	abort
	sqlite_good "$db" "$1, aborted"
	same "$1: aborted" "$rows" $((8 * 10 * rounds))
	ctl "rollback sqlite-$1-$((commits - 1))" || fail "$1: rollback"
	sqlite_good "$db" "$1, rolled back"
	same "$1: rolled back" "$rows" "$(sql "$work/$1/$1.db" \
		'select count(*) from t')"
	sqlite_writer "$db" 9 3 >/dev/null || fail "$1: goes on"
	sqlite_good "$db" "$1, goes on"
	commit
	echo "figure: SQLite, $1: 8 processes, $((8 * rounds)) transactions beside $commits commits and snapshots"
}
part_sqlite() {
	needs sqlite sqlite3 || return 0
	sqlite_mode wal
	sqlite_mode delete
}

# --- git ---
part_git() {
	needs git git || return 0
	local i before r=$D/clone
	export GIT_CONFIG_GLOBAL=$work/gitconfig GIT_CONFIG_SYSTEM=/dev/null
	git config --global user.name nobody
	git config --global user.email nobody@localhost
	git config --global init.defaultBranch main
	git config --global gc.auto 0
	git config --global core.fsync all
	git config --global core.fsyncMethod batch
	git init -q "$work/origin" || fail "git init"
	cp -r "$top"/{fs,txn,tools} "$work/origin"
	git -C "$work/origin" add . && git -C "$work/origin" commit -qm first ||
		fail "git commit"
	beside_start git
	git clone -q --no-local "$work/origin" "$r" || fail "git clone"
	for i in $(seq "$rounds"); do
		echo "$i" >>"$r/fs/fs.c"
		git -C "$r" mv "tools/abort.c" "tools/abort.$i" || fail "git mv"
		git -C "$r" commit -qam "change $i" || fail "git commit $i"
		git -C "$r" checkout -q -b "side-$i" HEAD~1 || fail "git checkout"
		echo "$i" >"$r/new"
		git -C "$r" add new || fail "git add"
		git -C "$r" commit -qm "side $i" || fail "git commit on side"
		git -C "$r" checkout -q main || fail "git checkout main"
		git -C "$r" merge -q -m merge "side-$i" || fail "git merge"
		git -C "$r" mv "tools/abort.$i" tools/abort.c || fail "git mv"
		git -C "$r" rm -q new || fail "git rm"
		git -C "$r" commit -qm "back $i" || fail "git commit $i"
	done
	git -C "$r" gc -q --prune=now || fail "git gc"
	beside_stop
	git -C "$r" fsck --full --strict >"$work/out" 2>&1 ||
		fail "git fsck: $(cat "$work/out")"
	same "git commits" "$(git -C "$r" rev-list --count main)" \
		$((1 + rounds * 4))
	same "git status" "$(git -C "$r" status --porcelain)" ""
	commit

	# An abort brings back the repository with its index: nothing differs.
	before=$(git -C "$r" rev-parse HEAD)
	echo more >>"$r/fs/fs.c"
	git -C "$r" commit -qam more || fail "git commit"
	git -C "$r" repack -adq || fail "git repack"
	git -C "$r" pack-refs --all || fail "git pack-refs"
	abort
	git -C "$r" fsck --full --strict >"$work/out" 2>&1 ||
		fail "git fsck after abort: $(cat "$work/out")"
	same "git HEAD after abort" "$(git -C "$r" rev-parse HEAD)" "$before"
	same "git status after abort" "$(git -C "$r" status --porcelain)" ""
	# from a state that is looked at, and back out of the mount
	git -c safe.directory='*' clone -q --no-local "$D/.txn/head/clone" \
		"$work/clone" || fail "git clone from head"
	git -C "$work/clone" fsck --full --strict >"$work/out" 2>&1 ||
		fail "git fsck of the clone: $(cat "$work/out")"
	diff -r --exclude=.git "$r" "$work/clone" || fail "git: clones differ"
	rm -rf "$r" "$work/clone"
	commit
	echo "figure: git: $((1 + rounds * 4)) commits, gc and fsck beside $commits commits and snapshots"
}

# --- a tree of everything, for rsync and tar ---
fill_tree() { # DIR
	local t=$1 i
	mkdir -p "$t/dir/deep/er" "$t/empty"
	echo text >"$t/file"
	head -c 300000 /dev/urandom >"$t/large"
	: >"$t/nothing"
	for i in $(seq 300); do echo "$i" >"$t/dir/deep/$i"; done
	ln "$t/large" "$t/dir/same"
	ln "$t/large" "$t/dir/deep/er/same"
	ln "$t/dir/deep/1" "$t/dir/deep/one"
	ln -s ../file "$t/dir/link"
	ln -s /nowhere "$t/dangling"
	ln -P "$t/dangling" "$t/dangling-too"
	mkfifo "$t/fifo"
	if [ "$(id -u)" = 0 ]; then
		mknod "$t/null" c 1 3
		mknod "$t/block" b 7 200
		chown 1234:4321 "$t/nothing" "$t/dir/deep/er"
		chown -h 77:88 "$t/dangling"
		setfattr -n trusted.note -v hidden "$t/file" 2>/dev/null
		# CAP_NET_RAW
		setfattr -n security.capability \
			-v 0x0100000200200000000000000000000000000000 \
			"$t/dir/deep/3" 2>/dev/null
	fi
	# holes before, between and after data
	truncate -s 8M "$t/sparse"
	printf 'data' | dd of="$t/sparse" bs=1M seek=3 conv=notrunc 2>/dev/null
	head -c 100000 /dev/urandom |
		dd of="$t/sparse" bs=4096 seek=1500 conv=notrunc 2>/dev/null
	truncate -s 4M "$t/hole"
	chmod 6755 "$t/dir/deep/2"
	chmod 1777 "$t/empty"
	chmod 0 "$t/dir/deep/4"
	echo odd >"$t/$(printf 'new\nline')"
	echo odd >"$t/$(printf 'not-utf8-\377')"
	setfattr -n user.note -v "a note" "$t/file" 2>/dev/null
	setfattr -n user.empty "$t/file" 2>/dev/null
	setfattr -n user.big -v "$(printf 'v%.0s' {1..3000})" "$t/dir" 2>/dev/null
	setfacl -m u:1234:rw,g:4321:r "$t/file" 2>/dev/null
	setfacl -m u:1234:rx -m d:u:1234:rwx,d:g::r "$t/dir/deep/er" 2>/dev/null
	touch -d '2001-02-03 04:05:06.789012345' "$t/file" "$t/large"
	touch -h -d '1999-12-31 23:59:59.999999999' "$t/dangling"
	touch -d '1960-01-01 00:00:00.5' "$t/dir/deep/5"
	touch -d '2100-06-07 08:09:10.000000001' "$t/dir/deep" "$t/dir" "$t/fifo"
}
holes() { # FILE: where data begins and ends, by SEEK_DATA and SEEK_HOLE
	perl -e 'open my $f, "<", $ARGV[0] or die; my $at = 0;
		while (defined(my $d = sysseek $f, $at, 3)) {
			$at = sysseek $f, $d, 4; print $d + 0, "-$at " }' "$1"
}
same_tree() { # WHAT DIR DIR
	manifest "$2" >"$work/m1"
	manifest "$3" >"$work/m2"
	diff "$work/m1" "$work/m2" >"$work/out" ||
		fail "$1: $(head -n 20 "$work/out")"
}
is_sparse() { # WHAT DIR: as the tree of $1/sparse and hole was made
	local kib
	same "$1: hole" "$(du -k "$2/hole" | cut -f1)" 0
	kib=$(du -k "$2/sparse" | cut -f1)
	[ "$kib" -lt 200 ] || fail "$1: sparse has $kib KiB"
	[[ $(holes "$2/sparse") == *-*-* ]] || fail "$1: holes: $(holes "$2/sparse")"
}

part_rsync() {
	needs rsync rsync setfacl setfattr || return 0
	local sync=(rsync -aHAXS --numeric-ids --modify-window=-1) # -1: ns
	local src=$work/rsync-src back=$work/rsync-back r=$D/rsync
	fill_tree "$src"
	[ "$(id -u)" != 0 ] || ln "$src/null" "$src/null-too" # tar makes two
	"${sync[@]}" "$src/" "$r/" || fail "rsync there"
	nothing_left() { # FROM TO WHAT
		"${sync[@]}" -ni --delete --checksum "$1/" "$2/" >"$work/out" ||
			fail "rsync, $3"
		same "rsync, $3: left to transfer" "$(cat "$work/out")" ""
		"${sync[@]}" -i --delete "$1/" "$2/" >"$work/out" || fail "rsync, $3"
		same "rsync, $3: transferred again" "$(cat "$work/out")" ""
	}
	nothing_left "$src" "$r" "there"
	is_sparse rsync "$r"
	commit
	nothing_left "$src" "$r" "committed"
	same_tree "rsync: there" "$src" "$r"
	rm -r "$r/dir"
	chmod 600 "$r/file"
	setfacl -b "$r/file"
	abort
	nothing_left "$src" "$r" "aborted"
	umount_it
	mount_it
	nothing_left "$src" "$r" "mounted again"
	"${sync[@]}" "$r/" "$back/" || fail "rsync back"
	nothing_left "$r" "$back" "back"
	same_tree "rsync: back" "$src" "$back"
	# what changed goes over a second time, in place
	echo changed >>"$src/large"
	rm "$src/dir/deep/7"
	"${sync[@]}" -i --delete --inplace --no-whole-file "$src/" "$r/" \
		>"$work/out" || fail "rsync: changes"
	same "rsync: changes" "$(grep -cE '^(>f|\*del|hf|\.d)' "$work/out")" \
		"$(wc -l <"$work/out")"
	nothing_left "$src" "$r" "changes"
	"${sync[@]}" "$D/.txn/head/rsync/" "$work/rsync-head/" || fail "rsync: head"
	same_tree "rsync: out of head" "$back" "$work/rsync-head"
	rm -rf "$r"
	commit
}

part_tar() {
	needs tar tar setfacl setfattr || return 0
	local src=$work/tar-src back=$work/tar-back r=$D/tar
	local pack=(tar --sparse --xattrs '--xattrs-include=*' --acls --format=pax
		--numeric-owner --sort=name)
	local unpack=(tar --xattrs '--xattrs-include=*' --acls --numeric-owner -p
		--warning=no-timestamp)
	fill_tree "$src"
	mkdir "$r" "$back"
	"${pack[@]}" -C "$src" -cf "$work/t.tar" . || fail "tar: pack"
	"${unpack[@]}" -C "$r" -xf "$work/t.tar" || fail "tar: unpack"
	commit
	"${unpack[@]}" -C "$r" -df "$work/t.tar" >"$work/out" 2>&1 ||
		fail "tar -d: $(head -n 5 "$work/out")"
	is_sparse tar "$r"
	same_tree "tar: there" "$src" "$r"
	"${pack[@]}" -C "$r" -cf "$work/t2.tar" . || fail "tar: pack again"
	[ "$(stat -c %s "$work/t2.tar")" -lt 2000000 ] ||
		fail "tar: holes were packed: $(stat -c %s "$work/t2.tar") bytes"
	"${unpack[@]}" -C "$back" -xf "$work/t2.tar" || fail "tar: unpack back"
	same_tree "tar: back" "$src" "$back"
	rm -rf "$r" "$back"
	commit
}

# --- make and a compiler, and what they made is run from the mount ---
part_compile() {
	needs compile make "${CC:-cc}" || return 0
	local s=$D/src m
	m=(env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u BUILD -u SAN -u LIBFUSE
		make -s CFLAGS=-O0
		-C "$s")
	mkdir "$s"
	cp -r "$top"/{fs,txn,tools,Makefile} "$s"
	beside_start compile
	"${m[@]}" -j2 build/txn build/txnfs >"$work/out" 2>&1 ||
		fail "make: $(tail -n 5 "$work/out")"
	beside_stop
	"${m[@]}" -q build/txn || fail "make: done, and not up to date"
	commit
	umount_it
	mount_it
	"${m[@]}" -q build/txn || fail "make: mounted again, not up to date"
	# a store made by what was built on the mount
	mkdir "$work/inner"
	cp "$s"/fs/*.c "$work/inner"
	"$s/build/txn" init --quiet "$work/inner" >/dev/null ||
		fail "the built txn: init"
	"$s/build/txn" -C "$work/inner" verify >/dev/null ||
		fail "the built txn: verify"
	touch "$s/txn/base.c"
	"${m[@]}" -q build/txn && fail "make: a newer source is not seen"
	abort
	"${m[@]}" -q build/txn || fail "make: aborted, not up to date"
	"$s/build/txn" --help >/dev/null || fail "the built txn after abort"
	rm -rf "$s"
	commit
	echo "figure: make and cc -O0 of fs, txn and tools beside $commits commits and snapshots"
}

# --- inotify ---
events() { sort "$work/events" | uniq -c | sed 's/^ *//'; }
seen() { grep -qxF -- "$1" "$work/events"; }
saw() { wait_for seen "$1" || fail "inotify: no '$1' in: $(cat "$work/events")"; }
part_inotify() {
	needs inotify inotifywait || return 0
	local w=$D/watch watcher
	mkdir -p "$w/sub"
	: >"$work/events"
	inotifywait -m -r --format '%e %w%f' "$w" >"$work/events" \
		2>"$work/inotify" &
	watcher=$!
	wait_for grep -q established "$work/inotify" || fail inotifywait
	bash -c 'echo one >"$1/f"' - "$w"
	saw "CREATE $w/f"
	saw "MODIFY $w/f"
	saw "CLOSE_WRITE,CLOSE $w/f"
	bash -c 'mv "$1/f" "$1/sub/g"' - "$w"
	saw "MOVED_FROM $w/f"
	saw "MOVED_TO $w/sub/g"
	chmod 600 "$w/sub/g"
	saw "ATTRIB $w/sub/g"
	# A commit is nothing that anybody hears of.
	wc -l <"$work/events" >"$work/before"
	commit
	ctl "snapshot inotify" || fail snapshot
	cat "$w/sub/g" >/dev/null
	saw "OPEN $w/sub/g"
	same "inotify: by a commit" "$(tail -n +$(($(cat "$work/before") + 1)) \
		"$work/events" | grep -vE '^(OPEN|ACCESS|CLOSE_NOWRITE,CLOSE) ')" ""
	mkdir "$w/sub/new"
	saw "CREATE,ISDIR $w/sub/new"
	rm "$w/sub/g"
	saw "DELETE $w/sub/g"
	rmdir "$w/sub/new"
	saw "DELETE,ISDIR $w/sub/new"
	# The watched directories are the same ones after an abort.
	abort
	[ -e "$w/sub/g" ] || fail "inotify: abort"
	echo two >"$w/sub/after"
	saw "CREATE $w/sub/after"
	saw "CLOSE_WRITE,CLOSE $w/sub/after"
	kill $watcher
	wait $watcher 2>/dev/null
	rm -r "$w"
	commit
}

# --- tail -f ---
part_tail() {
	needs tail tail || return 0
	local log=$D/log i n=$((rounds * 60)) t1 t2 args
	: >"$log"
	tail -n +1 -f "$log" >"$work/tail1" &
	t1=$!
	tail -n +1 -F -s 0.05 ---disable-inotify "$log" >"$work/tail2" 2>/dev/null &
	t2=$!
	bash -c 'for i in $(seq "$2"); do echo "line $i" >>"$1"; done' - "$log" "$n" &
	i=0
	while kill -0 $! 2>/dev/null; do
		commit
		i=$((i + 1))
	done
	wait $! || fail "tail: the writer"
	for args in 1 2; do
		wait_for grep -qx "line $n" "$work/tail$args" ||
			fail "tail $args: the last is $(tail -n 1 "$work/tail$args")"
		seq -f 'line %.0f' "$n" | cmp - "$work/tail$args" ||
			fail "tail $args: lines"
	done
	kill $t1 $t2
	wait $t1 $t2 2>/dev/null
	rm "$log"
	commit
	echo "figure: tail -f: $n lines across $i commits"
}

# --- an executable that runs from the mount ---
declare -A exes
exe_start() { # FILE VERSION
	local fd
	: >"$work/exe.$2"
	exec {fd}> >(
		for fd in "${exes[@]}"; do exec {fd}>&-; done
		exec "$1" "$2" >"$work/exe.$2"
	)
	exes[$2]=$fd
	wait_for grep -q "^$2 ready" "$work/exe.$2" || fail "exe $2: start"
}
exe_end() { # VERSION
	local fd=${exes[$1]}
	exec {fd}>&-
}
exe_is_good() { # WHEN VERSION...: it reads all its pages again
	local when=$1 v n
	shift
	for v in "$@"; do
		n=$(($(wc -l <"$work/exe.$v") + 1))
		echo go >&"${exes[$v]}" || fail "exe $v: $when: it is gone"
		wait_for eval "[ \$(wc -l <'$work/exe.$v') -ge $n ]" ||
			fail "exe $v: $when: no answer"
		same "exe $v: $when" "$(tail -n 1 "$work/exe.$v")" "$v good"
	done
}
is_writable() { (: >>"$1") 2>/dev/null; }
busy() { # FILE WHEN
	local err
	err=$({ : >>"$1"; } 2>&1) && fail "exe: $2: can be written"
	[[ $err == *"Text file busy"* ]] || fail "exe: $2: $err"
}
runs_not() { # FILE WHEN
	local err
	err=$("$1" x 2>&1 </dev/null) && fail "exe: $2: it ran"
	[[ $err == *"Text file busy"* ]] || fail "exe: $2: $err"
}
part_exe() {
	local prog=$D/exe original=$build/tests/mount/exe
	cp "$original" "$prog" || fail "exe is not built"
	commit
	exe_start "$prog" one
	exe_is_good "at first" one
	busy "$prog" "while it runs"
	commit
	exe_is_good "after a commit" one
	busy "$prog" "after a commit"
	cp "$prog" "$prog.other"
	exec 6>>"$prog.other"
	runs_not "$prog.other" "open for writing"
	commit
	runs_not "$prog.other" "open for writing, committed"
	exec 6>&-
	same "exe: closed" "$(echo go | "$prog.other" x | tail -n 1)" "x good"
	rm "$prog.other"

	# Replaced under its name, as installers do: both run on, whatever state
	# is shown.
	cp "$prog" "$prog.new"
	echo tail >>"$prog.new"
	mv "$prog.new" "$prog"
	exe_is_good "replaced" one
	commit
	exe_start "$prog" two
	exe_is_good "replaced, and committed" one two
	: >"$prog.later"
	abort
	exe_is_good "after an abort of something else" one two
	ctl "rollback head~1" || fail "exe: rollback"
	cmp "$prog" "$original" || fail "exe: not rolled back"
	exe_is_good "after a rollback" one two
	busy "$prog" "it is again what one runs"
	exe_end one
	wait_for is_writable "$prog" || fail "exe: cannot write what nobody runs"
	echo x >>"$prog"
	exe_is_good "what was restored is written" two
	abort
	exe_is_good "aborted again" two
	exe_end two
	same "exe: runs" "$(echo go | "$prog" x | tail -n 1)" "x good"

	# Changed in place, run, aborted: the program keeps what it began with.
	head -c 100000 /dev/zero | cat "$original" - >"$prog"
	exe_start "$prog" three
	exe_is_good "changed in place" three
	abort
	cmp "$prog" "$original" || fail "exe: not aborted"
	exe_is_good "after an abort of its contents" three
	echo x >>"$prog" || fail "exe: the restored one is not run by anybody"
	exe_is_good "what was restored is written" three
	commit
	exe_is_good "and committed" three
	exe_end three
	rm "$prog"
	commit
}

for part in ${APPS:-sqlite git rsync tar compile inotify tail exe}; do
	start=$(date +%s%N)
	"part_$part"
	echo "part $part: $((($(date +%s%N) - start) / 1000000)) ms"
done
txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
umount_it
