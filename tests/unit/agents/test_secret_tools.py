"""Tools for client secrets: whom they are made for, and what a model sees of them."""

import json
from datetime import timedelta
from typing import Any

from agents import Agent, FunctionTool
from chatkit.agents import AgentContext
from fakeredis import FakeAsyncRedis

from schemas.chatkit import ClientEffectEvent, ThreadStreamEvent
from tests.session_builders import LIFETIMES
from tests.unit.agents.turns import FakeTurn, answer, new_context
from workers.agents.ports import PageAccess
from workers.agents.responder import AgentResponder
from workers.agents.team import Team, build_team
from workers.errors import TransientError
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.sessions.deposits import SecretDeposits
from workers.sessions.issuer import SecretIssuer
from workers.sessions.keys import KeyRing, shared_secret
from workers.sessions.own import OwnSessions
from workers.sessions.store import SessionStore
from workers.sessions.tokens import TokenMinter
from workers.testing.model import Call, StepModel, words

ADA = Owner("acme", "ada")


class Desk:
    """Sessions over a fake Redis, and an agent with tools for them."""

    def __init__(self) -> None:
        state, keys = FakeAsyncRedis(), Keys("ck", 4)
        ring = KeyRing({None: shared_secret("s" * 40)})
        self.sessions = OwnSessions(SessionStore(state, keys, LIFETIMES), TokenMinter(ring, timedelta(minutes=5)))
        self.deposits = SecretDeposits(state, keys)
        self.pages = PageAccess(secrets=SecretIssuer(self.sessions, self.deposits))

    async def use(self, call: Call) -> tuple[list[ThreadStreamEvent], str]:
        return await use(call, self.pages)


async def use(call: Call, pages: PageAccess) -> tuple[list[ThreadStreamEvent], str]:
    """What a call shows in ada's thread, and what the model is told."""
    model = StepModel(call, words("ok"))
    agent: Agent[AgentContext[Any]] = build_team(model, pages=pages).agents[0]
    events = await answer(AgentResponder(Team((agent,))), "hi", new_context(FakeTurn(user="ada")))
    told: Any = model.inputs[1][-1]
    return events, str(told["output"])


def effects(events: list[ThreadStreamEvent]) -> list[ClientEffectEvent]:
    return [event for event in events if isinstance(event, ClientEffectEvent)]


async def test_a_secret_is_deposited_for_the_page_and_the_model_sees_an_id() -> None:
    desk = Desk()
    events, told = await desk.use(Call("generate_client_secret", {"user_id": "ada"}))
    [effect] = effects(events)
    session = await desk.deposits.get(ADA, effect.data["handle"])
    assert session is not None
    assert json.loads(told) == {"session_id": session.session_id, "expires_at": effect.data["expires_at"]}
    assert set(effect.data) == {"session_id", "expires_at", "handle"}
    assert session.client_secret not in told + str(events)
    assert session.refresh_token is not None
    assert (await desk.sessions.refresh(session.refresh_token)).session_id == session.session_id
    assert await desk.deposits.get(Owner("acme", "bob"), effect.data["handle"]) is None
    assert await desk.deposits.get(Owner("globex", "ada"), effect.data["handle"]) is None


async def test_a_secret_for_another_user_is_refused_and_nothing_is_made() -> None:
    events, told = await Desk().use(Call("generate_client_secret", {"user_id": "bob"}))
    assert told.startswith("Refused: user_id")
    assert effects(events) == []


async def test_a_session_of_the_user_is_renewed_and_its_refresh_token_stays_good() -> None:
    desk = Desk()
    started = await desk.sessions.start(ADA)
    events, told = await desk.use(Call("refresh_client_token", {"existing_token": started.session_id}))
    [effect] = effects(events)
    renewed = await desk.deposits.get(ADA, effect.data["handle"])
    assert renewed is not None
    assert renewed.session_id == started.session_id == json.loads(told)["session_id"]
    assert renewed.client_secret != started.client_secret


async def test_what_is_no_living_session_of_the_user_is_not_renewed() -> None:
    desk = Desk()
    of_bob, of_tenant = (
        await desk.sessions.start(Owner("acme", "bob")),
        await desk.sessions.start(Owner("globex", "ada")),
    )
    ended = await desk.sessions.start(ADA)
    await desk.sessions.end(ended.session_id)
    for token in (
        of_bob.session_id,
        of_tenant.session_id,
        ended.session_id,
        ended.client_secret,
        "ses_" + "a" * 36,
        "",
    ):
        events, told = await desk.use(Call("refresh_client_token", {"existing_token": token}))
        assert told.startswith("Refused: existing_token"), token
        assert effects(events) == []


async def test_a_worker_without_a_key_says_so() -> None:
    for call in (
        Call("generate_client_secret", {"user_id": "ada"}),
        Call("refresh_client_token", {"existing_token": "ses_1"}),
    ):
        assert "no key to sign" in (await use(call, PageAccess()))[1]


async def test_a_service_that_cannot_make_sessions_is_not_taken_for_the_models_failure() -> None:
    class Failing:
        async def start(self, owner: Owner, *, seed: str) -> Any:
            raise TransientError("OpenAI cannot be reached", kind="APIConnectionError")

        async def renew(self, owner: Owner, session_id: str) -> Any:
            raise AssertionError("it was not asked for that")

    _, told = await use(Call("generate_client_secret", {"user_id": "ada"}), PageAccess(secrets=Failing()))
    assert "APIConnectionError" in told


def test_the_tools_have_the_names_that_were_asked_for() -> None:
    agent = build_team(StepModel()).agents[0]
    named = {tool.name: tool for tool in agent.tools if isinstance(tool, FunctionTool)}
    assert list(named["generate_client_secret"].params_json_schema["properties"]) == ["user_id"]
    assert list(named["refresh_client_token"].params_json_schema["properties"]) == ["existing_token"]
