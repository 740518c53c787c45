import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.errors import LabelUnknown, TaskNotFound, UploadClosed, UploadNotFound
from app.domain.failures import expired
from app.domain.tasks import TaskState, UploadState
from app.services import queries, tasks, uploads
from pipeline.contracts import InputPair
from pipeline.errors import InputInvalid
from pipeline.registry import Catalogue

LABELS = ["pre", "post", "shp", "shx"]


def create(world: Any, pipeline: str = "four") -> tuple[UUID, dict[str, str]]:
    task, tickets = tasks.create_task(world.context, pipeline)
    return task.id, {ticket.label: ticket.id for ticket in tickets}


def state_of(world: Any, task_id: UUID) -> TaskState:
    found: TaskState = world.task(task_id).state
    return found


def deliver(world: Any, upload_id: str, content: bytes = b"1 2 3\n") -> TaskState | None:
    world.put(upload_id, content)
    return uploads.finished(world.context, upload_id)


class TestStarting:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_last_file_starts_the_task_whatever_the_order(self, any_world: Any, seed: int) -> None:
        task_id, ids = create(any_world)
        order = Random(seed).sample(LABELS, 4)
        for label in order[:3]:
            assert deliver(any_world, ids[label]) is TaskState.WAITING
            assert any_world.queue.submitted == []
        assert deliver(any_world, ids[order[3]]) is TaskState.PENDING
        assert any_world.queue.submitted == [task_id]

    @pytest.mark.parametrize(
        ("kind", "rounds"), [("world", 100), pytest.param("postgres_world", 25, marks=pytest.mark.service)]
    )
    @pytest.mark.case(4)
    def test_files_that_finish_at_the_same_instant_start_the_task_exactly_once(
        self, request: pytest.FixtureRequest, kind: str, rounds: int, together: Callable[[Any], Any]
    ) -> None:
        world = request.getfixturevalue(kind)
        expected = []
        for _ in range(rounds):
            task_id, ids = create(world)
            for upload_id in ids.values():
                world.put(upload_id)
            together([partial(uploads.finished, world.context, upload_id) for upload_id in ids.values()])
            assert state_of(world, task_id) is TaskState.PENDING
            expected.append(task_id)
        assert world.queue.submitted == expected

    @pytest.mark.case(3)
    def test_a_hint_that_comes_often_and_from_many_starts_once(self, any_world: Any, together: Any) -> None:
        task_id, ids = create(any_world)
        for upload_id in ids.values():
            any_world.put(upload_id)
        hints = [partial(uploads.finished, any_world.context, upload_id) for upload_id in ids.values()] * 3
        by_hand = [partial(tasks.start_task, any_world.context, task_id)] * 2
        together([*hints, *by_hand, partial(uploads.reconcile, any_world.context, task_id)])
        assert any_world.queue.submitted == [task_id]

    def test_a_hint_without_bytes_changes_nothing(self, world: Any) -> None:
        task_id, ids = create(world)
        assert uploads.finished(world.context, ids["pre"]) is None
        assert world.upload(ids["pre"]).state == UploadState.OPEN
        assert state_of(world, task_id) is TaskState.WAITING

    def test_an_upload_that_was_never_issued_is_refused(self, world: Any) -> None:
        with pytest.raises(UploadNotFound):
            uploads.finished(world.context, "forged")

    @pytest.mark.case(5)
    def test_reconciling_finds_files_whose_hint_was_lost(self, any_world: Any) -> None:
        task_id, ids = create(any_world)
        for upload_id in ids.values():
            any_world.put(upload_id)
        assert uploads.reconcile(any_world.context, task_id) is TaskState.PENDING
        assert any_world.queue.submitted == [task_id]

    @pytest.mark.case(25)
    def test_a_crash_between_the_last_file_and_the_start_is_made_good(self, world: Any) -> None:
        task_id, ids = create(world)
        for upload_id in ids.values():
            world.put(upload_id)
        with world.context.unit_of_work() as work:
            for upload in queries.get_task(work, task_id).uploads:
                upload.state, upload.size = UploadState.FINISHED, 6
            work.commit()
        assert uploads.reconcile(world.context, task_id) is TaskState.PENDING

    @pytest.mark.parametrize("state", [TaskState.DONE, TaskState.KILLED, TaskState.RUNNING])
    @pytest.mark.case(9)
    def test_a_late_hint_never_moves_a_task_backwards(self, world: Any, state: TaskState) -> None:
        task_id, ids = create(world)
        with world.context.unit_of_work() as work:
            queries.get_task(work, task_id).state = state
            work.commit()
        for upload_id in ids.values():
            assert deliver(world, upload_id) is state
        assert world.queue.submitted == []

    def test_optional_files_do_not_hold_up_the_start(self, world: Any, good_files: dict[str, bytes]) -> None:
        task_id, ids = create(world, "volume_change")
        uploads.open_upload(world.context, task_id, "prj")
        for label, content in good_files.items():
            deliver(world, ids[label], content)
        assert state_of(world, task_id) is TaskState.PENDING


