"""An operation of an OpenAPI 3 document as a request with places, and the schema of what fills them."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

from workers.backend_types import PLACE, OpenApiCall, check_schema, checked_url
from workers.backends.addresses import CheckedTransport
from workers.backends.http import Operation

METHODS = ("get", "post", "put", "patch", "delete")
MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
FETCH_SECONDS = 10.0
TOLD_TO_NOBODY = frozenset({"discriminator", "example", "examples", "externalDocs", "nullable", "xml"})
"""Keywords that OpenAPI adds to JSON schema, and those that a call does not need."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An operation that can be called."""

    operation: Operation
    parameters: dict[str, Any]


async def load_document(where: str) -> dict[str, Any]:
    """A document of a file or an https URL. Raises ValueError: it cannot be had, or is not OpenAPI 3 in JSON."""
    try:
        text = await _fetched(where) if "://" in where else await asyncio.to_thread(_read, where)
        document = json.loads(text)
    except (OSError, httpx2.HTTPError, TimeoutError) as error:
        raise ValueError(f"the document cannot be had ({type(error).__name__})") from None
    except ValueError:
        raise ValueError("the document is not JSON") from None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise ValueError('the document is not OpenAPI 3 (it has no "openapi": "3…")')
    return document


def compiled(call: OpenApiCall, document: Mapping[str, Any]) -> Compiled:
    """The operation of a document. Raises ValueError: it is not there, or cannot be called from here."""
    path, method, entry, operation = _found(document, call.operation)
    properties: dict[str, Any] = {}
    required: list[str] = []
    query: set[str] = set()
    for parameter in _parameters(document, entry, operation):
        name, place, needed = parameter["name"], parameter["in"], parameter.get("required", False)
        if place not in ("path", "query"):
            if needed:
                raise ValueError(f"its parameter {name} goes into the {place}, where no argument can")
            continue
        if name in properties:
            raise ValueError(f"it has two parameters named {name}")
        properties[name] = _schema_of(document, parameter)
        required += [name] if needed or place == "path" else []
        query |= {name} if place == "query" else set()
    if unfilled := set(PLACE.findall(path)) - (properties.keys() - query):
        raise ValueError(f"nothing fills {{{min(unfilled)}}} of its path")
    body = _body(document, operation, properties, required)
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    check_schema(parameters)
    url = checked_url(_server(call, document, entry, operation) + path)
    return Compiled(Operation(method.upper(), url, frozenset(query), body), parameters)


def _found(document: Mapping[str, Any], name: str) -> tuple[str, str, Mapping[str, Any], Mapping[str, Any]]:
    for path, entry in document.get("paths", {}).items():
        for method in METHODS:
            operation = entry.get(method)
            if operation is not None and operation.get("operationId") == name:
                return path, method, entry, operation
    raise ValueError(f'the document has no operation "{name}"')


def _parameters(
    document: Mapping[str, Any], entry: Mapping[str, Any], operation: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Those of the path, and those of the operation in their stead."""
    named = {}
    for listed in (*entry.get("parameters", []), *operation.get("parameters", [])):
        parameter = _inlined(document, listed)
        if "name" not in parameter or "in" not in parameter:
            raise ValueError("it has a parameter without a name and a place")
        named[parameter["name"], parameter["in"]] = parameter
    return list(named.values())


def _schema_of(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> dict[str, Any]:
    schema = _plain(_inlined(document, parameter.get("schema", {})))
    return {"description": parameter["description"], **schema} if "description" in parameter else schema


def _body(
    document: Mapping[str, Any], operation: Mapping[str, Any], properties: dict[str, Any], required: list[str]
) -> str | None:
    """Declare the argument that is the body, if there is one."""
    if "requestBody" not in operation:
        return None
    body = _inlined(document, operation["requestBody"])
    schema = body.get("content", {}).get("application/json", {}).get("schema")
    needed = body.get("required", False)
    if schema is None:
        if needed:
            raise ValueError("its body is not JSON")
        return None
    name = "body" if "body" not in properties else "request_body"
    properties[name] = _plain(_inlined(document, schema))
    required += [name] if needed else []
    return name


def _server(
    call: OpenApiCall, document: Mapping[str, Any], entry: Mapping[str, Any], operation: Mapping[str, Any]
) -> str:
    servers = operation.get("servers") or entry.get("servers") or document.get("servers") or [{"url": "/"}]
    base = call.document if "://" in call.document else ""
    server = call.server or urljoin(base, servers[0]["url"])
    if "://" not in server:
        raise ValueError("the document names no server with a host; give one as server")
    return checked_url(server, places=False).rstrip("/")


def _inlined(document: Mapping[str, Any], value: Any, within: frozenset[str] = frozenset()) -> Any:
    """The value with what it refers to in the place of each reference; `within` are the references that led here."""
    if isinstance(value, list):
        return [_inlined(document, one, within) for one in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if not isinstance(reference, str):
        return {name: _inlined(document, one, within) for name, one in value.items()}
    if reference in within:
        raise ValueError(f"its schema refers to itself ({reference[:80]})")
    beside = {name: one for name, one in value.items() if name != "$ref"}
    return _inlined(document, {**_pointed(document, reference), **beside}, within | {reference})


def _pointed(document: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    if not reference.startswith("#/"):
        raise ValueError(f"it refers to another document ({reference[:80]})")
    found: Any = document
    for step in reference[2:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"its reference {reference[:80]} leads to nothing")
    return found


def _plain(schema: Any) -> Any:
    """OpenAPI's dialect as JSON schema."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _plain(one) for name, one in schema.items() if name not in TOLD_TO_NOBODY}
    if schema.get("nullable") is True and isinstance(schema.get("type"), str):
        plain["type"] = [schema["type"], "null"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        says = plain.get(exclusive)
        if isinstance(says, bool):  # OpenAPI 3.0
            del plain[exclusive]
            plain |= {exclusive: plain.pop(bound)} if says and bound in plain else {}
    return plain


def _read(where: str) -> str:
    path = Path(where)
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        raise ValueError("too large")
    return path.read_text(encoding="utf-8")


async def _fetched(url: str) -> str:
    transport = CheckedTransport()
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            request = httpx2.Request("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"})
            response = await transport.handle_async_request(request)
            try:
                return await _whole(response)
            finally:
                await response.aclose()
    finally:
        await transport.aclose()


async def _whole(response: httpx2.Response) -> str:
    if response.status_code != 200:
        raise httpx2.HTTPError(f"HTTP {response.status_code}")
    read = bytearray()
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) > MAX_DOCUMENT_BYTES:
            raise httpx2.HTTPError("too large")
    return read.decode()
