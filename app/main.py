"""The gateway's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from app.api import classic, documentation, health, hooks, objects, problems, tus
from app.api.access import keys
from app.api.access.cors import OtherOrigins
from app.api.access.guard import Guard
from app.api.deps import set_aside
from app.api.images import routes as images
from app.api.middleware import CarefulHeaders, RequestLog, SmallBodies
from app.api.ogc import execution, jobs
from app.api.ogc import routes as ogc
from app.api.rasters import routes as rasters
from app.api.tasks import creating, looking, outputs, watching
from app.api.tasks import routes as tasks
from app.api.tasks.following import logs, sockets, sse
from app.api.tasks.following.events import Followers
from app.api.webhooks import routes as webhooks
from app.context import Context


def create_app(context: Context | None = None) -> FastAPI:
    """Return the gateway.

    Args:
        context: The application's parts; None puts them together from the environment when the server starts.
    """
    # FastAPI's own telemetry would tell whole paths, and with them the ids of uploads; ours is in app.observe.
    quiet = TelemetryConfig(tracing=False, metrics=False, logs=False)
    app = FastAPI(docs_url=None, redoc_url=None, lifespan=_lifespan, telemetry=quiet, **documentation.about())
    app.state.context = context
    set_aside(app)
    watching.install(app)
    app.state.followers = Followers()
    routers = [
        classic.router,
        creating.router,
        looking.router,
        tasks.router,
        outputs.router,
        sse.router,
        sockets.router,
        logs.router,
        tus.router,
        objects.router,
        tasks.pipelines,
        webhooks.router,
        images.router,
        ogc.router,
        execution.router,
        jobs.router,
        rasters.router,
        keys.router,
        health.router,
        documentation.router,
        hooks.router,
    ]
    for router in routers:
        app.include_router(router)
    problems.install(app)
    documentation.describe(app)
    for middleware in (Guard, SmallBodies, OtherOrigins, CarefulHeaders, RequestLog):  # the last is the outermost
        app.add_middleware(middleware)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if app.state.context is None:
        # Imported here, so that asking for the API's schema needs neither a database nor a broker.
        from app.settings import Settings
        from app.wiring import build_context

        app.state.context = build_context(Settings())
    yield
