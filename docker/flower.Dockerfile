# The dashboard of the queue, with the same Celery as the workers.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/flower
WORKDIR /src
COPY constraints.txt ./
RUN /opt/flower/bin/pip install --constraint constraints.txt celery flower packaging redis \
    && /opt/flower/bin/pip uninstall --yes pip setuptools

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="Volcal queue dashboard" \
      org.opencontainers.image.description="Flower" \
      org.opencontainers.image.licenses="BSD-3-Clause"
RUN groupadd --gid 10001 flower \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin flower \
    && install --directory --owner=flower --group=flower /var/lib/flower
COPY --from=build /opt/flower /opt/flower
COPY docker/health.py /opt/flower/health.py
COPY docker/start-flower /opt/flower/bin/start-flower
ENV PATH=/opt/flower/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/flower
USER 10001:10001
EXPOSE 9181
ENTRYPOINT ["start-flower"]
