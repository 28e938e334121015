#!/bin/sh
# Installs what a compile needs. For another architecture: its compiler, and its libraries and headers, beside this machine's
# own tools.
# usage: [CROSS=arm64] build-packages.sh PACKAGE...
# environment:
#   TARGET   root of the system that is built for (/run/jetpare/target)
#   ROOT     root of this one (/)
set -euf
: "${1:?usage: build-packages.sh PACKAGE...}"
here=$(dirname "$0")
# shellcheck source=scripts/image/cross.sh
. "$here/cross.sh"
[ -n "${CROSS:-}" ] || exec "$here/apt-install.sh" "$@"

root=${ROOT:-/}
target=${TARGET:-/run/jetpare/target}
release() { # of the system in a root: 'ubuntu jammy'
    (
        # shellcheck disable=SC1091 # of whichever system that is
        . "$1/usr/lib/os-release"
        echo "$ID ${VERSION_CODENAME:-}"
    )
}
mine=$(release "$root")
theirs=$(release "$target")
if [ "$mine" != "$theirs" ]; then
    echo "build-packages: the builder is $mine, and what is built for is $theirs:" \
        "let the profile's context 'builder' in build.toml be of the same release" >&2
    exit 1
fi
own=$(dpkg --print-architecture)
dpkg --add-architecture "$CROSS"
case "$mine" in
ubuntu*)
    # Ubuntu has other architectures in another archive: take the one that the target names, of the same release.
    name=${mine#* }
    sed -i "s/^deb http/deb [arch=$own] http/" "$root/etc/apt/sources.list"
    sed -n "s/^deb \(\[[^]]*\] \)\?\([^ ]* ${name}[ -].*\)/deb [arch=$CROSS] \2/p" "$target/etc/apt/sources.list" \
        >"$root/etc/apt/sources.list.d/cross.list"
    if ! [ -s "$root/etc/apt/sources.list.d/cross.list" ]; then
        echo "build-packages: the base that is built for names no archive of $name in its /etc/apt/sources.list" >&2
        exit 1
    fi
    ;;
esac
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
