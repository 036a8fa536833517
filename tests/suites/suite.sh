# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154
#
# suite.sh - what the runs of foreign suites share: a mounted store with a
# folder $R for the suite and another one that is disturbed beside it, and the
# checks at the end. Suites are not part of this project and not fetched by it.
. "$(dirname "${BASH_SOURCE[0]}")/../mount/lib.sh"

R=$D/run
# openssl's is several times faster where the processor helps.
if command -v openssl >/dev/null; then
	sha256='openssl dgst -sha256 -r'
fi
disturbers=()

pause() { read -rt "$1" <> <(:) || :; }

# A file that exists tells the disturbers to end.
stopping() { [ -e "$work/stop" ]; }

commits() {
	until stopping; do
		ctl "commit beside the suite" || return 1
		pause 0.2
	done
}

# Go back on another path, and keep names for a short while.
restores() {
	local i=0
	until stopping; do
		i=$((i + 1))
		echo "$i" >"$D/other/changed" || return 1
		rm -rf "$D/other/sub" || return 1
		ctl "snapshot s$i" || return 1
		if ctl "restore base other" 2>"$work/restore.err"; then
			manifest "$D/other" | diff "$work/other" - || return 1
			echo "done" >>"$work/restores"
		else # EAGAIN: too much changed beside it
			grep -q "temporarily unavailable" "$work/restore.err" ||
				return 1
			echo again >>"$work/restores"
		fi
		[ $i -lt 4 ] || ctl "delete s$((i - 3))" || return 1
		pause 0.3
	done
}

verifies() {
	until stopping; do
		txn -C "$D" verify >"$work/verify.out" 2>&1 || {
			cat "$work/verify.out"
			return 1
		}
		pause 1
	done
}

# suite_start: the store, mounted; root's umask and modes stay as they are
suite_start() {
	mkdir -p "$R" "$D/other/sub"
	cp -r "$top/txn/." "$D/other/sub"
	make_store
	mount_it
	txn -C "$D" set keep.last 5 >/dev/null || fail "set"
	txn -C "$D" snapshot base >/dev/null || fail "snapshot"
	manifest "$D/other" >"$work/other"
}

disturb() {
	rm -f "$work/stop"
	disturbers=()
	commits & disturbers+=($!)
	restores & disturbers+=($!)
	verifies & disturbers+=($!)
}

disturb_end() {
	local p bad=0
	[ ${#disturbers[@]} -gt 0 ] || return 0
	touch "$work/stop"
	for p in "${disturbers[@]}"; do
		wait "$p" || bad=1
	done
	disturbers=()
	echo "  restores beside: $(grep -c "done" "$work/restores")," \
		"told to try again: $(grep -c again "$work/restores")"
	[ $bad = 0 ] || fail "beside the suite: $(tail -n 3 "$D/.txn/error")"
	echo "  commits beside: $(jq -r .head.number "$D/.txn/status")"
}

# Nothing is damaged; the same tree after a remount and in an export.
check_all() {
	txn -C "$D" verify || fail "verify"
	manifest "$D" >"$work/before"
	umount_it
	txn -C "$D" verify || fail "verify, unmounted"
	mount_it
	manifest "$D" | diff "$work/before" - >"$work/diff" || {
		head -n 20 "$work/diff"
		fail "a remount shows another tree"
	}
	ctl "commit the end" || fail "commit"
	rm -rf "$work/export"
	txn -C "$D" export head "$work/export" >/dev/null || fail "export"
	manifest "$work/export" | diff "$work/before" - >"$work/diff" || {
		head -n 20 "$work/diff"
		fail "an export of head is another tree"
	}
	rm -rf "$work/export"
	echo "  the same after a remount and in an export:" \
		"$(grep -c '|' "$work/before") names"
}
