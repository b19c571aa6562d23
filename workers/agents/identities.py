"""What the SDK tells agents of one name apart by, worked out once: a twelfth of a turn's CPU, and ours never change.

The SDK goes through every tool and handoff of every agent of a team, twice a turn.
"""

from typing import Any

from agents import Agent
from agents import _run_state_agent_identity as identity

KEPT = "_chatkit_identity"

_work_out = identity._agent_identity_signature  # noqa: SLF001  # there is no public way in; the SDK's version is pinned


def keep_identity(agent: Agent[Any]) -> None:
    """Work it out now, for good. A clone of the agent has none."""
    vars(agent)[KEPT] = _work_out(agent)


def _kept_identity(agent: Agent[Any]) -> str:
    kept = vars(agent).get(KEPT)
    return kept if isinstance(kept, str) else _work_out(agent)


identity._agent_identity_signature = _kept_identity  # noqa: SLF001  # same
