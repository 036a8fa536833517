#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the daemon keeps for each file that the kernel knows, many threads of it
# having met them; and that this memory is given back when the kernel forgets.
. "$(dirname "$0")/lib.sh"
files=${ENTRIES:-100000}
per_file=300 # bytes: the node, its place in the table, and the tree's items
per_node=60 # at least
[ -w /proc/sys/vm/drop_caches ] || skip "only root makes the kernel forget"
[ -z "$(nm "$build/txnfs" | grep -m 1 -E '__(asan|tsan)_init')" ] ||
	skip "a sanitizer has its own memory"

mkdir -p "$D"
for ((i = 0; i < 100; i++)); do mkdir "$D/d$i"; done
seq "$files" | (cd "$D" && awk '{ print "d" $1 % 100 "/f" $1 }' | xargs touch)
make_store
mount_it -o compare=before
pid=$(daemon_pid)

memory() { awk '/^RssAnon/ { print $2 }' "/proc/$pid/status"; } # KiB
look() {
	local i
	for ((i = 0; i < 10; i++)); do
		find "$D"/d*"$i" -type f -size +0 & # stat(2) of each
	done
	wait
}

before=$(memory)
look
with=$(memory)
got=$(((with - before) * 1024 / files))
echo "figure: $((before / 1024)) MiB, then $got bytes for each of $files files"
[ "$got" -le "$per_file" ] || fail "$got bytes for each file that the kernel knows"

# The tree's items stay, the nodes go.
gave_back() {
	echo 2 >/proc/sys/vm/drop_caches
	[ $((with - $(memory))) -gt $((per_node * files / 1024)) ]
}
wait_for gave_back || fail "of $((with - before)) KiB are $(($(memory) - before)) \
kept when the kernel has forgotten the files"
same "files that are found again" "$(find "$D" -type f -size -1 | wc -l)" "$files"
umount_it
