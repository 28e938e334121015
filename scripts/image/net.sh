#!/bin/sh
# The network as the host sees it, for one RUN: its certificates, proxies and package indexes.
# usage: . net.sh        (sourced; reads the build secrets, writes nothing that outlives the RUN but $TMPDIR)
#
# /run/secrets/ca   PEM bundle that the host trusts (a proxy that inspects TLS has its own authority); may be empty
# /run/secrets/net  lines of export NAME='value'; may be empty
# Both are build secrets: they land in no layer and in no `docker history`.

jetpare_ca=${JETPARE_CA:-/run/secrets/ca}
jetpare_net=${JETPARE_NET:-/run/secrets/net}

if [ -s "$jetpare_net" ]; then
    # shellcheck disable=SC1090 # a secret: there is nothing to follow when this is linted
    . "$jetpare_net"
fi
if [ -s "$jetpare_ca" ]; then
    export SSL_CERT_FILE="$jetpare_ca" PIP_CERT="$jetpare_ca" REQUESTS_CA_BUNDLE="$jetpare_ca" CURL_CA_BUNDLE="$jetpare_ca"
    # apt knows none of these variables, only a file of its own; it drops to the user _apt, who may not read a secret
    jetpare_apt=$(mktemp -d)
    chmod 755 "$jetpare_apt"
    install -m 644 "$jetpare_ca" "$jetpare_apt/ca.pem"
    printf 'Acquire::https::CAInfo "%s";\n' "$jetpare_apt/ca.pem" >"$jetpare_apt/apt.conf"
    export APT_CONFIG="$jetpare_apt/apt.conf"
fi
