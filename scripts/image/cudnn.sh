#!/bin/sh
# Brings cuDNN and the profiling libraries, from where build.toml says, into one tree at JetPack's paths (collect.py).
# usage: CUDNN_SOURCE=jetpack|wheel|apt COLLECT='usr/lib/*/libcudnn*.so*' cudnn.sh
# environment:
#   CUDNN_PACKAGES    wheel: nvidia-cudnn-cu12==9.10.2.21 ...      apt: libcudnn9-cuda-12=9.3.0.75-1 ...
#   CUDNN_REPOSITORY  apt: URL SUITE COMPONENT..., signed by the key in /run/secrets/cudnn-key
#   PYTHON_INDEXES    wheel: package indexes beside the host's own settings, or pip's default
#   SYSTEM            the root of the system that has them, and for wheel and apt of the image's base (/run/jetpare/system)
#   CROSS             the architecture that they are for, where it is not this machine's (cross.sh)
#   WHEELS            wheel: folder whose sub-folders hold further wheels (/run/jetpare/wheels)
#   STAGE, REPORT     where the tree and the record go (/opt/stage, /opt/report)
set -euf
source=${CUDNN_SOURCE:?usage: CUDNN_SOURCE=jetpack|wheel|apt COLLECT=... cudnn.sh}
stage=${STAGE:-/opt/stage}
report=${REPORT:-/opt/report}
here=$(dirname "$0")
work=/opt/cudnn # not below /tmp: that is memory
system=${SYSTEM:-/run/jetpare/system}
root=$work/root # what would stand in the image's root
# shellcheck source=scripts/image/cross.sh
. "$here/cross.sh"

# jetpack: it is all there already
from_jetpack() {
    command -v python3 >/dev/null || "$here/apt-install.sh" python3
    root=$system
}

# wheel: NVIDIA's wheels hold one file for each library; laid out with the full names and the links that JetPack has
from_wheel() {
    "$here/apt-install.sh" python3 python3-venv
    # shellcheck source=scripts/image/net.sh
    . "$here/net.sh"
    set --
    for index in ${PYTHON_INDEXES:-}; do set -- "$@" --extra-index-url "$index"; done
    IFS='
' # a folder's name may hold spaces
    for folder in $(find "${WHEELS:-/run/jetpare/wheels}" -name '*.whl' -exec dirname {} + 2>/dev/null | sort -u); do
        set -- "$@" --find-links "$folder"
    done
    unset IFS
    python3 -m venv "$work/tools"
    # shellcheck disable=SC2046,SC2086 # one word for each wheel
    "$work/tools/bin/python" -m pip download --quiet --disable-pip-version-check --cache-dir /var/cache/pip --no-deps \
        --only-binary :all: $(pip_platforms) --dest "$work/wheels" "$@" ${CUDNN_PACKAGES:?no wheels are named}
    python3 -B "$here/nvidia-wheels.py" all "$work/wheels" --root "$root" --cuda "$(cuda_folder)" --machine "$machine"
}

# apt: the packages that are named, unpacked: what they depend on is in the base, or not wanted
from_apt() {
    "$here/apt-install.sh" python3
    # shellcheck source=scripts/image/net.sh
    . "$here/net.sh"
    # Lists and sources of their own, readable for the user that apt drops to.
    mkdir -p "$work/apt/lists/partial" "$work/debs" "$root"
    chmod 755 "$work" "$work/apt"
    key=$work/apt/key.gpg # apt tells the two forms of a key apart by the name
    if grep -q 'BEGIN PGP PUBLIC KEY BLOCK' /run/secrets/cudnn-key; then key=$work/apt/key.asc; fi
    install -m 644 /run/secrets/cudnn-key "$key"
    echo "deb [signed-by=$key] ${CUDNN_REPOSITORY:?no repository is named}" >"$work/apt/sources.list"
    set -- -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/apt/lists" -o APT::Update::Error-Mode=any -o APT::Sandbox::User=root
    [ -z "${CROSS:-}" ] || set -- "$@" -o APT::Architecture="$CROSS" -o APT::Architectures::="$CROSS"
    apt-get "$@" -qq update
    cd "$work/debs"
    # shellcheck disable=SC2086 # one word for each package
    apt-get "$@" -qq download ${CUDNN_PACKAGES:?no packages are named}
    set +f
    for package in *.deb; do dpkg-deb --extract "$package" "$root"; done
    set -f
    cd /
    rm -f /var/cache/apt/pkgcache.bin /var/cache/apt/srcpkgcache.bin # of these lists, in a mount that others share
}

# The base's CUDA, whose folder has its version in its name.
cuda_folder() {
    folder=/usr/local/cuda
    while [ -L "$system$folder" ]; do # links of a system that is not ours: an absolute one starts at its root
        target=$(readlink "$system$folder")
        case "$target" in /*) folder=$target ;; *) folder=$(dirname "$folder")/$target ;; esac
    done
    echo "$folder"
}

rm -rf "$work"
mkdir -p "$work" "$report"
"from_$source"
if [ "$source" != jetpack ] && [ "$(cuda_folder)" != /usr/local/cuda ]; then
    mkdir -p "$root/usr/local"
    ln -s "$(basename "$(cuda_folder)")" "$root/usr/local/cuda" # so that the patterns match here as they do in JetPack
fi
python3 -B "$here/collect.py" --root "$root" --stage "$stage"
rm -rf "$work"
cp "$stage/usr/share/jetpare/cudnn.tsv" "$report/"
