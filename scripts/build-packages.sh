#!/bin/sh
# Installs what a compile needs. For another architecture: its compiler, and its libraries and headers, beside this machine's
# own tools.
# usage: [CROSS=arm64] build-packages.sh PACKAGE...
# environment:
#   TARGET_APT   /etc/apt of the system that is built for (/run/jetpare/target-apt)
#   APT          /etc/apt of this one
set -euf
: "${1:?usage: build-packages.sh PACKAGE...}"
here=$(dirname "$0")
# shellcheck source=scripts/cross.sh
. "$here/cross.sh"
[ -n "${CROSS:-}" ] || exec "$here/apt-install.sh" "$@"

apt=${APT:-/etc/apt}
own=$(dpkg --print-architecture)
dpkg --add-architecture "$CROSS"
release=$(sed -n 's/^VERSION_CODENAME=//p' "$apt/../os-release")
if grep -q '^ID=ubuntu' "$apt/../os-release"; then
    # Ubuntu has other architectures in another archive: take the one that the target names, of the same release.
    sed -i "s/^deb http/deb [arch=$own] http/" "$apt/sources.list"
    sed -n "s/^deb \(\[[^]]*\] \)\?\([^ ]* ${release}[ -].*\)/deb [arch=$CROSS] \2/p" \
        "${TARGET_APT:-/run/jetpare/target-apt}/sources.list" >"$apt/sources.list.d/cross.list"
    if ! [ -s "$apt/sources.list.d/cross.list" ]; then
        echo "build-packages: the base that is built for names no archive of $release in its sources.list" >&2
        exit 1
    fi
fi
for package in "$@"; do
    shift
    case "$package" in
    gcc | g++ | gcc-[0-9]* | g++-[0-9]*) package=$package-$triple ;;
    build-essential) package=crossbuild-essential-$CROSS ;;
    *-dev) package=$package:$CROSS ;;
    esac
    set -- "$@" "$package"
done
exec "$here/apt-install.sh" "$@"
