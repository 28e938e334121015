#!/bin/sh
# Installs pinned Python packages with a pinned uv into /opt/venv, checks them, and leaves one tree.
# usage: UV_VERSION=0.9.0 PYTHON_REQUIREMENTS='torch==2.8.0 ...' install-pytorch.sh
# environment:
#   PYTHON_INDEXES    package indexes, the first that has a package wins; after them the host's settings, or uv's default
#   PYTHON_PROVIDED   names (globs too) of dependencies that the system provides or that are left out on purpose
#   PYTHON_CUDA       1: a torch that was not built for CUDA is an error
#   CROSS             the architecture whose packages are wanted, where it is not this machine's (cross.sh)
#   WHEELS            folder whose sub-folders hold further wheels (/run/jetpare/wheels)
#   UV_CACHE_DIR      uv's cache (/var/cache/uv); nothing of it stays in the tree
#   STAGE, REPORT     where the tree and the record go (/opt/stage, /opt/report)
set -euf # no globs: `nvidia-*` is a word for check_python.py
: "${UV_VERSION:?usage: UV_VERSION=... PYTHON_REQUIREMENTS=... install-pytorch.sh}"
: "${PYTHON_REQUIREMENTS:?no requirements}"
stage=${STAGE:-/opt/stage}
report=${REPORT:-/opt/report}
wheels=${WHEELS:-/run/jetpare/wheels}
venv=/opt/venv # built where it will stand in the image: launchers name their interpreter by its full path
here=$(dirname "$0")
# shellcheck source=scripts/image/net.sh
. "$here/net.sh"
# shellcheck source=scripts/image/cross.sh
. "$here/cross.sh"
mkdir -p "$report" "$stage/opt"

# --- uv, in an environment of its own that is thrown away
export UV_CACHE_DIR="${UV_CACHE_DIR:-/var/cache/uv}"
tools=$(mktemp -d)
python3 -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --cache-dir "$UV_CACHE_DIR/pip" --disable-pip-version-check --only-binary :all: \
    "uv==$UV_VERSION"

# --- packages. Exact pins and no dependency resolution: nothing can arrive that is not named (a CPU torch, a second CUDA
# from the nvidia-* wheels). Copied out of uv's cache, which is another mount: a hard link cannot cross it.
set --
for index in ${PYTHON_INDEXES:-}; do set -- "$@" --index "$index"; done
IFS='
' # a folder's name may hold spaces
for folder in $(find "$wheels" -name '*.whl' -exec dirname {} + 2>/dev/null | sort -u); do
    set -- "$@" --find-links "$folder"
done
unset IFS
[ -z "${CROSS:-}" ] || set -- "$@" --python-platform "$machine-manylinux_2_$(glibc_minor)"
export UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never
"$tools/bin/uv" venv --quiet --python "$(command -v python3)" "$venv"
# No bytecode: it is a fifth more of files that hold times and would make two builds of one thing differ. Python makes
# what it needs when it first imports a module.
# shellcheck disable=SC2086 # one word for each requirement
"$tools/bin/uv" pip install --python "$venv/bin/python" --no-deps --no-build --index-strategy first-index "$@" \
    $PYTHON_REQUIREMENTS

# --- check and record
# shellcheck disable=SC2086
"$tools/bin/python" -B "$here/check_python.py" --venv "$venv" --report "$report/python.json" --uv "$UV_VERSION" \
    --machine "$machine" \
    --cuda "${PYTHON_CUDA:-0}" --provided "${PYTHON_PROVIDED:-}" --indexes "${PYTHON_INDEXES:-}" -- $PYTHON_REQUIREMENTS
rm -f "$venv/.lock" "$venv/.gitignore" "$venv/CACHEDIR.TAG" # uv's own marks; a backup would skip what the last one marks
mv "$venv" "$stage/opt/venv"
