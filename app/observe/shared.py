"""Where several gateway processes keep their figures together, so that whichever is asked tells the sum."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder; read when ``prometheus_client`` is imported, so it must be set before."""


@contextmanager
def figures_together() -> Iterator[None]:
    """Let the processes that are started within the ``with`` block count together."""
    try:
        folder = tempfile.mkdtemp(prefix="volcal-figures-")
    except OSError as error:
        log.warning("the gateway's processes count each for itself: %s", error)
        yield
        return
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[FOLDER]
        shutil.rmtree(folder, ignore_errors=True)
