"""One rate, whoever counts: this process, or a Redis for all of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.domain.access import Rate
from app.limiting.local import LocalLimiter
from app.limiting.shared import SharedLimiter
from tests.servers.base import free_port
from tests.servers.redis import Redis

RATE = Rate(limit=10, window_s=60.0)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def local(clock: Clock) -> LocalLimiter:
    return LocalLimiter(clock)


def test_the_whole_allowance_may_come_at_once_and_not_one_more(local: LocalLimiter) -> None:
    taken = [local.take("a", RATE) for _ in range(11)]
    assert [each.allowed for each in taken] == [True] * 10 + [False]
    assert [each.remaining for each in taken] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert taken[-1].retry_s == pytest.approx(6.0)
    assert taken[-1].reset_s == pytest.approx(60.0)


def test_the_allowance_comes_back_evenly(local: LocalLimiter, clock: Clock) -> None:
    for _ in range(10):
        local.take("a", RATE)
    for _ in range(50):  # one in six seconds, for ever
        clock.now += 5.9
        assert not local.take("a", RATE).allowed
        clock.now += 0.1
        assert local.take("a", RATE).allowed
    clock.now += 60.0
    assert local.take("a", RATE).remaining == 9


def test_who_asks_too_often_is_not_made_to_wait_longer_for_it(local: LocalLimiter, clock: Clock) -> None:
    for _ in range(1000):
        local.take("a", RATE)
    clock.now += 6.0
    assert local.take("a", RATE).allowed


def test_one_caller_takes_nothing_from_another(local: LocalLimiter) -> None:
    for _ in range(20):
        local.take("a", RATE)
    assert local.take("b", RATE).remaining == 9


def test_no_window_ever_has_more_than_twice_the_limit_and_none_in_the_long_run(
    local: LocalLimiter, clock: Clock
) -> None:
    granted = []
    for _ in range(6000):  # a request each 0.1 s for ten minutes
        clock.now += 0.1
        if local.take("a", RATE).allowed:
            granted.append(clock.now)
    assert 100 <= len(granted) <= 110  # ten windows of ten, and the burst at the beginning
    busiest = max(sum(start <= when < start + 60 for when in granted) for start in granted)
    assert busiest <= 20


def test_a_flood_of_addresses_does_not_fill_the_memory(local: LocalLimiter, clock: Clock) -> None:
    for number in range(45_000):
        local.take(str(number), RATE)
    assert len(local._whole_at) <= 20_000
    clock.now += 60.0
    local.take("one more", RATE)


@pytest.fixture
def shared(redis: Redis) -> Iterator[Callable[[], SharedLimiter]]:
    redis.empty()
    made: list[SharedLimiter] = []

    def make() -> SharedLimiter:
        made.append(SharedLimiter(redis.url))
        return made[-1]

    yield make
    for each in made:
        each._redis.close()


@pytest.mark.service
def test_gateways_count_together_and_never_one_too_many(shared: Callable[[], SharedLimiter]) -> None:
    rate, gateways = Rate(limit=50, window_s=600.0), [shared() for _ in range(3)]
    with ThreadPoolExecutor(12) as pool:
        taken = list(pool.map(lambda number: gateways[number % 3].take("a", rate), range(120)))
    assert sum(each.allowed for each in taken) == 50
    assert sorted(each.remaining for each in taken if each.allowed) == list(range(50))
    refused = [each for each in taken if not each.allowed]
    assert all(0 < each.retry_s <= 12.0 for each in refused)
    assert gateways[0].take("b", rate).remaining == 49


@pytest.mark.service
def test_what_redis_keeps_goes_away_by_itself(redis: Redis, shared: Callable[[], SharedLimiter]) -> None:
    shared().take("a", Rate(limit=10, window_s=60.0))
    import redis as driver

    with driver.Redis.from_url(redis.url) as client:
        (name,) = client.keys("volcal:rate:*")
        assert 0 < client.pttl(name) <= 6001


@pytest.mark.service
def test_the_allowance_comes_back_in_redis_as_well(shared: Callable[[], SharedLimiter]) -> None:
    limiter, rate = shared(), Rate(limit=2, window_s=0.4)
    assert [limiter.take("a", rate).allowed for _ in range(3)] == [True, True, False]
    import time

    time.sleep(0.45)
    assert limiter.take("a", rate).remaining == 1


def test_a_redis_that_is_away_stops_nobody_and_is_left_alone_for_a_while(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = SharedLimiter(f"redis://127.0.0.1:{free_port()}/0", clock)
    asked: list[Any] = []
    script = limiter._script
    monkeypatch.setattr(limiter, "_script", lambda **words: (asked.append(words), script(**words)))
    taken = [limiter.take("a", RATE) for _ in range(11)]
    assert [each.allowed for each in taken] == [True] * 10 + [False]
    assert len(asked) == 1
    assert "each gateway for itself" in caplog.text
    clock.now += 5.1
    limiter.take("a", RATE)
    assert len(asked) == 2
