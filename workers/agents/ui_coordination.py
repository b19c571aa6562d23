"""The UI coordination agent: what the page shows, asks and runs."""

from typing import Any

from agents import Agent, Model, StopAtTools
from agents.extensions.handoff_prompt import prompt_with_handoff_instructions
from chatkit.agents import AgentContext

from workers.agents.action_tools import send_custom_action
from workers.agents.card_tools import card_tools
from workers.agents.context_tools import get_session_state
from workers.agents.ports import PageAccess
from workers.agents.tools import (
    STOPPING_TOOLS,
    ask_user,
    call_client_tool,
    show_notice,
    show_progress,
)

NAME = "UI Coordination Agent"

INSTRUCTIONS = prompt_with_handoff_instructions(
    """You decide what the user's page shows. Use one tool, then say in one sentence what you did.

- `show_card` for information worth keeping in the conversation, with a button where an action makes sense;
  `update_card` when a card that was shown is out of date.
- `ask_user` when you need a choice or a few fields; the turn ends and goes on with the answers.
- `call_client_tool` when only the page knows (a selection, a position); the turn ends and goes on with its result.
- `show_notice` for something passing, `send_custom_action` to make the page itself do something; wait for its outcome
  only when the answer depends on it.
- Questions about orders, invoices, accounts or services go to the service orchestrator agent; anything else that is
  not about the page goes back to the ChatKit integration agent."""
)


def build_ui_coordination_agent(model: Model, pages: PageAccess) -> Agent[AgentContext[Any]]:
    """The agent without its handoffs, which `workers.agents.team` ties."""
    return Agent(
        name=NAME,
        handoff_description="Shows cards, forms and notices, asks the user for input, runs tools in the user's page.",
        instructions=INSTRUCTIONS,
        model=model,
        tools=[
            *card_tools(pages.actions),
            get_session_state(pages.states),
            ask_user,
            call_client_tool,
            show_notice,
            show_progress,
            send_custom_action(pages),
        ],
        tool_use_behavior=StopAtTools(stop_at_tool_names=list(STOPPING_TOOLS)),
    )
