"""A run that waits for somebody's consent: what is asked, and the run kept as JSON until the answer comes."""

import json
import logging
from collections.abc import Iterable
from typing import Any

from agents import Agent, RunContextWrapper, RunResultStreaming, RunState
from agents.items import ToolApprovalItem
from chatkit.agents import AgentContext

from schemas.errors import WorkersError
from workers.agents.hygiene import SEPARATORS, revealed

log = logging.getLogger(__name__)

Restored = RunState[AgentContext[Any], Agent[AgentContext[Any]]]

MAX_STATE_BYTES = 2_000_000
"""Of a run that is kept. A conversation that takes more cannot wait for a consent."""

MAX_SHOWN = 2_000
"""Characters of a call's arguments that are shown."""

REJECTED = "The user rejected this call, so it was not made. Do not make it again; ask what is wanted instead."


def asked_calls(run: RunResultStreaming) -> list[tuple[str, str]]:
    """The calls that a run waits with: the name of each tool, and its arguments as they would be used."""
    return [(str(item.name), _shown(item.arguments)) for item in run.interruptions]


def state_of(run: RunResultStreaming) -> str | None:
    """The run, to go on from in any process; None: it is too large to be kept.

    What it belongs to (tenant, user, event) is not in it: whoever goes on with it says so anew.
    """
    state = json.dumps(run.to_state().to_json(context_serializer=lambda _: {}), separators=(",", ":"))
    return state if len(state) <= MAX_STATE_BYTES else None


async def restored(agent: Agent[Any], state: str, context: AgentContext[Any]) -> Restored | None:
    """The run as it was left; None: its agents or tools are not there, or are not offered now.

    Args:
        agent: the first of the team that the run may use.
        state: what `state_of` gave.
        context: of the turn that goes on with it.
    """
    wrapper = RunContextWrapper(context)
    try:
        run = await RunState.from_json(agent, json.loads(state), context_override=wrapper)
        for item in run.get_interruptions():
            offered = {tool.name for tool in await item.agent.get_all_tools(wrapper)}
            if item.name not in offered:
                log.warning("approval_not_restored", extra={"error": "ToolGone"})
                return None
    except WorkersError:
        raise
    except Exception as error:  # noqa: BLE001  # the SDK's own for a state of another version, or without its agents
        log.warning("approval_not_restored", extra={"error": type(error).__name__})
        return None
    return run


def decide(state: Restored, *, approve: bool) -> None:
    """Approve or reject every call that the run waits with."""
    for item in _pending(state):
        if approve:
            state.approve(item)
        else:
            state.reject(item, rejection_message=REJECTED)


def _pending(state: Restored) -> Iterable[ToolApprovalItem]:
    return state.get_interruptions()


def _shown(arguments: str | None) -> str:
    """The arguments for people to read, one to a line, whatever is invisible in them made visible."""
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        given = arguments
    lines = [f"{_text(name)}: {_text(value)}" for name, value in given.items()] if isinstance(given, dict) else [given]
    text = revealed("\n".join(map(str, lines)))
    left = len(text) - MAX_SHOWN
    return text if left <= 0 else f"{text[:MAX_SHOWN]}… ({left} more characters)"


def _text(value: Any) -> str:
    """A value in one line: what looks like another argument in the card must be one."""
    if isinstance(value, str):
        return json.dumps(value) if SEPARATORS.search(value) or "\n" in value else value
    return json.dumps(value, ensure_ascii=SEPARATORS.search(json.dumps(value, ensure_ascii=False)) is not None)
