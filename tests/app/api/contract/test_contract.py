"""The API does what its description says, whatever is sent: schemathesis asks, every route, with all of its checks.

What is new in the description is asked as well, by itself; ``schemathesis.toml`` says how, and what cannot hold where.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.api.access import guard
from app.context import Context
from app.db.models import Task
from app.domain.access import Caller, Rate, digest_of, scopes_of
from app.domain.tasks import TaskState
from app.outbound import BoundedFetcher, GuardedClient, Limits, WebFiles
from app.services import tasks
from app.services.webhooks import subscriptions
from tests.app.conftest import NOW, World
from tests.app.served import served

HERE, REPOSITORY = Path(__file__).parent, Path(__file__).parents[4]
KEY = "only of this test, and long enough"
# without keys it is the same code: what is asked less of then is what bodies and parameters may be
PHASES = {"required": "examples,coverage,fuzzing,stateful", "none": "examples,stateful"}
ROOT = Caller("root", "settings", "root", scopes_of(["admin"]))
pytestmark = pytest.mark.service


def furnish(world: World, context: Context) -> None:
    """Add tasks in each state, one that has a result, and write down what is there to be named."""
    owner = "root" if context.policy.needs_key else ""
    ids = [world.add(state, owner=owner, queued_at=NOW, finished_at=NOW) for state in TaskState for _ in range(3)]
    (picture := world.root / "overview.png").write_bytes(b"picture")
    for task in ids:
        if world.task(task).state is TaskState.DONE:
            world.context.store.put(key := f"tasks/{task}/out/1/overview.png", picture)
            kept = {"name": "overview.png", "media_type": "image/png", "title": "Overview", "key": key, "size": 7}
            with context.unit_of_work() as work:
                found = work.session.get(Task, task)
                assert found is not None
                found.document, found.artifacts = {"hulls": []}, [kept]
                work.commit()
    waiting = [tasks.create_task(context) for _ in range(3)]
    ids += [task.id for task, _ in waiting]
    uploads = [ticket.url[-32:] for _, given in waiting for ticket in given]
    web = GuardedClient(resolve=lambda *_: ["93.184.215.14"])
    anywhere = replace(context, web=web, policy=replace(context.policy, callback_secret="not secret"))
    seen = anywhere.seen_by(ROOT) if owner else anywhere
    webhooks = [subscriptions.create(seen, "https://hooks.example.com/")[0].id for _ in range(3)]
    for name, values in {"tasks": ids, "uploads": uploads, "webhooks": webhooks}.items():
        (world.root / f"{name}.txt").write_text("\n".join(f'"{value}"' for value in values))


def outward(context: Context) -> Context:
    """Have names lead somewhere without being looked up; nothing is ever sent there."""
    web = GuardedClient(resolve=lambda *_: ["203.0.113.7"])
    sources = dict.fromkeys(("http", "https"), WebFiles(web, Limits()))
    return replace(context, web=web, sources=sources, images=replace(context.images, fetcher=BoundedFetcher(web)))


@pytest.mark.parametrize("keys", list(PHASES))
def test_the_api_keeps_to_its_description(world: World, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_FAILURES", Rate(10**6))  # one address comes with many wrong keys here
    is_needed = keys == "required"
    # a key of the settings, since it finds and revokes all others
    policy = {"fixed_keys": {digest_of(KEY): ROOT}, "needs_key": is_needed, "legacy_needs_key": is_needed}
    shutil.copy(HERE / "schemathesis.toml", world.root)  # beside the files that it names
    with served(world, change=outward, callback_secret="not secret", **policy) as url:
        furnish(world, world.with_policy(**policy).context)
        asked = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--phases", PHASES[keys]],
            cwd=world.root,
            env={**os.environ, "KEY": KEY if is_needed else "none", "KEYS": keys, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
    if asked.returncode:
        pytest.fail(asked.stdout + asked.stderr, pytrace=False)
