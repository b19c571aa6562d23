"""The agents and who hands off to whom."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from agents import Agent, FunctionTool, Handoff, Model, RunContextWrapper, Tool, handoff
from chatkit.agents import AgentContext

from schemas.chatkit import ProgressUpdateEvent
from workers.agents.backend_tools import backend_tools
from workers.agents.durable_tools import durable
from workers.agents.identities import keep_identity
from workers.agents.integration import build_integration_agent
from workers.agents.ports import PageAccess, ServiceDirectory
from workers.agents.relay import RelayedModel
from workers.agents.service_orchestrator import build_service_orchestrator_agent
from workers.agents.services import SampleServices
from workers.agents.ui_coordination import build_ui_coordination_agent
from workers.backends.guard import GuardedBackend
from workers.errors import SettingsError
from workers.routing import AGENTS

ChatAgent = Agent[AgentContext[Any]]

AgentFactory = Callable[[Model], ChatAgent]
"""Makes an agent on the model that it is given. Its handoffs are tied by the team."""

NO_MORE: Mapping[str, AgentFactory] = MappingProxyType({})
NO_TOOLS: Mapping[str, Sequence[Tool]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Team:
    """The agents of a deployment; the first one answers unless a handoff has said otherwise.

    `names`: the agents' names by their short ones, which routes use.
    """

    agents: tuple[ChatAgent, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Tie the agents together. A handoff sticks to the thread, so each must be able to pass the thread on."""
        for agent in self.agents:
            if not isinstance(agent.model, Model):
                raise TypeError(f"{agent.name}: give the agent a Model; one that is looked up by name is not relayed")
            agent.model = agent.model if isinstance(agent.model, RelayedModel) else RelayedModel(agent.model)
            agent.tools = [durable(tool) if isinstance(tool, FunctionTool) else tool for tool in agent.tools]
            agent.handoffs = [_visible_handoff(other) for other in self.agents if other is not agent]
        for agent in self.agents:
            keep_identity(agent)

    def answering(self, name: str | None) -> ChatAgent:
        """The agent of that name, short or not; the first one when there is none such (a renamed agent in an old
        thread)."""
        full = self.names.get(name or "", name)
        return next((agent for agent in self.agents if agent.name == full), self.agents[0])


def _visible_handoff(target: ChatAgent) -> Handoff[AgentContext[Any], ChatAgent]:
    """A handoff that the user sees: nothing else on the wire tells who goes on."""

    async def announce(wrapper: RunContextWrapper[AgentContext[Any]]) -> None:
        await wrapper.context.stream(ProgressUpdateEvent(icon="agent", text=f"Handing over to the {target.name}"))

    return handoff(target, on_handoff=announce)


def build_team(
    model: Model,
    services: ServiceDirectory | None = None,
    pages: PageAccess = PageAccess(),  # noqa: B008  # frozen
    backends: Iterable[GuardedBackend] = (),
    *,
    more: Mapping[str, AgentFactory] = NO_MORE,
    tools: Mapping[str, Sequence[Tool]] = NO_TOOLS,
) -> Team:
    """The agents of a deployment, all on one model.

    Args:
        model: of all of them.
        services: behind the service orchestrator; the samples by default.
        pages: what agents may ask of pages.
        backends: tools of the service orchestrator.
        more: agents beside the project's three, by their short names.
        tools: for agents, by their short names, beside those that they have.

    Raises:
        SettingsError: one of `more` cannot be built, or has the name of another.
    """
    built = (
        build_integration_agent(model, pages),
        build_ui_coordination_agent(model, pages),
        build_service_orchestrator_agent(model, services or SampleServices(), backend_tools(backends)),
    )
    agents = dict(zip(AGENTS, built, strict=True))
    for name, build in more.items():
        agents[name] = _built(name, build, model, agents)
    for name, added in tools.items():
        agents[name].tools = [*agents[name].tools, *added]
    return Team(tuple(agents.values()), {name: agent.name for name, agent in agents.items()})


def _built(name: str, build: AgentFactory, model: Model, others: Mapping[str, ChatAgent]) -> ChatAgent:
    """An agent of a plug-in."""
    try:
        agent: Any = build(model)
    except Exception as error:  # whatever somebody else's function does
        raise SettingsError(
            f"agent {name} cannot be built ({type(error).__name__}: {error}): correct the plug-in that adds it"
        ) from error
    if not isinstance(agent, Agent) or not isinstance(agent.model, Model):
        raise SettingsError(f"agent {name}: its plug-in has to make an `agents.Agent` on the model that it is given")
    if agent.name in {other.name for other in others.values()}:
        raise SettingsError(f'agent {name}: there is an agent named "{agent.name}" already; give it another name')
    return agent
