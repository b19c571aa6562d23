"""The service orchestrator agent: what the services behind the chat know and do."""

from typing import Any

from agents import Agent, Model
from agents.extensions.handoff_prompt import prompt_with_handoff_instructions
from chatkit.agents import AgentContext

from workers.agents.context_tools import get_turn_context
from workers.agents.ports import ServiceDirectory
from workers.agents.tools import look_up_record, show_progress

NAME = "Service Orchestrator Agent"

INSTRUCTIONS = prompt_with_handoff_instructions(
    """You answer questions about the user's orders, invoices, accounts and services.

- Look records up with `look_up_record`; never invent one. Ask for the number when it is missing.
- Say what you found in a sentence or two, without internal ids.
- What the page should show or ask goes to the UI coordination agent; anything else that is not about a service goes
  back to the ChatKit integration agent."""
)


def build_service_orchestrator_agent(model: Model, services: ServiceDirectory) -> Agent[AgentContext[Any]]:
    """The agent without its handoffs, which `workers.agents.team` ties."""
    return Agent(
        name=NAME,
        handoff_description="Looks up orders, invoices, accounts and services of the user.",
        instructions=INSTRUCTIONS,
        model=model,
        tools=[look_up_record(services), get_turn_context, show_progress],
    )
