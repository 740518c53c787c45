"""A client of a Volcal server: what ``volcal submit`` and scripts use.

>>> from app.client import VolcalClient
>>> with VolcalClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     task = client.create()
...     for label, path in {"pre": "a.laz", "post": "b.laz", "shp": "s.shp", "shx": "s.shx"}.items():
...         client.upload(task.uploads[label].url, Path(path))
...     client.wait(task.id)
...     client.fetch(task.id, Path("results"))
"""

from app.client.core import VolcalClient
from app.client.errors import ClientError, Refused, TaskFailed, TransferFailed, Unreachable, WaitedTooLong
from app.client.following import Event, LogLine, LogPage, Standing
from app.client.models import Artifact, TaskStatus, UploadState

__all__ = [
    "Artifact",
    "ClientError",
    "Event",
    "LogLine",
    "LogPage",
    "Refused",
    "Standing",
    "TaskFailed",
    "TaskStatus",
    "TransferFailed",
    "Unreachable",
    "UploadState",
    "VolcalClient",
    "WaitedTooLong",
]
