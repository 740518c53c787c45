"""What is deleted from a store, and what never is; which rows miss their objects."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.db.models import Upload
from app.domain.keys import input_key, output_key, task_prefix
from app.domain.tasks import TaskState, UploadState
from app.services import orphans, tasks
from app.services.orphans import Why
from tests.app.conftest import World
from tests.app.storage.conftest import store_on

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ENDED = {"created_at": LONG_AGO, "finished_at": LONG_AGO}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def kept(request: pytest.FixtureRequest, world: World) -> World:
    """A world on each store."""
    if request.param == "local":
        return world
    store = store_on(request.getfixturevalue("minio"))
    return replace(world, context=replace(world.context, store=store))


@pytest.fixture
def put(kept: World, tmp_path: Path) -> Callable[..., str]:
    """Put an object into the store."""

    def _put(key: str, content: bytes = b"12345") -> str:
        (source := tmp_path / "source").write_bytes(content)
        kept.context.store.put(key, source)
        return key

    return _put


def add_upload(world: World, task_id: UUID, label: str, state: UploadState, **values: Any) -> Upload:
    name = uuid4().hex
    ended = LONG_AGO if state != UploadState.OPEN else None
    row = Upload(
        **{
            "id": name,
            "handle": name,
            "task_id": task_id,
            "label": label,
            "key": input_key(task_id, label, name),
            "state": state,
            "created_at": LONG_AGO,
            "finished_at": ended,
            **values,
        }
    )
    with world.context.unit_of_work() as work:
        work.session.add(row)
        work.commit()
    return row


def look(world: World, *, ahead: timedelta = 2 * DAY) -> orphans.Survey:
    """Survey as if some time had passed since everything was stored."""
    return orphans.survey(world.context, datetime.now(UTC) + ahead, DAY)


def strays(found: orphans.Survey) -> dict[str, Why]:
    return {stray.found.key: stray.why for stray in found.strays}


def everything(world: World) -> set[str]:
    return {found.key for found in world.context.store.listed("")}


def test_objects_of_a_task_that_is_not_in_the_database_go(kept: World, put: Any) -> None:
    task_id = uuid4()
    doomed = {put(input_key(task_id, "pre", "a")), put(output_key(task_id, 1, "hulls/1.png"), b"123")}
    found = look(kept)
    assert strays(found) == dict.fromkeys(doomed, Why.UNKNOWN)
    assert (found.tasks, found.unknown) == (1, 1)
    assert everything(kept) == doomed
    assert orphans.clear(kept.context, found) == (2, 8)
    assert everything(kept) == set()
    assert strays(look(kept)) == {}


def test_what_is_young_stays(kept: World, put: Any) -> None:
    put(input_key(uuid4(), "pre", "a"))
    found = look(kept, ahead=timedelta())
    assert found.strays == []
    assert found.unknown == 0


@pytest.mark.parametrize("state", list(TaskState))
def test_a_task_keeps_what_it_needs_in_its_state(kept: World, put: Any, state: TaskState) -> None:
    task_id = kept.add(state, fence=3, **ENDED)
    rows = {each: add_upload(kept, task_id, "file", each) for each in UploadState}
    for row in rows.values():
        put(row.key)
    put(f"{rows[UploadState.OPEN].key}.info")
    put(f"{rows[UploadState.SUPERSEDED].key}.part")
    now, before = put(output_key(task_id, 3, "a.png")), put(output_key(task_id, 2, "a.png"))
    never = put(input_key(task_id, "file", "of-no-row"))

    expected = dict.fromkeys(
        [never, rows[UploadState.SUPERSEDED].key, f"{rows[UploadState.SUPERSEDED].key}.part"], Why.ABANDONED
    )
    expected[before] = Why.ATTEMPT
    if state not in (TaskState.RUNNING, TaskState.DONE):
        expected[now] = Why.ATTEMPT
    if state is TaskState.KILLED:  # nobody can send to it any more
        expected |= dict.fromkeys([rows[UploadState.OPEN].key, f"{rows[UploadState.OPEN].key}.info"], Why.ABANDONED)
    assert strays(look(kept)) == expected


def test_a_result_that_a_done_task_names_stays_wherever_it_is(kept: World, put: Any) -> None:
    task_id = kept.add(TaskState.DONE, fence=3, **ENDED)
    named, other = put(output_key(task_id, 1, "a.png")), put(output_key(task_id, 1, "b.png"))
    with kept.context.unit_of_work() as work:
        task = work.session.get(type(kept.task(task_id)), task_id)
        task.artifacts = [{"name": "a.png", "media_type": "image/png", "title": "", "key": named, "size": 5}]
        work.commit()
    assert strays(look(kept)) == {other: Why.ATTEMPT}


def test_a_deleted_task_is_left_to_the_reaper(kept: World, put: Any) -> None:
    task_id = kept.add(TaskState.RUNNING, deleted_at=LONG_AGO, fence=1)
    put(output_key(task_id, 1, "a.png"))
    put(input_key(task_id, "pre", "a"))
    found = look(kept)
    assert (found.strays, found.losses) == ([], [])


def test_what_is_not_ours_is_left_alone(kept: World, put: Any) -> None:
    task_id = kept.add(TaskState.DONE, **ENDED)
    put("readme.txt")
    put("tasks/readme.txt")
    put("tasks/backup/in/pre")
    put(f"tasks/{str(task_id).upper()}/in/pre")
    put(f"{task_prefix(task_id)}notes/by-hand.txt")
    assert look(kept).strays == []


def test_a_store_full_of_unknown_tasks_is_strange(kept: World, put: Any) -> None:
    for _ in range(10):
        put(input_key(uuid4(), "pre", "a"))
    assert not look(kept).is_strange  # a few may always be
    put(input_key(uuid4(), "pre", "a"))
    assert look(kept).is_strange
    for _ in range(99):
        put(output_key(kept.add(TaskState.DONE, fence=1, **ENDED), 1, "a"))
    assert not look(kept).is_strange  # 11 of 110
    put(input_key(uuid4(), "pre", "a"))
    assert look(kept).is_strange  # 12 of 111


@pytest.mark.parametrize(
    ("state", "means"),
    [
        (TaskState.WAITING, "send the file again"),
        (TaskState.PENDING, "fail with STORAGE"),
        (TaskState.RUNNING, "fail with STORAGE"),
        (TaskState.ERROR, "cannot be run again until the file is sent again"),
        (TaskState.KILLED, "create a new one"),
        (TaskState.DONE, "not touched"),
    ],
)
@pytest.mark.parametrize("rest", [True, False])
def test_a_file_that_is_gone_is_told_with_what_comes_of_it(
    kept: World, put: Any, state: TaskState, means: str, rest: bool
) -> None:
    task_id = kept.add(state, fence=1, **ENDED)
    add_upload(kept, task_id, "pre", UploadState.FINISHED)
    add_upload(kept, task_id, "post", UploadState.SUPERSEDED)
    add_upload(kept, task_id, "shp", UploadState.FINISHED, finished_at=datetime.now(UTC))  # just while we look
    if rest:
        put(add_upload(kept, task_id, "shx", UploadState.FINISHED).key)
    [loss] = look(kept).losses
    assert (loss.task_id, loss.what, loss.state) == (task_id, "file pre", state)
    assert means in loss.means


def test_a_result_that_is_gone_is_told(kept: World, put: Any) -> None:
    task_id = kept.add(TaskState.DONE, fence=1, **ENDED)
    here, gone = put(output_key(task_id, 1, "a.png")), output_key(task_id, 1, "b.png")
    about = {"media_type": "image/png", "title": "", "size": 5}
    with kept.context.unit_of_work() as work:
        task = work.session.get(type(kept.task(task_id)), task_id)
        task.artifacts = [{"name": key[-5:], "key": key, **about} for key in (here, gone)]
        work.commit()
    [loss] = look(kept).losses
    assert loss.what == "result b.png"


def test_uploads_under_way_are_no_loss_and_those_that_cannot_go_on_are_closed(kept: World) -> None:
    task, tickets = tasks.create_task(kept.context, "four")
    assert look(kept).losses == []
    broken = tickets[0].handle
    for path in (kept.root / "uploads").glob(f"{broken}.part"):
        path.unlink()
    found = look(kept)
    assert [(loss.what, loss.handle, loss.task_id) for loss in found.losses] == [
        (f"upload {tickets[0].label}", broken, task.id)
    ]
    assert orphans.close(kept.context, found) == 1
    assert kept.context.uploads.offset(broken) is None
    assert kept.context.uploads.offset(tickets[1].handle) == 0


@pytest.mark.service
def test_uploads_in_parts_that_a_row_waits_for_go_on_and_all_others_end(request: Any, world: World) -> None:
    store = store_on(request.getfixturevalue("minio"))
    world = replace(world, context=replace(world.context, store=store))

    def begin(key: str) -> str:
        begun = store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
        return f"{key}+{begun['UploadId']}"

    waiting, running = world.add(TaskState.WAITING), world.add(TaskState.RUNNING, fence=2)
    awaited = begin(input_key(waiting, "pre", "a"))
    stays = [awaited, begin(output_key(running, 2, "big.laz"))]
    add_upload(world, waiting, "pre", UploadState.OPEN, key=awaited.partition("+")[0], handle=awaited)
    old = begin(input_key(waiting, "post", "b"))
    add_upload(world, waiting, "post", UploadState.SUPERSEDED, key=old.partition("+")[0], handle=old)
    goes = [
        old,
        begin(awaited.partition("+")[0]),  # the same file, but another upload
        begin(output_key(running, 1, "big.laz")),
        begin(input_key(uuid4(), "pre", "c")),
    ]
    assert look(world, ahead=timedelta()).strays == []
    found = look(world)
    assert {f"{s.found.key}+{s.found.unfinished}": s.why for s in found.strays} == dict.fromkeys(goes, Why.UNFINISHED)
    orphans.clear(world.context, found)
    assert {f"{each.key}+{each.unfinished}" for each in store.unfinished("tasks/")} == set(stays)
    assert orphans.clear(world.context, found)[0] == len(goes)  # once more does no harm


@pytest.mark.service
def test_uploads_that_the_store_forgot_are_found_beside_their_notes(request: Any, world: World, tmp_path: Path) -> None:
    """MinIO forgets after a restart what it has of uploads in parts, unless asked for exactly one key."""
    store = store_on(request.getfixturevalue("minio"))
    world = replace(world, context=replace(world.context, store=store))
    key = input_key(uuid4(), "pre", "a")
    store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
    assert [found.key for found in store.unfinished(key)] == [key]
    assert list(store.unfinished(key[:-1])) == []
    (tmp_path / "note").write_bytes(b"{}")
    store.put(f"{key}.info", tmp_path / "note")
    found = look(world)
    assert [(s.found.key, s.why) for s in found.strays] == [(f"{key}.info", Why.UNKNOWN), (key, Why.UNFINISHED)]
    orphans.clear(world.context, found)
    assert list(store.unfinished(key)) == []


def test_a_local_store_has_no_empty_folders_afterwards(world: World, tmp_path: Path) -> None:
    (source := tmp_path / "source").write_bytes(b"1")
    one, other = uuid4(), uuid4()
    for key in (output_key(one, 1, "hulls/1.png"), output_key(other, 1, "a"), output_key(other, 2, "a")):
        world.context.store.put(key, source)
    doomed = [found for found in world.context.store.listed("tasks/") if "/out/1/" in found.key]
    for found in doomed:
        world.context.store.remove(found)
    assert [path.name for path in (tmp_path / "objects" / "tasks").iterdir()] == [str(other)]
    assert everything(world) == {output_key(other, 2, "a")}
