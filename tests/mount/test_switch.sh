#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Readers and writers across many aborts: nobody who saw the new state sees the
# old one again.
. "$(dirname "$0")/lib.sh"

make_store
mount_it
"$build/tests/mount/watch" "$D" "${ROUNDS:-150}" || fail "a switch was seen in halves"
same "switch" "$(jq -r .switch "$D/.txn/status")" atomic

echo made >"$D/f"
commit
"$build/tests/mount/creat" "$D" "${ROUNDS:-150}" || fail "O_CREAT"
umount_it
# The same with every lock taken late now and then.
LD_PRELOAD=$build/tests/mount/jitter mount_it
"$build/tests/mount/creat" "$D" "${ROUNDS:-60}" || fail "O_CREAT, late"
rm -f "$D/f"
commit

# A listing that the kernel keeps. The abort brings back a name that it was never
# told, in a directory whose times tell nothing.
mkdir "$D/kept"
touch "$D/kept/"{removed,stays}
touch -d 2001-02-03 "$D/kept"
commit
rm "$D/kept/removed"
touch -d 2001-02-03 "$D/kept"
umount_it
mount_it
reads() { awk '/^syscr/ {print $2}' "/proc/$(daemon_pid)/io"; }
list() { (cd "$D/kept" && echo -- *); }
same "staged" "$(list)" "-- stays"
list >/dev/null # what the first one asked for is known now
before=$(reads)
for _ in 1 2 3 4 5; do list >/dev/null; done
after=$(reads)
# OPENDIR and RELEASEDIR of each, and what asking takes
[ $((after - before)) -le 25 ] || fail "listing again: $((after - before)) reads"
abort
same "aborted" "$(list)" "-- removed stays"
same "and kept" "$(list)" "-- removed stays"
ctl undo || fail "undo"
same "undone" "$(list)" "-- stays"
umount_it

# --- a listing with attributes, overtaken by a change ---
# (By /dev/fuse: what is preloaded looks at what goes there.)
# The kernel believes them for a day, though what they say of the directory was
# changed while they were on their way.
mkdir -p "$D/over/dir"
touch "$D/over/"{1..9}
export LATE=$work/late
LD_PRELOAD=$build/tests/mount/late mount_it -o transport=dev
rm -f "$D/over/dir/new"
stat "$D/over/dir" >/dev/null
touch "$LATE"
ls -l "$D/over" >/dev/null &
lister=$!
wait_for [ ! -e "$LATE" ] || fail "no listing was late"
touch "$D/over/dir/new"
wait $lister
same "a directory that changed meanwhile" "$(stat -c %s "$D/over/dir")" 1
umount_it
