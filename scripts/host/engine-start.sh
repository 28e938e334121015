#!/bin/bash
# Start a private Docker engine out of a folder, detached from whoever called.
#
#   engine-start.sh ROOTFS DATA RUN LOG MARK BRIDGE
#
# ROOTFS  a system with dockerd in it, used as the engine's root
# DATA    where its images live
# RUN     short folder for its socket (a unix socket's path may have 107 bytes) and its run-time files
# LOG     what dockerd says
# MARK    one word on every command line of this engine: how `engine-down` knows its own processes
# BRIDGE  the network bridge, already there (engine-network.sh)
#
# The engine lives in a mount namespace (its root has to be a mount, or it cannot unpack layers; nothing it mounts is ever
# seen outside) and in a process namespace (when its first process ends, the kernel ends all the others, also after kill -9).
set -euo pipefail

inside() {
    local rootfs=$1 data=$2 run=$3 mark=$4 bridge=$5
    local resolv=/etc/resolv.conf
    # A stub resolver on this host's loopback is of no use inside a container.
    if grep -qs '^nameserver 127\.0\.0\.53' "$resolv" && [ -r /run/systemd/resolve/resolv.conf ]; then
        resolv=/run/systemd/resolve/resolv.conf
    fi
    mkdir -p "$rootfs/engine/data" "$rootfs/engine/run" "$rootfs/.old"
    cp -L "$resolv" "$rootfs/etc/resolv.conf"
    mount --bind "$rootfs" "$rootfs"
    mount -t proc proc "$rootfs/proc"
    mount --rbind /sys "$rootfs/sys"
    mount --rbind /dev "$rootfs/dev"
    mount --bind "$data" "$rootfs/engine/data"
    mount --bind "$run" "$rootfs/engine/run"
    cd "$rootfs"
    pivot_root . .old
    cd /
    umount -l /.old
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    # BuildKit cuts a step's log at 2 MiB otherwise, and a compile says more than that.
    export BUILDKIT_STEP_LOG_MAX_SIZE=-1 BUILDKIT_STEP_LOG_MAX_SPEED=-1
    # docker-init reaps the container shims, which dockerd as first process would leave as zombies.
    # No iptables: dockerd would rewrite chains that another engine on this host owns; engine-network.sh adds three rules.
    exec docker-init -- dockerd --label "jetpare.engine=$mark" --config-file /etc/docker/daemon.json \
        --host unix:///engine/run/docker.sock --data-root /engine/data --exec-root /engine/run/exec \
        --pidfile /engine/run/dockerd.pid --cgroup-parent "/$mark" \
        --bridge "$bridge" --iptables=false --ip6tables=false
}

if [ "$1" = inside ]; then
    shift
    inside "$@"
fi

rootfs=$1 data=$2 run=$3 log=$4 mark=$5 bridge=$6
exec setsid --fork unshare --mount --pid --fork --kill-child \
    "$BASH" "$0" inside "$rootfs" "$data" "$run" "$mark" "$bridge" </dev/null >"$log" 2>&1
