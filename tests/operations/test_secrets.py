"""A secret is changed on a running installation: what stops, what goes on, and what mends it?"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.servers.base import Server
from tests.servers.stack import FullStack, send, wait_for

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack(VOLCAL_TUS_IDLE_S="1") as running:
        yield running


def again(*parts: Server) -> None:
    for part in parts:
        part.stop()
    for part in parts:
        part.start()


def status(url: str) -> int:
    return httpx.get(url, timeout=30, trust_env=False).status_code


def link(stack: FullStack, task_id: str) -> str:
    answer = httpx.get(f"{stack.url}/api/v1/tasks/{task_id}/artifacts", timeout=30, trust_env=False)
    return str(answer.json()["artifacts"][0]["url"])


def create(stack: FullStack) -> httpx.Response:
    return httpx.post(f"{stack.url}/api/v1/tasks", json={"pipeline": "constant"}, timeout=30, trust_env=False)


def begun(stack: FullStack) -> dict[str, Any]:
    """Return a task whose file of ten bytes is half there."""
    task = stack.create()
    assert send(task["uploads"]["file"]["url"], b"12345", length=10).status_code == 204
    return task


def test_while_tusd_and_the_gateway_have_two_hook_secrets_only_new_tasks_fail(stack: FullStack) -> None:
    task = begun(stack)
    stack.environment["VOLCAL_HOOK_SECRET"] = "another-secret-for-tests"
    again(stack.gateway)
    refused = create(stack)
    assert (refused.status_code, refused.json()["code"]) == (503, "UPLOADS_UNAVAILABLE")
    assert "hook" in stack.volcal("doctor", status=1)
    send(task["uploads"]["file"]["url"], b"67890", offset=5)  # tusd may say 500, since its hook is refused
    assert stack.settled(task["id"])["status"] == "done"

    stack.tusd._hooks = stack.tusd._hooks.partition("?")[0] + "?secret=another-secret-for-tests"
    again(stack.tusd, stack.beat, *stack.workers)
    assert stack.settled(stack.submit())["status"] == "done"


def test_new_keys_of_the_store_end_old_links_and_nothing_else(stack: FullStack) -> None:
    done, task = stack.submit(), begun(stack)
    stack.settled(done)
    old = link(stack, done)
    assert status(old) == 200
    stack.minio.secret_key = "quite-another-secret"
    again(stack.minio)
    assert status(old) == 403
    wait_for(lambda: httpx.get(f"{stack.url}/readyz", trust_env=False).status_code == 503, "the gateway to miss it")
    stack.environment["VOLCAL_S3_SECRET_KEY"] = "quite-another-secret"
    again(stack.gateway, stack.beat, stack.tusd, *stack.workers)
    assert status(old) == 403
    assert status(link(stack, done)) == 200
    assert send(task["uploads"]["file"]["url"], b"67890", offset=5).status_code == 204
    assert stack.settled(task["id"])["status"] == "done"


def test_with_an_object_store_a_new_link_secret_changes_no_link(stack: FullStack) -> None:
    done = stack.submit()
    stack.settled(done)
    old = link(stack, done)
    stack.environment["VOLCAL_SECRET_KEY"] = "a-link-secret-for-tests"
    again(stack.gateway)
    assert status(old) == 200
