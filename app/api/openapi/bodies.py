"""What may be wrong with any body, whatever the route: it is too large, or it is not JSON."""

from typing import Any

from app.api.middleware import too_large_document
from app.api.problems import MEDIA_TYPE

_TOO_LARGE = "BodyTooLarge"


def describe(schema: dict[str, Any]) -> None:
    """Add to each operation that takes a small body how a larger one is refused."""
    told = schema["components"].setdefault("responses", {})
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            if "application/json" not in operation.get("requestBody", {}).get("content", {}):
                continue
            document = too_large_document(path)
            kind, name = (MEDIA_TYPE, "") if "code" in document else ("application/json", "Plain")
            told[name + _TOO_LARGE] = {
                "description": "The body is too large; files are sent to upload URLs.",
                "content": {kind: {"example": document}},
            }
            operation["responses"].setdefault("413", {"$ref": f"#/components/responses/{name}{_TOO_LARGE}"})
