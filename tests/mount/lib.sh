# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# lib.sh - what the mount tests share: a work folder $work, a directory $D to
# make transactional, mounting over it, and that nothing is left behind. A test
# ends with fail, with skip (status 77), or at its end.
set -u -o pipefail
export LC_ALL=C
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${BUILD:-$top/build}
case $build in /*) ;; *) build=$top/$build ;; esac
export PATH=$build:$PATH
work=$(mktemp -d "${TMPDIR:-/tmp}/txnfs-test.XXXXXX")
D=$work/data
digest=b2sum # a third of the time of sha256sum
# What a sanitizer says about a daemon fails the test. Libraries that are
# preloaded come before its own.
export ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0:log_path=$work/sanitizer
export TSAN_OPTIONS=log_path=$work/sanitizer UBSAN_OPTIONS=log_path=$work/sanitizer

skip() {
	echo "skipped: $*"
	exit 77
}

fail() {
	local i=1 # who asked, not the helper here
	while [[ ${BASH_SOURCE[i]} == */lib.sh && -n ${BASH_SOURCE[i + 1]-} ]]; do
		i=$((i + 1))
	done
	echo "FAILED: $* (${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]})" >&2
	exit 1
}

[ -c /dev/fuse ] || skip "no /dev/fuse"
[ -x "$build/txnfs" ] || fail "$build/txnfs is not built"

# MOUNT_OPTIONS=LIST: every mount of the tests gets these options too, in front
# of its own (which win). Whoever runs txn or txnfs meets what stands in for it.
if [ -n "${MOUNT_OPTIONS-}" ]; then
	mkdir "$work/bin"
	cat >"$work/bin/txn" <<-EOF
		#!/bin/sh
		[ "\$1" != mount ] || { shift; set -- mount -o '$MOUNT_OPTIONS' "\$@"; }
		exec '$build/txn' "\$@"
	EOF
	cat >"$work/bin/txnfs" <<-EOF
		#!/bin/sh
		exec '$build/txnfs' -o '$MOUNT_OPTIONS' "\$@"
	EOF
	chmod 755 "$work/bin" "$work/bin/"*
	export PATH=$work/bin:$PATH
fi

mounts=()
loops=()
at_exit=() # functions, before anything else is taken down
cleanup() {
	local rc=$? p m
	cd /
	for p in "${at_exit[@]}"; do "$p"; done
	for p in $(jobs -p); do kill "$p" 2>/dev/null; done
	for m in "${mounts[@]}"; do
		while mountpoint -q "$m" 2>/dev/null ||
			! stat "$m" >/dev/null 2>&1; do
			fusermount3 -u "$m" 2>/dev/null || umount -l "$m" || break
		done
	done
	# daemons of ours that are still busy
	for p in $(pgrep -f "txnfs (.* )?$work" 2>/dev/null); do
		wait_gone "$p" || kill -9 "$p"
	done
	for m in "${loops[@]}"; do
		umount -l "$m" 2>/dev/null
	done
	if cat "$work"/sanitizer.* 2>/dev/null; then
		echo "FAILED: a sanitizer complained" >&2
		rc=1
	fi
	rm -rf "$work" 2>/dev/null || { # what a test made immutable
		chattr -R -i "$work"
		rm -rf "$work"
	} 2>/dev/null
	exit $rc
}
trap cleanup EXIT

# Where the kernel can and is not told to, root tells it for as long as the test
# takes.
offer_uring() {
	local switch=/sys/module/fuse/parameters/enable_uring
	if [ "$(cat $switch 2>/dev/null)" = N ] && echo Y 2>/dev/null >$switch; then
		not_any_more() { echo N >/sys/module/fuse/parameters/enable_uring; }
		at_exit+=(not_any_more)
	fi
	"$build/txnfs" --help | grep -q "^  transport=io_uring " ||
		skip "$("$build/txnfs" "$work" -o transport=io_uring 2>&1)"
}
case ${MOUNT_OPTIONS-} in *transport=io_uring*) offer_uring ;; esac

# Until a command succeeds; 30 s at most.
wait_for() {
	local end=$((SECONDS + 30))
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		read -rt 0.02 <> <(:) || :
	done
}

# A zombie counts as gone: somebody else has to reap it.
is_gone() {
	! kill -0 "$1" 2>/dev/null ||
		grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}
wait_gone() { wait_for is_gone "$1"; }

# make_store [DIR]: init, after the caller filled it
make_store() {
	mkdir -p "$D"
	txn init --quiet "${1:-$D}" >/dev/null || fail "init"
}

