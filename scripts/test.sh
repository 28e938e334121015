#!/bin/sh
# Sets up what the tests need, a browser among it, starts an engine if none answers, and runs linters and all tests.
# usage: scripts/test.sh [PYTEST-ARGUMENT...]     for example: scripts/test.sh tests/unit
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh --dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports --no-logo
.venv/bin/shellcheck scripts/*.sh scripts/*/*.sh .ci/run
.venv/bin/hadolint --config .hadolint.yaml dockerfiles/*.Dockerfile benchmarks/*.Dockerfile

# Where it cannot be installed, the tests that need it are skipped, and fail in CI.
browser() {
    if [ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ]; then return; fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return; fi
    echo "test: installing chromium" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium chromium-driver >&2 ||
        echo "test: chromium could not be installed" >&2
}

# Programs of the other architecture, for the tests that build for it.
emulation() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return; fi
    [ "$(uname -m)" = aarch64 ] && other=amd64 || other=arm64
    scripts/host/emulation.sh "$other" || echo "test: programs for $other cannot be run" >&2
}

case "${*:-}" in
*tests/unit*) ;; # needs no engine, and no browser
*)
    browser
    emulation
    .venv/bin/invoke engine-up
    ;;
esac
# The unit tests do not depend on each other and use every core. The others share one engine and run one by one.
case "${*:-}" in
"")
    .venv/bin/pytest --numprocesses auto tests/unit
    exec .venv/bin/pytest --ignore tests/unit
    ;;
*tests/unit*) exec .venv/bin/pytest --numprocesses auto "$@" ;;
*) exec .venv/bin/pytest "$@" ;;
esac
