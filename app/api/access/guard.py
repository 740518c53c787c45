"""Before every request: who calls, may they, and not too often; afterwards a line in the audit log."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.api.access import sockets
from app.api.access.places import Place, place_of, scope_of
from app.api.deps import CALLER, REFUSAL, Aside
from app.context import Context
from app.domain.access import ANYBODY, Caller, Rate, Taken, prefix_of
from app.domain.access import Scope as Right
from app.domain.errors import KeyMissing, RateLimited, ScopeMissing, Unauthenticated, VolcalError
from app.limiting.local import LocalLimiter
from app.observe import logs
from app.observe.masking import Mask
from app.services.keys import KeyRing

audit = logging.getLogger("volcal.audit")

_mask = Mask()
_BEARER = "bearer "
_FAILURES = Rate(60)  # requests a minute from one address that come with a key which is none
_LONGEST = 512
_READS = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """Finds out who calls, and lets pass who may.

    The routes find the caller in the request's scope. What is refused is answered here; uploads answer by themselves,
    since their clients need more than an answer. Keys are looked up in threads of their own, and only if they are
    not known from seconds before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ring: KeyRing | None = None
        self._asking = Aside(8)
        self._failures = LocalLimiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        place = place_of(scope["path"]) if scope["type"] in {"http", "websocket"} else Place.OPEN
        if place is Place.OPEN or scope.get("method") == "OPTIONS":
            await self._app(scope, receive, send)
            return
        said: dict[str, str] = {}
        try:
            caller = await self._admit(scope, place, said)
        except (VolcalError, SQLAlchemyError) as error:
            if isinstance(error, VolcalError):
                _tell_refusal(scope, error)
            if place is not Place.UPLOAD:
                await _refuse(error, scope, receive, send, said)
                return
            scope[REFUSAL] = error
        else:
            scope[CALLER] = caller
            if caller.key:
                logs.learn(key=caller.key, owner=caller.owner)
        await self._pass(scope, receive, send, said)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, said: Mapping[str, str]) -> None:
        status = 0

        async def add(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(said)
            await send(message)

        await self._app(scope, receive, add)
        caller = scope.get(CALLER, ANYBODY)  # without a key, the request's own line tells as much
        if (
            caller.key
            and 0 < status < 400
            and scope.get("method") not in _READS
            and not scope["path"].startswith("/files")
        ):
            audit.info("changed", extra=_about(scope, caller) | {"status": status})

    async def _admit(self, scope: Scope, place: Place, said: dict[str, str]) -> Caller:
        """Return who calls, if they may; put into ``said`` what the answer's headers say of rates."""
        context: Context = scope["app"].state.context
        address = str((scope.get("client") or ["?"])[0])
        try:
            caller = await self._identify(context, _token(scope), place)
        except Unauthenticated:
            if not (taken := self._failures.take(address, _FAILURES)).allowed:
                raise RateLimited(_FAILURES.limit, _FAILURES.window_s, taken.retry_s, "this address") from None
            raise
        needed = scope_of(place, scope.get("method", "GET"))
        if needed is Right.ADMIN and not caller.key:
            raise KeyMissing
        if needed not in caller.scopes:
            scope[CALLER] = caller  # for the audit log
            raise ScopeMissing(needed, caller.scopes)
        if place is not Place.UPLOAD:  # whose number the size of files decides, not the client
            await self._count(context, caller, address, said)
        return caller

    async def _identify(self, context: Context, token: str | None, place: Place) -> Caller:
        if self._ring is None:
            self._ring = KeyRing(context, context.policy.fixed_keys)
        ring = self._ring
        legacy = place in (Place.LEGACY, Place.UPLOAD)
        needed: bool | None = context.policy.legacy_needs_key if legacy else context.policy.needs_key
        if needed is None and (needed := ring.recalls_any()) is None:
            needed = await self._asking.run(ring.any)
        if token is None or (not needed and prefix_of(token) is None and not ring.is_fixed(token)):
            if needed:
                raise KeyMissing
            return ANYBODY
        known = ring.recall(token)
        return await self._asking.run(ring.ask, token) if known is None else known

    async def _count(self, context: Context, caller: Caller, address: str, said: dict[str, str]) -> None:
        policy = context.policy
        if caller.key:
            limit = policy.rate_per_key if caller.rate is None else caller.rate
            who, words, name = f"key:{caller.key}:{caller.owner}", "this key", "key"
        else:
            limit, who, words, name = policy.rate_per_address, f"address:{address}", "this address", "address"
        if not limit:
            return
        rate, limiter = Rate(limit), context.limiter
        taken = await self._asking.run(limiter.take, who, rate) if limiter.waits else limiter.take(who, rate)
        said.update(_headers(name, rate, taken))
        if not taken.allowed:
            raise RateLimited(limit, rate.window_s, taken.retry_s, words)


def _token(scope: Scope) -> str | None:
    given = Headers(scope=scope).get("authorization", "")
    if scope["type"] == "websocket" and not given and (key := sockets.offered_key(scope)) is not None:
        return key[:_LONGEST]
    if given[: len(_BEARER)].lower() != _BEARER:
        return None
    return given[len(_BEARER) :].strip()[:_LONGEST]


def _headers(name: str, rate: Rate, taken: Taken) -> dict[str, str]:
    """Return what draft-ietf-httpapi-ratelimit-headers-10 has the answer say."""
    return {
        "RateLimit-Policy": f'"{name}";q={rate.limit};w={rate.window_s:.0f}',
        "RateLimit": f'"{name}";r={taken.remaining};t={-int(-taken.reset_s // 1)}',
    }


async def _refuse(error: Exception, scope: Scope, receive: Receive, send: Send, said: Mapping[str, str]) -> None:
    if scope["type"] == "websocket":
        if isinstance(error, VolcalError):
            await sockets.refuse(scope, receive, send, problems.status_of(type(error)), error.code)
        else:
            await sockets.refuse(scope, receive, send, HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE")
        return
    response = await problems.answer(Request(scope, receive), error)
    response.headers.update(said)
    await response(scope, receive, send)


def _about(scope: Scope, caller: Caller) -> dict[str, Any]:
    route = getattr(scope.get("route"), "path", None)
    return {
        "key": caller.key,
        "key_name": caller.name,
        "owner": caller.owner,
        "address": str((scope.get("client") or ["?"])[0]),
        "method": scope.get("method", "WEBSOCKET"),
        "route": route or f"{place_of(scope['path']).name.lower()} place",
        **({"task_id": str(found)[:64]} if (found := scope.get("path_params", {}).get("task_id")) else {}),
    }


def _tell_refusal(scope: Scope, error: VolcalError) -> None:
    token = _token(scope)
    caller = scope.get(CALLER) or Caller(key=(token and prefix_of(token)) or "")
    audit.warning("denied", extra=_about(scope, caller) | {"code": error.code, "path": _mask(scope["path"])[:500]})
