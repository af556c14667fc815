# Where no image registry can be reached, Debian's packages stand in for the images of the store, the proxy and
# Prometheus: this gives such an image the folders that the official ones bring. See README.md.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}
RUN install -d -o 999 -g 999 /data && install -d -o 65534 -g 65534 /prometheus
USER 65534
HEALTHCHECK NONE
