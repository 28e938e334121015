#!/bin/sh
# Lets this machine run programs of another architecture, in containers too: installs QEMU and registers it with the kernel.
# usage: emulation.sh arm64|amd64        (Debian or Ubuntu, as root)
set -eu
case "${1:?usage: emulation.sh arm64|amd64}" in
arm64) name=qemu-aarch64 ;;
amd64) name=qemu-x86_64 ;;
*)
    echo "emulation: $1: arm64 or amd64 is wanted" >&2
    exit 1
    ;;
esac
binfmt=${BINFMT:-/proc/sys/fs/binfmt_misc}
if ! [ -x /usr/bin/qemu-aarch64-static ] || ! command -v update-binfmts >/dev/null; then
    echo "emulation: installing qemu-user-static" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends qemu-user-static binfmt-support >&2
fi
[ -e "$binfmt/register" ] || mount -t binfmt_misc binfmt_misc "$binfmt"
[ -e "$binfmt/$name" ] || update-binfmts --enable "$name"
grep -q '^flags:.*F' "$binfmt/$name" || {
    echo "emulation: $name is registered without flag F, so containers cannot use it" >&2
    exit 1
}
