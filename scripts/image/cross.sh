#!/bin/sh
# Names of the architecture that is built for.
# usage: . cross.sh        (sourced; reads CROSS, sets machine and triple, defines functions)
#
# CROSS   arm64 or amd64 where this machine builds for another architecture than its own; empty where it does not

case "${CROSS:-}" in
"") machine=$(uname -m) ;;
arm64) machine=aarch64 ;;
amd64) machine=x86_64 ;;
*)
    echo "cross: CROSS is '$CROSS': arm64 or amd64 is wanted" >&2
    exit 1
    ;;
esac
# shellcheck disable=SC2034 # for whoever sources this
triple=$machine-linux-gnu

# The minor version of this system's glibc 2, which is that of the target: both are of one release of one distribution.
glibc_minor() {
    getconf GNU_LIBC_VERSION | sed 's/.*\.//'
}

# The options by which pip takes wheels for the target; none where that is this machine.
pip_platforms() {
    [ -n "${CROSS:-}" ] || return 0
    echo "--platform linux_$machine --platform manylinux2014_$machine"
    for minor in $(seq 17 "$(glibc_minor)"); do echo "--platform manylinux_2_${minor}_$machine"; done
}
