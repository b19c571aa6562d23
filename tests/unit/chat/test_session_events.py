"""Session events: what comes of each, and where the secret goes."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import fakeredis
import pytest
from pydantic import SecretStr

from schemas.chatkit import ClientEffectEvent, stream_event_adapter
from schemas.errors import InvalidEventError
from schemas.events import Event, parse_event
from schemas.outcome import Done, Dropped, DropReason
from schemas.sessions import Session
from tests.builders import delivery_of
from tests.session_builders import LIFETIMES, ME
from workers.chat.session_events import SessionEvents
from workers.errors import PermanentError, StateAwayError
from workers.lanes.keys import Keys
from workers.lanes.records import JournalStep, Owner
from workers.light_turn import LightTurn
from workers.policies.batch import LightResult
from workers.policies.delivery import Delivery
from workers.sessions.keys import KeyRing
from workers.sessions.own import OwnSessions
from workers.sessions.store import SessionStore
from workers.sessions.tokens import Identity, TokenError, TokenMinter, TokenVerifier
from workers.settings import Settings

KEYS = KeyRing.from_settings(Settings(secret_key=SecretStr("s" * 40)))


@pytest.fixture
async def sessions() -> AsyncIterator[OwnSessions]:
    state = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    store = SessionStore(state, Keys("ck", 4), LIFETIMES)
    yield OwnSessions(store, TokenMinter(KEYS, timedelta(minutes=10)))
    await state.aclose()


def session_event(name: str, id_: str = "1", *, owner: Owner = ME, **data: Any) -> Event:
    who = {"tenant": owner.tenant, "userid": owner.user}
    envelope = {"specversion": "1.0", "id": id_, "source": "/shop", "type": f"chatkit.session.{name}"}
    return parse_event({**envelope, **who, "data": data})


def shown(result: LightResult) -> Session:
    outcome, [frame] = result
    assert outcome == Done()
    effect = stream_event_adapter().validate_json(frame)
    assert isinstance(effect, ClientEffectEvent)
    assert effect.name == "session"
    return Session.model_validate(effect.data)


async def lives(sessions: OwnSessions, session: Session) -> bool:
    try:
        await sessions.renew(ME, session.session_id)
    except TokenError:
        return False
    return True


async def test_a_start_shows_a_client_secret_that_is_good_and_refreshes(sessions: OwnSessions) -> None:
    session = shown(await SessionEvents(sessions)(session_event("start")))
    assert TokenVerifier(KEYS).verify(session.client_secret) == Identity("acme", "u1", session.session_id)
    again = await sessions.refresh(str(session.refresh_token))
    assert again.session_id == session.session_id


async def test_a_start_that_is_run_again_makes_the_same_session_and_another_event_another(
    sessions: OwnSessions,
) -> None:
    events = SessionEvents(sessions)
    lost, kept = shown(await events(session_event("start"))), shown(await events(session_event("start")))
    assert lost.session_id == kept.session_id
    await sessions.refresh(str(kept.refresh_token))
    assert shown(await events(session_event("start", "2"))).session_id != kept.session_id


async def test_a_page_that_comes_back_goes_on_with_its_session(sessions: OwnSessions) -> None:
    events = SessionEvents(sessions)
    first = shown(await events(session_event("start")))
    again = shown(await events(session_event("start", "2", session_id=first.session_id)))
    assert (again.session_id, again.refresh_token) == (first.session_id, None)
    await sessions.end(first.session_id)
    new = shown(await events(session_event("start", "3", session_id=first.session_id)))
    assert new.session_id != first.session_id
    assert new.refresh_token is not None


@pytest.mark.parametrize("session_id", ["ses_1", "whatever-the-service-calls-it"])
async def test_a_start_with_an_id_of_the_services_own_makes_a_session(sessions: OwnSessions, session_id: str) -> None:
    assert shown(await SessionEvents(sessions)(session_event("start", session_id=session_id))).refresh_token


async def test_a_start_with_the_session_of_another_user_makes_one_of_its_own(sessions: OwnSessions) -> None:
    events = SessionEvents(sessions)
    theirs = shown(await events(session_event("start", owner=Owner("acme", "u2"))))
    mine = shown(await events(session_event("start", "2", session_id=theirs.session_id)))
    assert mine.session_id != theirs.session_id


async def test_a_refresh_shows_the_next_client_secret_and_spends_nothing(sessions: OwnSessions) -> None:
    events = SessionEvents(sessions)
    session = shown(await events(session_event("start")))
    next_ = shown(await events(session_event("refresh", "2", session_id=session.session_id)))
    assert (next_.session_id, next_.refresh_token) == (session.session_id, None)
    assert next_.client_secret != session.client_secret
    await sessions.refresh(str(session.refresh_token))


async def test_a_refresh_of_a_session_that_is_over_ends_visibly(sessions: OwnSessions) -> None:
    events = SessionEvents(sessions)
    session = shown(await events(session_event("start")))
    await sessions.end(session.session_id)
    revoked = await events(session_event("refresh", "2", session_id=session.session_id))
    unknown = await events(session_event("refresh", "3", session_id="ses_1"))
    assert revoked == (Dropped(DropReason.SESSION_REVOKED), [])
    assert unknown == (Dropped(DropReason.SESSION_EXPIRED), [])


def test_a_refresh_names_its_session() -> None:
    with pytest.raises(InvalidEventError, match=r"data\.session_id: is missing"):
        session_event("refresh")


async def test_an_end_revokes_the_session_or_without_one_all_of_the_users(sessions: OwnSessions) -> None:
    events = SessionEvents(sessions)
    first, second, third = [shown(await events(session_event("start", str(n)))) for n in range(3)]
    theirs = shown(await events(session_event("start", "4", owner=Owner("acme", "u2"))))
    assert await events(session_event("end", "5", session_id=first.session_id)) == (Done(), [])
    assert [await lives(sessions, one) for one in (first, second, third)] == [False, True, True]
    assert await events(session_event("end", "6", session_id=theirs.session_id)) == (Done(), [])
    assert await events(session_event("end", "7")) == (Done(), [])
    assert [await lives(sessions, one) for one in (first, second, third)] == [False] * 3
    await sessions.refresh(str(theirs.refresh_token))


async def test_a_worker_without_a_key_says_what_is_missing() -> None:
    result, frames = await SessionEvents(None)(session_event("start"))
    assert isinstance(result, PermanentError)
    assert "CHATKIT_SIGNING_KEYS" in str(result)
    assert frames == []


async def test_a_state_that_is_away_is_tried_again(sessions: OwnSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(sessions._store, "start", away)
    result, _ = await SessionEvents(sessions)(session_event("start"))
    assert isinstance(result, StateAwayError)


async def test_a_secret_that_was_shown_is_not_made_void_by_the_next_run(sessions: OwnSessions) -> None:
    """Woken by itself, its frame is appended before the event is settled, and the worker may die in between."""
    runs: list[str] = []

    async def light(deliveries: Any) -> list[LightResult]:
        runs.extend(one.event.event_id for one in deliveries)
        return [await SessionEvents(sessions)(one.event) for one in deliveries]

    frames = RecordedFrames()
    turn = LightTurn(light, frames)
    event = session_event("start")
    assert await turn(delivery_of(event)) == Done()
    assert await turn(delivery_of(event, next_frame=2)) == Done()
    assert len(runs) == 1
    [frame] = frames.sent
    await sessions.refresh(json.loads(frame)["data"]["refresh_token"])


class RecordedFrames:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def open(self, delivery: Delivery) -> "RecordedFrames":
        return self

    async def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def when_shown(self, tell: Callable[[], None]) -> None:
        tell()

    async def flush(self) -> None:
        """It is there already."""

    async def keep(self, step: JournalStep) -> bool:
        raise AssertionError("events of sessions have no steps")

    async def join(self, delivery: Delivery, step: str) -> dict[str, bytes]:
        """Nothing joins them."""
        return {}

    async def shown(self, delivery: Delivery) -> list[bytes]:
        return self.sent

    async def journal(self, delivery: Delivery) -> dict[str, bytes]:
        return {}
