#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# deps.sh [--check]: what building and testing needs, as Debian packages.
# Installs what is missing when root and apt is there, otherwise names it.
# --check only names it, --extra is about what only we need (linting, fuzzing),
# --long about what make test-long wants as well, --bench about what make bench
# compares with; --libfuse adds what tools/libfuse.sh needs. Exit status 1: something is missing.
set -u
packages=(
	# building
	gcc make pkg-config libfuse3-dev fuse3 liburing-dev libxxhash-dev
	libjansson-dev
	# tests
	libcmocka-dev jq perl-base attr sqlite3 git e2fsprogs util-linux procps
	openssl rsync acl tar inotify-tools xfsprogs btrfs-progs
)
extra=(
	# make CC=clang, fuzz, format, lint
	clang clang-format cppcheck shellcheck
)
libfuse=(meson ninja-build)
[ "${1-}" != --libfuse ] || packages+=("${libfuse[@]}")
long=(postgresql valgrind)
bench=(python3 fuse-overlayfs gnuplot-nox)
[ "${1-}" != --extra ] || packages=("${extra[@]}")
[ "${1-}" != --long ] || packages=("${long[@]}")
[ "${1-}" != --bench ] || packages=("${bench[@]}")

missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
		missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v dpkg-query >/dev/null; then
	echo "deps: not a Debian system; what is wanted, as named there:" \
		"${packages[*]}" >&2
	exit 0
fi
if [ "${1-}" = --check ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "deps: missing packages; install them with:" >&2
	echo "  apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
	{
		apt-get update -qq &&
			apt-get install -y -qq --no-install-recommends \
				"${missing[@]}" >/dev/null
	}
