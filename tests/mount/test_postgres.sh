#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# PostgreSQL with its data on the mount, told right or wrong by pg_amcheck,
# pg_checksums and pgbench's own sums: a snapshot taken under load and started
# elsewhere, commits under load, a rollback, kill -9 of the mount under load
# with every acknowledged transaction there afterwards.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-2}

[ "$(id -u)" = 0 ] || skip "not root: the server runs as an ordinary user"
command -v setpriv >/dev/null || skip "no setpriv"
# shellcheck disable=SC2012 # names of Debian's own
pg=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$pg/postgres" ] ||
	skip "no PostgreSQL (tools/deps.sh --long installs it)"
[ -x "$pg/pg_amcheck" ] || skip "PostgreSQL without pg_amcheck: older than 14"
nobody=(setpriv --reuid nobody --regid nogroup --clear-groups)
as() { "${nobody[@]}" "$@"; }
# A server that is left keeps its mount busy.
declare -A servers
end_servers() {
	local s
	for s in "${servers[@]}"; do
		kill -QUIT "$s" 2>/dev/null
		wait_gone "$s" || kill -9 "$s"
	done
}
at_exit+=(end_servers)

clients=8
chmod 755 "$work"
mkdir -p "$D"
chown nobody:nogroup "$D"
make_store
mount_it

# Servers are told apart by the folder of their socket.
start() { # NAME DIR
	install -d -o nobody -g nogroup "$work/$1"
	"${nobody[@]}" "$pg/postgres" -D "$2" -k "$work/$1" \
		-c listen_addresses= >>"$work/$1.log" 2>&1 &
	servers[$1]=$!
	wait_for as "$pg/pg_isready" -q -h "$work/$1" ||
		fail "$1 does not start: $(tail -n 20 "$work/$1.log")"
}
stop() { # NAME
	kill -INT "${servers[$1]}"
	wait_gone "${servers[$1]}" || fail "$1 does not stop"
	wait "${servers[$1]}" || fail "$1 stopped with status $?"
	unset "servers[$1]"
}
sql() { # NAME QUERY [DATABASE]
	as "$pg/psql" -XAtq -h "$work/$1" -U postgres -d "${3-postgres}" -c "$2"
}
count() { sql "$1" 'select count(*) from pgbench_history'; }
# What each transaction of pgbench keeps: four sums are equal.
consistent() { # NAME
	local sums
	sums=$(sql "$1" "select (select sum(abalance) from pgbench_accounts)
			= all (array[(select sum(bbalance) from pgbench_branches),
			(select sum(tbalance) from pgbench_tellers),
			(select coalesce(sum(delta), 0) from pgbench_history)])")
	same "$1: pgbench's sums agree" "$sums" t
}
checked() { # NAME
	consistent "$1"
	as "$pg/pg_amcheck" -h "$work/$1" -U postgres --all \
		--heapallindexed >"$work/out" 2>&1 ||
		fail "$1: pg_amcheck: $(tail -n 5 "$work/out")"
	same "$1: pg_amcheck" "$(cat "$work/out")" ""
}
checksums() { # DIR
	as "$pg/pg_checksums" --check -D "$1" >"$work/out" 2>&1 ||
		fail "pg_checksums $1: $(tail -n 5 "$work/out")"
	grep -q '^Bad checksums: *0$' "$work/out" || fail "pg_checksums $1"
}
# Many transactions in the background; moments are told by how many there are.
bench_start() { # TRANSACTIONS OF EACH CLIENT
	"${nobody[@]}" "$pg/pgbench" -h "$work/main" -U postgres -n -c $clients -j 2 -t "$1" \
		postgres >"$work/bench" 2>"$work/bench.err" &
	bench=$!
}
processed() {
	sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' \
		"$work/bench"
}
bench_end() {
	wait "$bench" || fail "pgbench: $(tail -n 5 "$work/bench.err")"
}
has_at_least() { [ "$(count main)" -ge "$1" ]; }
reach() { wait_for has_at_least "$1" || fail "pgbench is stuck at $(count main)"; }

as "$pg/initdb" -D "$D/pg" -U postgres -A trust --data-checksums --locale=C \
	>"$work/out" 2>&1 || fail "initdb: $(tail -n 5 "$work/out")"
as tee -a "$D/pg/postgresql.conf" >/dev/null <<-EOC
	shared_buffers = 16MB
	max_wal_size = 64MB
	min_wal_size = 32MB
	checkpoint_timeout = 30s
	dynamic_shared_memory_type = mmap
	synchronous_commit = on
EOC
start main "$D/pg"
as "$pg/pgbench" -h "$work/main" -U postgres -q -i -s 5 postgres \
	>"$work/out" 2>&1 || fail "pgbench -i: $(tail -n 5 "$work/out")"
for db in postgres template1; do
	sql main "create extension amcheck" "$db" || fail "no amcheck"
done
commit

# --- a snapshot under load, started elsewhere ---
n=1500
bench_start $((n / clients))
reach 300
ctl "snapshot under-load" || fail snapshot
low=300 high=$(count main)
for _ in 1 2 3 4 5; do commit; done
bench_end
total=$(count main)
same "main: transactions" "$total" "$(processed)"
txn -C "$D" export under-load "$work/exported" >"$work/out" 2>&1 ||
	fail "export: $(cat "$work/out")"
rm "$work/exported/pg/postmaster.pid" # names the server that runs here
start copy "$work/exported/pg"
grep -q 'automatic recovery' "$work/copy.log" || fail "nothing was recovered"
got=$(count copy)
{ [ "$got" -ge $low ] && [ "$got" -le "$high" ]; } ||
	fail "the snapshot has $got transactions, not $low to $high"
checked copy
stop copy
checksums "$work/exported/pg"
rm -rf "$work/exported"
checked main
stop main
checksums "$D/pg"
commit
echo "figure: PostgreSQL: a snapshot after $got of $total transactions recovers elsewhere"

# --- rolled back to it ---
ctl "rollback under-load" || fail rollback
start main "$D/pg"
same "rolled back" "$(count main)" "$got"
checked main
bench_start 50
bench_end
same "and goes on" "$(count main)" $((got + 50 * clients))
total=$(count main)
stop main
abort # staged since the rollback
start main "$D/pg"
same "aborted" "$(count main)" "$got"
checked main
total=$got

# --- kill -9 of the mount under load ---
for round in $(seq "$rounds"); do
	bench_start 100000
	reach $((total + 200))
	commit
	reach $((total + 400 + RANDOM % 200))
	pid=$(daemon_pid)
	kill -9 "$pid"
	wait_gone "$pid" || fail "the daemon survived kill -9"
	wait "$bench" && fail "pgbench did not notice"
	kill -9 "${servers[main]}" 2>/dev/null
	{ wait "${servers[main]}"; } 2>/dev/null
	unset "servers[main]"
	umount -l "$D" || fail "cannot remove the dead mount"
	mount_it
	acked=$((total + $(processed)))
	start main "$D/pg"
	got=$(count main)
	# Each client may have had one that it got no answer for.
	{ [ "$got" -ge $acked ] && [ "$got" -le $((acked + clients)) ]; } ||
		fail "round $round: $got transactions, $acked acknowledged"
	total=$got
	checked main
	echo "figure: PostgreSQL: the mount killed after $acked acknowledged transactions: $got are there"
done
stop main
checksums "$D/pg"
commit
txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
umount_it
