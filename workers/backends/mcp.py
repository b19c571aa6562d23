"""Tools of an MCP server: one connection per process, made when it is first needed and again after a failure."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from agents.mcp import MCPServer
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED

from workers.backend_types import Backend as Declaration
from workers.backend_types import check_schema
from workers.backends.ports import Answer, Caller, Description, Failure, Fault, Result

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
MOST_SILENT = 2
MAX_DESCRIPTION = 1000
MAX_SCHEMA_BYTES = 16_384

Tools = Mapping[str, Description]


class McpConnection:
    """The connection to one server. It belongs to a task of its own, since it must end where it began.

    Args:
        name: of the backend, for logs.
        declaration: which tools may be used; what the server says of others is not even read.
        server: makes the client.
    """

    def __init__(self, name: str, declaration: Declaration, server: Callable[[], MCPServer]) -> None:
        self._name, self._declaration, self._make = name, declaration, server
        self._owner: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[tuple[MCPServer, Tools]] | None = None
        self._stop = asyncio.Event()
        self._not_before = 0.0
        self._silent = 0

    async def tools(self) -> Tools:
        """What the server offers of the allowed tools; nothing while it is away."""
        try:
            return (await self._connected())[1]
        except ConnectionError:
            return {}

    async def call(self, tool: str, arguments: Mapping[str, Any], caller: Caller) -> Result:
        """Call a tool. Where the connection failed, or was silent twice, the next call makes it anew."""
        try:
            server, _ = await self._connected()
        except ConnectionError as error:
            return Failure(Fault.UNREACHED, str(error))
        about = {"tenant": caller.tenant, "user": caller.user, "idempotency_key": caller.key}
        try:
            result = await server.call_tool(
                tool, dict(arguments), {"chatkit": about, "traceparent": caller.traceparent}
            )
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                return Failure(Fault.REFUSED, f"MCP error {error.code}")
            self._break()
            return Failure(Fault.UNANSWERED, "the connection was closed")
        except asyncio.CancelledError:
            self._silent += 1  # others may be using the connection well; a dead one is silent to all
            if self._silent >= MOST_SILENT:
                self._break()
            raise
        except Exception as error:  # noqa: BLE001  # of three libraries; each means that nobody knows
            self._break()
            return Failure(Fault.UNANSWERED, type(error).__name__)
        self._silent = 0
        text = _text_of(result)
        return Failure(Fault.REFUSED, text.text[:MAX_DESCRIPTION]) if _is_error(result) else text

    async def close(self) -> None:
        """End the connection."""
        owner = self._owner
        self._break()
        if owner is not None:
            await asyncio.wait([owner], timeout=CLOSE_SECONDS)
            owner.cancel()
            await asyncio.wait([owner], timeout=CLOSE_SECONDS)

    async def _connected(self) -> tuple[MCPServer, Tools]:
        """The connection; all who need it meanwhile wait for the same one. Raises ConnectionError."""
        if self._ready is None:
            if time.monotonic() < self._not_before:
                raise ConnectionError("the server was away a moment ago")
            self._stop = asyncio.Event()
            self._ready = asyncio.get_running_loop().create_future()
            self._owner = asyncio.create_task(self._own(self._ready, self._stop), name=f"mcp-{self._name}")
        return await asyncio.shield(self._ready)

    async def _own(self, ready: "asyncio.Future[tuple[MCPServer, Tools]]", stop: asyncio.Event) -> None:
        """Connect, hold the connection until it is to end, and end it."""
        server = self._make()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await server.connect()  # type: ignore[no-untyped-call]  # the SDK has no type for it
                tools = self._described(await server.list_tools())
            ready.set_result((server, tools))
            await stop.wait()
        except Exception as error:  # noqa: BLE001  # of three libraries
            log.warning("mcp_not_connected", extra={"backend": self._name, "error": type(error).__name__})
            self._not_before = time.monotonic() + self._declaration.circuit.open_seconds
            if not ready.done():
                ready.set_exception(ConnectionError(type(error).__name__))
                ready.exception()  # whoever waited may be gone
            if self._ready is ready:
                self._ready = None
        finally:
            if not ready.done():  # it was cancelled; those who wait were not
                ready.set_exception(ConnectionError("the worker ends"))
                ready.exception()
            await self._clean_up(server)

    async def _clean_up(self, server: MCPServer) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await server.cleanup()  # type: ignore[no-untyped-call]  # same
        except Exception as error:  # noqa: BLE001  # it ends anyway
            log.info("mcp_not_closed", extra={"backend": self._name, "error": type(error).__name__})

    def _break(self) -> None:
        self._silent = 0
        self._stop.set()
        self._ready = None

    def _described(self, listed: list[Any]) -> Tools:
        """The allowed tools that have a usable schema."""
        kind = self._declaration.mcp
        allowed = kind.tools if kind is not None else ()
        tools = {}
        for tool in listed:
            if tool.name not in allowed:
                continue
            schema = _schema_of(tool)
            if schema is None:
                log.warning("mcp_tool_left_out", extra={"backend": self._name, "reason": "its schema cannot be used"})
                continue
            text = f"{self._declaration.description} {tool.description or ''}".strip()
            tools[tool.name] = Description.of(text[:MAX_DESCRIPTION], schema)
        return tools


class McpTool:
    """One tool of the server as a backend."""

    def __init__(self, connection: McpConnection, tool: str) -> None:
        self._connection, self._tool = connection, tool

    async def call(self, arguments: Mapping[str, Any], caller: Caller) -> Result:
        """Call it."""
        return await self._connection.call(self._tool, arguments, caller)

    async def describe(self) -> Description | None:
        """What the server says of it; None: the server is away, or has no such tool."""
        return (await self._connection.tools()).get(self._tool)


def tool_name(backend: str, tool: str) -> str:
    """What the model calls it."""
    return f"{backend}_{re.sub(r'[^A-Za-z0-9_]', '_', tool)}"[:64]


def _schema_of(tool: Any) -> dict[str, Any] | None:
    schema = getattr(tool, "input_schema", None) or getattr(tool, "inputSchema", None)
    if not isinstance(schema, dict) or len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        return None
    try:
        check_schema(schema)
    except ValueError:
        return None
    return {"additionalProperties": False, **schema}


def _is_error(result: Any) -> bool:
    return bool(getattr(result, "is_error", False) or getattr(result, "isError", False))


def _text_of(result: Any) -> Answer:
    """The texts of a result; what is no text is named."""
    parts = [part.text if part.type == "text" else f"[{part.type}]" for part in result.content]
    structured = getattr(result, "structured_content", None) or getattr(result, "structuredContent", None)
    if not parts and structured is not None:
        parts = [json.dumps(structured, ensure_ascii=False)]
    return Answer("\n".join(parts))
