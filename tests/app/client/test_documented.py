"""What docs/client.md shows works, against the real gateway."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from app.client import VolcalClient, ranges
from app.context import Context
from app.services import runs
from tests.app.conftest import World
from tests.app.served import served
from tests.queues import RecordingQueue

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
pytestmark = pytest.mark.service


class Worker(RecordingQueue):
    """Runs a task as soon as it is queued: its result is one large file."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.data = bytes(range(256)) * 4000

    def submit(self, task_id: UUID, step: int = 0, queue: str = "") -> None:
        super().submit(task_id, step, queue)
        key, now = f"tasks/{task_id}/out/1/a.laz", datetime.now(UTC)
        (source := self._world.root / str(task_id)).write_bytes(self.data)
        self._world.context.store.put(key, source)
        kept = {"name": "a.laz", "media_type": "x/y", "title": "A", "key": key, "size": len(self.data)}
        with self._world.context.unit_of_work() as work:
            lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=10)
            assert lease is not None
            runs.finish(work, lease, document={"hulls": []}, artifacts=[kept], now=now)
            work.commit()


def test_every_example_of_the_page_runs(
    world: World,
    good_files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = Worker(world)
    monkeypatch.setattr(ranges, "PIECE", 100_000)
    noted: list[int] = []
    note = ranges.Ranged._note
    monkeypatch.setattr(ranges.Ranged, "_note", lambda self, number: (noted.append(number), note(self, number)))
    monkeypatch.chdir(tmp_path)
    for label, name in {"pre": "april.xyz", "post": "may.xyz", "shp": "stable.shp", "shx": "stable.shx"}.items():
        Path(name).write_bytes(good_files[label])

    def employ(context: Context) -> Context:
        return replace(context, queue=worker)

    names: dict[str, object] = {}
    with served(world, change=employ) as url:
        for block in BLOCKS:
            exec(compile(block.replace("http://127.0.0.1:8000", url), str(PAGE), "exec"), names)  # noqa: S102
        said = capsys.readouterr().out
        with VolcalClient(url) as client:
            assert [task.status for task in client.tasks(pipeline="volume_change")] == ["done"] * 3
            again = client.create("constant")
            client.delete(again.id)
            client.delete(again.id)
            assert [task.id for task in client.tasks(status="waiting")] == []
    assert (tmp_path / "result" / "a.laz").read_bytes() == worker.data
    assert sorted(noted) == list(range(11))  # it came in ranges
    assert "done" in said
    assert "422 OPTIONS_INVALID" in said
    assert said.endswith("[0, 0]\n")
