#!/bin/sh
# Fetches NVIDIA's wheels by checksum and lays them out at JetPack's paths (nvidia-wheels.py).
# usage: rehearsal-cuda.sh runtime|devel
# Uses the python3 and pip of the image mounted at /mnt, so that the base gets neither.
set -eu
part=${1:?usage: rehearsal-cuda.sh runtime|devel}
here=$(dirname "$0")
# shellcheck source=scripts/net.sh
. "$here/net.sh"

tools=${TOOLS:-/mnt}
machine=$(uname -m)
python() {
    LD_LIBRARY_PATH="$tools/usr/lib/$machine-linux-gnu" PYTHONHOME="$tools/usr" PYTHONDONTWRITEBYTECODE=1 \
        "$tools/usr/bin/python3" "$@"
}
# A wheel that is there already, with the right checksum, is not fetched again. The last part takes them away: what they
# held is in the layers, and 2.3 GB beside them would count at the end, when the disk is fullest.
python -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: --require-hashes \
    --dest /var/cache/wheels --requirement "$here/rehearsal-cuda.txt"
python "$here/nvidia-wheels.py" "$part" /var/cache/wheels
[ "$part" != devel ] || rm -f /var/cache/wheels/*.whl
