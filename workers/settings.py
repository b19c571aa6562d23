"""All settings: one frozen object, read once from the environment (prefix `CHATKIT_`)."""

import json
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from fnmatch import filter as filter_names
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.chatkit import STREAMING_REQUESTS
from schemas.debounce import DEBOUNCED, LONGEST_SECONDS
from schemas.double_text import DoubleText
from schemas.events import MAX_EVENT_BYTES, event_types
from schemas.events import PREFIX as TYPE_PREFIX
from workers.backend_types import BACKENDS_FORM, Backend, BackendName
from workers.errors import SettingsError
from workers.failpoints import VARIABLE as FAILPOINTS
from workers.setting_types import (
    ACTIONS_FORM,
    DEBOUNCE_FORM,
    DOUBLE_TEXT_FORM,
    FILTER_FORM,
    LIMITS_FORM,
    POLICIES_FORM,
    ROUTES_FORM,
    Accepts,
    EventFilter,
    Limits,
    Routes,
    TaskPolicy,
)
from workers.transport import HTTPS_FORM, is_safe

log = logging.getLogger(__name__)

Setting = TypeVar("Setting")

ENV_PREFIX = "CHATKIT_"
MASK = "********"
NAMED = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""Something in a module."""
ORIGIN = r"https://[A-Za-z0-9.-]+(:\d{1,5})?"
DOMAIN = r"(\*|(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*)"
DOMAINS = rf"^\s*({DOMAIN}(\s*,\s*{DOMAIN})*)?\s*$"
DOMAINS_FORM = "names of servers with commas (`cdn.example.com, *.example.org`), or `*` for any"
NAME_FORM = "1 to 64 letters, digits, dots, dashes or underscores"
OTLP_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
MAX_SHOWN = 40
"""Characters of a wrong value that its error line repeats."""


class Settings(BaseSettings):
    """Every setting with its default. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    broker_url: Annotated[
        str, Field(pattern=r"^(rediss?|amqps?)://."), Accepts("redis://, rediss://, amqp:// or amqps://")
    ] = "redis://127.0.0.1:6379/0"
    state_url: Annotated[
        str,
        Field(pattern=r"^rediss?(\+cluster)?://."),
        Accepts("redis://, rediss://, redis+cluster:// or rediss+cluster://"),
    ] = "redis://127.0.0.1:6379/0"
    database_url: Annotated[
        str,
        Field(pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://."),
        Accepts("sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER@HOST/NAME"),
    ] = "sqlite+aiosqlite:///chatkit.db"
    model: str = "gpt-4.1"
    services: Annotated[str | None, Field(pattern=rf"^{NAMED}$"), Accepts("module:name of what makes the services")] = (
        None
    )
    plugins: Annotated[
        str,
        Field(pattern=rf"^{NAMED}(\s*,\s*{NAMED})*$|^$"),
        Accepts("module:function, more than one with commas"),
    ] = ""
    routes: Annotated[Routes, NoDecode, Accepts(ROUTES_FORM)] = Routes()
    backends: Annotated[dict[BackendName, Backend], NoDecode, Accepts(BACKENDS_FORM)] = Field(default_factory=dict)
    fallback_model: str | None = None
    allowed_models: str = ""
    allowed_tools: str = ""
    actions: Annotated[dict[str, dict[str, Any]] | None, NoDecode, Accepts(ACTIONS_FORM)] = None
    secret_key: SecretStr | None = None
    signing_keys: SecretStr | None = None
    api_keys: SecretStr = SecretStr("")
    client_secret_ttl: Annotated[int, Field(ge=30, le=86_400)] = 600
    session_ttl: Annotated[int, Field(ge=60, le=31_536_000)] = 2_592_000
    session_idle_ttl: Annotated[int, Field(ge=60, le=31_536_000)] = 604_800
    refresh_grace: Annotated[float, Field(ge=0, le=60)] = 5.0
    cookie_origins: Annotated[
        str,
        Field(pattern=rf"^{ORIGIN}(\s*,\s*{ORIGIN})*$|^$"),
        Accepts("https://HOST[:PORT], more than one with commas"),
    ] = ""
    hosted_workflow: str | None = None
    context_tokens: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000
    compaction: Annotated[bool, Accepts("1 or 0, true or false")] = True
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    backoff_base: Annotated[float, Field(gt=0, le=3600)] = 1.0
    backoff_cap: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    lease_ttl: Annotated[float, Field(ge=0.2, le=600)] = 10.0
    limits: Annotated[Limits, NoDecode, Accepts(LIMITS_FORM)] = Limits()
    event_filter: Annotated[EventFilter, NoDecode, Accepts(FILTER_FORM)] = EventFilter()
    task_policies: Annotated[dict[str, TaskPolicy], NoDecode, Accepts(POLICIES_FORM)] = Field(default_factory=dict)
    double_text: Annotated[dict[str, DoubleText], NoDecode, Accepts(DOUBLE_TEXT_FORM)] = Field(
        default_factory=lambda: {"*": DoubleText.ENQUEUE}
    )
    debounce: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=LONGEST_SECONDS)]], NoDecode, Accepts(DEBOUNCE_FORM)
    ] = Field(default_factory=lambda: {"*": 0.0})
    quarantine_bytes: Annotated[int, Field(ge=256 * 1024 * 1024)] = 1024 * 1024 * 1024
    flood_ratio: Annotated[float, Field(gt=0, le=2)] = 0.5
    flood_least: Annotated[int, Field(ge=1)] = 20
    retention: Annotated[int, Field(ge=10)] = 86_400
    max_waiting_per_lane: Annotated[int, Field(ge=1)] = 1_000
    max_waiting: Annotated[int, Field(ge=1)] = 200_000
    max_event_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = MAX_EVENT_BYTES
    approval_ttl: Annotated[int, Field(ge=60, le=31_536_000)] = 604_800
    disconnect_grace: Annotated[
        float | None, Field(ge=1, le=86_400), Accepts("seconds from 1 to 86400, or nothing")
    ] = None
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    turn_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    shards: Annotated[int, Field(ge=1, le=1024)] = 8
    prefix: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$"), Accepts("1 to 32 letters, digits, dots, dashes or underscores")
    ] = "ck"
    image_domains: Annotated[str, Field(pattern=DOMAINS), Accepts(DOMAINS_FORM)] = ""
    link_domains: Annotated[str, Field(pattern=DOMAINS), Accepts(DOMAINS_FORM)] = "*"
    log_level: Annotated[
        str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$"), Accepts("DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"
    user_rate: Annotated[int, Field(ge=0, le=1_000_000)] = 1200
    public_url: Annotated[
        str | None, Field(pattern=r"^https?://[A-Za-z0-9.-]+(:\d{1,5})?/?$"), Accepts(HTTPS_FORM + ", without a path")
    ] = None
    scale_min: Annotated[int, Field(ge=1, le=10_000)] = 1
    scale_max: Annotated[int, Field(ge=1, le=10_000, validate_default=True)] = 10
    scale_target_age: Annotated[float, Field(gt=0, le=3600)] = 10.0
    scale_spare: Annotated[float, Field(ge=0, le=100)] = 1.5
    scale_idle: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    playground: Annotated[bool, Accepts("1 or 0, true or false")] = True
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 200

    openai_api_key: SecretStr | None = Field(default=None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    openai_base_url: Annotated[str | None, Accepts(HTTPS_FORM)] = Field(
        default=None, validation_alias=AliasChoices("OPENAI_BASE_URL")
    )
    environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$"), Accepts(NAME_FORM)] = "production"
    sentry_traces: Annotated[float, Field(ge=0, le=1)] = 0.0
    sentry_dsn: Annotated[SecretStr | None, Accepts(HTTPS_FORM)] = Field(
        default=None, validation_alias=AliasChoices("SENTRY_DSN")
    )

    otlp_endpoint: Annotated[str | None, Accepts(HTTPS_FORM)] = Field(
        default=None, validation_alias=AliasChoices("CHATKIT_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )

    @field_validator("broker_url", "state_url", "database_url")
    @classmethod
    def _readable(cls, value: str) -> str:
        """Whoever opens the URL would fail in words of its own, which may repeat a password with a slash in it."""
        try:
            urlsplit(value).port  # noqa: B018  # raises
        except ValueError:
            raise ValueError("its host and port cannot be read (a password may have to be percent-encoded)") from None
        return value

    @field_validator("openai_base_url", "sentry_dsn", "public_url", "otlp_endpoint")
    @classmethod
    def _encrypted(cls, value: Any) -> Any:
        """What goes there is conversations, errors and tokens."""
        url = value.get_secret_value() if isinstance(value, SecretStr) else value
        try:
            safe = url is None or is_safe(url)
        except ValueError:
            safe = False
        if not safe:
            raise ValueError("outside of this machine only HTTPS is taken")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _with_its_packages(cls, value: str | None) -> str | None:
        """An extra: most deployments export nothing."""
        if value is not None:
            try:
                missing = not all(map(find_spec, OTLP_PACKAGES))
            except ModuleNotFoundError:
                missing = True
            if missing:
                raise ValueError("the extra `otel` is not installed (pip install 'chatkit-workers[otel]'); with it")
        return value

    @field_validator("scale_max")
    @classmethod
    def _not_below_the_least(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("scale_min", value)
        if value < least:
            raise ValueError(f"{value} is less than CHATKIT_SCALE_MIN, which is {least}")
        return value

    @field_validator("double_text")
    @classmethod
    def _turns_only(cls, value: dict[str, DoubleText]) -> dict[str, DoubleText]:
        """Event types, which may be written without their prefix, that may meet a turn of their conversation."""
        return _by_type(value, STREAMING_REQUESTS - {"threads.create"}, "turn that may meet another")

    @field_validator("debounce")
    @classmethod
    def _messages_only(cls, value: dict[str, float]) -> dict[str, float]:
        """Event types, which may be written without their prefix, that may begin a burst."""
        return _by_type(value, DEBOUNCED, "message")

    @field_validator(
        "limits",
        "event_filter",
        "task_policies",
        "actions",
        "backends",
        "routes",
        "double_text",
        "debounce",
        mode="before",
    )
    @classmethod
    def _json_or_file(cls, value: Any) -> Any:
        """A setting that is a JSON object, or the path of a file that holds one."""
        if not isinstance(value, str):
            return value
        text = value.strip()
        if not text.startswith("{"):
            try:
                text = Path(text).read_text(encoding="utf-8")
            except OSError as error:
                raise ValueError(f"neither a JSON object nor a readable file ({error.strerror})") from None
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from None

    @field_validator("double_text", mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        """The mode of every type may be written as it is. (The last of such validators is asked first.)"""
        return {"*": value.strip()} if isinstance(value, str) and value.strip() in set(DoubleText) else value

    @field_validator("debounce", mode="before")
    @classmethod
    def _seconds_for_all(cls, value: Any) -> Any:
        """The quiet time of every type may be written as it is."""
        try:
            return {"*": float(value)} if isinstance(value, str) else value
        except ValueError:
            return value

    @field_validator("task_policies")
    @classmethod
    def _known_types(cls, value: dict[str, TaskPolicy]) -> dict[str, TaskPolicy]:
        """Event types, which may be written without their prefix."""
        policies = {name.removeprefix(TYPE_PREFIX): policy for name, policy in value.items()}
        known = {type_.removeprefix(TYPE_PREFIX) for type_ in event_types()} | {"*"}
        for name in policies.keys() - known:
            nearest = get_close_matches(name, known, n=1)
            raise ValueError(f'"{name}" is no event type' + (f"; did you mean {nearest[0]}?" if nearest else ""))
        return policies

    @field_validator("actions")
    @classmethod
    def _real_schemas(cls, value: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]] | None:
        """A schema that is none would refuse every payload, or none, when it is too late."""
        if value:
            from jsonschema import Draft202012Validator, SchemaError

            for name, schema in value.items():
                try:
                    Draft202012Validator.check_schema(schema)
                except SchemaError as error:
                    place = ".".join(map(str, error.absolute_path))
                    raise ValueError(f'"{name}" has no JSON Schema{f" at {place}" if place else ""}') from None
        return value

    @field_validator("routes")
    @classmethod
    def _matching_types(cls, value: Routes) -> Routes:
        """Patterns of event types, which may be written without their prefix; each has to match something."""
        known = sorted(type_.removeprefix(TYPE_PREFIX) for type_ in event_types())
        rules = [rule.model_copy(update={"type": rule.type.removeprefix(TYPE_PREFIX)}) for rule in value.rules]
        for number, rule in enumerate(rules):
            if not filter_names(known, rule.type):
                nearest = get_close_matches(rule.type, known, n=1)
                hint = f"; did you mean {nearest[0]}?" if nearest else ""
                raise ValueError(f'rules.{number}.type: "{rule.type}" matches no event type{hint}')
        return value.model_copy(update={"rules": rules})

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_ttl)

    @property
    def service_keys(self) -> frozenset[str]:
        """The service keys that callers may present."""
        return _names(self.api_keys.get_secret_value())

    @property
    def choosable_models(self) -> frozenset[str]:
        """The models that a message may ask for."""
        return _names(self.allowed_models) or frozenset(filter(None, [self.model, self.fallback_model]))

    @property
    def choosable_tools(self) -> frozenset[str]:
        """The tools that a message may ask for."""
        return _names(self.allowed_tools)

    @property
    def page_origins(self) -> frozenset[str]:
        """Where the pages come from that may keep their refresh token in a cookie; empty: none may."""
        return _names(self.cookie_origins)

    @property
    def sentry_options(self) -> dict[str, Any]:
        """For `init_sentry`."""
        dsn = self.sentry_dsn.get_secret_value() if self.sentry_dsn else None
        return {"dsn": dsn, "environment": self.environment, "traces": self.sentry_traces}

    @property
    def tracing_options(self) -> dict[str, Any]:
        """For `init_tracing`."""
        return {"endpoint": self.otlp_endpoint, "environment": self.environment}

    @property
    def scripted(self) -> bool:
        """Whether the scripted model answers, because no provider is configured."""
        return self.openai_api_key is None and self.openai_base_url is None

    @property
    def key_fingerprint(self) -> str:
        """Says whether the provider's key is another than before, and nothing else about it."""
        key = self.openai_api_key.get_secret_value() if self.openai_api_key else ""
        return sha256(f"{self.openai_base_url} {key}".encode()).hexdigest()[:16]


def _by_type(value: Mapping[str, Setting], known: Collection[str], what: str) -> dict[str, Setting]:
    """What is set by event type, `*` for all others, with the types' prefix. Raises ValueError for another type."""
    named = {name.removeprefix(TYPE_PREFIX): one for name, one in value.items()}
    for name in named.keys() - set(known) - {"*"}:
        raise ValueError(f'"{name}" is no {what}; those are {", ".join(sorted(known))} and *')
    return {name if name == "*" else TYPE_PREFIX + name: one for name, one in named.items()}


def _names(text: str) -> frozenset[str]:
    """The names in a text with commas between them."""
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def load_settings() -> Settings:
    """Read the settings from the environment. Empty variables count as unset, unknown ones are warned of.

    Raises:
        SettingsError: a line for each wrong variable: what is wrong, and what is accepted.
    """
    for line in unknown_variables(os.environ):
        _warn_once(line)
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_problem_lines(error))) from None


def variable_of(field: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return ENV_PREFIX + field.upper()


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """A line for each variable that looks like a setting and is none, with the nearest known one."""
    known = {variable_of(field) for field in Settings.model_fields}
    lines = []
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known and name != FAILPOINTS:
            nearest = get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "`chatkit-workers config` lists them"
            lines.append(f"{name} is no setting and does nothing; {hint}")
    return lines


def masked_url(url: str) -> str:
    """The URL without its password (and without its query, which may hold one), for people to read."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    credentials = f"{name}:{MASK}" if colon else name
    return f"{parts.scheme}://{credentials}{at}{host}{parts.path}" + (f"?{MASK}" if parts.query else "")


@cache
def _warn_once(line: str) -> None:
    log.warning("%s", line)


def _problem_lines(error: ValidationError) -> list[str]:
    lines: dict[str, str] = {}
    for detail in error.errors(include_input=False, include_url=False):
        place, *path = [str(part) for part in detail["loc"]]
        field = next((name for name in Settings.model_fields if place in (name, variable_of(name))), place)
        lines.setdefault(field, f"{variable_of(field)}: {_problem(field, path, detail['type'], detail['msg'])}")
    return list(lines.values())


def _problem(field: str, path: list[str], kind: str, message: str) -> str:
    info = Settings.model_fields[field]
    said = message.removeprefix("Value error, ")
    said = f"{said[:1].lower()}{said[1:]}"
    if path:
        wrong = f"{'.'.join(path)}: {said}"
    else:
        wrong = said if kind == "value_error" else f"{_shown(field, info)} is not accepted"
    return f"{wrong}: use {_accepted(info)}"


def _shown(field: str, info: FieldInfo) -> str:
    """The wrong value as far as it may be shown: of a URL the scheme, of a secret nothing."""
    value = os.environ.get(variable_of(field), "")
    if "Secret" in str(info.annotation):
        return "the value"
    if field.endswith("_url"):
        scheme, separator, _ = value.partition("://")
        return f'"{scheme}://…"' if separator else "a value without a scheme"
    return f'"{value[:MAX_SHOWN]}{"…" if len(value) > MAX_SHOWN else ""}"'


def _accepted(info: FieldInfo) -> str:
    for mark in info.metadata:
        if isinstance(mark, Accepts):
            return mark.text
    low = next(
        (f"from {m.ge}" if isinstance(m, Ge) else f"above {m.gt}" for m in info.metadata if isinstance(m, Ge | Gt)), ""
    )
    high = next((f"up to {m.le}" for m in info.metadata if isinstance(m, Le)), "")
    kind = {int: "a whole number", float: "a number"}.get(info.annotation, "text")  # type: ignore[arg-type]  # None is not in it
    return " ".join(part for part in (kind, low, high) if part)
