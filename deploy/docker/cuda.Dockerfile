# syntax=docker/dockerfile:1
# steno with ggml's CUDA part, for nodes with NVIDIA's container runtime:
#   docker build -f deploy/docker/cuda.Dockerfile --build-arg CUDA_ARCHS=80-real -t steno:cuda .
# The driver comes from the host; a machine without one is a CPU node.
ARG CUDA=12.8.1
ARG UBUNTU=24.04

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS build
ARG GO=1.26.0
ARG GO_SHA256
ARG CUDA_ARCHS
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates cmake curl g++ git make python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Give GO_SHA256 as go.dev/dl has it for this version.
RUN curl -fsSLo /tmp/go.tar.gz "https://go.dev/dl/go${GO}.linux-amd64.tar.gz" && echo "${GO_SHA256}  /tmp/go.tar.gz" | sha256sum --check \
    && tar -C /usr/local -xzf /tmp/go.tar.gz && rm /tmp/go.tar.gz
ENV PATH=/usr/local/go/bin:$PATH
WORKDIR /src
COPY . .
RUN scripts/console.sh && scripts/engine.sh portable && mkdir -p bin \
    && bash -c 'source .build/engine-portable/env && go build -trimpath -o bin/steno ./cmd/steno' && scripts/cuda.sh \
    && scripts/onnxruntime.sh bin/libonnxruntime.so

FROM nvidia/cuda:${CUDA}-runtime-ubuntu${UBUNTU}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates ffmpeg libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /var/lib/steno --shell /usr/sbin/nologin steno \
    && install -d -o steno -g steno -m 0700 /var/lib/steno
COPY --from=build /src/bin/steno /src/bin/libggml-cuda.so /src/bin/libonnxruntime.so /opt/steno/
USER 10001:10001
ENV STENO_DATA=/var/lib/steno STENO_LOG_FORMAT=json STENO_ADMIN=0.0.0.0:9464 NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /var/lib/steno
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/steno/steno"]
CMD ["node"]
