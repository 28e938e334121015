#!/bin/sh
# Sets up what the tests need, starts an engine if none answers, and runs linters and all tests.
# usage: scripts/test.sh [PYTEST-ARGUMENT...]     for example: scripts/test.sh tests/unit
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh --dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/shellcheck scripts/*.sh
.venv/bin/hadolint --config .hadolint.yaml dockerfiles/*.Dockerfile
case "${*:-}" in
*tests/unit*) ;; # needs no engine
*) .venv/bin/invoke engine-up ;;
esac
exec .venv/bin/pytest "$@"
