"""What a process knows of revoked sessions, and how it comes to know it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import fakeredis
import pytest

from tests.eventually import eventually
from tests.session_builders import LIFETIMES, ME
from workers.cancellation import raise_if_cancelled
from workers.lanes.keys import Keys
from workers.sessions.feed import RevocationFeed
from workers.sessions.ids import new_session_id
from workers.sessions.records import Revoked
from workers.sessions.refresh_tokens import RefreshToken
from workers.sessions.revocations import Revocations
from workers.sessions.store import SessionStore
from workers.sessions.tokens import TokenCode

HORIZON = timedelta(minutes=11)
NEVER = timedelta(hours=1)
ISSUED = 1_700_000_000.0


class Seconds:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_revoked_session_is_refused_and_no_other() -> None:
    seconds = Seconds()
    revocations = Revocations(HORIZON, now=seconds)
    revocations.add([Revoked("ses_1", seconds.now)])
    assert revocations.refusal("ses_1", seconds.now - 5) is TokenCode.REVOKED
    assert revocations.refusal("ses_1", seconds.now + 5) is TokenCode.REVOKED
    assert revocations.refusal("ses_2", seconds.now - 5) is None


def test_what_is_older_than_any_client_secret_is_forgotten() -> None:
    seconds = Seconds()
    revocations = Revocations(HORIZON, now=seconds)
    revocations.add([Revoked("ses_1", seconds.now)])
    seconds.now += HORIZON.total_seconds() + 1
    revocations.add([Revoked("ses_old", seconds.now - HORIZON.total_seconds() - 1), Revoked("ses_2", seconds.now)])
    assert len(revocations) == 1
    assert revocations.refusal("ses_2", seconds.now) is TokenCode.REVOKED


def test_beyond_its_bound_it_refuses_too_much_rather_than_too_little() -> None:
    """The oldest are forgotten one by one, and client secrets of their time have to be refreshed."""
    seconds = Seconds()
    revocations = Revocations(HORIZON, most=10, now=seconds)
    revoked = [Revoked(f"ses_{n}", seconds.now + n) for n in range(25)]
    for _ in range(3):  # a look reads what it has read before
        revocations.add(revoked)
    assert len(revocations) == 10
    for n in range(25):
        assert revocations.refusal(f"ses_{n}", seconds.now - 1) is not None
    assert revocations.refusal("ses_of_a_bystander", seconds.now - 1) is TokenCode.EXPIRED
    assert revocations.refusal("ses_of_a_bystander", seconds.now + 20) is None


@pytest.fixture
async def state() -> AsyncIterator[Any]:
    client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    yield client
    await client.aclose()


@pytest.fixture
def store(state: Any) -> SessionStore:
    return SessionStore(state, Keys("ck", 4), LIFETIMES)


@asynccontextmanager
async def running(feed: RevocationFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    yield
    task.cancel()
    await asyncio.wait([task])
    raise_if_cancelled()
    assert task.cancelled(), task.exception()


async def started(store: SessionStore) -> str:
    token = RefreshToken.new(new_session_id(ME))
    await store.start(ME, token)
    return token.session_id


async def test_a_process_that_starts_knows_what_was_revoked_before(state: Any, store: SessionStore) -> None:
    ids = [await started(store) for _ in range(3)]
    await store.revoke(ids[:2])
    revocations = Revocations(HORIZON)
    await RevocationFeed(store, state, revocations).look()
    assert [revocations.refusal(id_, ISSUED) for id_ in ids] == [TokenCode.REVOKED, TokenCode.REVOKED, None]


async def test_an_announcement_is_heard_at_once(state: Any, store: SessionStore) -> None:
    revocations = Revocations(HORIZON)
    async with running(RevocationFeed(store, state, revocations, look=NEVER)):
        await eventually(lambda: _subscribed(state, store))
        session_id = await started(store)
        await store.revoke([session_id])
        await known(revocations, session_id)


async def test_a_missed_announcement_is_found_by_the_next_look(
    state: Any, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RevocationFeed, "_listen", _deaf)
    revocations = Revocations(HORIZON)
    async with running(RevocationFeed(store, state, revocations, look=timedelta(milliseconds=50))):
        for _ in range(3):
            session_id = await started(store)
            await store.revoke([session_id])
            await known(revocations, session_id)


async def test_a_state_that_is_away_for_a_while_is_looked_at_again(
    state: Any, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, failed = store.revoked_since, 0

    async def away(since: Any) -> Any:
        nonlocal failed
        failed += 1
        if failed < 3:
            raise ConnectionError
        return await answers(since)

    monkeypatch.setattr(RevocationFeed, "_listen", _deaf)
    monkeypatch.setattr(store, "revoked_since", away)
    revocations = Revocations(HORIZON)
    session_id = await started(store)
    await store.revoke([session_id])
    async with running(RevocationFeed(store, state, revocations, look=timedelta(milliseconds=20))):
        await known(revocations, session_id)
    assert failed >= 3


async def test_the_index_is_tidied_up_along_the_way(state: Any, store: SessionStore) -> None:
    session_id = await started(store)
    await state.delete(*[key for key in await state.keys() if key.endswith(session_id.encode())])
    async with running(RevocationFeed(store, state, Revocations(HORIZON), look=timedelta(milliseconds=20))):
        await eventually(lambda: _no_keys(state), within=3)


async def known(revocations: Revocations, session_id: str) -> None:
    """Wait until the process knows that the session is revoked."""

    async def knows() -> bool:
        return revocations.refusal(session_id, ISSUED) is TokenCode.REVOKED

    await eventually(knows, within=3)


async def _subscribed(state: Any, store: SessionStore) -> bool:
    return bool((await state.pubsub_numsub(store.channel))[0][1])


async def _no_keys(state: Any) -> bool:
    return not await state.keys()


async def _deaf(_: RevocationFeed) -> None:
    await asyncio.Event().wait()
