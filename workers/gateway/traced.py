"""A span for each request that brings events, from its first byte to the last of its answer."""

from collections.abc import MutableMapping
from typing import Any

from schemas.traces import HEADER, is_traceparent
from workers.gateway.transport import App, Receive, Scope, Send
from workers.telemetry.spans import Kind, span

PATHS = ("/chatkit", "/v1/events")


class Traced:
    """Goes on in the caller's trace, or begins one, which then is that of the event."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == HEADER.encode()), "")
        parent = given if is_traceparent(given) else None
        with span(f"POST {scope['path']}", parent, kind=Kind.SERVER) as request:

            async def send_and_tell(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    request.set({"http.response.status_code": message["status"]})
                await send(message)

            await self._app(scope, receive, send_and_tell)
