# The baseline image: GDAL and PyTorch on all of l4t-jetpack.
# `builder`, `l4t-jetpack`, `gdal-source` and `wheels` are named contexts: the bake definition says what they are.
ARG CACHE_ID=local
# where stages run that only build: the base itself, or, for another architecture (CROSS), `builder`, of this machine's own
ARG BUILDER=l4t-jetpack
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
ARG RUNTIME_PACKAGES

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
    --mount=type=bind,from=l4t-jetpack,target=/run/jetpare/target \
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

# runtime: the two trees and the packages they need, and nothing that builds
FROM l4t-jetpack AS runtime
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
COPY --from=gdal --link /opt/stage/ /
COPY --from=python --link /opt/stage/ /
ENV PATH=/opt/venv/bin:/usr/local/bin:${PATH}
RUN --mount=type=bind,source=scripts/probe.py,target=/run/jetpare/probe.py --mount=type=tmpfs,target=/tmp \
    ldconfig && rm -f /var/cache/ldconfig/aux-cache && \
    python -B /run/jetpare/probe.py --output /usr/share/jetpare/checks.json

# runtime-report: the manifests, and what the checks measured
FROM scratch AS runtime-report
COPY --from=runtime /usr/share/jetpare/ /
