"""Tools that look up what is being answered, and what the user's page shows; and one that keeps a note for later."""

import json

from agents import FunctionTool, function_tool

from workers.agents.failures import report_failure
from workers.agents.hygiene import clean_all
from workers.agents.ports import States, ToolContext, Turn
from workers.agents.variables import for_model

NOTES_KEY = "notes"
"""Key of the thread's metadata for what agents of later turns are to know: names and texts."""

MOST_NOTES, MOST_NAME, MOST_TEXT = 20, 64, 500


@function_tool(failure_error_function=report_failure)
async def get_turn_context(wrapper: ToolContext) -> str:
    """Look up what is being answered: the event, the user, the thread with its notes, and what the page says of itself.

    No arguments.
    """
    context = wrapper.context
    turn: Turn = context.request_context
    return json.dumps(
        {
            "event_id": turn.event_id,
            "attempt": turn.attempt,
            "tenant": turn.tenant,
            "user": turn.user,
            "session_id": turn.session_id,
            "thread": {
                "id": context.thread.id,
                "title": context.thread.title,
                "status": context.thread.status.type,
                "notes": context.thread.metadata.get(NOTES_KEY, {}),
            },
            "page": for_model(turn.variables),
        }
    )


@function_tool(failure_error_function=report_failure)
async def note_for_later(wrapper: ToolContext, name: str, text: str) -> str:
    """Keep a short note for later turns of this conversation, where `get_turn_context` shows it.

    Args:
        name: A word for it, 1 to 64 characters. A note of the same name is replaced.
        text: The note, at most 500 characters; empty takes it away.
    """
    thread = wrapper.context.thread
    notes: dict[str, str] = dict(thread.metadata.get(NOTES_KEY, {}))
    if not name or len(name) > MOST_NAME or len(text) > MOST_TEXT:
        return f"Not kept: name has 1 to {MOST_NAME} characters, text at most {MOST_TEXT}."
    if not text:
        notes.pop(name, None)
    elif name not in notes and len(notes) >= MOST_NOTES:
        return f"Not kept: there are {MOST_NOTES} notes; replace one, or take one away."
    else:
        notes[name] = text
    thread.metadata = thread.metadata | {NOTES_KEY: notes}
    return "Kept." if text else "Taken away."


def get_session_state(states: States | None) -> FunctionTool:
    """The tool, over what pages said."""

    @function_tool(name_override="get_session_state", failure_error_function=report_failure)
    async def look_up(wrapper: ToolContext) -> str:
        """Look up what the user's page said last: the thread that is open, whether it is ready, its last error.

        No arguments.
        """
        turn: Turn = wrapper.context.request_context
        state = await states.of(turn.owner, turn.session_id) if states is not None else None
        if state is None:
            return json.dumps({"known": False})
        said = state.model_dump(mode="json", exclude={"tenant", "user"})
        return json.dumps(
            clean_all({"known": True, "shows_this": state.open_thread_id == wrapper.context.thread.id, **said})
        )

    return look_up
