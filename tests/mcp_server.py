"""An MCP server in a process of its own: `python -m tests.mcp_server FILE [PORT]`; without a port on standard streams.

What its tools were called with goes into FILE, a line of JSON each.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("shop")


def note(what: str, context: Context[Any, Any], **more: Any) -> None:
    line = {"tool": what, "meta": dict(context.request_context.meta or {}), "environment": sorted(os.environ), **more}
    with Path(sys.argv[1]).open("a") as file:
        file.write(json.dumps(line, default=str) + "\n")


@server.tool()
async def find(order: str, context: Context[Any, Any]) -> str:
    """Find an order."""
    note("find", context, order=order)
    return f"order {order} is shipped"


@server.tool()
async def fail(order: str, context: Context[Any, Any]) -> str:
    """Always fails."""
    note("fail", context)
    raise ToolError("no such order")


@server.tool()
async def hang(order: str, context: Context[Any, Any]) -> str:
    """Never answers."""
    note("hang", context)
    await asyncio.sleep(600)
    return "never"


@server.tool()
async def die(order: str, context: Context[Any, Any]) -> str:
    """Ends the server."""
    note("die", context)
    os._exit(1)


@server.tool()
async def secret(context: Context[Any, Any]) -> str:
    """Nobody has allowed this one."""
    note("secret", context)
    return "s3cret"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run()
