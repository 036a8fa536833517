#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# libfuse.sh VERSION PREFIX: build a libfuse that is newer than the system's
# from the source in Debian's pool, into PREFIX, as a static library; nothing
# outside PREFIX changes. The mirrors are those that apt is configured with.
# Done already: returns at once.
set -eu
version=$1 prefix=$2
case $version in
3.18.3) sum=bcd19582c5e30f7fe45dd86a5540e998590aa01903afc7ebcbeea6c8ac5421ee ;;
*)
	echo "libfuse: no checksum is known for $version (tools/libfuse.sh)" >&2
	exit 1
	;;
esac
# Custom I/O is switched off there for those who speak to something else than
# the kernel: here it is what transport=io_uring answers through.
options="--buildtype release -Ddefault_library=static -Dutils=false
	-Dexamples=false -Dtests=false -Denable-io-uring=false
	-Denable-custom-io=true"
[ "$(cat "$prefix/built-with" 2>/dev/null)" != "$options" ] || exit 0

helper=/usr/lib/apt/apt-helper
[ -x $helper ] || {
	echo "libfuse: apt is needed to fetch the source" >&2
	exit 1
}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
src=$prefix/src
rm -rf "$src"
mkdir "$src"
archive=fuse3_$version.orig.tar.gz
for uri in $(apt-get indextargets --format '$(REPO_URI)' \
	'Created-By: Packages' 'Origin: Debian' | sort -u); do
	$helper download-file "${uri%/}/pool/main/f/fuse3/$archive" \
		"$src/$archive" "SHA256:$sum" >"$src/log" 2>&1 && break
done
echo "$sum  $src/$archive" | sha256sum --quiet -c - >>"$src/log" 2>&1 || {
	cat "$src/log" >&2
	echo "libfuse: no mirror has $archive" >&2
	exit 1
}
echo "libfuse: building $version"
tar -xzf "$src/$archive" -C "$src" --strip-components 1
{
	# shellcheck disable=SC2086 # words
	meson setup "$src/build" "$src" --prefix "$prefix" --libdir lib $options &&
		ninja -C "$src/build" install
} >"$src/log" 2>&1 || {
	tail -n 20 "$src/log" >&2
	echo "libfuse: $src/log tells the rest" >&2
	exit 1
}
echo "$options" >"$prefix/built-with"
