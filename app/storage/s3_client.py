"""How does one talk to an S3 service: who waits how long for what, and how often is it tried?"""

import threading
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
BULK_READ_TIMEOUT_S = 30.0  # a large multipart upload takes its time to be put together

_making = threading.Lock()  # one session saves 10 MiB a client, and threads may not share it unguarded


def make_client(
    endpoint: str | None,
    access_key: str,
    secret_key: str,
    region: str,
    addressing_style: str,
    *,
    read_timeout_s: float = READ_TIMEOUT_S,
    attempts: int = 2,
) -> Any:
    """Return a client of boto3, which threads may share and processes that were forked may not.

    With the defaults a question to a server that refuses connections fails within a second or two, to one that is
    out of reach within 7, to one that stands still within 21.

    Args:
        endpoint: The service's URL; None means AWS itself.
        access_key: The user; empty means what boto3 finds by itself, such as the role of a machine at AWS.
        secret_key: The user's password.
        region: Which signatures name.
        addressing_style: ``path``, ``virtual`` or ``auto``: where the bucket's name stands.
        read_timeout_s: Longest silence of the server, seconds.
        attempts: How often a request is tried in all.

    Raises:
        ValueError: If the endpoint is no URL.
    """
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": addressing_style},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=48,  # a gateway's threads are 40
        tcp_keepalive=True,
        # Signatures (http) and TLS (https) protect what is sent; further checksums are not known everywhere.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with _making:
        return _session().client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            region_name=region,
            config=config,
        )


@cache
def _session() -> Any:
    return boto3.session.Session()
