#!/bin/sh
# Lets this machine run programs of another architecture, in containers too: installs QEMU and registers it with the kernel.
# usage: emulation.sh arm64|amd64        (Debian or Ubuntu, as root)
set -eu
case "${1:?usage: emulation.sh arm64|amd64}" in
arm64) name=qemu-aarch64 ;; # QEMU's name of it
amd64) name=qemu-x86_64 ;;
*)
    echo "emulation: $1: arm64 or amd64 is wanted" >&2
    exit 1
    ;;
esac
binfmt=${BINFMT:-/proc/sys/fs/binfmt_misc}
if ! [ -x "/usr/bin/$name-static" ] || ! command -v update-binfmts >/dev/null; then
    echo "emulation: installing qemu-user-static" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends qemu-user-static binfmt-support >&2
fi
[ -e "$binfmt/register" ] || mount -t binfmt_misc binfmt_misc "$binfmt"
grep -qsx enabled "$binfmt/$name" || update-binfmts --enable "$name"
[ ! -e "$binfmt/$name" ] || grep -qx enabled "$binfmt/$name" || echo 1 >"$binfmt/$name"
grep -qs '^flags:.*F' "$binfmt/$name" || {
    echo "emulation: $name is not registered with flag F, so containers cannot use it" >&2
    exit 1
}
