#!/bin/sh
# The network of a private Docker engine: a bridge of its own and three firewall rules, all named by the bridge, so that
# they can be told from another engine's and removed alone. Runs inside the engine's root (chroot), on this host's network.
#
#   engine-network.sh up BRIDGE ADDRESS/BITS     (after a down: what a crash left goes first)
#   engine-network.sh down BRIDGE
set -eu
action=$1 bridge=$2 address=${3:-}

# The kernel has two generations of firewall, and a packet passes both: speak to the old one only where it is in use.
firewalls() {
    if iptables-nft -t nat -S POSTROUTING >/dev/null 2>&1; then echo iptables-nft; else echo iptables-legacy; fi
    if grep -qs . /proc/net/ip_tables_names; then echo iptables-legacy; fi
}

rules() { # TOOL TABLE CHAIN: delete every rule that names the bridge
    "$1" -t "$2" -S "$3" 2>/dev/null | grep -w -- "$bridge" | sed 's/^-A //' | while read -r rule; do
        # shellcheck disable=SC2086  # a rule is several words
        "$1" -w -t "$2" -D $rule
    done
}

for tool in $(firewalls | sort -u); do
    rules "$tool" nat POSTROUTING
    rules "$tool" filter FORWARD
    [ "$action" = up ] || continue
    "$tool" -w -t nat -A POSTROUTING -s "$address" ! -o "$bridge" -j MASQUERADE
    # First in the chain: another engine sets the chain's policy to DROP.
    "$tool" -w -t filter -I FORWARD -i "$bridge" -j ACCEPT
    "$tool" -w -t filter -I FORWARD -o "$bridge" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
done

ip link delete "$bridge" 2>/dev/null || true
if [ "$action" = up ]; then
    ip link add name "$bridge" type bridge
    ip address add "$address" dev "$bridge"
    ip link set "$bridge" up
fi
