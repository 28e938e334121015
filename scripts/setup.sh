#!/bin/sh
# Makes the virtual environment .venv in the project's folder, with the locked dependencies. Does nothing where it is there.
# usage: scripts/setup.sh [--dev]     --dev: with what the tests and linters need
set -eu
cd "$(dirname "$0")/.."
lock=requirements.lock
[ "${1:-}" != --dev ] || lock=requirements-dev.lock
python=${PYTHON:-python3}

fail() {
    echo "setup: $*" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "$python: not found. Install Python 3.10 or newer, or set PYTHON to one."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$python is older than 3.10, which jetpare needs."

stamp=.venv/jetpare-$(sha256sum "$lock" | cut -c1-16)
[ ! -e "$stamp" ] || exit 0

# Debian keeps ensurepip, which venv needs, in a package of its own.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "$python has no ensurepip. Install it (Debian, Ubuntu: apt install python3-venv) and run this again."
    fi
    echo "setup: installing python3-venv" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends python3-venv >&2
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv || fail "the virtual environment .venv could not be made."
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" ||
    fail "the dependencies in $lock could not be installed: see pip's message above."
touch "$stamp"
echo "setup: .venv is ready" >&2
