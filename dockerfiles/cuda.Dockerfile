# The small image: l4t-cuda, with cuDNN and the profiling libraries that it lacks, GDAL and PyTorch.
# `builder`, `l4t-cuda`, `l4t-jetpack`, `gdal-source` and `wheels` are named contexts: the bake definition says what they are.
ARG CACHE_ID=local
# where stages run that only build: the base itself, or, for another architecture (CROSS), `builder`, of this machine's own
ARG BUILDER=l4t-cuda
ARG BUILDER_PLATFORM=${TARGETPLATFORM}
ARG CROSS
# REBUILD_<STAGE>, declared in each stage, has a new value when that stage is to be built again
ARG GDAL_VERSION
ARG GDAL_BUILD
ARG GDAL_CMAKE
ARG GDAL_DRIVERS
ARG OGR_DRIVERS
ARG GDAL_BUILD_PACKAGES
ARG JOBS
ARG UV_VERSION
ARG PYTHON_REQUIREMENTS
ARG PYTHON_PROVIDED
ARG PYTHON_INDEXES
ARG PYTHON_CUDA
ARG CUDNN_SOURCE=jetpack
ARG CUDNN_ON=cudnn-source
ARG CUDNN_PACKAGES
ARG CUDNN_REPOSITORY
ARG CUDNN_INDEXES
ARG COLLECT
ARG RUNTIME_PACKAGES
ARG PRUNE

# cudnn-from-SOURCE: the system that has the libraries which l4t-cuda lacks; wheels and packages are fetched for l4t-cuda's CUDA
FROM l4t-jetpack AS cudnn-from-jetpack
FROM l4t-cuda AS cudnn-from-wheel
FROM l4t-cuda AS cudnn-from-apt
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
RUN --mount=type=bind,source=scripts/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=bind,source=scripts/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/cudnn.sh,target=/run/jetpare/cudnn.sh \
    --mount=type=bind,source=scripts/nvidia-wheels.py,target=/run/jetpare/nvidia-wheels.py \
    --mount=type=bind,source=scripts/collect.py,target=/run/jetpare/collect.py \
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
RUN --mount=type=bind,source=scripts/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/build-packages.sh,target=/run/jetpare/build-packages.sh \
    --mount=type=bind,source=scripts/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=bind,from=l4t-cuda,target=/run/jetpare/target \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/build-packages.sh ${GDAL_BUILD_PACKAGES}
ARG GDAL_VERSION
ARG GDAL_BUILD
ARG GDAL_CMAKE
ARG GDAL_DRIVERS
ARG OGR_DRIVERS
ARG JOBS
RUN --mount=type=bind,source=scripts/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/compile-gdal.sh,target=/run/jetpare/compile-gdal.sh \
    --mount=type=bind,source=scripts/gdal-unity,target=/run/jetpare/gdal-unity \
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
RUN --mount=type=bind,source=scripts/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/apt-install.sh python3 python3-venv
ARG UV_VERSION
ARG PYTHON_REQUIREMENTS
ARG PYTHON_PROVIDED
ARG PYTHON_INDEXES
ARG PYTHON_CUDA
RUN --mount=type=bind,source=scripts/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/install-pytorch.sh,target=/run/jetpare/install-pytorch.sh \
    --mount=type=bind,source=scripts/check_python.py,target=/run/jetpare/check_python.py \
    --mount=type=bind,from=wheels,target=/run/jetpare/wheels \
    --mount=type=cache,id=uv-${CACHE_ID},target=/var/cache/uv,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/install-pytorch.sh

# python-report: versions and bytes of every distribution
FROM scratch AS python-report
COPY --from=python /opt/report/ /

# runtime: the three trees and the packages they need, and nothing that builds
FROM l4t-cuda AS runtime
ARG REBUILD_RUNTIME
ARG CACHE_ID
ARG RUNTIME_PACKAGES
RUN --mount=type=bind,source=scripts/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=bind,from=gdal,source=/opt/stage/usr/share/jetpare/gdal-packages.txt,target=/run/jetpare/gdal-packages.txt \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    xargs -a /run/jetpare/gdal-packages.txt /run/jetpare/apt-install.sh python3 ${RUNTIME_PACKAGES}
COPY --from=cudnn --link /opt/stage/ /
COPY --from=gdal --link /opt/stage/ /
COPY --from=python --link /opt/stage/ /
ENV PATH=/opt/venv/bin:/usr/local/bin:${PATH}
RUN --mount=type=bind,source=scripts/probe.py,target=/run/jetpare/probe.py --mount=type=tmpfs,target=/tmp \
    ldconfig && rm -f /var/cache/ldconfig/aux-cache && \
    python -B /run/jetpare/probe.py --output /usr/share/jetpare/checks.json

# runtime-report: the manifests, and what the checks measured
FROM scratch AS runtime-report
COPY --from=runtime /usr/share/jetpare/ /

# pruned: the runtime without what [[prune]] names; strip is that of the stage which compiles
FROM runtime AS pruned
ARG PRUNE
RUN --mount=type=bind,source=scripts/prune.py,target=/run/jetpare/prune.py \
    --mount=type=bind,from=gdal,target=/run/jetpare/tools --mount=type=tmpfs,target=/tmp \
    PRUNE="${PRUNE}" python3 -B /run/jetpare/prune.py --tools /run/jetpare/tools && \
    ldconfig && rm -f /var/cache/ldconfig/aux-cache

# slim: that as one layer, so that none carries what was removed. A new root inherits no settings: these are l4t-cuda's.
FROM scratch AS slim
ARG REBUILD_SLIM
# hadolint ignore=DL3067
COPY --from=pruned / /
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    NVIDIA_REQUIRE_CUDA=cuda>=12.6 \
    NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS=base-only
CMD ["bash"]
RUN --mount=type=bind,source=scripts/probe.py,target=/run/jetpare/probe.py --mount=type=tmpfs,target=/tmp \
    python -B /run/jetpare/probe.py --output /usr/share/jetpare/checks.json

# slim-report: the manifests, what was taken out, and what the checks measured
FROM scratch AS slim-report
COPY --from=slim /usr/share/jetpare/ /
