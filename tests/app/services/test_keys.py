"""Keys in the database, and the ring that remembers them; on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.db.models import Key
from app.db.session import UnitOfWork
from app.domain.access import Caller, Scope, digest_of, new_key, scopes_of
from app.domain.errors import KeyInvalid, KeyNotFound, KeyOver
from app.services import keys
from app.services.keys import KeyRing
from tests.app.conftest import World

DAY = timedelta(days=1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(world: World, **more: Any) -> str:
    wanted: dict[str, Any] = {"name": "n", "owner": "alice", "scopes": ["write"], **more}
    with world.context.unit_of_work() as work:
        _, key = keys.create(work, **wanted)
        work.commit()
    return key


def rows(world: World) -> list[Key]:
    with world.context.unit_of_work(read_only=True) as work:
        return list(work.session.execute(select(Key)).scalars())


def ring(world: World, clock: Clock | None = None, **fixed: Caller) -> KeyRing:
    return KeyRing(world.context, {digest_of(key): caller for key, caller in fixed.items()}, clock=clock or Clock())


def test_the_database_has_nothing_from_which_a_key_could_be_made(any_world: World) -> None:
    key = make(any_world)
    (row,) = rows(any_world)
    assert key[14:] not in str(vars(row))
    assert (row.prefix, row.digest) == (key[3:13], digest_of(key))


def test_who_comes_with_a_key_is_its_owner_with_its_scopes(any_world: World) -> None:
    key = make(any_world, scopes=["read"], rate=7)
    assert ring(any_world).ask(key) == Caller("alice", key[3:13], "n", frozenset({Scope.READ}), 7)
    assert rows(any_world)[0].used_at is not None


def test_revoking_is_noticed_once_the_memory_is_over_and_not_before(any_world: World) -> None:
    clock = Clock()
    found, key = ring(any_world, clock), make(any_world)
    assert found.recall(key) is None
    found.ask(key)
    for _ in range(2):
        with any_world.context.unit_of_work() as work:
            keys.revoke(work, key[3:13])
            work.commit()
    clock.now = 2.9
    assert found.recall(key) is not None
    clock.now = 3.1
    assert found.recall(key) is None
    with pytest.raises(KeyInvalid, match="was revoked"):
        found.ask(key)
    with pytest.raises(KeyInvalid, match="was revoked"):
        found.recall(key)


def test_a_key_expires_on_time_also_while_it_is_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found, key = ring(world), make(world, expires_at=datetime.now(UTC) + DAY)
    found.ask(key)
    assert found.recall(key) is not None
    monkeypatch.setattr(keys, "utc_now", lambda: datetime.now(UTC) + DAY)
    with pytest.raises(KeyInvalid, match="expired"):
        found.recall(key)
    with pytest.raises(KeyInvalid, match="expired at"):
        found.ask(key)


def test_a_key_whose_public_part_is_right_is_still_none(any_world: World) -> None:
    key = make(any_world)
    forged = key[:14] + new_key()[1][14:]
    with pytest.raises(KeyInvalid, match="not known"):
        ring(any_world).ask(forged)


def test_a_flood_of_keys_that_are_none_does_not_fill_the_memory(world: World) -> None:
    found, good = ring(world), make(world)
    found.ask(good)
    for _ in range(5000):
        found._keep(new_key()[1], keys._Known(None, "", 3.0))
    assert len(found._known) <= keys._MANY
    assert found.recall(good) is not None


def test_there_is_a_key_for_ever_once_there_was_one(any_world: World) -> None:
    clock = Clock()
    found = ring(any_world, clock)
    assert found.recalls_any() is None
    assert not found.any()
    assert found.recalls_any() is False
    key = make(any_world)
    clock.now = 3.1
    assert found.recalls_any() is None
    assert found.any()
    with any_world.context.unit_of_work() as work:
        keys.revoke(work, key[3:13])
        work.commit()
    clock.now = 100.0
    assert found.recalls_any() is True
    assert ring(any_world).any()


def test_keys_of_the_settings_are_known_without_any_question(world: World) -> None:
    caller = Caller("drones", "settings", "drones", scopes_of(["write"]))
    found = KeyRing(world.context, {digest_of("of the settings"): caller})
    assert found.recalls_any() is True
    assert found.is_fixed("of the settings")
    assert found.recall("of the settings") == caller
    with pytest.raises(KeyInvalid):
        found.recall("of nobody")


def test_an_exchanged_key_lives_no_longer_than_it_would_have(any_world: World) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    key = make(any_world, expires_at=soon)
    with any_world.context.unit_of_work() as work:
        fresh, _ = keys.rotate(work, key[3:13], grace=DAY)
        work.commit()
    by_prefix = {row.prefix: row for row in rows(any_world)}
    assert by_prefix[key[3:13]].expires_at == soon
    assert by_prefix[fresh.prefix].expires_at == soon


def test_what_is_over_is_not_exchanged(any_world: World) -> None:
    key = make(any_world, expires_at=datetime.now(UTC) - DAY)
    with any_world.context.unit_of_work() as work:
        with pytest.raises(KeyOver, match="expired"):
            keys.rotate(work, key[3:13])
        with pytest.raises(KeyNotFound):
            keys.revoke(work, "0000000000")


def test_a_key_works_although_its_use_cannot_be_noted(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make(world)

    def full(*_: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("the disk is full"))

    monkeypatch.setattr(UnitOfWork, "commit", full)
    assert ring(world).ask(key).owner == "alice"
    assert "could not be noted" in caplog.text
    assert key[14:] not in caplog.text
