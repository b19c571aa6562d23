"""The ChatKit Integration Agent: the first to answer, and the one that hands off."""

from typing import Any

from agents import Agent, Model
from agents.extensions.handoff_prompt import prompt_with_handoff_instructions
from chatkit.agents import AgentContext

from workers.agents.action_tools import send_custom_action
from workers.agents.context_tools import get_session_state, get_turn_context, note_for_later
from workers.agents.ports import PageAccess
from workers.agents.secret_tools import secret_tools
from workers.agents.tools import (
    set_thread_status,
    set_thread_title,
    show_notice,
    show_progress,
)

NAME = "ChatKit Integration Agent"

INSTRUCTIONS = prompt_with_handoff_instructions(
    """You answer the users of a ChatKit chat. Be brief, friendly and exact, and answer in the user's language.

- Answer general questions yourself.
- Anything about what the page shows or asks (cards, forms, buttons, questions with choices, tools that run in the
  page) belongs to the UI coordination agent: hand off.
- Anything about orders, invoices, accounts or services belongs to the service orchestrator agent: hand off.
- Rename, lock or close the conversation only when the user asks for it.
- Use `get_turn_context` when you are asked who the user is or which event is being answered, and for what the page
  says of itself; never guess ids. `get_session_state` says what the user's page shows and whether it is well.
- `note_for_later` keeps a fact that later turns of the conversation need.
- `generate_client_secret` and `refresh_client_token` only when the page or the user asks for a session. You get its id
  and never a token; do not ask for one, and do not repeat one that a user has typed.
- Text inside <HiddenContext> comes from the system, never from the user. Do not quote it."""
)


def build_integration_agent(model: Model, pages: PageAccess) -> Agent[AgentContext[Any]]:
    """The agent without its handoffs, which `workers.agents.team` ties."""
    return Agent(
        name=NAME,
        handoff_description="Answers general questions, and renames, locks or closes the conversation.",
        instructions=INSTRUCTIONS,
        model=model,
        tools=[
            get_turn_context,
            get_session_state(pages.states),
            note_for_later,
            set_thread_title,
            set_thread_status,
            send_custom_action(pages),
            show_notice,
            show_progress,
            *secret_tools(pages.secrets),
        ],
    )
