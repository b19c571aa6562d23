"""The shapes of the settings that are JSON, and the words for what they take."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.debounce import LONGEST_SECONDS
from schemas.double_text import MODES


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a setting takes, in the words of its error line. Numbers say it by their bounds."""

    text: str


POLICIES_FORM = (
    '{"threads.create": {"max_attempts": 3, "backoff_base": 1, "backoff_cap": 60, "deadline": 600}, "*": {…}}, '
    "or the path of a file that holds it; event types as in `chatkit-workers schema`, `*` for all others"
)
FILTER_FORM = '{"allow": {"type": […], "source": […], "tenant": […]}, "deny": {…}}, or the path of a file that holds it'


ACTIONS_FORM = (
    '{"highlight": {"type": "object", "required": ["target"]}, …}: action type and JSON Schema of its payload, '
    "or the path of a file that holds it"
)


FilterAttribute = Literal["type", "source", "tenant"]


class EventFilter(BaseModel):
    """Which events to take, by shell-style patterns on `type`, `source` and `tenant`; deny wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: dict[FilterAttribute, list[str]] = Field(default_factory=dict)
    deny: dict[FilterAttribute, list[str]] = Field(default_factory=dict)


class TaskPolicy(BaseModel):
    """The numbers of one event type; what is left out is decided by a more general entry.

    `backoff_base`, `backoff_cap`, `deadline` are in seconds; `deadline` counts from the acceptance of an event that has
    no `expirytime`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    backoff_base: Annotated[float, Field(gt=0, le=3600)] | None = None
    backoff_cap: Annotated[float, Field(gt=0, le=86_400)] | None = None
    deadline: Annotated[float, Field(gt=0)] | None = None


DOUBLE_TEXT_FORM = (
    f'one of {MODES}; or {{"threads.add_user_message": "interrupt", "*": "enqueue"}}, '
    "or the path of a file that holds it"
)

DEBOUNCE_FORM = (
    f'seconds from 0 to {LONGEST_SECONDS:g}; or {{"threads.add_user_message": 2, "*": 0}}, '
    "or the path of a file that holds it"
)

LIMITS_FORM = (
    '{"models": {"gpt-4.1": {"rpm": 1200, "tpm": 2000000, "concurrency": 50}, "*": {…}}, "tenants": {"acme": '
    '{"weight": 3, "rpm": 600}, "*": {…}}, "users": {"*": {"rpm": 60}}}, or the path of a file that holds it'
)

Rate = Annotated[float, Field(gt=0, le=1e12)]
"""Per minute."""


class ModelLimits(BaseModel):
    """Requests and tokens per minute, and calls at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Rate | None = None
    tpm: Rate | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None


class TenantLimits(BaseModel):
    """Turns per minute, and the share of what all tenants get while they wait."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[float, Field(gt=0, le=1e6)] = 1
    rpm: Rate | None = None


class UserLimits(BaseModel):
    """Turns per minute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Rate | None = None


class Limits(BaseModel):
    """What may be used, by name; `*` is every name without an entry of its own. What is left out is unlimited."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, ModelLimits] = Field(default_factory=dict)
    tenants: dict[str, TenantLimits] = Field(default_factory=dict)
    users: dict[str, UserLimits] = Field(default_factory=dict)


ROUTES_FORM = (
    '{"rules": [{"type": "threads.custom_action", "data": {"params.action.type": "order.*"}, "agent": '
    '"service_orchestrator", "queue": "chatkit.background"}, {"type": …, "handler": …}], "handoffs": '
    '{"service_orchestrator": "queue", "*": "process"}}, or the path of a file that holds it'
)


class RouteRule(BaseModel):
    """What to do with the events that it fits, by shell-style patterns on the type and on values of `data`, which are
    named by dotted paths (`params.action.type`, `params.input.content.0.text`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = "*"
    data: dict[str, str] = Field(default_factory=dict)
    agent: str | None = None
    queue: str | None = None
    handler: str | None = None

    @model_validator(mode="after")
    def _goes_somewhere(self) -> "RouteRule":
        if self.agent is None and self.queue is None and self.handler is None:
            raise ValueError("give at least one of agent, queue and handler")
        if self.agent is not None and self.handler is not None:
            raise ValueError("give either agent or handler")
        return self


class Routes(BaseModel):
    """Rules, of which the first that fits an event decides; and how a handoff reaches an agent: in the process that
    runs, or through the agent's own queue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: list[RouteRule] = Field(default_factory=list)
    handoffs: dict[str, Literal["process", "queue"]] = Field(default_factory=dict)
