"""How an MCP server is reached: over HTTP, or as a program of this machine. Nothing here repeats a call."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from agents.mcp import MCPServer, MCPServerStdio, MCPServerStreamableHttp
from mcp import stdio_client

from workers.backend_types import McpCall
from workers.backends.addresses import CheckedTransport

MARGIN_SECONDS = 5.0
"""By which the session's own deadlines lie behind those of the calls, which so come first."""


def server_of(
    name: str, call: McpCall, headers: Mapping[str, str], environ: Mapping[str, str], timeout: float
) -> MCPServer:
    """A client that is not connected yet. It repeats nothing by itself. Raises ValueError: a variable is missing."""
    longest = timeout + MARGIN_SECONDS
    if call.url is not None:
        return MCPServerStreamableHttp(
            {"url": call.url, "headers": dict(headers), "timeout": longest, "httpx_client_factory": _client},
            name=name,
            client_session_timeout_seconds=longest,
            max_retry_attempts=0,
        )
    command, *arguments = call.command or ()
    return QuietProgram(
        {"command": command, "args": arguments, "env": given_environment(call, environ)},
        name=name,
        client_session_timeout_seconds=longest,
        max_retry_attempts=0,
    )


def given_environment(call: McpCall, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the program is given. Raises ValueError: one is missing."""
    for variable in call.environment:
        if variable not in environ:
            raise ValueError(f"mcp.environment: the variable {variable} is not set")
    return {variable: environ[variable] for variable in call.environment}


class QuietProgram(MCPServerStdio):
    """A program whose standard error goes nowhere: it may hold what people wrote, and ours is our log."""

    def create_streams(self) -> Any:
        return _quiet_streams(self.params)


@asynccontextmanager
async def _quiet_streams(params: Any) -> AsyncIterator[Any]:
    with Path(os.devnull).open("w") as nowhere:  # noqa: ASYNC230  # it opens at once
        async with stdio_client(params, errlog=nowhere) as streams:
            yield streams


def _client(headers: dict[str, str] | None = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        headers=headers,
        timeout=timeout,
        auth=auth,
        transport=CheckedTransport(),
        follow_redirects=False,
        trust_env=False,
    )
