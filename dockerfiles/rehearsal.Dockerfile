# Stand-ins for NVIDIA's bases and for GDAL's source, for a host that is no Jetson: real CUDA and cuDNN libraries at JetPack's
# paths, on the Debian image that the bake definition calls `debian`. Only the base system is not the real one.
ARG CACHE_ID=local
# where stages run that only build: `debian` itself, or, for another architecture (CROSS), `builder`, of this machine's own
ARG BUILDER=debian
ARG BUILDER_PLATFORM=${TARGETPLATFORM}
ARG CROSS
ARG GDAL_VERSION
ARG GDAL_SUITE=trixie

# tools: the pip that fetches NVIDIA's wheels and the python3 that unpacks them; mounted, so in no base
FROM --platform=${BUILDER_PLATFORM} ${BUILDER} AS tools
ARG CACHE_ID
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/apt-install.sh python3 python3-pip

# l4t-cuda: CUDA 12.6's run-time libraries, unpacked straight into the layer that both bases share
FROM debian AS l4t-cuda
ARG CACHE_ID
ARG CROSS
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    NVIDIA_REQUIRE_CUDA=cuda>=12.6 \
    NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS=base-only
RUN --mount=type=bind,from=tools,target=/mnt \
    --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/image/rehearsal-cuda.sh,target=/run/jetpare/rehearsal-cuda.sh \
    --mount=type=bind,source=scripts/image/nvidia-wheels.py,target=/run/jetpare/nvidia-wheels.py \
    --mount=type=bind,source=scripts/image/rehearsal-cuda.txt,target=/run/jetpare/rehearsal-cuda.txt \
    --mount=type=cache,id=wheels-${CACHE_ID},target=/var/cache/wheels,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/rehearsal-cuda.sh runtime && ldconfig && rm -f /var/cache/ldconfig/aux-cache

# l4t-jetpack: what the real one has beside that: cuDNN, CUPTI, nvToolsExt, headers, compilers, and an older GDAL
FROM l4t-cuda AS l4t-jetpack
ARG CACHE_ID
ARG CROSS
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/apt-install.sh build-essential cmake gdal-bin libgdal-dev python3
RUN --mount=type=bind,from=tools,target=/mnt \
    --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/cross.sh,target=/run/jetpare/cross.sh \
    --mount=type=bind,source=scripts/image/rehearsal-cuda.sh,target=/run/jetpare/rehearsal-cuda.sh \
    --mount=type=bind,source=scripts/image/nvidia-wheels.py,target=/run/jetpare/nvidia-wheels.py \
    --mount=type=bind,source=scripts/image/rehearsal-cuda.txt,target=/run/jetpare/rehearsal-cuda.txt \
    --mount=type=cache,id=wheels-${CACHE_ID},target=/var/cache/wheels,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/rehearsal-cuda.sh devel && ldconfig && rm -f /var/cache/ldconfig/aux-cache

# source: GDAL as the next Debian has it, newer than the one that l4t-jetpack brings, as on a Jetson. Debian leaves two data
# files out for their licence (other definitions of coordinate systems); its build lists them, empty ones stand for them.
FROM --platform=${BUILDER_PLATFORM} ${BUILDER} AS source
ARG CACHE_ID
ARG GDAL_VERSION
ARG GDAL_SUITE
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=bind,source=scripts/image/debian-source.sh,target=/run/jetpare/debian-source.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/debian-source.sh gdal "${GDAL_VERSION}" "${GDAL_SUITE}" /opt/source && \
    touch /opt/source/ogr/data/cubewerx_extra.wkt /opt/source/ogr/data/ecw_cs.wkt

# gdal-source: that tree alone
FROM scratch AS gdal-source
COPY --from=source /opt/source/ /
