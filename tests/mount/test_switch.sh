#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Readers and writers across many aborts: nobody who saw the new state sees the
# old one again.
. "$(dirname "$0")/lib.sh"

make_store
mount_it
"$build/tests/mount/watch" "$D" "${ROUNDS:-150}" || fail "a switch was seen in halves"
same "switch" "$(jq -r .switch "$D/.txn/status")" atomic
umount_it
