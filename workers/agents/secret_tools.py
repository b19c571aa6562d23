"""Tools for client secrets. The session code makes them: a model names a session, and never sees a token."""

import json
from collections.abc import Awaitable, Callable

from agents import FunctionTool, function_tool

from schemas.chatkit import ClientEffectEvent
from schemas.sessions import ISSUED_EFFECT, SecretEffectData
from workers.agents.durable_tools import call_key
from workers.agents.failures import report_failure
from workers.agents.ports import Secrets, ToolContext, Turn
from workers.errors import CallError, StateAwayError
from workers.sessions.issuer import Issued
from workers.sessions.tokens import TokenError

NO_KEY = "Not done: this deployment's workers have no key to sign client secrets with. An operator has to set one."


def secret_tools(secrets: Secrets | None) -> list[FunctionTool]:
    """`generate_client_secret` and `refresh_client_token`; without `secrets` they say why they cannot help."""

    @function_tool(failure_error_function=report_failure)
    async def generate_client_secret(wrapper: ToolContext, user_id: str) -> str:
        """Make a new session for the user of this conversation. The page gets its client secret; you get its id.

        Args:
            user_id: The user of this conversation, as `get_turn_context` names it.
        """
        turn: Turn = wrapper.context.request_context
        if user_id != turn.user:
            return "Refused: user_id must be the user of this conversation, whom get_turn_context names."
        if secrets is None:
            return NO_KEY
        return await _hand_over(wrapper, lambda: secrets.start(turn.owner, seed=call_key()))

    @function_tool(failure_error_function=report_failure)
    async def refresh_client_token(wrapper: ToolContext, existing_token: str) -> str:
        """Make a new client secret for a session of this user that goes on. The page gets it.

        Args:
            existing_token: The id of the session, `ses_…`; never a token itself.
        """
        turn: Turn = wrapper.context.request_context
        if secrets is None:
            return NO_KEY
        return await _hand_over(wrapper, lambda: secrets.renew(turn.owner, existing_token))

    return [generate_client_secret, refresh_client_token]


async def _hand_over(wrapper: ToolContext, issue: Callable[[], Awaitable[Issued]]) -> str:
    """Have a secret made and show its page where it is. The model is told of a refusal in words."""
    try:
        issued = await issue()
    except TokenError:
        return "Refused: existing_token must be the id (ses_…) of a session of this user that has not ended."
    except StateAwayError:
        raise
    except CallError as error:
        return f"Not done: no session can be made at the moment ({error.kind}). Tell the user to try again later."
    data = SecretEffectData(session_id=issued.session_id, expires_at=issued.expires_at, handle=issued.handle)
    shown = data.model_dump(mode="json", exclude_none=True)
    await wrapper.context.stream(ClientEffectEvent(name=ISSUED_EFFECT, data=shown))
    return json.dumps({"session_id": issued.session_id, "expires_at": shown["expires_at"]})
