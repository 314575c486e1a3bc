# One image for every part: serve, traffic, feedback, reports, nightly (scripts/container.sh; docs/scale.md).
#
#     docker build -t photoloop .                                                        everything, torch for GPUs
#     docker build -t photoloop --build-arg TORCH_INDEX=URL .                            torch for CPUs, 4 GB less
#     docker build -t photoloop --build-arg REQUIREMENTS=requirements/serving.txt .      no training and no reports
#
# URL is the package index of PyTorch's builds for CPUs, which its site names under "Get started".
#
# The code is read-only, the user is not root, and only /data and /tmp are written: run it with a read-only root.
ARG BASE=debian:12-slim

FROM ${BASE} AS system
# Debian removes a version from its mirrors when the next one is out, so pinned versions would break the build.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates nginx-light python3 tini \
 && rm -rf /var/lib/apt/lists/*

FROM system AS packages
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv --without-pip /opt/venv
ARG TORCH_INDEX=
ARG REQUIREMENTS=requirements.txt
WORKDIR /build
COPY requirements.txt constraints.txt ./
COPY requirements requirements
# 2.12.1+cpu of the second index is newer to pip than 2.12.1 of the first.
RUN python3 -m venv /tmp/pip \
 && /tmp/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
    ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} -r "${REQUIREMENTS}" \
 && echo /opt/photoloop > /opt/venv/lib/python3.11/site-packages/photoloop.pth

FROM system
COPY --from=packages /opt/venv /opt/venv
COPY . /opt/photoloop
RUN python3 -m compileall -q /opt/photoloop \
 && install -d -o 10001 -g 0 -m 0775 /data
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    SERVE_VAR=/data/var \
    SERVE_STORE=/data/model_store \
    SERVE_NODES=none \
    SERVE_FRONT_HOST=0.0.0.0
WORKDIR /opt/photoloop
USER 10001:0
VOLUME /data
EXPOSE 8086 8087 8088 5000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/photoloop/scripts/container.sh"]
CMD ["serve"]
