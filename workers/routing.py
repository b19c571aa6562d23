"""Routing, as data: which queue wakes an event, which agent or handler answers it, which handoffs change queues.

Pure: the same event always gets the same route. The queue is decided when the event is accepted, the rest when it runs.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import filter as filter_names
from fnmatch import fnmatchcase
from typing import Any

from schemas.chatkit import STREAMING_REQUESTS
from schemas.events import PREFIX, Event
from workers.errors import SettingsError
from workers.setting_types import RouteRule, Routes

QUEUE_INGEST = "chatkit.events"
QUEUE_INTERACTIVE = "chatkit.interactive"
QUEUE_BACKGROUND = "chatkit.background"

AGENTS = ("integration", "ui_coordination", "service_orchestrator")
"""The short names of the project's own agents."""

ANSWERED = STREAMING_REQUESTS | {"threads.sync_custom_action"}
"""What an agent or a handler may answer. Rules that name one pass over everything else."""


def agent_queue(name: str) -> str:
    """The queue of an agent, by its short name."""
    return f"chatkit.agent.{name}"


def default_queue(event: Event) -> str:
    """The queue that wakes the event's lane where no rule says otherwise."""
    return QUEUE_BACKGROUND if event.priority == "background" or not event.needs_turn else QUEUE_INTERACTIVE


@dataclass(frozen=True, slots=True)
class Route:
    """Where an event goes; None: as without a rule. `agent` is a short name."""

    agent: str | None = None
    queue: str | None = None
    handler: str | None = None


NOWHERE = Route()


class Router:
    """The rules of a deployment, with the names that they may use."""

    def __init__(self, routes: Routes, *, agents: Sequence[str], handlers: Iterable[str] = ()) -> None:
        """`agents` are the short names of all agents, `handlers` the names of those that plug-ins have added.

        Raises:
            SettingsError: a rule names what there is not.
        """
        self.wakers = (QUEUE_INTERACTIVE, QUEUE_BACKGROUND, *map(agent_queue, agents))
        """The queues that wake events."""
        self.queues = (QUEUE_INGEST, *self.wakers)
        """Every queue that a worker consumes unless `-Q` says otherwise."""
        self._rules = [_Rule.of(rule) for rule in routes.rules]
        known = {"agent": agents, "queue": self.wakers, "handler": tuple(handlers)}
        for number, rule in enumerate(routes.rules):
            if (rule.agent or rule.handler) and not filter_names(ANSWERED, rule.type):
                what = "agent and handler are for requests that are answered, such as threads.create"
                raise SettingsError(f'CHATKIT_ROUTES: rules.{number}.type: "{rule.type}" has no answer; {what}')
            for kind, names in known.items():
                _check(getattr(rule, kind), names, f"rules.{number}.{kind}", kind)
        for name in routes.handoffs:
            _check(name if name != "*" else None, agents, "handoffs", "agent")
        ways = {name: routes.handoffs.get(name, routes.handoffs.get("*", "process")) for name in agents}
        self.handoff_queues = {name: agent_queue(name) for name, way in ways.items() if way == "queue"}
        """Of the agents, by short name, that a handoff reaches in a queue of their own."""

    def route(self, event: Event) -> Route:
        """The first rule that fits."""
        return next((rule.route for rule in self._rules if rule.fits(event)), NOWHERE)

    def queue_of(self, event: Event) -> str:
        """The queue that wakes the event's lane."""
        return (self.route(event).queue if self._rules else None) or default_queue(event)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule, ready to be asked."""

    type_: str
    data: Mapping[tuple[str, ...], str]
    route: Route

    @classmethod
    def of(cls, rule: RouteRule) -> "_Rule":
        data = {tuple(path.split(".")): pattern for path, pattern in rule.data.items()}
        return cls(rule.type, data, Route(rule.agent, rule.queue, rule.handler))

    def fits(self, event: Event) -> bool:
        type_ = event.type.removeprefix(PREFIX)
        if not fnmatchcase(type_, self.type_):
            return False
        if (self.route.agent or self.route.handler) and type_ not in ANSWERED:
            return False
        return all(_matches(event.data, path, pattern) for path, pattern in self.data.items())


def _matches(data: Mapping[str, Any], path: Sequence[str], pattern: str) -> bool:
    """Whether there is something at the path, and its text fits: numbers, true and false as JSON writes them."""
    found: Any = data
    for name in path:
        found = _step(found, name)
    if found is None or isinstance(found, dict | list):
        return False
    return fnmatchcase(found if isinstance(found, str) else json.dumps(found), pattern)


def _step(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return value[int(name)] if name.isdecimal() and int(name) < len(value) else None
    return value.get(name) if isinstance(value, dict) else None


def _check(name: str | None, known: Sequence[str], place: str, kind: str) -> None:
    if name is None or name in known:
        return
    [*nearest] = get_close_matches(name, known, n=1)
    there_are = f"there are {', '.join(known)}" if known else "no plug-in has added any"
    hint = f"did you mean {nearest[0]}?" if nearest else there_are
    raise SettingsError(f'CHATKIT_ROUTES: {place}: "{name}" is no {kind}; {hint}')
