"""The backends of a deployment: built from the settings when a worker starts, closed when it ends."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, assert_never

from redis.asyncio.cluster import RedisCluster

from workers.backend_types import Backend as Declaration
from workers.backend_types import HeadersFrom, HttpCall, McpCall, OpenApiCall, TaskCall
from workers.backends.addresses import CheckedTransport
from workers.backends.circuit import Circuit
from workers.backends.guard import GuardedBackend
from workers.backends.http import HttpBackend, Operation
from workers.backends.mcp import McpConnection, McpTool, tool_name
from workers.backends.mcp_servers import given_environment, server_of
from workers.backends.openapi import compiled, load_document
from workers.backends.ports import Describe, Description
from workers.backends.task import TaskBackend, TaskSender
from workers.errors import SettingsError
from workers.lanes.connection import State


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What backends are made of, besides what is declared.

    Args:
        environ: where secrets are.
        state: where tasks leave their results.
        app: sends tasks.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    state: State | None = None
    app: Any = None


@asynccontextmanager
async def open_backends(
    declared: Mapping[str, Declaration], around: Surroundings
) -> AsyncIterator[list[GuardedBackend]]:
    """The tools of all backends.

    Raises:
        SettingsError: a variable is missing, or an OpenAPI document does not say what was declared.
    """
    async with AsyncExitStack() as stack:
        opened: list[GuardedBackend] = []
        for name, declaration in declared.items():
            try:
                opened += await _opened(stack, name, declaration, around)
            except ValueError as error:
                raise SettingsError(f"CHATKIT_BACKENDS: {name}: {error}") from None
        yield opened


async def _opened(
    stack: AsyncExitStack, name: str, declaration: Declaration, around: Surroundings
) -> list[GuardedBackend]:
    kind = declaration.kind
    match kind:
        case HttpCall():
            return [_over_http(stack, name, declaration, Operation.of(kind), declaration.parameters, around)]
        case OpenApiCall():
            found = compiled(kind, await load_document(kind.document))
            return [_over_http(stack, name, declaration, found.operation, found.parameters, around)]
        case TaskCall():
            return [_as_task(stack, name, declaration, kind, around)]
        case McpCall():
            return _of_server(stack, name, declaration, kind, around)
        case _:
            assert_never(kind)


def _over_http(
    stack: AsyncExitStack,
    name: str,
    declaration: Declaration,
    operation: Operation,
    parameters: Mapping[str, Any],
    around: Surroundings,
) -> GuardedBackend:
    kind = declaration.http or declaration.openapi
    headers = headers_of(kind.headers_from if kind is not None else {}, around.environ)
    transport = CheckedTransport(keep_alive=declaration.retry != "never")
    stack.push_async_callback(transport.aclose)
    backend = HttpBackend(
        operation,
        headers,
        transport,
        timeout_seconds=declaration.timeout,
        max_bytes=declaration.max_result_bytes,
    )
    describe = always(Description.of(declaration.description, parameters))
    return GuardedBackend(name, declaration, describe, backend, Circuit(declaration.circuit))


def _as_task(
    stack: AsyncExitStack, name: str, declaration: Declaration, call: TaskCall, around: Surroundings
) -> GuardedBackend:
    if around.state is None or around.app is None or isinstance(around.state, RedisCluster):
        raise ValueError("task: Celery keeps no results in a Redis Cluster; CHATKIT_STATE_URL must be a single Redis")
    sender = TaskSender(around.app)
    stack.callback(sender.close)
    backend = TaskBackend(call, sender, around.state, timeout_seconds=declaration.timeout)
    describe = always(Description.of(declaration.description, declaration.parameters))
    return GuardedBackend(name, declaration, describe, backend, Circuit(declaration.circuit))


def _of_server(
    stack: AsyncExitStack, name: str, declaration: Declaration, call: McpCall, around: Surroundings
) -> list[GuardedBackend]:
    headers = headers_of(call.headers_from, around.environ)
    given_environment(call, around.environ)
    make = partial(server_of, name, call, headers, around.environ, declaration.timeout)
    connection, circuit = McpConnection(name, declaration, make), Circuit(declaration.circuit)
    stack.push_async_callback(connection.close)
    tools = {tool_name(name, tool): McpTool(connection, tool) for tool in call.tools}
    return [GuardedBackend(own, declaration, tool.describe, tool, circuit) for own, tool in tools.items()]


def always(description: Description) -> Describe:
    """What is known from the start."""

    async def describe() -> Description:
        return description

    return describe


def headers_of(names: HeadersFrom, environ: Mapping[str, str]) -> dict[str, str]:
    """The headers with the values of their variables. Raises ValueError: one is missing or is no header's value."""
    headers = {}
    for header, variable in names.items():
        value = environ.get(variable, "")
        if not value:
            raise ValueError(f"headers_from: the variable {variable} is not set (it holds the value of {header})")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"headers_from: {variable} holds what no header can: give it without line breaks")
        headers[header] = value
    return headers
