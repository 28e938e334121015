# What benchmarks/unity.py runs, on top of the gdal stage of images.Dockerfile: it holds the compilers, the options and a build.
# `gdal` is that stage, compiled in units (or plainly, where there is no list yet), `plain` the same compiled plainly.
ARG CACHE_ID=local

# tools: the stage, and the python3 that runs the scripts
FROM gdal AS tools
ARG CACHE_ID
ARG FURTHER_PACKAGES
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    /run/jetpare/apt-install.sh python3 ${FURTHER_PACKAGES}

# find-made: the sources that clash, for a version that has no file yet
FROM tools AS find-made
ARG REBUILD
RUN --mount=type=bind,source=scripts/image/gdal-unity,target=/run/jetpare/gdal-unity \
    --mount=type=bind,source=scripts/image/find_unity.py,target=/run/jetpare/find_unity.py \
    --mount=type=bind,from=gdal-source,target=/run/jetpare/source \
    mkdir /opt/result && \
    python3 -B /run/jetpare/find_unity.py --source /run/jetpare/source --work /tmp/find --options /opt/report/cmake-options.txt \
        --output /opt/result/units.txt

# find: their list
FROM scratch AS find
COPY --from=find-made /opt/result/ /

# proof-made: plain and unity, compared
FROM tools AS proof-made
ARG REBUILD
RUN --mount=type=bind,source=scripts/image/compare_gdal.py,target=/run/jetpare/compare_gdal.py \
    --mount=type=bind,source=scripts/image/elf.py,target=/run/jetpare/elf.py \
    --mount=type=bind,from=plain,source=/opt/stage,target=/run/jetpare/plain \
    --mount=type=bind,from=gdal,source=/opt/stage,target=/run/jetpare/unity \
    mkdir /opt/result && \
    { python3 -B /run/jetpare/compare_gdal.py --one /run/jetpare/plain --other /run/jetpare/unity \
        --output /opt/result/proof.json || [ -s /opt/result/proof.json ]; }

# proof: what was compared, and what differs
FROM scratch AS proof
COPY --from=proof-made /opt/result/ /

# race-made: cold builds in turns
FROM tools AS race-made
ARG REBUILD
ARG VARIANTS
ARG ROUNDS
RUN --mount=type=bind,source=scripts/image/gdal-unity,target=/run/jetpare/gdal-unity \
    --mount=type=bind,source=scripts/image/race_gdal.py,target=/run/jetpare/race_gdal.py \
    --mount=type=bind,from=gdal-source,target=/run/jetpare/source \
    mkdir /opt/result && \
    python3 -B /run/jetpare/race_gdal.py --options /opt/report/cmake-options.txt --source /run/jetpare/source \
        --output /opt/result/race.json --rounds ${ROUNDS} ${VARIANTS}

# race: what each took
FROM scratch AS race
COPY --from=race-made /opt/result/ /
