"""What the OpenAPI document says of keys: the scheme, who needs one, and how it is refused."""

from typing import Any

from app.api.access.places import Place, place_of, scope_of
from app.api.problems import MEDIA_TYPE, document_of, plain_of
from app.domain import errors
from app.domain.access import Scope
from app.domain.errors import VolcalError

_SCHEME = "key"
_REFUSALS: dict[str, tuple[str, str, list[VolcalError]]] = {
    "401": (
        "KeyNeeded",
        "No key, or one that is unknown, revoked or expired.",
        [errors.KeyMissing(), errors.KeyInvalid()],
    ),
    "403": ("ScopeMissing", "The key is not good for this.", [errors.ScopeMissing("write", [Scope.READ])]),
    "429": (
        "TooMuch",
        "Too many requests (`RateLimit` says how many are left), or the owner's quota is used up.",
        [
            errors.RateLimited(1200, 60.0, 2.5),
            errors.TaskQuotaReached("quarry-north", 20, 20),
            errors.ByteQuotaReached("quarry-north", 10**12, 10**12 + 7),
        ],
    ),
}


def describe(schema: dict[str, Any]) -> None:
    """Add to an OpenAPI document what holds for each of its paths."""
    components = schema["components"]
    components["securitySchemes"] = {
        _SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "vk_<prefix>_<secret>",
            "description": "A key of `volcal keys create`. Needed below /api/v1 and /ogc as soon as the server has "
            "one, and on the routes tagged compat and uploads if its operator says so.",
        }
    }
    components["responses"] = dict(_responses())
    for path, methods in schema["paths"].items():
        place = place_of(path)
        if place is Place.OPEN:
            continue
        for method, operation in methods.items():
            if method == "options":
                continue
            operation["security"] = [{_SCHEME: []}] if place is Place.ADMIN else [{_SCHEME: []}, {}]
            needed = scope_of(place, method.upper())
            operation["description"] += f"\n\nScope: `{needed}`."
            kind = "Plain" if place is Place.LEGACY else ""
            for status, (name, _, _) in _REFUSALS.items():
                operation["responses"].setdefault(status, {"$ref": f"#/components/responses/{kind}{name}"})


def _responses() -> Any:
    for status, (name, meaning, shown) in _REFUSALS.items():
        headers = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}} if status == "429" else {}
        more = {"headers": headers} if headers else {}
        problems = {each.code: {"value": document_of(each, "/api/v1/tasks")} for each in shown}
        yield name, {"description": meaning, "content": {MEDIA_TYPE: {"examples": problems}}, **more}
        plain = {each.code: {"value": plain_of(each)} for each in shown}
        yield f"Plain{name}", {"description": meaning, "content": {"application/json": {"examples": plain}}, **more}
