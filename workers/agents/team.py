"""The agents and who hands off to whom."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agents import Agent, FunctionTool, Handoff, Model, RunContextWrapper, handoff
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

ChatAgent = Agent[AgentContext[Any]]


@dataclass(frozen=True, slots=True)
class Team:
    """The agents of a deployment; the first one answers unless a handoff has said otherwise."""

    agents: tuple[ChatAgent, ...]

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
        """The agent of that name; the first one when there is none such (a renamed agent in an old thread)."""
        return next((agent for agent in self.agents if agent.name == name), self.agents[0])


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
) -> Team:
    """The three agents of the project, all on one model; `backends` are tools of the service orchestrator."""
    return Team(
        (
            build_integration_agent(model, pages),
            build_ui_coordination_agent(model, pages),
            build_service_orchestrator_agent(model, services or SampleServices(), backend_tools(backends)),
        )
    )
