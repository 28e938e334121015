#!/bin/sh
# Fetches NVIDIA's wheels by checksum and lays them out at JetPack's paths (nvidia-wheels.py).
# usage: rehearsal-cuda.sh runtime|devel
# Uses the python3 and pip of the system mounted at /mnt, so that the base gets neither, and by that one's own loader: where
# CROSS names the architecture that the base is of, the system at /mnt is of this machine's, and nothing here is emulated.
set -eu
part=${1:?usage: rehearsal-cuda.sh runtime|devel}
here=$(dirname "$0")
# shellcheck source=scripts/image/net.sh
. "$here/net.sh"
# shellcheck source=scripts/image/cross.sh
. "$here/cross.sh"

tools=${TOOLS:-/mnt}
loader=$(echo "$tools"/usr/lib/*-linux-gnu/ld-linux-*.so.*)
python() {
    PYTHONHOME="$tools/usr" PYTHONDONTWRITEBYTECODE=1 \
        "$loader" --library-path "$(dirname "$loader")" "$tools/usr/bin/python3" "$@"
}
# A wheel that is there already, with the right checksum, is not fetched again. The last part takes them away: what they
# held is in the layers, and 2.3 GB beside them would count at the end, when the disk is fullest.
# shellcheck disable=SC2046 # words
python -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: $(pip_platforms) --require-hashes \
    --dest /var/cache/wheels --requirement "$here/rehearsal-cuda.txt"
python "$here/nvidia-wheels.py" "$part" /var/cache/wheels --machine "$machine"
[ "$part" != devel ] || rm -f /var/cache/wheels/*.whl
