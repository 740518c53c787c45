"""What lies below a folder, or in a bucket?"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.domain.inventory import Stored


def in_folder(root: Path, prefix: str, *, hidden: str) -> Iterator[Stored]:
    """Yield every file below ``root`` whose key begins with ``prefix``.

    Args:
        root: The store's folder.
        prefix: Of keys; ends with a slash, or is empty.
        hidden: Name of a folder directly below ``root`` that holds no objects.
    """
    for place, folders, files in os.walk(root / prefix):
        folder = Path(place)
        if folder == root and hidden in folders:
            folders.remove(hidden)
        folders.sort()
        for name in sorted(files):
            path = folder / name
            try:
                about = path.lstat()
            except FileNotFoundError:  # deleted meanwhile
                continue
            changed_at = datetime.fromtimestamp(about.st_mtime, UTC)
            yield Stored(path.relative_to(root).as_posix(), about.st_size, changed_at)


def in_bucket(client: Any, bucket: str, prefix: str) -> Iterator[Stored]:
    """Yield every object of a bucket whose key begins with ``prefix``, a thousand with each request.

    Args:
        client: A client of boto3.
        bucket: Which bucket.
        prefix: Of keys.
    """
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            yield Stored(found["Key"], found["Size"], found["LastModified"].astimezone(UTC))


def unfinished_in_bucket(client: Any, bucket: str, prefix: str) -> Iterator[Stored]:
    """Yield the uploads in parts of a bucket whose key begins with ``prefix``.

    MinIO finds them by their whole key, or lists all that were begun since it started; by a prefix it finds none.

    Args:
        client: A client of boto3.
        bucket: Which bucket.
        prefix: Of keys, ending with a slash; or a whole key.
    """
    asked = "" if prefix.endswith("/") else prefix
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=asked):
        for found in page.get("Uploads", []):
            key = found["Key"]
            if key.startswith(prefix) if prefix.endswith("/") else key == prefix:
                yield Stored(key, 0, found["Initiated"].astimezone(UTC), found["UploadId"])
