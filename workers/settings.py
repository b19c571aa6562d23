"""All settings: one frozen object, read once from the environment (prefix `CHATKIT_`)."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.events import MAX_EVENT_BYTES
from workers.errors import SettingsError

ENV_PREFIX = "CHATKIT_"


class EventFilter(BaseModel):
    """Which events to take, by shell-style patterns on `type`, `source` and `tenant`; deny wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: dict[str, list[str]] = Field(default_factory=dict)
    deny: dict[str, list[str]] = Field(default_factory=dict)


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

    broker_url: Annotated[str, Field(pattern=r"^(rediss?|amqps?)://")] = "redis://127.0.0.1:6379/0"
    state_url: Annotated[str, Field(pattern=r"^(rediss?|rediss?\+cluster)://")] = "redis://127.0.0.1:6379/0"
    database_url: Annotated[str, Field(pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://")] = (
        "sqlite+aiosqlite:///chatkit.db"
    )
    model: Annotated[str, Field(min_length=1)] = "gpt-4.1"
    fallback_model: str | None = None
    secret_key: SecretStr | None = None
    signing_keys: SecretStr | None = None
    api_keys: SecretStr = SecretStr("")
    client_secret_ttl: Annotated[int, Field(ge=30, le=86_400)] = 600
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    backoff_base: Annotated[float, Field(gt=0, le=3600)] = 1.0
    backoff_cap: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    lease_ttl: Annotated[float, Field(ge=0.2, le=600)] = 10.0
    limits: Annotated[dict[str, Any], NoDecode] = Field(default_factory=dict)
    event_filter: Annotated[EventFilter, NoDecode] = EventFilter()
    retention: Annotated[int, Field(ge=10)] = 86_400
    max_waiting_per_lane: Annotated[int, Field(ge=1)] = 1_000
    max_waiting: Annotated[int, Field(ge=1)] = 200_000
    max_event_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = MAX_EVENT_BYTES
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    turn_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    shards: Annotated[int, Field(ge=1, le=1024)] = 8
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = "ck"
    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    playground: bool = True
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 200

    openai_api_key: SecretStr | None = Field(default=None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    openai_base_url: str | None = Field(default=None, validation_alias=AliasChoices("OPENAI_BASE_URL"))
    sentry_dsn: SecretStr | None = Field(default=None, validation_alias=AliasChoices("SENTRY_DSN"))

    @field_validator("limits", "event_filter", mode="before")
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
        return frozenset(key.strip() for key in self.api_keys.get_secret_value().split(",") if key.strip())

    @property
    def scripted(self) -> bool:
        """Whether the scripted model answers, because no provider is configured."""
        return self.openai_api_key is None and self.openai_base_url is None


def load_settings() -> Settings:
    """Read the settings from the environment. Empty variables count as unset.

    Raises:
        SettingsError: one line with the variable, what is wrong and what is accepted.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_first_problem(error)) from None


def variable_of(field: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return ENV_PREFIX + field.upper()


def _first_problem(error: ValidationError) -> str:
    detail = error.errors(include_input=False, include_url=False)[0]
    field = str(detail["loc"][0]) if detail["loc"] else "settings"
    variable = variable_of(field) if field in Settings.model_fields else field
    return f"{variable}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
