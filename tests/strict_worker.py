"""The real worker app with little patience and a guardrail: `celery -A tests.strict_worker worker`."""

from functools import partial
from typing import Any

from agents import Agent, GuardrailFunctionOutput, RunContextWrapper, input_guardrail
from httpx2 import Timeout

from workers import runtime
from workers.agents.models import build_model
from workers.agents.team import Team, build_team

TIMEOUT = Timeout(connect=1.0, write=1.0, read=1.0, pool=0.5)
FORBIDDEN = "forbidden"


@input_guardrail
async def nothing_forbidden(_: RunContextWrapper[Any], __: Agent[Any], input_: Any) -> GuardrailFunctionOutput:
    """Trips over one word."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=FORBIDDEN in str(input_))


def build_guarded_team(*arguments: Any, **options: Any) -> Team:
    team = build_team(*arguments, **options)
    for agent in team.agents:
        agent.input_guardrails = [nothing_forbidden]
    return team


# The composition root takes both from these names; everything else is as it ships.
runtime.build_model = partial(build_model, timeout=TIMEOUT)  # type: ignore[attr-defined]  # a double
runtime.build_team = build_guarded_team  # type: ignore[attr-defined]  # a double

from workers.app import app  # noqa: E402  # only now: it builds the app that uses the above

__all__ = ["app"]
