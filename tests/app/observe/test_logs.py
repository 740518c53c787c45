"""A line of log: whom it is about, in which form, and what it never shows."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pytest

from app.observe import logs
from app.observe.masking import Mask

ID = "Kq3v8wZ0-hT_yLm2Qe5RbA7cXsUd9fGj"


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., io.StringIO]]:
    """Sets logging up into a buffer, and puts everything back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    hook = sys.excepthook

    def listen(**options: Any) -> io.StringIO:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up(**options)
        return stream

    yield listen
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    sys.excepthook = hook


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_begins_with_when_how_bad_who_and_what(heard: Callable[..., io.StringIO]) -> None:
    stream = heard(form="json")
    before = datetime.now(UTC)
    logging.getLogger("a.b").warning("%d files of %s", 3, "ünë", extra={"task_id": "t1", "seconds": 1.5})
    (line,) = lines(stream)
    assert list(line) == ["ts", "level", "logger", "message", "task_id", "seconds"]
    assert (line["level"], line["logger"], line["message"]) == ("warning", "a.b", "3 files of ünë")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
    assert abs((datetime.fromisoformat(line["ts"]) - before).total_seconds()) < 5


def test_whatever_is_said_stays_one_line_of_strict_json(heard: Callable[..., io.StringIO]) -> None:
    stream = heard(form="json")
    log = logging.getLogger("x")
    log.info("two\nlines", extra={"nan": float("nan"), "odd": object, "level": "mine", "deep": {"a": [1, b"x"]}})
    log.info("arguments that do not fit: %d %d", 1)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("failed")
    odd, unfit, failed = lines(stream)
    assert odd["message"] == "two\nlines"
    assert (odd["nan"], odd["level"], odd["level_"], odd["deep"]) == ("nan", "info", "mine", {"a": [1, "b'x'"]})
    assert unfit["message"] == "arguments that do not fit: %d %d"
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("ValueError: first\nsecond")


def test_a_line_for_people_ends_with_what_it_is_about(heard: Callable[..., io.StringIO]) -> None:
    stream = heard(form="text")
    with logs.about(task_id="t1"):
        logging.getLogger("a").info("hello", extra={"said": 'a "b" c', "count": 2, "empty": ""})
    when, rest = stream.getvalue().split(" ", 1)
    assert when.endswith("Z")
    assert rest == 'INFO a: hello  task_id=t1 said="a \\"b\\" c" count=2\n'


def test_context_reaches_threads_and_tasks_that_copy_it_and_no_others(heard: Callable[..., io.StringIO]) -> None:
    stream = heard(form="json")
    log = logging.getLogger("c")

    async def one(name: str) -> None:
        with logs.about(request_id=name):
            await asyncio.sleep(0)
            await asyncio.to_thread(log.info, "in a thread of %s", name)
            logs.learn(task_id=f"task of {name}")
            log.info("at the end")

    async def both() -> None:
        await asyncio.gather(one("r1"), one("r2"))

    asyncio.run(both())
    with logs.about(task_id="t"):
        for target in (copy_context().run, lambda call: call()):
            thread = threading.Thread(target=target, args=(lambda: log.info("elsewhere"),))
            thread.start()
            thread.join()
    log.info("outside")
    said = lines(stream)
    for name in ("r1", "r2"):
        mine = [line for line in said if line.get("request_id") == name]
        assert [(line["message"], line.get("task_id")) for line in mine] == [
            (f"in a thread of {name}", None),
            ("at the end", f"task of {name}"),
        ]
    assert [line.get("task_id") for line in said if line["message"] in {"elsewhere", "outside"}] == ["t", None, None]


SECRETS = [
    ("postgresql+psycopg2://volcal:hu/sh@pg@db:5432/volcal", "postgresql+psycopg2://volcal:***@db:5432/volcal"),
    ("redis://:hush@redis:6379/0 is away", "redis://:***@redis:6379/0 is away"),
    ("amqp://volcal:hush@rabbit//", "amqp://volcal:***@rabbit//"),
    ("http://minio:9000/uploads/x?mail=a@b.c", "http://minio:9000/uploads/x?mail=a@b.c"),
    ("https://m/x?X-Amz-Credential=AK%2F1&X-Amz-Signature=9f&X-Amz-Date=1",
     "https://m/x?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Date=1"),
    ("POST /tusd_hook?secret=hush HTTP/1.1", "POST /tusd_hook?secret=*** HTTP/1.1"),
    ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
    ("{'X-Volcal-Grant': 'tasks/1 99 abc'}", "{'X-Volcal-Grant': '*** 99 abc'}"),
    (f"PATCH /files/{ID} and /files/{ID}/", "PATCH /files/Kq3v… and /files/Kq3v…/"),
    (f"tasks/7/in/pre-{ID} is gone", "tasks/7/in/pre-Kq3v… is gone"),
    ("the key is swordfish-and-more", "the key is ***"),
    ("tasks/7/out/1/report.html", "tasks/7/out/1/report.html"),
    ("12:30 one@two", "12:30 one@two"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "shown"), SECRETS)
def test_secrets_are_masked(said: str, shown: str) -> None:
    assert Mask(["swordfish-and-more", "short"])(said) == shown


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_part_of_a_line_shows_a_secret(heard: Callable[..., io.StringIO], form: str) -> None:
    stream = heard(form=form, secrets=["swordfish-and-more"])
    try:
        raise OSError("cannot reach postgresql://volcal:hush@db/volcal with swordfish-and-more")
    except OSError as error:
        logging.getLogger("x").exception(
            "failed: %s", error, extra={"said": str(error), "deep": {"url": ["redis://:hush@redis"]}}
        )
    with logs.about(worker="amqp://volcal:hush@rabbit"):
        logging.getLogger("x").info("swordfish-and-more")
    assert "Traceback" in stream.getvalue()
    assert "hush" not in stream.getvalue()
    assert "swordfish" not in stream.getvalue()


def test_libraries_and_the_last_words_of_a_process_use_the_same_form() -> None:
    code = (
        "import warnings, logging, uvicorn.config; from app.observe import logs; "
        "logs.set_up(form='json'); warnings.warn('old', stacklevel=1); "
        "logging.getLogger('uvicorn.error').info('up'); logging.getLogger('celery.worker').info('ready'); "
        "logging.getLogger('httpx').info('noise'); 1 / 0"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    said = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["logger"] for line in said] == ["py.warnings", "uvicorn.error", "celery.worker", "volcal"]
    assert said[-1]["level"] == "critical"
    assert said[-1]["exception"].endswith("ZeroDivisionError: division by zero")
    assert ended.stdout == ""
