"""What is asked of the way that requests come: TLS from outside of this machine, and answers that are small."""

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.middleware.gzip import GZipMiddleware

from workers.gateway.problem import problem
from workers.transport import is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/healthz", "/readyz", "/metrics")
"""What probes and Prometheus ask inside a network; it tells nothing of anybody."""

YEAR_SECONDS = 31_536_000
HEADERS = [(b"x-content-type-options", b"nosniff")]
TLS_HEADERS = [*HEADERS, (b"strict-transport-security", f"max-age={YEAR_SECONDS}".encode())]

COMPRESSED_FROM = 1024
"""Bytes of an answer from which gzip pays. Streams are left alone: each frame has to come at once."""


class SecureTransport:
    """Refuses what came over a network in the clear. Whether it did, the declared proxy says (`X-Forwarded-Proto`)."""

    def __init__(self, app: App) -> None:
        self._app = GZipMiddleware(app, minimum_size=COMPRESSED_FROM, compresslevel=4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secure = scope["scheme"] == "https"
        if not secure and not _is_local(scope) and scope["path"] not in OPEN_PATHS:
            detail = "this API is served over HTTPS only: call the https:// address (behind a proxy, it has to say so)"
            refusal = problem(HTTPStatus.FORBIDDEN, detail, code="https_required")
            await refusal(scope, receive, send)
            return
        headers = TLS_HEADERS if secure else HEADERS

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    return client is None or is_loopback(str(client[0]))  # a Unix socket has no client
