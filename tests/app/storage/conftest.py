"""Object stores on real servers."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from app.storage.s3 import S3Store
from tests.servers.minio import Minio


def store_on(server: Minio, *, prepared: bool = True, **changes: Any) -> S3Store:
    """Return a store with a bucket of its own."""
    settings: dict[str, Any] = {
        "bucket": f"test-{uuid4().hex}",
        "endpoint": server.url,
        "public_endpoint": None,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "region": server.region,
    }
    store = S3Store(**settings | changes)
    if prepared:
        store.prepare()
    return store


@pytest.fixture
def s3_stores(minio: Minio) -> Callable[..., S3Store]:
    """Makes stores on the common MinIO, each with a bucket of its own unless one is named."""
    return lambda **changes: store_on(minio, **changes)


@pytest.fixture
def s3_store(s3_stores: Callable[..., S3Store]) -> S3Store:
    return s3_stores()
