"""Which rule holds for which path; what is not named here needs a key as soon as anything does.

The sibling services' routes are named as well, so that whoever adds them need not think of it.
"""

from enum import Enum, auto

from app.domain.access import Scope


class Place(Enum):
    """Kinds of paths."""

    OPEN = auto()  # says nothing of anybody's, or has a lock of its own: a signature, a secret, a token
    LEGACY = auto()  # what clients speak that may know nothing of keys
    UPLOAD = auto()  # legacy as well; its URL is unguessable, and it answers by itself, as tus clients need it
    ADMIN = auto()
    NEW = auto()


_OPEN = {
    "/",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/errors",
    "/tusd_hook",
    "/info",
    "/ogc",
    "/ogc/",
    "/ogc/api",
    "/ogc/conformance",
    "/api/health",
}
_OPEN_BELOW = ("/docs-assets/", "/objects/")
_LEGACY = {"/create_task", "/process", "/job", "/api/run-model", "/api/tasks", "/api/queues/status", "/api/models"}
_LEGACY_BELOW = ("/start_task/", "/query_task/", "/process/", "/job/", "/potree/", "/api/task/", "/api/models/")
_READS = {"GET", "HEAD"}
_ADMIN = "/api/v1/keys"


def place_of(path: str) -> Place:
    """Return what kind of path this is."""
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return Place.OPEN
    if path in _LEGACY or path.startswith(_LEGACY_BELOW):
        return Place.LEGACY
    if path == "/files" or path.startswith("/files/"):
        return Place.UPLOAD
    if path == _ADMIN or path.startswith(f"{_ADMIN}/"):
        return Place.ADMIN
    return Place.NEW


def scope_of(place: Place, method: str) -> Scope:
    """Return the scope that a request needs."""
    if place is Place.ADMIN:
        return Scope.ADMIN
    return Scope.READ if method in _READS and place is not Place.UPLOAD else Scope.WRITE
