"""The backends of a deployment: built from the settings when a worker starts, closed when it ends."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import assert_never

from workers.backend_types import Backend as Declaration
from workers.backend_types import HeadersFrom, HttpCall, McpCall, OpenApiCall, TaskCall
from workers.backends.addresses import CheckedTransport
from workers.backends.circuit import Circuit
from workers.backends.guard import GuardedBackend
from workers.backends.http import HttpBackend, Operation
from workers.backends.openapi import compiled, load_document
from workers.backends.ports import Describe, Description
from workers.errors import SettingsError


@asynccontextmanager
async def open_backends(
    declared: Mapping[str, Declaration], environ: Mapping[str, str] = os.environ
) -> AsyncIterator[list[GuardedBackend]]:
    """The tools of all backends.

    Raises:
        SettingsError: a variable is missing, or an OpenAPI document does not say what was declared.
    """
    async with AsyncExitStack() as stack:
        opened: list[GuardedBackend] = []
        for name, declaration in declared.items():
            try:
                opened += await _opened(stack, name, declaration, environ)
            except ValueError as error:
                raise SettingsError(f"CHATKIT_BACKENDS: {name}: {error}") from None
        yield opened


async def _opened(
    stack: AsyncExitStack, name: str, declaration: Declaration, environ: Mapping[str, str]
) -> list[GuardedBackend]:
    kind, parameters = declaration.kind, declaration.parameters
    match kind:
        case HttpCall():
            operation = Operation.of(kind)
        case OpenApiCall():
            found = compiled(kind, await load_document(kind.document))
            operation, parameters = found.operation, found.parameters
        case TaskCall() | McpCall():
            raise ValueError("not yet")
        case _:
            assert_never(kind)
    transport = CheckedTransport(keep_alive=declaration.retry != "never")
    stack.push_async_callback(transport.aclose)
    backend = HttpBackend(
        operation,
        headers_of(kind.headers_from, environ),
        transport,
        timeout_seconds=declaration.timeout,
        max_bytes=declaration.max_result_bytes,
    )
    describe = always(Description.of(declaration.description, parameters))
    return [GuardedBackend(name, declaration, describe, backend, Circuit(declaration.circuit))]


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
