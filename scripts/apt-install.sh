#!/bin/sh
# Installs packages with nothing beside them: no recommended packages, no documentation, no lists, no logs.
# usage: apt-install.sh PACKAGE...
# /var/cache/apt and /var/lib/apt/lists are expected to be cache mounts (or thrown away with the container).
set -eu
: "${1:?usage: apt-install.sh PACKAGE...}"
here=$(dirname "$0")
# shellcheck source=scripts/net.sh
. "$here/net.sh"

export DEBIAN_FRONTEND=noninteractive
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--path-exclude='/usr/share/doc/*' \
    -o Dpkg::Options::=--path-include='/usr/share/doc/*/copyright' \
    -o Dpkg::Options::=--path-exclude='/usr/share/man/*' \
    -o Dpkg::Options::=--path-exclude='/usr/share/info/*' \
    "$@"
rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old
