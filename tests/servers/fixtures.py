"""Which real servers do all tests of a session share? Imported by ``tests/conftest.py``."""

from collections.abc import Iterator

import pytest

from tests.servers.minio import Minio
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A Redis that nobody may kill; who uses it starts with ``redis.empty()``."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ that nobody may kill."""
    with RabbitMQ() as server:
        yield server


@pytest.fixture(scope="session")
def minio() -> Iterator[Minio]:
    """A MinIO that nobody may kill; each test makes buckets of its own."""
    with Minio() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL that nobody may kill."""
    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database."""
    with postgres_server.database() as url:
        yield url
