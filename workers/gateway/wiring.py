"""Opens what a gateway uses, and closes it in the right order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from workers.broker import sending_app
from workers.gateway.ports import GatewayRuntime
from workers.runtime import GATEWAY_CONNECTIONS, GATEWAY_POOL_SECONDS, gateway_runtime, open_core, worker_name
from workers.settings import Settings

NAME = "chatkit-gateway"
"""What Redis calls the connections of gateways, with host and process behind it."""


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[GatewayRuntime]:
    """Everything for one gateway process."""
    app = sending_app(settings, name=f"{NAME}:{worker_name()}")
    try:
        async with (
            open_core(
                settings,
                app,
                name=NAME,
                connections=GATEWAY_CONNECTIONS,
                pool_seconds=GATEWAY_POOL_SECONDS,
            ) as core,
            gateway_runtime(core) as runtime,
        ):
            yield runtime
    finally:
        app.close()
