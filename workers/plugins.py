"""Plug-ins: what users add without changing this package. Each is a function that is called once, at start-up.

They are named in `CHATKIT_PLUGINS` (`module:function`) or as entry points of the group `chatkit_workers.plugins`. Every
process of a deployment loads them: gateways decide by routes, which may name what a plug-in has added. Agents are
built, and handlers called, in workers only.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from workers.errors import SettingsError
from workers.routing import AGENTS, Router
from workers.settings import Settings

if TYPE_CHECKING:  # commands that only wake a lane need not wait seconds for the SDK
    from agents import Tool

    from workers.agents.ports import ServiceDirectory
    from workers.agents.team import AgentFactory
    from workers.chat.ports import ActionHandler, EventHandler, Transcriber
    from workers.policies.compose import Policy

GROUP = "chatkit_workers.plugins"
SHORT_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

Register = Callable[["Plugins"], object]


class Plugins:
    """What the plug-ins of a deployment have added. A plug-in is given this, and calls what it needs of it.

    A name that is taken, wrong or unknown is a `SettingsError`, which stops start-up.
    """

    def __init__(self) -> None:
        self.agents: dict[str, AgentFactory] = {}
        self.tools: dict[str, list[Tool]] = {}
        self.actions: dict[str, ActionHandler] = {}
        self.handlers: dict[str, EventHandler] = {}
        self.policies: list[Policy] = []
        self.transcriber: Transcriber | None = None
        self.services: Callable[[], ServiceDirectory] | None = None

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The short names of all agents, the project's own first."""
        return (*AGENTS, *self.agents)

    def add_agent(self, name: str, build: "AgentFactory") -> None:
        """Add an agent, to which all others can hand off, and it to them.

        Args:
            name: short, for routes; its queue is `chatkit.agent.<name>`.
            build: makes the agent on the model that it is given, once for each model of the deployment. Others know
                when to hand off to it by its `handoff_description`.
        """
        if not SHORT_NAME.fullmatch(name):
            raise SettingsError(f'agent "{name}": use lower-case letters, digits and underscores')
        if name in self.agent_names:
            raise _taken("agent", name)
        self.agents[name] = build

    def add_tools(self, agent: str, *tools: "Tool") -> None:
        """Give an agent more tools. `agent` is the short name of one of the project's or of a plug-in before."""
        if agent not in self.agent_names:
            raise SettingsError(f'there is no agent "{agent}"; there are {", ".join(self.agent_names)}')
        self.tools.setdefault(agent, []).extend(tools)

    def handle_action(self, type_: str, handler: "ActionHandler") -> None:
        """Let code answer the widget actions of one type; agents are not asked."""
        if type_ in self.actions:
            raise _taken("handler of action", type_)
        self.actions[type_] = handler

    def handle_events(self, name: str, handler: "EventHandler") -> None:
        """Let code answer the events that rules of `CHATKIT_ROUTES` send to this name; agents are not asked."""
        if name in self.handlers:
            raise _taken("handler", name)
        self.handlers[name] = handler

    def add_policy(self, policy: "Policy") -> None:
        """Put a policy around the runs of all events, right inside the filter: what it drops reserves nothing, and its
        own failures are dead letters. Events that run in a batch only meet it if it is a `Judge` as well."""
        self.policies.append(policy)

    def use_transcriber(self, transcriber: "Transcriber") -> None:
        """Turn speech into text."""
        if self.transcriber is not None:
            raise SettingsError("there is a transcriber already")
        self.transcriber = transcriber

    def use_services(self, build: "Callable[[], ServiceDirectory]") -> None:
        """Connect the service orchestrator, as `CHATKIT_SERVICES` does, which wins."""
        if self.services is not None:
            raise SettingsError("there are services already")
        self.services = build


@cache
def load_plugins(names: str) -> Plugins:
    """Call every plug-in, once in this process.

    Args:
        names: `module:function` of each, with commas between them; those that are installed as entry points follow.

    Raises:
        SettingsError: one of them cannot be loaded, or fails.
    """
    plugins = Plugins()
    for place, load, remedy in (*_named(names), *_installed()):
        try:
            register = load()
        except Exception as error:  # whatever a module of somebody else's does when it is imported
            raise SettingsError(f"{place} cannot be loaded ({type(error).__name__}: {error}): {remedy}") from error
        try:
            register(plugins)
        except SettingsError as error:
            raise SettingsError(f"{place}: {error}") from None
        except Exception as error:  # same
            raise SettingsError(
                f"{place} failed ({type(error).__name__}: {error}): correct it, or take it out"
            ) from error
    return plugins


def router_of(settings: Settings) -> Router:
    """The routes of a deployment.

    Raises:
        SettingsError: a rule names what there is not, or a plug-in cannot be loaded.
    """
    plugins = load_plugins(settings.plugins)
    return Router(settings.routes, agents=plugins.agent_names, handlers=plugins.handlers)


def _named(names: str) -> Iterator[tuple[str, Callable[[], Register], str]]:
    for name in filter(None, (part.strip() for part in names.split(","))):
        remedy = "is it on the Python path (PYTHONPATH), and spelled as in its module?"
        yield f"CHATKIT_PLUGINS: {name}", partial(_imported, name), remedy


def _imported(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _installed() -> Iterator[tuple[str, Callable[[], Any], str]]:
    for point in entry_points(group=GROUP):
        package = point.dist.name if point.dist is not None else "its package"
        yield f"entry point {point.name} ({point.value})", point.load, f"correct or uninstall {package}"


def _taken(kind: str, name: str) -> SettingsError:
    return SettingsError(f'{kind} "{name}" is there already; use another name')
