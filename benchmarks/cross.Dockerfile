# What benchmarks/cross.py measures of emulation: a part of GDAL's compile, for the same target, on this or that builder.
ARG BUILDER_PLATFORM=${TARGETPLATFORM}
ARG CROSS
ARG CACHE_ID=local

# compiled: one compiler at a time over the sources of one library of GDAL's that need no configuring
FROM --platform=${BUILDER_PLATFORM} builder AS compiled
ARG CROSS
ARG CACHE_ID
RUN --mount=type=bind,source=scripts/image,target=/run/jetpare \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=bind,from=debian,target=/run/target \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    TARGET=/run/target /run/jetpare/build-packages.sh g++ libc6-dev
ARG REBUILD
RUN --mount=type=bind,source=scripts/image,target=/run/jetpare \
    --mount=type=bind,from=gdal-source,target=/run/source --mount=type=tmpfs,target=/tmp \
    . /run/jetpare/cross.sh && begin=$(awk '{ print $1 }' /proc/uptime) && \
    for file in /run/source/third_party/LercLib/*.cpp; do \
        "${CROSS:+$triple-}g++" -O2 -std=c++17 -c "$file" -o /tmp/part.o || exit 1; \
    done && \
    awk -v begin="$begin" '{ print $1 - begin }' /proc/uptime >/seconds

# part: how many seconds it took
FROM scratch AS part
COPY --from=compiled /seconds /
