# The images: GDAL and PyTorch on a base. An image differs from another one in two things only: what `base` is, and whether
# the tree of cuDNN is copied onto it (CUDNN_TREE). The bake definition binds the named contexts: `base` for each image,
# `l4t-jetpack`, `gdal-source`, `wheels`, `builder` (another architecture only) and `base-settings` (slim only).

# --- all stages
# part of every cache mount's id: one that is new starts with empty caches
ARG CACHE_ID=local
# the stage or context that the building stages start from: `base`, or `builder` where CROSS is set
ARG BUILDER=base
# the platform that the building stages run on
ARG BUILDER_PLATFORM=${TARGETPLATFORM}
# the architecture of the image (arm64, amd64) where it is not this machine's; empty where it is
ARG CROSS
# Each stage also declares REBUILD_<STAGE>: a new value builds that stage again.

# --- cudnn
# what is copied onto the base: `cudnn`, the tree that stage cudnn collects; `none`, where the base has cuDNN
ARG CUDNN_TREE=none
# where cuDNN comes from: jetpack, wheel or apt
ARG CUDNN_SOURCE=jetpack
# the stage or context that stage cudnn runs in: `cudnn-source`, or `builder` where CROSS is set
ARG CUDNN_ON=cudnn-source
# wheel, apt: the pinned wheels or packages
ARG CUDNN_PACKAGES
# apt: URL SUITE COMPONENT...
ARG CUDNN_REPOSITORY
# wheel: package indexes before the default one
ARG CUDNN_INDEXES
# patterns of the files to collect, a line each; ` ?` at the end: may match nothing
ARG COLLECT

# --- gdal
# the version that has to come out
ARG GDAL_VERSION
# unity (several sources at a time) or plain
ARG GDAL_BUILD
# further options for CMake
ARG GDAL_CMAKE
# raster drivers beyond those that GDAL cannot do without
ARG GDAL_DRIVERS
# vector drivers, likewise
ARG OGR_DRIVERS
# packages that the compile needs
ARG GDAL_BUILD_PACKAGES
# compile jobs; 0: as many as there are cores, fewer where memory is short
ARG JOBS

# --- python
# the version of uv
ARG UV_VERSION
# the complete closure, each package pinned
ARG PYTHON_REQUIREMENTS
# dependencies that may be missing
ARG PYTHON_PROVIDED
# package indexes before the default one
ARG PYTHON_INDEXES
# 1: a torch without CUDA is an error
ARG PYTHON_CUDA

# --- runtime and slim
# packages beyond python3 and those that GDAL needs
ARG RUNTIME_PACKAGES
# the rules of [[prune]], as JSON
ARG PRUNE

# cudnn-from-SOURCE: the system that has the libraries which the base lacks; wheels and packages are for the base's own CUDA
FROM l4t-jetpack AS cudnn-from-jetpack
FROM base AS cudnn-from-wheel
FROM base AS cudnn-from-apt
FROM cudnn-from-${CUDNN_SOURCE} AS cudnn-source

# cudnn: those libraries, links kept, with a manifest
FROM --platform=${BUILDER_PLATFORM} ${CUDNN_ON} AS cudnn
ARG REBUILD_CUDNN
ARG CACHE_ID
ARG CROSS
ARG CUDNN_SOURCE
ARG CUDNN_PACKAGES
ARG CUDNN_REPOSITORY
ARG CUDNN_INDEXES
ARG COLLECT
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=bind,source=scripts/image/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/image/cudnn.sh,target=/run/jetpare/cudnn.sh \
    --mount=type=bind,source=scripts/image/nvidia-wheels.py,target=/run/jetpare/nvidia-wheels.py \
    --mount=type=bind,source=scripts/image/collect.py,target=/run/jetpare/collect.py \
    --mount=type=bind,source=scripts/image/elf.py,target=/run/jetpare/elf.py \
    --mount=type=bind,from=cudnn-source,target=/run/jetpare/system \
    --mount=type=bind,from=wheels,target=/run/jetpare/wheels \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=cache,id=pip-${CACHE_ID},target=/var/cache/pip,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=secret,id=cudnn-key \
    --mount=type=tmpfs,target=/tmp \
    PYTHON_INDEXES="${CUDNN_INDEXES}" /run/jetpare/cudnn.sh

# cudnn-report: its manifest
FROM scratch AS cudnn-report
COPY --from=cudnn /opt/report/ /

