# The service: service/ and models/, no torch, not root, nothing that installs or builds.
#   docker build -f docker/service.Dockerfile -t reelrank .
#   docker build -f docker/service.Dockerfile -t reelrank:gpu --build-arg DEVICE=gpu \
#     --build-arg BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 .
# How it is run, with a store, keys and a proxy: docker/README.md.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG DEVICE=cpu
WORKDIR /src
# NVIDIA's images have CUDA and cuDNN, but no Python; Debian's and Python's have it already.
# hadolint ignore=DL3008
RUN python3 -c 'import ensurepip' 2>/dev/null || { apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; }
# Two environments: one that builds and stays here, and the one that is copied, without pip.
COPY docker/locks/image.txt docker/locks/service-${DEVICE}.txt docker/locks/
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/reelrank \
 && /tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r docker/locks/image.txt \
 && /tools/bin/pip --python /opt/reelrank/bin/python install --no-cache-dir --no-deps --require-hashes \
      -r "docker/locks/service-${DEVICE}.txt" \
 && find /opt/reelrank -type d -name tests -prune -exec rm -r {} +
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY service service
COPY training/__init__.py training/__init__.py
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /tools/bin/pip --python /opt/reelrank/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl \
 && /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
      --output-file /opt/reelrank/sbom.cdx.json /opt/reelrank/bin/python

FROM ${BASE}
# hadolint ignore=DL3008
RUN command -v python3 >/dev/null || { apt-get update \
 && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*; }
RUN { ! python3 -m pip --version >/dev/null 2>&1 || python3 -m pip uninstall -y pip setuptools wheel; } \
 && groupadd --system --gid 10001 reelrank \
 && useradd --system --uid 10001 --gid reelrank --home-dir /data --shell /usr/sbin/nologin reelrank \
 && install -d -o reelrank -g reelrank -m 0700 /data
COPY --from=build /opt/reelrank /opt/reelrank
COPY models/bundles /bundles
USER 10001:10001
ENV PATH=/opt/reelrank/bin:$PATH REELRANK_DATA_DIR=/data REELRANK_BUNDLE=/bundles PYTHONDONTWRITEBYTECODE=1
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=2s --start-period=15s --retries=2 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
# Last, because they change with every commit.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="reelrank" \
      org.opencontainers.image.description="Labels and watch-time re-ranking for short-video feeds: the service" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0"
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0"]