# mount_it [options for txn mount]
mount_it() {
	mounts+=("$D")
	txn mount "$D" "$@" || fail "mount"
}

# told TEXT: a mount said so of edits, to $work/told; beside one that is up they
# are logged
told() {
	case ${MOUNT_OPTIONS-} in *compare=beside*) return ;; esac
	grep -q "$1" "$work/told"
}

umount_it() { txn umount "$D" >/dev/null || fail "umount"; }

daemon_pid() { jq -r .pid "$D/.txn/status"; }

# kill -9 [and wait for a process that used the mount], and the dead mount away
crash() {
	local pid
	pid=$(daemon_pid)
	kill -9 "$pid"
	wait_gone "$pid" || fail "the daemon survived kill -9"
	[ $# = 0 ] || wait "$1"
	umount -l "$D" || fail "cannot remove the dead mount"
}

# crash while the plain files follow, at any moment of that
crash_in_sync() {
	(ctl sync 2>/dev/null) &
	sleep "0.0$((RANDOM % 40))"
	crash $! 2>/dev/null
}

ctl() { echo "$*" >"$D/.txn/ctl"; }
commit() { ctl commit || fail "commit"; }
abort() { ctl abort || fail "abort"; }

same() {
	[ "$2" = "$3" ] || fail "$1: got '$2', want '$3'"
}

# errno_of CMD...: the message that a shell builtin or tool gives on failure
must_fail() {
	if "$@" 2>/dev/null; then
		fail "should have failed: $*"
	fi
}

# Everything about a tree that abort must bring back.
manifest() {
	(
		cd "$1" || exit 1
		stat -c '. %a %U %G' .
		find . -mindepth 1 -path ./.txn -prune -o -mindepth 1 -printf \
			'%P|%y|%m|%U|%G|%T@|%l|' \( -type d -printf '\n' -o \
			-printf '%s|%n\n' \) | sort
		find . -path ./.txn -prune -o -type f -print0 | sort -z |
			xargs -0 -r $digest
		find . -path ./.txn -prune -o -print0 | sort -z |
			xargs -0 -r getfattr -h -d -m- -e hex 2>/dev/null
		# which names are one file
		find . -path ./.txn -prune -o -type f -links +1 -printf '%i %P\n' |
			sort -k1,1n -k2 | awk '{ if ($1 != last) { printf "\n" } \
				last = $1; $1 = ""; printf "%s", $0 }' | sort
	)
}

# A directory with one of everything.
fill_sample() {
	mkdir -p "$D/dir/sub" "$D/empty" "$D/deep/a/b/c"
	echo "first line" >"$D/file"
	seq 1 50000 >"$D/large"
	head -c 900 /dev/urandom >"$D/inline-edge"
	head -c 901 /dev/urandom >"$D/inline-past"
	: >"$D/nothing"
	truncate -s 3M "$D/sparse"
	echo end >>"$D/sparse"
	echo x >"$D/dir/sub/x"
	ln "$D/dir/sub/x" "$D/dir/x-again"
	ln -s ../file "$D/dir/link"
	ln -s /nowhere "$D/dangling"
	mkfifo "$D/fifo"
	[ "$(id -u)" != 0 ] || mknod "$D/null" c 1 3
	for i in $(seq 1 200); do echo "$i" >"$D/deep/a/b/c/$i"; done
	setfattr -n user.note -v "a note" "$D/file" 2>/dev/null || :
	printf 'odd\n' >"$D/$(printf 'new\nline')"
	printf 'odd\n' >"$D/$(printf 'not-utf8-\377')"
	chmod 4711 "$D/inline-edge"
	[ "$(id -u)" != 0 ] || chown 1234:4321 "$D/inline-past"
	touch -d '2001-02-03 04:05:06.789' "$D/file" "$D/dir"
}

# on TYPE MIB mkfs...: the test's function try, given the place of a filesystem of
# that size, and TYPE
on() {
	local img=$work/$1.img at=$work/$1
	command -v "$3" >/dev/null || {
		echo "skipped: no $3"
		return
	}
	mkdir -p "$at"
	truncate -s "$2M" "$img"
	"${@:3}" "$img" >/dev/null 2>&1 || fail "mkfs"
	mount -o loop "$img" "$at" 2>/dev/null || {
		echo "skipped: no loop mounts of $1"
		return
	}
	loops+=("$at")
	try "$at" "$1"
	mounts=()
	umount "$at"
	rm "$img"
}
