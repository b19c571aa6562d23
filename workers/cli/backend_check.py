"""The part of `doctor` that looks at the services of `CHATKIT_BACKENDS`. It calls none: that may change things."""

import asyncio
import ssl
from typing import Literal
from urllib.parse import urlsplit

from workers.backend_types import Backend, HttpCall, McpCall, OpenApiCall, TaskCall
from workers.backends.deployment import Surroundings, open_backends
from workers.backends.guard import GuardedBackend
from workers.backends.openapi import compiled, load_document
from workers.cli.connections import cause
from workers.errors import SettingsError
from workers.lanes.connection import connect
from workers.settings import Settings

SECONDS = 5.0
PORTS = {"https": 443, "http": 80}

Found = tuple[Literal["ok", "warn", "fail"], str, str | None]


async def check_backends(settings: Settings) -> list[Found]:
    """Level, finding and remedy of each service: its variables, its document, whether it can be reached."""
    return list(await asyncio.gather(*(_check(settings, name, one) for name, one in settings.backends.items())))


async def _check(settings: Settings, name: str, declared: Backend) -> Found:
    from workers.broker import sending_app

    state, app = connect(settings.state_url, max_connections=1), sending_app(settings)
    try:
        async with open_backends({name: declared}, Surroundings(state=state, app=app)) as opened:
            return await _reach(name, declared, opened)
    except SettingsError as error:
        return "fail", str(error).removeprefix("CHATKIT_BACKENDS: "), f"correct {name} of CHATKIT_BACKENDS"
    finally:
        app.close()
        await state.aclose()


async def _reach(name: str, declared: Backend, opened: list[GuardedBackend]) -> Found:
    kind = declared.kind
    match kind:
        case HttpCall(url=url):
            return await _connect(name, url)
        case OpenApiCall():
            return await _connect(name, compiled(kind, await load_document(kind.document)).operation.url)
        case TaskCall(queue=queue):
            return "ok", f"{name}: tasks of the queue {queue}; whether anybody takes them is not asked", None
        case McpCall():
            return await _describe(name, opened)


async def _connect(name: str, url: str) -> Found:
    """As far as TLS goes."""
    parts = urlsplit(url)
    host, tls = str(parts.hostname), parts.scheme == "https"
    place = f"{host}:{parts.port or PORTS[parts.scheme]}"
    try:
        async with asyncio.timeout(SECONDS):
            context = ssl.create_default_context() if tls else None
            _, writer = await asyncio.open_connection(host, parts.port or PORTS[parts.scheme], ssl=context)
            writer.close()
    except (OSError, TimeoutError) as error:
        return "fail", f"{name}: {place} cannot be reached: {cause(error)}", f"start it, or correct {name}'s address"
    return "ok", f"{name}: {place} answers", None


async def _describe(name: str, opened: list[GuardedBackend]) -> Found:
    """The server is asked for its tools, as a worker does."""
    away = [tool.name for tool in opened if await _described(tool) is None]
    if away:
        remedy = f"see whether the server of {name} runs, and whether it has these tools"
        return "fail", f"{name}: not there: {', '.join(away)}", remedy
    return "ok", f"{name}: {len(opened)} tool(s)", None


async def _described(tool: GuardedBackend) -> object:
    try:
        async with asyncio.timeout(SECONDS + tool.declaration.timeout):
            return await tool.describe()
    except TimeoutError:
        return None
