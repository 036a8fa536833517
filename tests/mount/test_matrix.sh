#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What becomes of what a program holds, across commit, abort, restore and
# rollback: each cell is tried, and README.md has the table.
. "$(dirname "$0")/lib.sh"

make_store
mount_it
"$build/tests/mount/matrix" "$D" >"$work/cells" || {
	tail -n 1 "$work/cells"
	fail "a cell has no known outcome"
}
same "cells" "$(wc -l <"$work/cells")" 80

# one row of the table for each kind of thing that is held
awk -F'|' '$1 == "changed" {
	if ($2 != last) { if (last != "") print row; row = "| " $2 " |"; last = $2 }
	row = row " " $4 " |"
} END { print row }' "$work/cells" >"$work/rows"
same "rows" "$(wc -l <"$work/rows")" 10
while read -r row; do
	grep -qxF "$row" "$top/README.md" || fail "README.md does not say: $row"
done <"$work/rows"

# what the event leaves alone goes on, whatever is held
grep '^same' "$work/cells" | grep -v '|goes on$' |
	grep -v '^same|unlinked, still open|\(commit\|restore\)|goes on, unlinked$' &&
	fail "something that did not change was disturbed"
same "nothing is left" "$(ls "$D")" ""
umount_it
