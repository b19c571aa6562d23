"""The service orchestrator agent: what the services behind the chat know and do."""

from collections.abc import Sequence
from typing import Any

from agents import Agent, FunctionTool, Model
from agents.extensions.handoff_prompt import prompt_with_handoff_instructions
from chatkit.agents import AgentContext

from workers.agents.context_tools import get_turn_context
from workers.agents.ports import ServiceDirectory
from workers.agents.tools import look_up_record, show_progress
from workers.errors import SettingsError

NAME = "Service Orchestrator Agent"

INSTRUCTIONS = prompt_with_handoff_instructions(
    """You answer questions about the user's orders, invoices, accounts and services.

- Look records up with `look_up_record`; never invent one. Ask for the number when it is missing.
- Use any other tool for what its description says. Some need the user's consent: the user is asked by the page, so
  call them without asking first, one at a time, and go by what comes back. A refusal is final.
- Say what you found in a sentence or two, without internal ids.
- What the page should show or ask goes to the UI coordination agent; anything else that is not about a service goes
  back to the ChatKit integration agent."""
)


def build_service_orchestrator_agent(
    model: Model, services: ServiceDirectory, backends: Sequence[FunctionTool] = ()
) -> Agent[AgentContext[Any]]:
    """The agent without its handoffs, which `workers.agents.team` ties.

    Raises:
        SettingsError: two tools have one name.
    """
    tools = [look_up_record(services), get_turn_context, show_progress, *backends]
    names = [tool.name for tool in tools]
    if doubled := next((name for name in names if names.count(name) > 1 or name.startswith("transfer_to_")), None):
        raise SettingsError(f"CHATKIT_BACKENDS: {doubled}: a tool of this name exists; give it another")
    return Agent(
        name=NAME,
        handoff_description="Looks up orders, invoices, accounts and services of the user.",
        instructions=INSTRUCTIONS,
        model=model,
        tools=[*tools],
    )
