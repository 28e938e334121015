# The reference document's own recipe, to measure the `cuda` image against: the same base, the same compiled GDAL and the
# same Python packages (the `gdal` and `python` stages of images.Dockerfile, given as named contexts), but copied as the
# document does it, by COPY --from with globs. Such a COPY follows links, so a library becomes one file for each of its names.
ARG RUNTIME_PACKAGES
ARG CACHE_ID=local

# cudnn-source: where cuDNN and the profiling libraries come from
FROM l4t-jetpack AS cudnn-source

# runtime: as in the document's part 'Libraries Copied'; the globs match any architecture
FROM base AS runtime
ARG CACHE_ID
ARG RUNTIME_PACKAGES
RUN --mount=type=bind,source=scripts/image/net.sh,target=/run/jetpare/net.sh \
    --mount=type=bind,source=scripts/image/apt-install.sh,target=/run/jetpare/apt-install.sh \
    --mount=type=bind,from=gdal,source=/opt/stage/usr/share/jetpare/gdal-packages.txt,target=/run/jetpare/gdal-packages.txt \
    --mount=type=cache,id=apt-cache-${CACHE_ID},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${CACHE_ID},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=secret,id=ca --mount=type=secret,id=net --mount=type=tmpfs,target=/tmp \
    xargs -a /run/jetpare/gdal-packages.txt /run/jetpare/apt-install.sh python3 ${RUNTIME_PACKAGES}
COPY --from=gdal /opt/stage/usr/local/bin/gdal* /opt/stage/usr/local/bin/ogr* /usr/local/bin/
COPY --from=gdal /opt/stage/usr/local/lib/libgdal*.so* /usr/local/lib/
COPY --from=gdal /opt/stage/usr/local/share/gdal /usr/local/share/gdal
COPY --from=cudnn-source /usr/lib/*-linux-gnu/libcudnn*.so* /usr/local/cuda/lib64/
COPY --from=cudnn-source /usr/include/*-linux-gnu/cudnn*.h /usr/local/cuda/include/
COPY --from=cudnn-source /usr/local/cuda/targets/*-linux/lib/libcupti*.so* /usr/local/cuda/lib64/
COPY --from=cudnn-source /usr/local/cuda/targets/*-linux/lib/libnvToolsExt*.so* /usr/local/cuda/lib64/
COPY --from=python /opt/stage/opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:${PATH}
# the same proof that it works, so that like is compared with like
RUN --mount=type=bind,source=scripts/image/probe.py,target=/run/jetpare/probe.py --mount=type=tmpfs,target=/tmp \
    ldconfig && rm -f /var/cache/ldconfig/aux-cache && \
    python -B /run/jetpare/probe.py --output /usr/share/jetpare/checks.json
