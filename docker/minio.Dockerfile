# MinIO from its source, should its official images be withdrawn:
#   docker build --file docker/minio.Dockerfile --tag volcal/minio:source docker
#   echo MINIO_IMAGE=volcal/minio:source >> .env
FROM golang:1.24.8-bookworm AS build
ARG MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
ENV CGO_ENABLED=0 GOBIN=/out
RUN go install -trimpath -ldflags '-s -w' "github.com/minio/minio@${MINIO_VERSION}"

FROM debian:12.11-slim
LABEL org.opencontainers.image.title="MinIO" \
      org.opencontainers.image.description="S3 object store, built from source" \
      org.opencontainers.image.licenses="AGPL-3.0-only"
RUN groupadd --gid 1000 minio \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin minio \
    && install --directory --owner=minio --group=minio /data
COPY --from=build /out/minio /usr/local/bin/minio
USER 1000:1000
EXPOSE 9000
ENTRYPOINT ["minio"]
CMD ["server", "/data"]
