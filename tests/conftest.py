"""Lets tests use the synthetic scenes of ``benchmarks``, which are not installed, and real servers on loopback."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.servers.fixtures import minio, postgres_server, postgres_url, rabbitmq, redis

__all__ = ["minio", "postgres_server", "postgres_url", "rabbitmq", "redis"]
