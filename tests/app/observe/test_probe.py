"""A question that may hang: whoever asks gets an answer in time, and one thread asks."""

import threading

import pytest

from app.observe.probe import Probe


def test_a_question_that_hangs_is_asked_once_and_answered_in_time() -> None:
    release, asked = threading.Event(), []

    def hang() -> str:
        asked.append(1)
        assert release.wait(30)
        return "at last"

    probe = Probe(hang, patience_s=0.05, good_for_s=0.0)
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            probe.answer()
    assert asked == [1]
    release.set()
    patient = Probe(hang, patience_s=30.0)
    assert patient.answer() == "at last"


def test_an_answer_is_good_for_a_while() -> None:
    asked: list[int] = []
    kept = Probe(lambda: asked.append(1) or len(asked), good_for_s=1000.0)
    assert [kept.answer(), kept.answer()] == [1, 1]
    fresh = Probe(lambda: asked.append(1) or len(asked), good_for_s=0.0)
    assert [fresh.answer(), fresh.answer()] == [2, 3]


def test_what_the_question_raises_is_the_answer_until_it_is_asked_anew() -> None:
    answers = iter([ConnectionError("away"), None])

    def ask() -> str:
        if error := next(answers):
            raise error
        return "back"

    probe = Probe(ask, good_for_s=0.0)
    with pytest.raises(ConnectionError, match="away"):
        probe.answer()
    assert probe.answer() == "back"
