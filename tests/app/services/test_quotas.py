"""How much an owner may have; exactly so also when many ask at once, on SQLite and PostgreSQL."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from app.context import Context
from app.domain.access import Caller, scopes_of
from app.domain.errors import ByteQuotaReached, TaskNotFound, TaskQuotaReached, UploadQuotaReached
from app.domain.tasks import TaskState, UploadState
from app.services import queries, quotas, tasks, uploads
from tests.app.conftest import World


def by(world: World, owner: str, **policy: Any) -> Context:
    viewer = Caller(owner, "0123456789", owner, scopes_of(["write"])) if owner else None
    return replace(world.with_policy(**policy).context, viewer=viewer)


def create(context: Context) -> UUID:
    return tasks.create_task(context, "constant")[0].id


def test_an_owner_has_as_many_unfinished_tasks_as_are_allowed(any_world: World) -> None:
    alice, bob = by(any_world, "alice", quota_tasks=2), by(any_world, "bob", quota_tasks=2)
    first, _ = create(alice), create(alice)
    with pytest.raises(TaskQuotaReached) as refused:
        create(alice)
    assert refused.value.extensions() == {"remedy": refused.value.remedy, "limit": 2, "used": 2}
    create(bob)
    with alice.unit_of_work() as work:
        tasks.cancel_task(work, first)
        work.commit()
    create(alice)


def test_many_at_once_get_exactly_what_is_allowed(any_world: World, together: Callable[..., list[Any]]) -> None:
    alice = by(any_world, "alice", quota_tasks=3)

    def one() -> bool:
        try:
            create(alice)
        except TaskQuotaReached:
            return False
        return True

    assert sum(together([one] * 10)) == 3
    with alice.unit_of_work(read_only=True) as work:
        assert quotas.unfinished(work, "alice") == 3


@pytest.mark.parametrize("limit", [399, 400])
def test_a_survey_of_too_many_points_is_refused_at_the_door_and_a_smaller_one_goes_on(
    world: World, good_files: dict[str, bytes], limit: int
) -> None:
    alice, nobody = by(world, "alice", quota_points=limit), by(world, "", quota_points=1)

    def bring(context: Context, content: bytes, task_id: UUID) -> Any:
        world.put(upload := uploads.open_upload(context, task_id, "pre").url[-32:], content)
        uploads.finished(context.seen_by(None), upload)
        return world.task(task_id)

    task_id = tasks.create_task(alice)[0].id
    found = bring(alice, good_files["pre"], task_id)  # 20 x 20 points
    if limit == 400:
        assert found.state is TaskState.WAITING
        return
    assert (found.state, found.error["code"], found.error["label"]) == (TaskState.ERROR, "QUOTA_POINTS", "pre")
    assert {name: found.error["details"][name] for name in ("points", "limit")} == {"points": 400, "limit": 399}
    assert bring(alice, b"0 0 0\n" * 300, task_id).state is TaskState.WAITING
    theirs = tasks.create_task(nobody)[0].id
    assert bring(nobody, good_files["pre"], theirs).state is TaskState.WAITING


def test_what_is_nobodys_has_no_quota(any_world: World) -> None:
    nobody = by(any_world, "", quota_tasks=1, quota_bytes=1)
    for _ in range(3):
        create(nobody)


def test_running_again_is_one_more_unfinished_task(any_world: World) -> None:
    alice = by(any_world, "alice", quota_tasks=1)
    old = any_world.add(TaskState.ERROR, owner="alice")
    create(alice)
    with pytest.raises(TaskQuotaReached):
        uploads.open_upload(alice, old, "file")
    with alice.unit_of_work() as work:
        task = queries.get_task(work, old)
        uploads_there = [uploads.new_upload(alice, old, "file")[0]]
        uploads_there[0].state, uploads_there[0].size = UploadState.FINISHED, 1
        task.uploads.extend(uploads_there)
        work.commit()
    with pytest.raises(TaskQuotaReached):
        tasks.restart(alice, old)


def arrive(context: Context, task_id: UUID, size: int) -> str:
    with context.unit_of_work() as work:
        upload = queries.get_task(work, task_id).uploads[0]
        upload.state, upload.size = UploadState.FINISHED, size
        work.commit()
        return upload.id


def test_bytes_are_counted_by_owner_and_given_back_when_a_task_is_deleted(any_world: World) -> None:
    alice = by(any_world, "alice", quota_bytes=100)
    task = create(alice)
    upload = arrive(alice, task, 60)
    quotas.check_file(alice, "alice", "another", 40)
    with pytest.raises(UploadQuotaReached) as over:
        quotas.check_file(alice, "alice", "another", 41)
    assert (over.value.facts["limit"], over.value.facts["used"]) == (100, 60)
    quotas.check_file(alice, "alice", upload, 100)  # it does not count against itself
    quotas.check_file(alice, "bob", "another", 100)
    other = create(alice)
    arrive(alice, other, 50)
    with pytest.raises(ByteQuotaReached):
        create(alice)
    with pytest.raises(ByteQuotaReached):
        uploads.open_upload(alice, any_world.add(TaskState.WAITING, owner="alice"), "file")
    tasks.delete_task(alice, other)
    create(alice)


def test_an_owner_finds_no_task_but_their_own_whatever_the_use_case(any_world: World) -> None:
    alice, bob = by(any_world, "alice"), by(any_world, "bob")
    theirs = create(alice)
    for use in (tasks.start_task, tasks.restart, tasks.delete_task, uploads.reconcile, uploads.stop_open):
        with pytest.raises(TaskNotFound):
            use(bob, theirs)  # type: ignore[operator]
    with bob.unit_of_work(read_only=True) as work:
        assert tasks.list_tasks(work) == []
    with replace(bob, viewer=None).unit_of_work(read_only=True) as work:
        assert [task.owner for task in tasks.list_tasks(work)] == ["alice"]
