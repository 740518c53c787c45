"""Pages of other origins: which may read answers, by setting; uploads answer for themselves."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Prefer", "X-Request-ID")
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
