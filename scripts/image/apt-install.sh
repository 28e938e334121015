#!/bin/sh
# Installs packages with nothing beside them: no recommended packages, no documentation, no lists, no logs.
# usage: apt-install.sh PACKAGE...
# /var/cache/apt and /var/lib/apt/lists are expected to be cache mounts (or thrown away with the container): what was
# fetched stays in them, for the next stage and the other image.
set -eu
: "${1:?usage: apt-install.sh PACKAGE...}"
here=$(dirname "$0")
# shellcheck source=scripts/image/net.sh
. "$here/net.sh"

export DEBIAN_FRONTEND=noninteractive
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial
# Bases tell apt to throw away what it fetched. This is read after their settings (-c), not before them (APT_CONFIG), or
# there would be nothing to clear yet. Images with other sources share the lists, so what is unknown here is not cleaned
# up; apt's own index of the lists would be that of the last image.
config=$(mktemp)
cat >"$config" <<'END'
#clear DPkg::Post-Invoke;
#clear APT::Update::Post-Invoke;
APT::Keep-Downloaded-Packages "true";
APT::Get::List-Cleanup "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
apt-get -c "$config" update -qq
apt-get -c "$config" install -y -qq --no-install-recommends \
    -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--path-exclude='/usr/share/doc/*' \
    -o Dpkg::Options::=--path-include='/usr/share/doc/*/copyright' \
    -o Dpkg::Options::=--path-exclude='/usr/share/man/*' \
    -o Dpkg::Options::=--path-exclude='/usr/share/info/*' \
    "$@"
rm -rf "$config" /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old
