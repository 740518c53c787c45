"""A service with keys: two owners, one who may only look, one who may do all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.context import Context
from app.domain.access import Caller
from app.main import create_app
from app.services import keys
from tests.app.conftest import World


def make_key(context: Context, owner: str, *scopes: str, **more: Any) -> str:
    """Make a key; return it."""
    with context.unit_of_work() as work:
        _, key = keys.create(work, name=f"{owner}'s", owner=owner, scopes=scopes or ["write"], **more)
        work.commit()
    return key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def serve(world: World) -> Iterator[Callable[..., TestClient]]:
    """Serve the world with another policy."""
    with ExitStack() as kept:

        def _serve(**policy: Any) -> TestClient:
            app = create_app(world.with_policy(**policy).context)
            return kept.enter_context(TestClient(app, follow_redirects=False, base_url="http://elsewhere.test"))

        yield _serve


@pytest.fixture
def alice(world: World) -> dict[str, str]:
    return bearer(make_key(world.context, "alice"))


@pytest.fixture
def bob(world: World) -> dict[str, str]:
    return bearer(make_key(world.context, "bob"))


@pytest.fixture
def admin(world: World) -> dict[str, str]:
    return bearer(make_key(world.context, "root", "admin"))


def owned(world: World, owner: str) -> Context:
    """Return the parts as an owner sees them."""
    return replace(world.context, viewer=Caller(owner, "0123456789", owner, frozenset()))
