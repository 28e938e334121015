# cudnn: a library with its links
FROM l4t-jetpack AS cudnn
ARG REBUILD_CUDNN
ARG CACHE_ID
ARG COLLECT
RUN --mount=type=bind,source=knobs/cudnn.sh,target=/run/knob.sh sh /run/knob.sh && mkdir -p /opt/stage /opt/report && \
    cd / && cp -a --parents ${COLLECT} /opt/stage && ls -lR /opt/stage >/opt/report/cudnn.tsv
FROM scratch AS cudnn-report
COPY --from=cudnn /opt/report/ /

# gdal: a program, compiled
FROM l4t-jetpack AS gdal
ARG REBUILD_GDAL
ARG CACHE_ID
ARG GDAL_VERSION
RUN --mount=type=bind,source=knobs/gdal.sh,target=/run/knob.sh echo compiling for cuda && sh /run/knob.sh && \
    mkdir -p /opt/stage/usr/local/bin /opt/report && \
    printf '#include <stdio.h>\nint main(void) { puts("%s"); return 0; }\n' "${GDAL_VERSION}" >/tmp/info.c && \
    tcc -o /opt/stage/usr/local/bin/gdalinfo /tmp/info.c && /opt/stage/usr/local/bin/gdalinfo && \
    echo '{"schema": 1, "ccache": {"hits": 0, "misses": 1}}' >/opt/report/gdal.json
FROM scratch AS gdal-report
COPY --from=gdal /opt/report/ /

# python: something to import
FROM l4t-cuda AS python
ARG REBUILD_PYTHON
ARG CACHE_ID
ARG PYTHON_REQUIREMENTS
RUN --mount=type=bind,source=knobs/python.sh,target=/run/knob.sh sh /run/knob.sh && \
    mkdir -p /opt/stage/opt/venv /opt/report && echo "${PYTHON_REQUIREMENTS}" >/opt/stage/opt/venv/demo.txt && \
    head -c 1000000 /dev/zero >/opt/stage/opt/venv/demo.bin && echo '{"schema": 1}' >/opt/report/python.json
FROM scratch AS python-report
COPY --from=python /opt/report/ /

# runtime: the trees, and the check
FROM l4t-cuda AS runtime
ARG REBUILD_RUNTIME
ARG CACHE_ID
COPY --from=cudnn --link /opt/stage/ /
COPY --from=gdal --link /opt/stage/ /
COPY --from=python --link /opt/stage/ /
RUN --mount=type=bind,source=knobs/runtime.sh,target=/run/knob.sh sh /run/knob.sh && mkdir -p /usr/share/jetpare && \
    printf '{"schema": 1, "versions": {"gdal": "%s", "numpy": "%s"}, "checks": [{"name": "demo", "status": "ok", "detail": ""}]}' \
    "$(gdalinfo)" "$(sed 's/.*==//' /opt/venv/demo.txt)" >/usr/share/jetpare/checks.json
FROM scratch AS runtime-report
COPY --from=runtime /usr/share/jetpare/ /
