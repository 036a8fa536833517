#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What programs expect of a local filesystem: system calls, ACLs, clones, large
# directories. ENTRIES: how many names the large directory gets.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "not root: owners, trusted attributes, devices"
posix=$build/tests/mount/posix
entries=${ENTRIES:-20000}

# --- the checks are right: the host's own filesystem passes them ---
mkdir "$work/host"
if [ "$(stat -f -c %T "$work/host")" = ext2/ext3 ]; then
	"$posix" "$work/host" tmpfile birth shift killpriv mapped || fail "the host is not content"
else
	echo "skipped: the host's own answers: it is not ext4"
fi

make_store
mount_it
features=
jq -e .kernel.o_tmpfile "$D/.txn/status" >/dev/null && features+=" tmpfile"
jq -e .kernel.killpriv "$D/.txn/status" >/dev/null && features+=" killpriv"
jq -e .kernel.birth_time "$D/.txn/status" >/dev/null && features+=" birth"
echo "figure: libfuse $(jq -r .libfuse "$D/.txn/status"):${features:- no O_TMPFILE, birth time, killpriv}"
# With open=fast nobody tells what may be mapped.
[ "$(jq -r .open "$D/.txn/status")" = fast ] || features+=" mapped"
mkdir "$D/posix"
# shellcheck disable=SC2086 # words
"$posix" "$D/posix" $features || fail "posix"

# --- a small write is one message: nobody asks for capabilities before it ---
if printf '5.12\n%s\n' "$(uname -r)" | sort -VC; then
	[[ $features == *killpriv* ]] || fail "no killpriv v2"
	reads() { awk '/^syscr/ {print $2}' "/proc/$(jq .pid "$D/.txn/status")/io"; }
	before=$(reads)
	dd if=/dev/zero of="$D/small" bs=4k count=1000 status=none
	n=$(($(reads) - before))
	[ "$n" -lt 1200 ] || fail "$n messages for 1000 writes"
	rm "$D/small"
fi

# --- ACLs ---
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
chmod 755 "$work" "$D"
mkdir "$D/acl"
echo secret >"$D/acl/f"
chmod 600 "$D/acl/f"
must_fail as 4001 cat "$D/acl/f"
setfacl -m u:4001:r "$D/acl/f" || fail "setfacl"
same "by an ACL" "$(as 4001 cat "$D/acl/f")" secret
must_fail as 4001 sh -c "echo x >>'$D/acl/f'"
must_fail as 4002 cat "$D/acl/f"
same "mask in the mode" "$(stat -c %a "$D/acl/f")" 640
chmod 600 "$D/acl/f" # the mask goes
must_fail as 4001 cat "$D/acl/f"
setfacl -d -m u:4001:rwx,g::rx "$D/acl"
touch "$D/acl/inherits"
mkdir "$D/acl/sub"
getfacl -cp "$D/acl/inherits" | grep -q '^user:4001:rwx' || fail "default ACL"
getfacl -cp "$D/acl/sub" | grep -q '^default:user:4001:rwx' ||
	fail "default ACL of a directory"
getfacl -Rp "$D/acl" >"$work/acls"
commit
setfacl -Rb "$D/acl"
abort
getfacl -Rp "$D/acl" | diff "$work/acls" - || fail "ACLs after an abort"

# --- another user: data, snapshots and ctl; also kept out by a parent only ---
mkdir -m 700 "$D/private"
echo hidden >"$D/private/f"
chmod 644 "$D/private/f"
echo open >"$D/open"
commit
same "open" "$(as 4001 cat "$D/open")" open
same "open, in a snapshot" "$(as 4001 cat "$D/.txn/head/open")" open
for p in "$D/private/f" "$D/.txn/head/private/f" "$D/.txn/snapshots/@1/acl/f" \
	"$D/.txn/changes" "$D/.txn/log"; do
	got=$(as 4001 cat "$p" 2>&1) && fail "another user reads $p"
	[[ $got == *"Permission denied"* || $got == *"No such file"* ]] ||
		fail "$p: $got"
done
for cmd in commit abort "rollback @1" gc; do
	got=$( (as 4001 sh -c "echo $cmd >'$D/.txn/ctl'") 2>&1) &&
		fail "another user may: $cmd"
	[[ $got == *"Permission denied"* ]] || fail "$cmd: $got"
done
same "nothing staged by it" "$(cat "$D/.txn/changes")" ""

# --- df follows the host; a store that grows shows ---
same "df" "$(df -P "$D" | awk 'NR == 2 {print $2}')" \
	"$(df -P "$work" | awk 'NR == 2 {print $2}')"

# --- a clone: the time does not grow with the bytes as a copy's would ---
clone=$build/tests/mount/clone
head -c 64M /dev/urandom >"$D/big"
while [ "$(stat -c %s "$D/big")" -lt $((10 << 30)) ]; do
	"$clone" "$D/big" "$D/bigger" >/dev/null || fail clone
	"$clone" "$D/bigger" "$D/big" "$(stat -c %s "$D/big")" >/dev/null ||
		fail "append a clone"
done
before=$(du -sk "$work/data" --exclude .txn >/dev/null; df -Pk "$work" | awk 'NR == 2 {print $3}')
us=$("$clone" "$D/big" "$D/copy") || fail "clone 10 GiB"
echo "figure: clone of $(($(stat -c %s "$D/big") >> 20)) MiB: $((us / 1000)) ms"
[ "$us" -lt 30000000 ] || fail "a clone took $us us"
us=$("$clone" "$D/big" "$D/copy") || fail "clone 10 GiB over another"
echo "figure: the same over a file of that size: $((us / 1000)) ms"
commit
after=$(df -Pk "$work" | awk 'NR == 2 {print $3}')
[ $((after - before)) -lt $((1 << 20)) ] || fail "a clone took space"
for off in 0 $((5 << 30)) $((9 << 30)); do
	cmp -n 1048576 -i "$off" "$D/big" "$D/copy" || fail "clone differs"
done
rm "$D/big" "$D/bigger" "$D/copy"
commit

# --- a large directory ---
mkdir "$D/large"
start=$(date +%s%N)
(cd "$D/large" && seq 1 "$entries" | xargs -n 10000 touch) || fail "touch"
echo "figure: $entries names made: $((($(date +%s%N) - start) / 1000000)) ms"
start=$(date +%s%N)
same "listed" "$(find "$D/large" -mindepth 1 -printf x | wc -c)" "$entries"
echo "figure: listed: $((($(date +%s%N) - start) / 1000000)) ms"
[ -e "$D/large/$entries" ] || fail "the last one"
same "size" "$(stat -c %s "$D/large")" "$entries"
commit
same "in the commit" "$(find "$D/.txn/head/large" -mindepth 1 -printf x | wc -c)" "$entries"
start=$(date +%s%N)
rm -rf "$D/large"
echo "figure: removed: $((($(date +%s%N) - start) / 1000000)) ms"
abort
same "back" "$(find "$D/large" -mindepth 1 -printf x | wc -c)" "$entries"

txn -C "$D" verify >/dev/null || fail verify
manifest "$D/posix" >"$work/before"
umount_it
mount_it
manifest "$D/posix" | diff "$work/before" - >/dev/null || fail "after a remount"
umount_it