class TestLooking:
    def test_a_bad_file_ends_the_task_at_once_and_says_where_to_send_a_better_one(
        self, any_world: Any, good_files: dict[str, bytes]
    ) -> None:
        task_id, ids = create(any_world, "volume_change")
        assert deliver(any_world, ids["pre"], b"\x89PNG\r\n\x1a\n" + bytes(64)) is TaskState.ERROR
        task = any_world.task(task_id)
        assert task.error["code"] == "INPUT_INVALID"
        assert task.error["label"] == "pre"
        assert task.error["remedy"]
        url = f"http://volcal.test/api/v1/tasks/{task_id}/uploads/pre"
        assert task.error["details"]["fresh_upload"] == {"method": "POST", "url": url}
        assert any_world.upload(ids["pre"]).state == UploadState.REJECTED

    def test_a_fresh_upload_brings_the_task_back_and_it_starts(
        self, any_world: Any, good_files: dict[str, bytes]
    ) -> None:
        task_id, ids = create(any_world, "volume_change")
        deliver(any_world, ids["shp"], b"")
        for label in ("pre", "post", "shx"):
            deliver(any_world, ids[label], good_files[label])
        assert state_of(any_world, task_id) is TaskState.ERROR
        ticket = uploads.open_upload(any_world.context, task_id, "shp")
        assert (state_of(any_world, task_id), any_world.task(task_id).error) == (TaskState.WAITING, None)
        assert any_world.queue.submitted == []
        assert deliver(any_world, ticket.id, good_files["shp"]) is TaskState.PENDING
        assert any_world.queue.submitted == [task_id]

    def test_a_task_with_two_bad_files_names_the_second_once_the_first_is_replaced(self, world: Any) -> None:
        task_id, ids = create(world, "volume_change")
        deliver(world, ids["pre"], b"")
        deliver(world, ids["shx"], b"")
        assert world.task(task_id).error["label"] == "pre"
        uploads.open_upload(world.context, task_id, "pre")
        task = world.task(task_id)
        assert (task.state, task.error["label"]) == (TaskState.ERROR, "shx")
        uploads.open_upload(world.context, task_id, "shx")
        assert state_of(world, task_id) is TaskState.WAITING

    def test_two_files_that_do_not_fit_each_other_end_the_task_before_the_others_are_there(
        self, world: Any, good_files: dict[str, bytes]
    ) -> None:
        task_id, ids = create(world, "volume_change")
        deliver(world, ids["shp"], good_files["shp"])
        # an index by itself sound, of a file with fewer records: 100 bytes of header, 8 a record, length in words
        short = good_files["shx"][:-8]
        index = short[:24] + (len(short) // 2).to_bytes(4, "big") + short[28:]
        deliver(world, ids["shx"], index)
        task = world.task(task_id)
        assert (task.state, task.error["label"]) == (TaskState.ERROR, "shx")
        assert world.upload(ids["shx"]).state == UploadState.REJECTED
        assert world.upload(ids["shp"]).state == UploadState.FINISHED

    def test_a_fault_of_the_inspector_does_not_cost_the_user_a_file(
        self, world: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise KeyError("defect")

        monkeypatch.setattr("pipeline.testing.odd", broken, raising=False)
        spec = replace(
            world.context.catalogue["four"],
            inspector="pipeline.testing:odd",
            pairs=(InputPair("pre", "post", "pipeline.testing:odd"),),
        )
        odd = replace(world, context=replace(world.context, catalogue=Catalogue([spec])))
        task_id, ids = create(odd)
        with caplog.at_level(logging.ERROR):
            for upload_id in ids.values():
                deliver(odd, upload_id)
        assert state_of(odd, task_id) is TaskState.PENDING
        assert "the inspector failed" in caplog.text
        assert "the check of two files failed" in caplog.text

    def test_a_store_that_cannot_be_read_just_now_is_asked_again_later(
        self, world: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise InputInvalid("no", label="pre", remedy="r")

        def unreadable(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("pipeline.testing.odd", unreadable, raising=False)
        spec = replace(world.context.catalogue["four"], inspector="pipeline.testing:odd")
        odd = replace(world, context=replace(world.context, catalogue=Catalogue([spec])))
        _, ids = create(odd)
        with pytest.raises(OSError, match="Input/output"):
            deliver(odd, ids["pre"])
        assert odd.upload(ids["pre"]).state == UploadState.OPEN
        monkeypatch.setattr("pipeline.testing.odd", refuse)
        assert uploads.finished(odd.context, ids["pre"]) is TaskState.ERROR

    @pytest.mark.parametrize("label", ["post", "elsewhere"])
    def test_files_that_cannot_be_compared_just_now_are_compared_later(
        self, world: Any, monkeypatch: pytest.MonkeyPatch, label: str
    ) -> None:
        def refuse(*_: object) -> None:
            raise InputInvalid("no", label=label, remedy="r")

        def unreadable(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("pipeline.testing.odd", unreadable, raising=False)
        spec = replace(world.context.catalogue["four"], pairs=(InputPair("pre", "post", "pipeline.testing:odd"),))
        odd = replace(world, context=replace(world.context, catalogue=Catalogue([spec])))
        task_id, ids = create(odd)
        deliver(odd, ids["pre"])
        with pytest.raises(OSError, match="Input/output"):
            deliver(odd, ids["post"])
        monkeypatch.setattr("pipeline.testing.odd", refuse)
        deliver(odd, ids["shp"])
        task = odd.task(task_id)
        assert (task.state, task.error["label"]) == (TaskState.ERROR, label)


class TestOpening:
    def test_ids_cannot_be_guessed(self, world: Any) -> None:
        _, first = create(world)
        _, second = create(world)
        ids = [*first.values(), *second.values()]
        assert len(set(ids)) == 8
        assert all(len(upload_id) == 32 for upload_id in ids)  # 24 random bytes

    def test_a_fresh_upload_takes_the_old_ones_place_and_its_bytes_are_deleted(self, any_world: Any) -> None:
        task_id, ids = create(any_world)
        deliver(any_world, ids["pre"])
        key = any_world.upload(ids["pre"]).key
        ticket = uploads.open_upload(any_world.context, task_id, "pre", "survey.laz")
        assert any_world.upload(ids["pre"]).state == UploadState.SUPERSEDED
        assert any_world.context.store.size(key) is None
        assert any_world.upload(ticket.id).filename == "survey.laz"
        assert ticket.url == f"http://volcal.test/files/{ticket.id}"

    def test_an_upload_that_could_not_be_recorded_is_forgotten(
        self, world: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> None:
            raise ConnectionError("the database is away")

        task_id, ids = create(world)
        forgotten: list[str] = []
        monkeypatch.setattr(world.context.uploads, "discard", forgotten.append)
        monkeypatch.setattr("app.db.session.Session.commit", away)
        with pytest.raises(ConnectionError):
            uploads.open_upload(world.context, task_id, "pre")
        assert len(forgotten) == 1
        assert forgotten != [ids["pre"]]
        assert world.upload(ids["pre"]).state == UploadState.OPEN

    def test_bytes_that_cannot_be_deleted_just_now_stop_nothing(
        self, world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def stuck(_: str) -> None:
            raise OSError(30, "Read-only file system")

        task_id, _ = create(world)
        monkeypatch.setattr(world.context.uploads, "discard", stuck)
        assert uploads.open_upload(world.context, task_id, "pre").label == "pre"
        assert "could not be deleted" in caplog.text

    def test_a_task_whose_files_came_after_all_is_not_given_up(self, world: Any, now: datetime) -> None:
        task_id, ids = create(world)
        for upload_id in ids.values():
            deliver(world, upload_id)
        assert not uploads.expire(world.context, task_id, now, expired(60))
        assert state_of(world, task_id) is TaskState.PENDING

    def test_nobody_waits_for_an_upload_that_was_never_issued(self, world: Any) -> None:
        assert uploads.is_unwanted(world.context, "forged")

    def test_a_hint_about_a_replaced_file_counts_for_nothing(self, any_world: Any) -> None:
        task_id, ids = create(any_world)
        for label in ("post", "shp", "shx"):
            deliver(any_world, ids[label])
        uploads.open_upload(any_world.context, task_id, "pre")
        assert deliver(any_world, ids["pre"]) is TaskState.WAITING
        assert any_world.queue.submitted == []

    def test_many_fresh_uploads_at_once_leave_one_that_counts(self, any_world: Any, together: Any) -> None:
        task_id, _ = create(any_world)
        together([partial(uploads.open_upload, any_world.context, task_id, "pre")] * 5)
        states = [upload.state for upload in any_world.task(task_id).uploads if upload.label == "pre"]
        assert sorted(states) == ["open", *["superseded"] * 5]

    @pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.RUNNING, TaskState.DONE, TaskState.KILLED])
    def test_a_task_that_is_past_waiting_takes_no_files(self, world: Any, state: TaskState) -> None:
        with pytest.raises(UploadClosed, match=f"is {state}"):
            uploads.open_upload(world.context, world.add(state), "file")

    @pytest.mark.parametrize("label", ["status", "__class__", "state", "prè", "x" * 10_000, ""])
    def test_a_label_that_the_pipeline_does_not_have_is_refused(self, world: Any, label: str) -> None:
        task_id, _ = create(world)
        with pytest.raises(LabelUnknown):
            uploads.open_upload(world.context, task_id, label)

    def test_a_task_that_does_not_exist_takes_no_files(self, world: Any) -> None:
        with pytest.raises(TaskNotFound):
            uploads.open_upload(world.context, uuid4(), "pre")

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("a.laz", "a.laz"),
            ("../../etc/passwd", "passwd"),
            ("C:\\surveys\\pre.las", "pre.las"),
            ("..", ""),
            ("a\nb", ""),
            ("\ud800", ""),
            ("ü" * 300, "ü" * 100),
        ],
    )
    def test_a_file_name_is_the_last_part_of_a_path_and_nothing_else(self, world: Any, given: str, kept: str) -> None:
        task_id, _ = create(world)
        ticket = uploads.open_upload(world.context, task_id, "pre", given)
        assert world.upload(ticket.id).filename == kept
