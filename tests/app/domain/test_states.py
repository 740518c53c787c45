from itertools import product

import pytest

from app.domain import failures
from app.domain.errors import IllegalTransition
from app.domain.tasks import TaskState, advance

# as the product's description has it, written down a second time
ALLOWED = {
    ("waiting", "pending"),
    ("waiting", "error"),
    ("waiting", "killed"),
    ("pending", "running"),
    ("pending", "killed"),
    ("running", "done"),
    ("running", "error"),
    ("running", "killed"),
    ("running", "pending"),
    ("error", "waiting"),
    ("error", "pending"),
    ("killed", "pending"),
}


@pytest.mark.parametrize(("current", "wanted"), list(product(TaskState, TaskState)))
def test_a_task_moves_only_as_described(current: TaskState, wanted: TaskState) -> None:
    if (current.value, wanted.value) in ALLOWED:
        assert advance(current, wanted) is wanted
    else:
        with pytest.raises(IllegalTransition, match=f"is {current} cannot become {wanted}"):
            advance(current, wanted)


@pytest.mark.parametrize(
    ("error", "code"),
    [(failures.cancelled(), "CANCELLED"), (failures.lost(3), "LOST"), (failures.expired(60), "EXPIRED")],
)
def test_every_failure_says_what_happened_and_what_to_do(error: dict[str, object], code: str) -> None:
    assert error["code"] == code
    assert set(error) == {"code", "label", "message", "remedy", "details"}
    assert str(error["message"]).endswith(".")
    assert str(error["remedy"]).endswith(".")


def test_what_json_cannot_say_does_not_stop_an_error_from_being_recorded() -> None:
    odd = {"details": {"overlap": float("inf"), "path": object}}
    assert failures.plain(odd) == {"details": {"overlap": None, "path": "<class 'object'>"}}
