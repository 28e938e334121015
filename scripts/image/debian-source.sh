#!/bin/sh
# Unpacks the upstream source that Debian's suite SUITE has of a package, out of the archive that this image uses already.
# usage: debian-source.sh PACKAGE UPSTREAM_VERSION SUITE FOLDER
set -eu
package=${1:?usage: debian-source.sh PACKAGE UPSTREAM_VERSION SUITE FOLDER}
version=${2:?} suite=${3:?} folder=${4:?}
here=$(dirname "$0")
# shellcheck source=scripts/image/net.sh
. "$here/net.sh"

"$here/apt-install.sh" dpkg-dev
# The same archive and components as the image's first source, but its sources, and of the other suite. Lists of their
# own: a Debian of two suites would no longer know which one to install from.
work=$(mktemp -d)
chmod 755 "$work"
# shellcheck disable=SC1091
. /etc/os-release
if ! sed -n "s/^deb\( \[[^]]*\]\)\? \([^ ]*\) $VERSION_CODENAME /deb-src\1 \2 $suite /p" /etc/apt/sources.list 2>/dev/null |
    head -n 1 | grep . >"$work/sources.list"; then
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources | head -n 1)
    echo "deb-src ${mirror:?no apt source in this image} $suite main" >"$work/sources.list"
fi
mkdir -p "$work/lists/partial"
set -- -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
apt-get "$@" -qq update
cd "$work"
# The upstream archive alone, which apt checks against the signed index: the packaging beside it changes how Debian builds
# it, not what it is, and a mirror that is thinned out may not hold it.
apt-get "$@" -qq source --tar-only --only-source "$package"
archive=$(find . -name "${package}_*.orig.tar.*" ! -name '*.asc')
found=$(basename "$archive" | sed "s/^${package}_//; s/[+~-].*//; s/\.orig\..*//")
if [ "$found" != "$version" ]; then
    echo "$suite has $package $found; $version was asked for: set the version to $found, or name another suite" >&2
    exit 1
fi
mkdir -p "$folder"
tar -xf "$archive" -C "$folder" --strip-components=1 --no-same-owner