# gdal: compiled from source, with the list of the packages that its libraries need
FROM --platform=${BUILDER_PLATFORM} ${BUILDER} AS gdal
ARG REBUILD_GDAL
ARG CACHE_ID
ARG CROSS
ARG GDAL_BUILD_PACKAGES
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/image/build-packages.sh,target=/run/jetpare/build-packages.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=bind,from=base,target=/run/jetpare/target \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/build-packages.sh ${GDAL_BUILD_PACKAGES}
ARG GDAL_VERSION
ARG GDAL_BUILD
ARG GDAL_CMAKE
ARG GDAL_DRIVERS
ARG OGR_DRIVERS
ARG JOBS
RUN --mount=type=bind,source=scripts/image/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/image/compile-gdal.sh,target=/run/jetpare/compile-gdal.sh \
    --mount=type=bind,source=scripts/image/gdal-unity,target=/run/jetpare/gdal-unity \
    --mount=type=bind,from=gdal-source,target=/run/jetpare/source \
    --mount=type=cache,id=ccache-gdal-${GDAL_VERSION}-${CACHE_ID},target=/var/cache/ccache,sharing=locked \
    --mount=type=tmpfs,target=/tmp \
    /run/jetpare/compile-gdal.sh

# gdal-report: its times, compiler cache counts, options and packages
FROM scratch AS gdal-report
COPY --from=gdal /opt/report/ /

# python: PyTorch and what it needs, by uv, in a virtual environment
FROM --platform=${BUILDER_PLATFORM} ${BUILDER} AS python
ARG REBUILD_PYTHON
ARG CACHE_ID
ARG CROSS
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/apt-install.sh python3 python3-venv
ARG UV_VERSION
ARG PYTHON_REQUIREMENTS
ARG PYTHON_PROVIDED
ARG PYTHON_INDEXES
ARG PYTHON_CUDA
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/image/install-pytorch.sh,target=/run/jetpare/install-pytorch.sh \
    --mount=type=bind,source=scripts/image/check_python.py,target=/run/jetpare/check_python.py \
    --mount=type=bind,from=wheels,target=/run/jetpare/wheels \
    --mount=type=cache,id=uv-${CACHE_ID},target=/var/cache/uv,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/install-pytorch.sh

# python-report: versions and bytes of every distribution
FROM scratch AS python-report
COPY --from=python /opt/report/ /

# base-with-TREE: the base as it is, or with what stage cudnn collected
FROM base AS base-with-none
FROM base AS base-with-cudnn
COPY --from=cudnn --link /opt/stage/ /

# runtime: that, the other trees and the packages they need, and nothing that builds; the images jetpack and cuda
FROM base-with-${CUDNN_TREE} AS runtime
ARG REBUILD_RUNTIME
ARG CACHE_ID
ARG RUNTIME_PACKAGES
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=bind,from=gdal,source=/opt/stage/usr/share/jetpare/gdal-packages.txt,target=/run/jetpare/gdal-packages.txt \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    xargs -a /run/jetpare/gdal-packages.txt /run/jetpare/apt-install.sh python3 ${RUNTIME_PACKAGES}
COPY --from=gdal --link /opt/stage/ /
COPY --from=python --link /opt/stage/ /
ENV PATH=/opt/venv/bin:/usr/local/bin:${PATH}
RUN --mount=type=bind,source=scripts/image/probe.py,target=/run/jetpare/probe.py --mount=type=tmpfs,target=/tmp \
    ldconfig && rm -f /var/cache/ldconfig/aux-cache && \
    python -B /run/jetpare/probe.py --output /usr/share/jetpare/checks.json

# runtime-report: the manifests, and what the checks measured
FROM scratch AS runtime-report
COPY --from=runtime /usr/share/jetpare/ /

# pruned: the runtime without what [[prune]] names; strip is that of the stage which compiles
FROM runtime AS pruned
ARG PRUNE
RUN --mount=type=bind,source=scripts/image/prune.py,target=/run/jetpare/prune.py \
    --mount=type=bind,source=scripts/image/elf.py,target=/run/jetpare/elf.py \
    --mount=type=bind,from=gdal,target=/run/jetpare/tools --mount=type=tmpfs,target=/tmp \
    PRUNE="${PRUNE}" python3 -B /run/jetpare/prune.py --tools /run/jetpare/tools && \
    ldconfig && rm -f /var/cache/ldconfig/aux-cache

# slim: that as one layer, so that none holds what was removed; the image slim. `base-settings` has the settings of the real
# base (ENV, CMD, labels ...), which the bake definition reads from it, and of its files only a record of these settings.
FROM base-settings AS slim
ARG REBUILD_SLIM
# hadolint ignore=DL3067
COPY --from=pruned / /
ENV PATH=/opt/venv/bin:/usr/local/bin:${PATH}
RUN --mount=type=bind,source=scripts/image/probe.py,target=/run/jetpare/probe.py --mount=type=tmpfs,target=/tmp \
    python -B /run/jetpare/probe.py --output /usr/share/jetpare/checks.json

# slim-report: the manifests, what was taken out, and what the checks measured
FROM scratch AS slim-report
COPY --from=slim /usr/share/jetpare/ /
