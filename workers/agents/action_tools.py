"""The tool that makes the user's pages do something, and waits for what comes of it where that is wanted."""

import json
from datetime import timedelta
from typing import Any

from agents import FunctionTool, function_tool

from schemas.actions import APPROVAL_DECIDE
from schemas.chatkit import ClientEffectEvent
from schemas.sessions import ISSUED_EFFECT
from workers.agents.durable_tools import call_key
from workers.agents.failures import report_failure
from workers.agents.hygiene import clean_all
from workers.agents.ports import Outcomes, PageAccess, ToolContext, Turn
from workers.allow_lists import ActionRules
from workers.streams.outcomes import Reported, action_id_of

LONGEST_WAIT_SECONDS = 30
MOST_BYTES = 16 * 1024
MOST_NAME = 200
RESERVED = frozenset({ISSUED_EFFECT, "session", "reauthenticate", APPROVAL_DECIDE})
"""Effects and actions of the system: a model that is talked into sending one must not sign a page in or out, nor put
the consent to something else behind a button."""


def send_custom_action(pages: PageAccess) -> FunctionTool:
    """The tool, for what the deployment allows."""

    # strict schemas allow no open objects, and an action's payload is one
    @function_tool(name_override="send_custom_action", failure_error_function=report_failure, strict_mode=False)
    async def send(wrapper: ToolContext, action_type: str, payload: dict[str, Any], wait_seconds: int = 0) -> str:
        """Send a custom action to every page that has this conversation open.

        Args:
            action_type: Name of the effect that the page handles.
            payload: Data for it.
            wait_seconds: How long to wait for what a page reports of it, at most 30; 0 does not wait.
        """
        if refusal := refused(action_type, payload, pages.actions):
            return refusal
        if wait_seconds <= 0 or pages.outcomes is None:
            await wrapper.context.stream(ClientEffectEvent(name=action_type, data=payload))
            return f"Sent {action_type!r}."
        return await _sent_and_awaited(wrapper, action_type, payload, wait_seconds, pages.outcomes)

    return send


def refused(action_type: str, payload: dict[str, Any], rules: ActionRules) -> str | None:
    """Why an action is not sent, for the model; None: it may be."""
    if not action_type or len(action_type) > MOST_NAME:
        return f"Refused: action_type must have 1 to {MOST_NAME} characters."
    if action_type in RESERVED:
        return f"Refused: action_type {action_type!r} belongs to the system."
    if "action_id" in payload:
        return "Refused: payload.action_id is given by the system; leave it out."
    if len(json.dumps(payload)) > MOST_BYTES:
        return f"Refused: payload is larger than {MOST_BYTES} bytes; send an id that the page can look up."
    problems = rules.problems(action_type, payload, type_field="action_type")
    return "Refused: " + "; ".join(f"{problem.field} {problem.message}" for problem in problems) if problems else None


async def _sent_and_awaited(
    wrapper: ToolContext, action_type: str, payload: dict[str, Any], wait_seconds: int, outcomes: Outcomes
) -> str:
    """A call that was cut off finds what was reported meanwhile, and does not send it once more."""
    turn: Turn = wrapper.context.request_context
    action_id, seconds = action_id_of(call_key()), min(wait_seconds, LONGEST_WAIT_SECONDS)
    report = await outcomes.wait(turn.owner, action_id, timedelta(0))
    if report is None:
        await wrapper.context.stream(ClientEffectEvent(name=action_type, data=payload | {"action_id": action_id}))
        report = await outcomes.wait(turn.owner, action_id, timedelta(seconds=seconds))
    return _told(report, action_type, seconds)


def _told(report: Reported | None, action_type: str, seconds: int) -> str:
    if report is None:
        return f"Sent {action_type!r}; no page answered within {seconds} s."
    return json.dumps({"sent": action_type, "outcome": clean_all(report.outcome)})
