import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app.db.models import Repeat, Task
from app.domain.access import Caller, scopes_of
from app.domain.repeats import IdempotencyKeyBusy, IdempotencyKeyInvalid, IdempotencyKeyReused, read_key
from app.services import janitor, tasks
from app.services.intake import repeats
from app.services.intake.repeats import Also


def ask(context: Any, key: str = "k", fingerprint: str = "f") -> UUID:
    def create(also: Also) -> UUID:
        return tasks.create_task(context, "constant", also=also)[0].id

    return repeats.once(context, key, fingerprint, create)


def count(world: Any, table: Any = Task) -> int:
    with world.context.unit_of_work(read_only=True) as work:
        found: int = work.session.execute(select(func.count()).select_from(table)).scalar_one()
        return found


def age(world: Any, seconds: float) -> None:
    with world.context.unit_of_work() as work:
        for row in work.session.execute(select(Repeat)).scalars():
            row.created_at -= timedelta(seconds=seconds)
            row.claimed_until -= timedelta(seconds=seconds)
        work.commit()


def test_of_many_that_come_at_once_one_creates_the_task_and_none_another(any_world: Any, together: Any) -> None:
    def request() -> UUID | None:
        try:
            return ask(any_world.context)
        except IdempotencyKeyBusy:
            return None

    answers = set(together([request] * 12))
    assert count(any_world) == 1
    assert answers - {None} == {ask(any_world.context)}


def test_another_request_with_the_same_key_is_refused(world: Any) -> None:
    task = ask(world.context)
    with pytest.raises(IdempotencyKeyReused):
        ask(world.context, fingerprint="g")
    assert ask(world.context) == task
    assert ask(world.context, key="another", fingerprint="g") != task


def test_owners_have_keys_of_their_own(world: Any) -> None:
    alice, bob = (world.context.seen_by(Caller(who, "key", who, scopes_of(["write"]))) for who in ("alice", "bob"))
    theirs = ask(alice)
    assert ask(bob, fingerprint="g") != theirs  # not even told that the key is known
    assert ask(alice) == theirs


def test_while_the_first_is_under_way_the_second_is_told_so(any_world: Any) -> None:
    context, begun, go_on = any_world.context, threading.Event(), threading.Event()
    made: list[UUID] = []

    def slowly(also: Also) -> UUID:
        begun.set()
        go_on.wait(60)
        return tasks.create_task(context, "constant", also=also)[0].id

    thread = threading.Thread(target=lambda: made.append(repeats.once(context, "k", "f", slowly)))
    thread.start()
    begun.wait(60)
    with pytest.raises(IdempotencyKeyBusy):
        ask(context)
    go_on.set()
    thread.join()
    assert made == [ask(context)]


def test_one_who_died_is_followed_by_another_and_does_nothing_when_he_comes_back(world: Any) -> None:
    followed: list[UUID] = []

    def late(also: Also) -> UUID:
        age(world, 61)
        followed.append(ask(world.context))
        return tasks.create_task(world.context, "constant", also=also)[0].id

    with pytest.raises(IdempotencyKeyBusy):
        repeats.once(world.context, "k", "f", late)
    assert count(world) == 1
    assert followed == [ask(world.context)]


def test_a_request_that_failed_leaves_its_key_free(world: Any) -> None:
    def fail(_: Also) -> UUID:
        raise OSError("the upload server is away")

    with pytest.raises(OSError, match="away"):
        repeats.once(world.context, "k", "f", fail)
    ask(world.context)
    assert count(world) == 1


def test_a_key_is_forgotten_in_the_time_that_was_said(any_world: Any) -> None:
    first = ask(any_world.context)
    age(any_world, any_world.context.policy.idempotency_ttl_s - 5)
    assert ask(any_world.context) == first
    age(any_world, 10)
    second = ask(any_world.context, fingerprint="g")
    assert second != first
    with any_world.context.unit_of_work(read_only=True) as work:
        now = work.now()
    janitor.reap(any_world.context, now)
    assert count(any_world, Repeat) == 1
    janitor.reap(any_world.context, now + timedelta(days=2))
    assert count(any_world, Repeat) == 0


@pytest.mark.parametrize("header", ["", '""', " ", "ü", "a b", "x" * 129, '"' + "x" * 129 + '"'])
def test_what_is_no_key_is_refused(header: str) -> None:
    with pytest.raises(IdempotencyKeyInvalid):
        read_key(header)
