"""Opens what a gateway uses, and closes it in the right order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from workers.broker import sending_app
from workers.gateway.ports import GatewayRuntime
from workers.runtime import gateway_runtime, open_core
from workers.settings import Settings


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[GatewayRuntime]:
    """Everything for one gateway process."""
    app = sending_app(settings)
    try:
        async with open_core(settings, app) as core, gateway_runtime(core) as runtime:
            yield runtime
    finally:
        app.close()
