"""What a deployment lets through: models, tool choices, and actions with the payloads that their schemas take.

It is asked where an event comes in, by HTTP or by a queue, and by the agents' tools before they send an action.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from schemas.actions import APPROVAL_DECIDE
from schemas.catalogue import ACTION_SEND, PREFIX
from schemas.errors import FieldProblem, InvalidEventError
from schemas.events import Event
from schemas.wording import bounded, showable
from workers.settings import Settings

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

MESSAGES = frozenset({f"{PREFIX}threads.create", f"{PREFIX}threads.add_user_message"})
ACTIONS = frozenset({f"{PREFIX}threads.custom_action", f"{PREFIX}threads.sync_custom_action"})

SHOWN_NAMES = 10
SHOWN_RULE = 200
"""Characters of a schema's rule that an error repeats."""

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class ActionRules:
    """Action type -> JSON Schema (draft 2020-12) of its payload. None: any action, with any payload."""

    schemas: Mapping[str, Schema] | None = None

    def problems(
        self, type_: str, payload: Any, *, type_field: str = "type", payload_field: str = "payload"
    ) -> list[FieldProblem]:
        """What is wrong with an action; nothing of the action itself is repeated. A payload of null is an empty one."""
        if self.schemas is None:
            return []
        if type_ not in self.schemas:
            return [FieldProblem(type_field, _not_listed(self.schemas, "CHATKIT_ACTIONS"))]
        from referencing.exceptions import Unresolvable

        try:
            errors = list(self._validators[type_].iter_errors({} if payload is None else payload))
        except Unresolvable:
            return [FieldProblem(payload_field, "cannot be checked: CHATKIT_ACTIONS refers to a schema outside of it")]
        return [_payload_problem(error, payload_field) for error in errors]

    @cached_property
    def _validators(self) -> dict[str, "Draft202012Validator"]:
        from jsonschema import Draft202012Validator  # a tenth of a second, for those who have schemas
        from referencing import Registry

        registry: Registry[Any] = Registry()  # an empty one: nothing is fetched
        return {name: Draft202012Validator(schema, registry=registry) for name, schema in (self.schemas or {}).items()}


ANY_ACTION = ActionRules()


@dataclass(frozen=True, slots=True)
class AllowLists:
    """The lists of a deployment."""

    models: frozenset[str]
    tools: frozenset[str]
    actions: ActionRules = ANY_ACTION

    @classmethod
    def of(cls, settings: Settings) -> "AllowLists":
        """As the settings have them."""
        return cls(settings.choosable_models, settings.choosable_tools, ActionRules(settings.actions))

    def check(self, event: Event) -> None:
        """Raise InvalidEventError for an event that asks for what is not on a list."""
        if problems := self._problems(event):
            raise InvalidEventError(bounded(problems))

    def _problems(self, event: Event) -> list[FieldProblem]:
        if event.type in MESSAGES:
            return self._choices(options_of(event))
        if event.type in ACTIONS:
            action, at = event.data["params"]["action"], "data.params.action"
            if action["type"] == APPROVAL_DECIDE:
                return []  # always allowed: whoever decides looks at its payload
            return self._action(action["type"], action.get("payload"), f"{at}.type", f"{at}.payload")
        if event.type == ACTION_SEND and (effect := event.data.get("effect")):
            return self._action(effect["name"], effect.get("data"), "data.effect.name", "data.effect.data")
        return []

    def _choices(self, options: Mapping[str, Any]) -> list[FieldProblem]:
        model, tool = options.get("model"), options.get("tool_choice")
        at, problems = "data.params.input.inference_options", list[FieldProblem]()
        if model is not None and model not in self.models:
            problems.append(FieldProblem(f"{at}.model", _not_listed(self.models, "CHATKIT_ALLOWED_MODELS")))
        if tool is not None and tool["id"] not in self.tools:
            problems.append(FieldProblem(f"{at}.tool_choice.id", _not_listed(self.tools, "CHATKIT_ALLOWED_TOOLS")))
        return problems

    def _action(self, type_: str, payload: Any, type_field: str, payload_field: str) -> list[FieldProblem]:
        return self.actions.problems(type_, payload, type_field=type_field, payload_field=payload_field)


def options_of(event: Event) -> Mapping[str, Any]:
    """What a user's message asks for: `model` and `tool_choice`, where it does."""
    if event.type not in MESSAGES:
        return {}
    options: Mapping[str, Any] | None = event.data["params"]["input"].get("inference_options")
    return options or {}


def _not_listed(names: Mapping[str, Any] | frozenset[str], setting: str) -> str:
    allowed = sorted(names)
    listed = ", ".join(allowed[:SHOWN_NAMES]) + (", …" if len(allowed) > SHOWN_NAMES else "")
    return f"is not allowed here; {setting} allows {listed or 'none'}"


def _payload_problem(error: "ValidationError", field: str) -> FieldProblem:
    """Our own words: those of the validator hold the payload."""
    path = [str(part) if isinstance(part, int) else showable(part) for part in error.absolute_path]
    rule = json.dumps(error.validator_value, default=str)
    shown = rule if len(rule) <= SHOWN_RULE else f"{rule[:SHOWN_RULE]}…"
    return FieldProblem(".".join([field, *path]), f"does not fit the action's schema ({error.validator}: {shown})")
