import threading

import pytest
from numba import config

from pipeline.abreast import both, meanwhile


def test_both_calls_run_at_the_same_time_if_two_threads_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 2)
    meeting = threading.Barrier(2)
    assert sorted(both(lambda _: meeting.wait(timeout=30), (1,), (2,))) == [0, 1]


def test_one_thread_stays_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 1)
    assert both(lambda _: threading.get_ident(), (1,), (2,)) == (threading.get_ident(),) * 2


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_failure_is_the_one_that_is_told(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    def fail(name: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
    with pytest.raises(ValueError, match="pre"):
        both(fail, ("pre",), ("post",))


@pytest.mark.parametrize(("threads", "elsewhere"), [(1, False), (2, True)])
def test_work_meanwhile_runs_in_a_thread_of_its_own_only_if_two_are_allowed(
    monkeypatch: pytest.MonkeyPatch, threads: int, elsewhere: bool
) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
    assert (meanwhile(threading.get_ident)() != threading.get_ident()) == elsewhere


def test_a_failure_meanwhile_is_told_when_the_result_is_asked_for() -> None:
    result = meanwhile(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        result()
