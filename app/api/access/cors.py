"""Pages of other origins: which may read answers, by setting; uploads answer for themselves."""

from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.access.sockets import refuse
from app.context import Policy

_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-ID",
)
_SHOWN = (
    "ETag",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class OtherOrigins:
    """Starlette's CORS for the origins of the settings; without any, none may.

    No cookie is involved, so credentials are never allowed: a page sends a key or it does not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._wrapped: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and say in the answer who may read it."""
        if scope["type"] == "websocket" and not _may_read(scope):
            await refuse(scope, receive, send, HTTPStatus.FORBIDDEN, "ORIGIN_REFUSED")
            return
        if scope["type"] != "http" or scope["path"].startswith("/files"):
            await self._app(scope, receive, send)
            return
        if self._wrapped is None:  # the settings are known once the server has started
            origins = scope["app"].state.context.policy.cors_origins
            self._wrapped = self._app if not origins else self._wrap(origins)
        await self._wrapped(scope, receive, send)

    def _wrap(self, origins: tuple[str, ...]) -> ASGIApp:
        return CORSMiddleware(
            self._app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_HEADERS,
            expose_headers=_SHOWN,
            max_age=3600,
        )


def _may_read(scope: Scope) -> bool:
    """Return whether the page that opens a WebSocket may: browsers ask nobody, they only say where it is from."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    policy: Policy = scope["app"].state.context.policy
    if origin is None or "*" in policy.cors_origins or origin in policy.cors_origins:
        return True
    host = urlsplit(origin).netloc
    return bool(host) and host in {headers.get("host", ""), urlsplit(policy.public_url).netloc}
