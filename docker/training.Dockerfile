# Training: logs in, bundles out; training/ and models/ with torch, no server, not root.
#   docker build -f docker/training.Dockerfile -t reelrank-training .
#   docker build -f docker/training.Dockerfile -t reelrank-training:gpu --build-arg DEVICE=gpu .
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD/data:/data" reelrank-training prepare --dataset synthetic --out /data/log
# torch for the CPU comes from its own index, for CUDA (several GB) from PyPI. Wheels in docker/wheels are taken first.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG DEVICE=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/${DEVICE}
WORKDIR /src
COPY docker/locks docker/wheel[s] /locks/
# ${index} is two words or none.
# hadolint ignore=SC2086
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/reelrank \
 && /tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r /locks/image.txt \
 && if [ "${DEVICE}" = gpu ] || ls /locks/torch-*.whl >/dev/null 2>&1; then index=; else index="--extra-index-url ${TORCH_INDEX}"; fi \
 && /tools/bin/pip --python /opt/reelrank/bin/python install --no-cache-dir --no-deps --require-hashes \
      --find-links /locks ${index} -r "/locks/training-${DEVICE}.txt" \
 && find /opt/reelrank -type d -name tests -prune -exec rm -r {} +
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY training training
COPY service/__init__.py service/__init__.py
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /tools/bin/pip --python /opt/reelrank/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl \
 && /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
      --output-file /opt/reelrank/sbom.cdx.json /opt/reelrank/bin/python

FROM ${BASE}
# LightGBM's wheel wants the system's OpenMP.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
 && { ! python3 -m pip --version >/dev/null 2>&1 || python3 -m pip uninstall -y pip setuptools wheel; } \
 && groupadd --system --gid 10001 reelrank \
 && useradd --system --uid 10001 --gid reelrank --home-dir /data --shell /usr/sbin/nologin reelrank \
 && install -d -o reelrank -g reelrank -m 0700 /data
COPY --from=build /opt/reelrank /opt/reelrank
USER 10001:10001
WORKDIR /data
ENV PATH=/opt/reelrank/bin:$PATH PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib
VOLUME /data
# A command that ends, not a server: whether it is well is its exit code.
HEALTHCHECK NONE
# Last, because they change with every commit.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="reelrank-training" \
      org.opencontainers.image.description="Labels and watch-time re-ranking for short-video feeds: training" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0"
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]
