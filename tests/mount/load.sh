# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
#
# load.sh - programs (load.c) that write to the mount and know what has to be
# there afterwards: start some, let something happen, check. Needs lib.sh.

load=$build/tests/mount/load
load_n=0
loads=()

# load_start COUNT: in $loads, below $D/load
load_start() {
	local i seed
	loads=()
	rm -rf "$D/load"
	load_n=$((load_n + 1))
	for i in $(seq "$1"); do
		mkdir -p "$D/load/$i"
		sync "$D/load/$i"
		rm -f "$work/record.$i"
		seed=$((${SEED:-$RANDOM} * 1000 + load_n * 10 + i))
		echo "$seed" >"$work/seed.$i"
		"$load" run "$D/load/$i" "$work/record.$i" "$seed" \
			../../.txn/ctl 2>>"$work/load.err" &
		loads+=($!)
	done
}

# load_done: how many operations are done
load_done() {
	perl -e 'my ($n, $text) = 0; for (@ARGV) { open(my $f, "<", $_) or next;
		read($f, $text, 16) == 16 and $n += (unpack("Q2", $text))[1] }
		print $n' "$work"/record.*
}
has_done() { [ "$(load_done)" -ge "$1" ]; }
load_reach() { # COUNT more
	wait_for has_done $(($(load_done) + $1)) ||
		fail "the load is stuck: $(cat "$work/load.err")"
}

# load_end STATUS [STATUS]: 0, they are told to end; 3, the mount was lost; 4, the
# store had stopped
load_end() {
	local p rc
	for p in "${loads[@]}"; do
		[ "$1" != 0 ] || kill -TERM "$p" 2>/dev/null
		wait "$p"
		rc=$?
		[ $rc = "$1" ] || [ $rc = "${2-$1}" ] ||
			fail "the load ended with $rc: $(cat "$work/load.err")"
	done
}

# load_check exact|crash: the state that is shown, and head
load_check() {
	local i what
	for i in $(seq ${#loads[@]}); do
		for what in "$1 load" "head .txn/head/load"; do
			"$load" check "$D/${what#* }/$i" "$work/record.$i" \
				"$(cat "$work/seed.$i")" - "${what% *}" \
				>"$work/out" 2>&1 ||
				fail "$what, seed $(cat "$work/seed.$i"): $(cat "$work/out")"
		done
	done
	txn -C "$D" verify >"$work/out" || fail "verify: $(cat "$work/out")"
}
