# The worker: takes tasks and runs their pipelines. The numerical kernels are compiled at build.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/volcal
WORKDIR /src
# What changes seldom first: these layers are kept until pyproject.toml or constraints.txt change.
COPY pyproject.toml constraints.txt docker/requirements.py ./
# Further extras of pyproject.toml, such as otel.
ARG EXTRAS=""
RUN python requirements.py worker raster stack ${EXTRAS} > requirements.txt \
    && /opt/volcal/bin/pip install --constraint constraints.txt --requirement requirements.txt \
    && find /opt/volcal/lib -type d -name tests -prune -exec rm -rf {} +
COPY . .
# A compiled kernel counts as stale if its source is younger, to the nanosecond: layers keep whole seconds.
RUN /opt/volcal/bin/pip install --no-deps . \
    && /opt/volcal/bin/pip uninstall --yes pip setuptools \
    && find /opt/volcal/lib -path '*/pipeline/*.py' -exec touch --date=@1700000000 {} + \
    && find /opt/volcal/lib -path '*/pipeline/*.pyc' -delete \
    && /opt/volcal/bin/python -m compileall -q /opt/volcal/lib/python3*/site-packages/pipeline

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="Volcal worker" \
      org.opencontainers.image.description="Runs the pipelines: volume change between two surveys, prediction from satellite scenes" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 volcal \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin volcal \
    && install --directory --owner=volcal --group=volcal /var/lib/volcal
COPY --from=build /opt/volcal /opt/volcal
ENV PATH=/opt/volcal/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLBACKEND=Agg
# numba and matplotlib refuse caches that they cannot write: start-worker copies these to where they can.
RUN NUMBA_CACHE_DIR=/opt/volcal/warm/numba MPLCONFIGDIR=/opt/volcal/warm/matplotlib python -m pipeline.warm \
    && MPLCONFIGDIR=/opt/volcal/warm/matplotlib python -c 'import matplotlib.font_manager' \
    && chmod -R a+rX /opt/volcal/warm
COPY docker/health.py /opt/volcal/health.py
COPY docker/start-worker /opt/volcal/bin/start-worker
ENV NUMBA_CACHE_DIR=/tmp/warm/numba \
    MPLCONFIGDIR=/tmp/warm/matplotlib \
    VOLCAL_DATA_DIR=/var/lib/volcal
WORKDIR /var/lib/volcal
USER 10001:10001
ENTRYPOINT ["start-worker"]
CMD ["work"]
