"""Declarations of backends, and calls of them, for tests."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.backend_server import BackendServer, Reply, backend_server
from workers.backend_types import Backend
from workers.backends.deployment import Surroundings, open_backends
from workers.backends.guard import GuardedBackend
from workers.backends.ports import Caller

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"order": {"type": "string"}, "amount": {"type": "integer", "minimum": 1}},
    "required": ["order"],
}
ENVIRON = {"SHOP_TOKEN": "Bearer s3cret-of-the-shop"}


def declared(url: str, **changes: Any) -> Backend:
    """An HTTP backend at a URL."""
    http = {"method": "POST", "url": f"{url}/orders/{{order}}/refund", "headers_from": {"Authorization": "SHOP_TOKEN"}}
    plain = {"description": "Refund an order.", "http": http, "parameters": SCHEMA, "tenants": ["acme"], "timeout": 2}
    return Backend.model_validate(plain | changes)


@asynccontextmanager
async def opened(declaration: Backend, name: str = "refund_order") -> AsyncIterator[GuardedBackend]:
    """One backend, ready to be called."""
    async with open_backends({name: declaration}, Surroundings(ENVIRON)) as [backend]:
        yield backend


@asynccontextmanager
async def served(*replies: Reply, **changes: Any) -> AsyncIterator[tuple[BackendServer, GuardedBackend]]:
    """A server that gives these replies, and a backend that calls it."""
    async with backend_server(*replies) as server, opened(declared(server.url, **changes)) as backend:
        yield server, backend


def caller(tenant: str = "acme", user: str = "ada", key: str = "evt_1:0:call_1") -> Caller:
    return Caller(tenant, user, key, "evt_1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")


async def called(backend: GuardedBackend, by: Caller | None = None, **arguments: Any) -> str:
    """What the model is told of one call."""
    return (await backend.call(json.dumps({"order": "1042"} | arguments), by or caller())).text
