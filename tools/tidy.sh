#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tidy.sh: what our conventions ask for and a machine can see: layering, lengths,
# an SPDX line, a test for each module of txn/, no unfinished words, documents
# that name files that exist. Exit status 1 with a list.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0
tell() {
	echo "tidy: $*"
	bad=1
}

sources=$(git ls-files '*.[ch]')
for f in $sources; do
	n=$(wc -l <"$f")
	[ "$n" -le 1200 ] || tell "$f has $n lines"
	head -n 1 "$f" | grep -q SPDX || tell "$f has no SPDX line"
	expand "$f" | awk -v f="$f" 'length($0) > 80 {
		print "tidy: " f ":" NR ": longer than 80 columns" }' |
		grep . && bad=1
	# functions: from a line "{" in the first column to "}"
	awk -v f="$f" '/^{$/ { start = NR } /^}$/ && start { if (NR - start > 80)
		print "tidy: " f ":" start ": a function of " NR - start " lines";
		start = 0 }' "$f" | grep . && bad=1
done
for f in $(git ls-files '*.sh' tests/run-check tests/run-mount \
	tests/run-cuts 'tests/suites/run-*' tests/bench/instructions \
	tools/mount.fuse.txnfs .ci/run); do
	head -n 3 "$f" | grep -q SPDX || tell "$f has no SPDX line"
done

# txn/ knows neither fs/ nor tools/; fs/ not tools/; libfuse only the daemon
grep -lE '#include "(fs|tools)/' txn/*.[ch] | sed 's/^/tidy: includes upwards: /' |
	grep . && bad=1
grep -lE '#include "tools/' fs/*.[ch] | sed 's/^/tidy: includes upwards: /' |
	grep . && bad=1
grep -lE '#include <fuse' txn/*.[ch] fs/*.[ch] tools/*.[ch] |
	grep -v '^fs/mount_' | sed 's/^/tidy: includes libfuse: /' | grep . && bad=1

# shellcheck disable=SC2086
grep -nE '\b(TODO[^(]|FIXME|XXX|HACK)\b' $sources | sed 's/^/tidy: /' | grep . && bad=1

# documents name what is there
for doc in README.md txn/DESIGN.md txn/FORMAT.md fs/DESIGN.md; do
	for f in $(grep -oE '\b(fs|txn|tools|tests)/[a-z_/-]+\.(c|h|sh|md)\b' "$doc" |
		sort -u); do
		[ -e "$f" ] || tell "$doc names $f, which is not there"
	done
done
[ $bad = 0 ] && echo "tidy: fine"
exit $bad
