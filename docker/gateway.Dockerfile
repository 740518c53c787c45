# The gateway, the reaper, the one-shot set-up: everything but the science. No numpy in here.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/volcal
WORKDIR /src
# What changes seldom first: these layers are kept until pyproject.toml or constraints.txt change.
COPY pyproject.toml constraints.txt docker/requirements.py ./
# Further extras of pyproject.toml, such as otel.
ARG EXTRAS=""
RUN python requirements.py gateway stack ${EXTRAS} > requirements.txt \
    && /opt/volcal/bin/pip install --constraint constraints.txt --requirement requirements.txt
COPY . .
RUN /opt/volcal/bin/pip install --no-deps . \
    && /opt/volcal/bin/pip uninstall --yes pip setuptools

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="Volcal gateway" \
      org.opencontainers.image.description="HTTP API, uploads, links; reaper; migrations" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 volcal \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin volcal \
    && install --directory --owner=volcal --group=volcal /var/lib/volcal
COPY --from=build /opt/volcal /opt/volcal
COPY docker/health.py /opt/volcal/health.py
ENV PATH=/opt/volcal/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VOLCAL_DATA_DIR=/var/lib/volcal
WORKDIR /var/lib/volcal
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["volcal"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
