# l4t-cuda: the smaller base, with settings that need quoting where they are typed
FROM debian AS l4t-cuda
ARG CACHE_ID
ENV NVIDIA_VISIBLE_DEVICES=all \
    DEMO_WORDS="it's \"one\" \$HOME"
LABEL demo.origin="the base"
RUN head -c 3000000 /dev/urandom >/usr/lib/libcudart.demo

# l4t-jetpack: the same, a compiler, a library with its links, and ballast
FROM l4t-cuda AS l4t-jetpack
ARG CACHE_ID
RUN apt-get update -qq && apt-get install -qq --no-install-recommends tcc libc6-dev >/dev/null && rm -rf /var/lib/apt/lists/*
RUN dir=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu") && \
    head -c 2000000 /dev/urandom >"$dir/libdemo.so.1.0" && \
    ln -s libdemo.so.1.0 "$dir/libdemo.so.1" && ln -s libdemo.so.1 "$dir/libdemo.so" && \
    head -c 20000000 /dev/urandom >/opt/ballast
