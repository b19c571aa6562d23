"""The shape of `CHATKIT_BACKENDS`: the services that agents may call, and the bounds of each."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from workers.transport import is_loopback

BACKENDS_FORM = (
    '{"refund_order": {"description": "…", "http": {"method": "POST", "url": "https://HOST/orders/{order}/refund", '
    '"headers_from": {"Authorization": "NAME_OF_A_VARIABLE"}}, "parameters": {JSON schema of an object}, "tenants": '
    '["acme"]}, …}, or the path of a file that holds it; each has one of http, openapi, task, mcp (README, Services)'
)

PLACE = re.compile(r"\{([A-Za-z_][\w.-]{0,63})\}")
"""A place of a URL's path that an argument fills."""

NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w{0,127}$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
HeadersFrom = dict[HeaderName, VariableName]
"""Header -> the environment variable that holds its value: no secret stands in the settings."""

OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding"}
    | {"idempotency-key", "traceparent", "x-chatkit-tenant", "x-chatkit-user"}
)
"""Headers that are made here, and by nobody else."""


class Part(BaseModel):
    """What all shapes here have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class HttpCall(Part):
    """One request. Arguments named in the path fill it; those in `query`, and without a body all others, are the query;
    the rest is the JSON body."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str
    headers_from: HeadersFrom = Field(default_factory=dict)
    query: tuple[str, ...] = ()

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        return checked_url(value)

    @field_validator("headers_from")
    @classmethod
    def _free(cls, value: HeadersFrom) -> HeadersFrom:
        return checked_headers(value)

    @property
    def places(self) -> frozenset[str]:
        """The arguments that fill the path."""
        return frozenset(PLACE.findall(urlsplit(self.url).path))


class OpenApiCall(Part):
    """One operation of an OpenAPI 3 document (JSON). `server` counts instead of the document's own."""

    document: Annotated[str, Field(min_length=1)]
    operation: Annotated[str, Field(min_length=1, max_length=200)]
    server: str | None = None
    headers_from: HeadersFrom = Field(default_factory=dict)

    @field_validator("document", "server")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        return checked_url(value, places=False) if value is not None and "://" in value else value

    @field_validator("headers_from")
    @classmethod
    def _free(cls, value: HeadersFrom) -> HeadersFrom:
        return checked_headers(value)


class TaskCall(Part):
    """A Celery task of somebody else's worker, on the deployment's broker; its result comes through `STATE_URL`."""

    name: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,200}$")]
    queue: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,200}$")]

    @field_validator("queue")
    @classmethod
    def _not_ours(cls, value: str) -> str:
        if value.startswith("chatkit."):
            raise ValueError("queues that begin with chatkit. are those of the workers themselves")
        return value


class McpCall(Part):
    """Tools of an MCP server: streamable HTTP (`url`) or a program that speaks it on its standard streams."""

    url: str | None = None
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    tools: Annotated[tuple[ToolName, ...], Field(min_length=1)]
    headers_from: HeadersFrom = Field(default_factory=dict)
    environment: tuple[VariableName, ...] = ()
    """Variables that the program gets of our environment; it gets no other but PATH and its like."""

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        return checked_url(value, places=False) if value is not None else None

    @field_validator("headers_from")
    @classmethod
    def _free(cls, value: HeadersFrom) -> HeadersFrom:
        return checked_headers(value)

    @model_validator(mode="after")
    def _one_of_both(self) -> "McpCall":
        if (self.url is None) == (self.command is None):
            raise ValueError("give either url or command")
        return self


Kind = HttpCall | OpenApiCall | TaskCall | McpCall


class CircuitNumbers(Part):
    """After so many failed calls in a row none is made for a while; then one tries."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    open_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0


class Backend(Part):
    """One service. `timeout` is in seconds, of each attempt.

    `retry`: `safe` changes nothing and may be asked again; `idempotent` honours the `Idempotency-Key`; `never` must not
    be repeated: what became of a call without an answer is for people to find out.
    """

    description: Annotated[str, Field(min_length=1, max_length=1000)]
    http: HttpCall | None = None
    openapi: OpenApiCall | None = None
    task: TaskCall | None = None
    mcp: McpCall | None = None
    parameters: dict[str, Any] = Field(default_factory=lambda: dict(NO_ARGUMENTS))
    timeout: Annotated[float, Field(gt=0, le=120)] = 10.0
    retry: Literal["safe", "idempotent", "never"] = "never"
    circuit: CircuitNumbers = CircuitNumbers()
    tenants: Annotated[tuple[str, ...], Field(min_length=1)]
    approval: bool = False
    max_result_bytes: Annotated[int, Field(ge=64, le=262_144)] = 8192

    @property
    def kind(self) -> Kind:
        """The one way in which it is called."""
        kinds: tuple[Kind | None, ...] = (self.http, self.openapi, self.task, self.mcp)
        return next(kind for kind in kinds if kind is not None)

    def serves(self, tenant: str) -> bool:
        """Whether the agents of a tenant may call it."""
        return "*" in self.tenants or tenant in self.tenants

    @field_validator("parameters")
    @classmethod
    def _schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Arguments that are not declared are refused, unless the schema itself speaks of them."""
        check_schema(value)
        return {"additionalProperties": False, **value}

    @model_validator(mode="after")
    def _whole(self) -> "Backend":
        if sum(kind is not None for kind in (self.http, self.openapi, self.task, self.mcp)) != 1:
            raise ValueError("give exactly one of http, openapi, task and mcp")
        if (self.openapi or self.mcp) and "parameters" in self.model_fields_set:
            raise ValueError("parameters: an OpenAPI operation and an MCP server say theirs themselves; leave them out")
        if self.http is not None:
            _check_places(self.http, self.parameters)
        return self


BackendName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""It is the name of the tool that the model sees."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise ValueError unless it is a JSON schema (2020-12) of an object."""
    from jsonschema import Draft202012Validator, SchemaError  # deployments without backends need not load it

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "the whole"
        raise ValueError(f"no JSON schema ({place}: {error.message[:120]})") from None
    if schema.get("type") != "object":
        raise ValueError('the schema must be that of an object: "type": "object"')


def checked_url(url: str, *, places: bool = True) -> str:
    """The URL of a service: https, or http on this machine alone; only its path may have places.

    Raises:
        ValueError: it is not so. The text holds nothing of the URL but its host.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("its host and port cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("not a URL with https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password may stand in it; put the header's value into a variable (headers_from)")
    if parts.fragment or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise ValueError("no fragment, white space or backslash may stand in it")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"{host} is not on this machine, so its scheme must be https")
    rest = PLACE.sub("", parts.path) if places else parts.path
    if "{" in parts.netloc + parts.query + rest or "}" in parts.netloc + parts.query + rest:
        raise ValueError("places such as {order} may stand in its path alone")
    return url


def checked_headers(headers: HeadersFrom) -> HeadersFrom:
    """Raise ValueError where a header is one that is made here."""
    for name in headers:
        if name.lower() in OWN_HEADERS:
            raise ValueError(f"{name} is set for every call; another header must carry this")
    return headers


def _check_places(call: HttpCall, schema: Mapping[str, Any]) -> None:
    declared, required = schema.get("properties", {}), schema.get("required", [])
    for name in sorted(call.places | set(call.query)):
        if name not in declared:
            raise ValueError(f'"{name}" of the URL or the query is not among the properties of parameters')
    for name in sorted(call.places - set(required)):
        raise ValueError(f'"{name}" fills a place of the URL, so it must be among "required" of parameters')
