"""Lets tests use the synthetic scenes of ``benchmarks``, which are not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
