# The miniature's images: as in the real Dockerfile, `base` and CUDNN_TREE are all that differs between them.
# part of every cache mount's id
ARG CACHE_ID
# what is copied onto the base: `cudnn`, or `none`
ARG CUDNN_TREE=none
# patterns of the files that stage cudnn collects
ARG COLLECT
# what the program says of itself
ARG GDAL_VERSION
# what is installed, in words
ARG PYTHON_REQUIREMENTS

# cudnn: a library with its links
FROM l4t-jetpack AS cudnn
ARG REBUILD_CUDNN
ARG CACHE_ID
ARG COLLECT
RUN --mount=type=bind,source=knobs/cudnn.sh,target=/run/knob.sh sh /run/knob.sh && mkdir -p /opt/stage /opt/report && \
    cd / && cp -a --parents ${COLLECT} /opt/stage && ls -lR /opt/stage >/opt/report/cudnn.tsv
FROM scratch AS cudnn-report
COPY --from=cudnn /opt/report/ /

# gdal: a program
FROM base AS gdal
ARG REBUILD_GDAL
ARG CACHE_ID
ARG GDAL_VERSION
RUN --mount=type=bind,source=knobs/gdal.sh,target=/run/knob.sh echo compiling && sh /run/knob.sh && \
    mkdir -p /opt/stage/usr/local/bin /opt/report && \
    printf '#!/bin/sh\necho "%s"\n' "${GDAL_VERSION}" >/opt/stage/usr/local/bin/gdalinfo && \
    chmod 755 /opt/stage/usr/local/bin/gdalinfo && /opt/stage/usr/local/bin/gdalinfo && \
    echo '{"schema": 1, "ccache": {"hits": 0, "misses": 1}}' >/opt/report/gdal.json
FROM scratch AS gdal-report
COPY --from=gdal /opt/report/ /

# python: something to import
FROM base AS python
ARG REBUILD_PYTHON
ARG CACHE_ID
ARG PYTHON_REQUIREMENTS
RUN --mount=type=bind,source=knobs/python.sh,target=/run/knob.sh sh /run/knob.sh && \
    mkdir -p /opt/stage/opt/venv /opt/report && echo "${PYTHON_REQUIREMENTS}" >/opt/stage/opt/venv/demo.txt && \
    head -c 1000000 /dev/zero >/opt/stage/opt/venv/demo.bin && echo '{"schema": 1}' >/opt/report/python.json
FROM scratch AS python-report
COPY --from=python /opt/report/ /

# base-with-TREE: the base as it is, or with what stage cudnn collected
FROM base AS base-with-none
FROM base AS base-with-cudnn
COPY --from=cudnn --link /opt/stage/ /

# runtime: that, the other trees, and the check; the images jetpack and cuda
FROM base-with-${CUDNN_TREE} AS runtime
ARG REBUILD_RUNTIME
ARG CACHE_ID
COPY --from=gdal --link /opt/stage/ /
COPY --from=python --link /opt/stage/ /
ENV PATH=/opt/venv/bin:/usr/local/bin:${PATH}
RUN --mount=type=bind,source=knobs/runtime.sh,target=/run/knob.sh sh /run/knob.sh && mkdir -p /usr/share/jetpare && \
    printf '{"schema": 1, "versions": {"gdal": "%s", "numpy": "%s"}, "checks": [{"name": "demo", "status": "ok", "detail": ""}]}' \
    "$(gdalinfo)" "$(sed 's/.*==//' /opt/venv/demo.txt)" >/usr/share/jetpare/checks.json
FROM scratch AS runtime-report
COPY --from=runtime /usr/share/jetpare/ /

# slim: the same as one layer, with the settings of the real base
FROM base-settings AS slim
ARG REBUILD_SLIM
COPY --from=runtime / /
ENV PATH=/opt/venv/bin:/usr/local/bin:${PATH}
RUN gdalinfo && echo "$DEMO_WORDS" >/usr/share/jetpare/words
FROM scratch AS slim-report
COPY --from=slim /usr/share/jetpare/ /
