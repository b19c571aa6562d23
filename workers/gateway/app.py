"""The gateway as an ASGI app: `uvicorn --factory workers.gateway.app:create_app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version

from fastapi import FastAPI

from workers.gateway import chatkit, dead, events, health, page, playground, problem, scale, sessions, threads
from workers.gateway.ports import GatewayRuntime
from workers.gateway.traced import Traced
from workers.gateway.transport import SecureTransport
from workers.settings import Settings, load_settings
from workers.telemetry import spans


def create_app(settings: Settings | None = None, *, runtime: GatewayRuntime | None = None) -> FastAPI:
    """Build the app.

    Args:
        settings: of the deployment; read from the environment by default.
        runtime: to be used instead of one that the app opens at its start and closes at its end.
    """
    settings = runtime.settings if runtime is not None else settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        from workers.gateway.wiring import open_gateway

        async with nullcontext(runtime) if runtime is not None else open_gateway(settings) as opened:
            app.state.runtime = opened
            app.state.readiness = health.readiness_of(opened)
            yield

    app = FastAPI(
        title="chatkit-workers gateway",
        version=version("chatkit-workers"),
        lifespan=lifespan,
        redoc_url=None,
        separate_input_output_schemas=False,
        # its own spans, logs and figures of requests are not ours to bound (workers/telemetry/otlp.py has ours)
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    problem.install(app)
    app.add_middleware(SecureTransport)
    if spans.is_on():
        app.add_middleware(Traced)
    for module in (chatkit, events, threads, dead, scale, sessions, health, page):
        app.include_router(module.router)
    if settings.playground:
        app.include_router(playground.router)
    return app


def end_streams(app: FastAPI) -> None:
    """Let every open stream end, for clients to go on elsewhere. To be called when the server begins to shut down,
    before it waits for its connections."""
    app.state.runtime.reader.end_all()
