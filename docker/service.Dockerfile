# The service on CPU: service/ and models/, no torch, not root.
#   docker build -f docker/service.Dockerfile -t reelrank .
#   docker run --read-only --tmpfs /tmp -v reelrank:/data -p 8000:8000 -e REELRANK_API_KEYS=KEY:label+rerank+read reelrank
# Keys and rights are in service/README.md; without a key the service listens on the container's loopback only.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY service service
COPY training/__init__.py training/__init__.py
RUN python3 -m venv /opt/reelrank && /opt/reelrank/bin/pip install --no-cache-dir '.[cpu]'

FROM ${BASE}
LABEL org.opencontainers.image.title="reelrank" org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0"
COPY --from=build /opt/reelrank /opt/reelrank
COPY models/bundles /bundles
RUN useradd --system --uid 10001 reelrank && install -d -o reelrank /data
USER reelrank
ENV REELRANK_DATA_DIR=/data REELRANK_BUNDLE=/bundles PYTHONDONTWRITEBYTECODE=1
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s CMD ["/opt/reelrank/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready')"]
ENTRYPOINT ["/opt/reelrank/bin/python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0"]
