#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Mount options: those that are given win over our own.
. "$(dirname "$0")/lib.sh"

make_store

# shown: the options that the kernel has, with the source in front
shown() { awk -v at="$D" '$2 == at { print $1 "," $4 }' /proc/mounts; }
has() { [[ ,$(shown), == *,$1,* ]] || fail "no $1 in $(shown)"; }
has_not() { [[ ,$(shown), != *,$1,* ]] || fail "$1 in $(shown)"; }

mount_it
has "$D"
has rw
has default_permissions
umount_it

mount_it -o nosuid,nodev,noexec,fsname=somewhere
has somewhere
has nosuid
has nodev
has noexec
umount_it
