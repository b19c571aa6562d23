"""A backend that is one HTTP request.

The transport is used without the client above it, which would keep cookies for the next tenant, follow redirects where
it is told to, read proxies from the environment, and write every URL into the log.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2

from workers.backend_types import PLACE, HttpCall
from workers.backends.places import UnfitArgumentError, filled, header_value, query_of
from workers.backends.ports import Answer, Caller, Failure, Fault, Result

READABLE = re.compile(r"(application/([a-z0-9.+-]+\+)?json|text/(plain|markdown|csv))\s*(;|$)", re.IGNORECASE)
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
SAID_BYTES = 1000
"""What the model is told of a refusal, at most."""
CONNECT_SECONDS = 5.0
UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Operation:
    """One request with places: which arguments go where. What is in neither goes into the body, as fields of it."""

    method: str
    url: str
    query: frozenset[str] = frozenset()
    body: str | None = None
    """The one argument that is the whole body."""

    @classmethod
    def of(cls, call: HttpCall) -> "Operation":
        return cls(call.method, call.url, frozenset(call.query))

    def request(self, arguments: Mapping[str, Any], headers: Mapping[str, str]) -> httpx2.Request:
        """Raises UnfitArgumentError."""
        parts = urlsplit(self.url)
        places = frozenset(PLACE.findall(parts.path))
        rest = {name: value for name, value in arguments.items() if name not in places}
        has_body = self.method in WITH_BODY
        asked = {name: value for name, value in rest.items() if name in self.query or not has_body}
        inside: Any = {name: value for name, value in rest.items() if name not in asked}
        if self.body is not None:
            inside = inside.get(self.body)
        path, query = filled(parts.path, arguments), "&".join(filter(None, (parts.query, query_of(asked))))
        content = json.dumps(inside).encode() if has_body and inside is not None else None
        kind = {"Content-Type": "application/json"} if content is not None else {}
        url = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
        return httpx2.Request(self.method, url, headers={**headers, **kind}, content=content)


class HttpBackend:
    """One operation of one host.

    Args:
        operation: the request.
        headers: what is sent beside our own, secrets among them.
        transport: of this host alone; whoever opened it closes it.
        timeout_seconds: of the whole attempt; the caller cancels it then.
        max_bytes: how much is read of an answer.
    """

    def __init__(
        self,
        operation: Operation,
        headers: Mapping[str, str],
        transport: httpx2.AsyncBaseTransport,
        *,
        timeout_seconds: float,
        max_bytes: int,
    ) -> None:
        self._operation, self._headers, self._transport = operation, headers, transport
        self._timeouts = {
            "connect": min(CONNECT_SECONDS, timeout_seconds),
            "pool": timeout_seconds,
            "read": timeout_seconds,
            "write": timeout_seconds,
        }
        self._max_bytes = max_bytes

    async def call(self, arguments: Mapping[str, Any], caller: Caller) -> Result:
        """Send the request, and read what fits of the answer."""
        try:
            request = self._operation.request(arguments, {**self._headers, **own_headers(caller)})
        except UnfitArgumentError as error:
            return Failure(Fault.REFUSED, f"not called: {error}")
        except httpx2.InvalidURL:
            return Failure(Fault.REFUSED, "not called: the arguments make the URL too long")
        request.extensions["timeout"] = self._timeouts
        try:
            response = await self._transport.handle_async_request(request)
            try:
                return await self._read(response)
            finally:
                await response.aclose()
        except UNREACHED as error:
            return Failure(Fault.UNREACHED, type(error).__name__)
        except httpx2.TransportError as error:
            return Failure(Fault.UNANSWERED, type(error).__name__)

    async def _read(self, response: httpx2.Response) -> Result:
        status = response.status_code
        if status >= 500 or status in (408, 425):
            return Failure(Fault.UNANSWERED, f"HTTP {status}", retry_after(response.headers))
        if status == 429:
            return Failure(Fault.BUSY, "HTTP 429", retry_after(response.headers))
        if 300 <= status < 400:
            return Failure(Fault.UNUSABLE, f"HTTP {status}: it points elsewhere, where nobody follows")
        if status in (401, 403):  # what is said of credentials is not for the model
            return Failure(Fault.REFUSED, f"HTTP {status}")
        kind, readable = response.headers.get("content-type", ""), response.headers.get("content-encoding", "identity")
        if not (fits := bool(READABLE.match(kind.strip())) and readable == "identity") and status < 300:
            if status == 204 or response.headers.get("content-length") == "0":
                return Answer("Done; the service had nothing to say.")
            return Failure(Fault.UNUSABLE, "the answer is neither JSON nor plain text")
        if status >= 400:
            said = (await _text(response, SAID_BYTES)).text if fits else ""
            return Failure(Fault.REFUSED, f"HTTP {status} {said}".rstrip())
        return await _text(response, self._max_bytes)


def own_headers(caller: Caller) -> dict[str, str]:
    """What every service is told of a call: who it is for, and its key."""
    headers = {
        "Accept": "application/json, text/plain;q=0.5",
        "Accept-Encoding": "identity",  # nothing small can become big
        "User-Agent": "chatkit-workers",
        "X-Chatkit-Tenant": header_value(caller.tenant),
        "X-Chatkit-User": header_value(caller.user),
        "Idempotency-Key": header_value(caller.key),
    }
    return headers | ({"traceparent": caller.traceparent} if caller.traceparent is not None else {})


def retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds that the service asks us to wait, however it says so."""
    said = headers.get("retry-after")
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # TypeError: a time without a zone
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


async def _text(response: httpx2.Response, most: int) -> Answer:
    """The beginning of the body. What is left of it is not read: the connection is closed."""
    read = bytearray()
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) > most:
            break
    return Answer(bytes(read[:most]).decode("utf-8", "replace"), is_cut=len(read) > most)
