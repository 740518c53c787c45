"""Lets tests use the synthetic scenes of ``benchmarks``, which are not installed, and real servers on loopback."""

import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell, which programs inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.servers.fixtures import minio, postgres_server, postgres_url, rabbitmq, redis

__all__ = ["minio", "postgres_server", "postgres_url", "rabbitmq", "redis"]
