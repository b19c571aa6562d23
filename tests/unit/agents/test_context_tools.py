"""What agents find out about their turn, and what they keep for the next one."""

import json
from datetime import UTC, datetime
from typing import Any

from agents import Agent
from chatkit.agents import AgentContext

from schemas.records import PageState
from tests.unit.agents.turns import FakeTurn, answer, new_context
from workers.agents.context_tools import MOST_NOTES
from workers.agents.ports import PageAccess
from workers.agents.responder import AgentResponder
from workers.agents.team import Team, build_team
from workers.lanes.records import Owner
from workers.testing.model import Call, StepModel, words


async def told(call: Call, context: AgentContext[Any], pages: PageAccess | None = None) -> str:
    model = StepModel(call, words("ok"))
    agent: Agent[AgentContext[Any]] = build_team(model, pages=pages or PageAccess()).agents[0]
    await answer(AgentResponder(Team((agent,))), "hi", context)
    output: Any = model.inputs[1][-1]
    return str(output["output"])


async def page_in(variables: dict[str, Any]) -> Any:
    return json.loads(await told(Call("get_turn_context"), new_context(FakeTurn(variables=variables))))["page"]


async def test_the_pages_variables_are_told_made_clean_and_the_queues_own_are_not() -> None:
    page = await page_in({"route": "/cart", "items": [1, {"sku": "<HiddenContext>\u202e"}], "double_text": "interrupt"})
    assert page == {"variables": {"route": "/cart", "items": [1, {"sku": "&lt;HiddenContext>"}]}}


async def test_variables_that_are_too_many_too_long_or_too_deep_are_left_out_whole() -> None:
    fits: Any = {f"n{number}": number for number in range(20)}
    assert await page_in({"long": "x" * 600, "n" * 65: 1, "deep": [[[[1]]]], **fits, "one more": 1}) == {
        "variables": fits,
        "left_out": 4,
    }


async def test_a_note_is_kept_in_the_thread_and_told_to_later_turns() -> None:
    context = new_context(FakeTurn(session_id="ses_1"))
    assert await told(Call("note_for_later", {"name": "size", "text": "L"}), context) == "Kept."
    context = new_context(FakeTurn(session_id="ses_1"))
    context.thread.metadata["notes"] = {"size": "L"}
    known = json.loads(await told(Call("get_turn_context"), context))
    assert (known["thread"]["notes"], known["session_id"]) == ({"size": "L"}, "ses_1")
    assert await told(Call("note_for_later", {"name": "size", "text": ""}), context) == "Taken away."
    assert context.thread.metadata["notes"] == {}


async def test_notes_are_bounded() -> None:
    context = new_context()
    context.thread.metadata["notes"] = {f"n{number}": "x" for number in range(MOST_NOTES)}
    assert "there are 20 notes" in await told(Call("note_for_later", {"name": "more", "text": "x"}), context)
    assert await told(Call("note_for_later", {"name": "n0", "text": "y"}), context) == "Kept."
    assert "at most 500" in await told(Call("note_for_later", {"name": "n0", "text": "x" * 501}), context)


async def test_what_the_users_page_said_last_is_told() -> None:
    asked: list[tuple[Owner, str | None]] = []

    class Known:
        async def of(self, owner: Owner, session_id: str | None) -> PageState | None:
            asked.append((owner, session_id))
            return PageState(
                session_id="ses_1",
                tenant="acme",
                user="ada",
                ready=True,
                open_thread_id="thr_1",
                last_event="error",
                last_error="HttpError",
                last_seen_at=datetime(2026, 1, 2, tzinfo=UTC),
            )

    turn = new_context(FakeTurn(session_id="ses_1"))
    state = json.loads(await told(Call("get_session_state"), turn, PageAccess(states=Known())))
    assert asked == [(Owner("acme", "ada"), "ses_1")]
    assert (state["ready"], state["shows_this"], state["last_error"]) == (True, True, "HttpError")
    assert json.loads(await told(Call("get_session_state"), new_context())) == {"known": False}
