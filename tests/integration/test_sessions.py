"""Sessions through a real gateway and worker: the queue's way to a secret, revoked while queued, signed in again."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from schemas.events import Event, parse_event
from schemas.outcome import EventState
from tests.builders import user_input
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from tests.integration.test_worker import ended, publish
from tests.unit.gateway.parsing import ServerEvent, parse_sse
from workers.chat.sign_in_lock import REASON
from workers.lanes.lanes import Lanes
from workers.lanes.pauses import Paused
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text

pytestmark = pytest.mark.redis

CREATE = Paused("type", "chatkit.threads.create")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(lambda _: Text("Welcome.")) as provider:
        yield provider


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url, **provider.environment) as deployment:
        deployment.worker()
        yield deployment


@pytest.fixture
async def http(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as http:
        yield http


async def sign_in(http: httpx.AsyncClient, user: str = "u1") -> dict[str, Any]:
    answer = await http.post("/v1/sessions", json={"user": user}, headers=SERVICE)
    session: dict[str, Any] = answer.json()
    return session


def bearer(session: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {session['client_secret']}"}


def session_event(name: str, id_: str = "1", user: str = "u1", **data: str) -> Event:
    envelope = {"specversion": "1.0", "id": id_, "source": "/shop", "type": f"chatkit.session.{name}"}
    return parse_event({**envelope, "userid": user, "data": data})


async def stream_of(http: httpx.AsyncClient, event: Event, headers: dict[str, str]) -> httpx.Response:
    return await http.get(f"/v1/events/{event.event_id}/stream", headers=headers)


async def say(http: httpx.AsyncClient, session: dict[str, Any], text: str) -> list[ServerEvent]:
    """Send a message as a page does; everything that it is shown until the stream ends."""
    request = {"type": "threads.create", "params": {"input": user_input(text)}}
    answer = await http.post("/chatkit", json=request, headers=bearer(session))
    assert answer.status_code == 200, answer.text
    return parse_sse(answer.content)


async def test_a_secret_of_the_queue_reaches_its_user_nobody_else_and_is_gone_after_a_minute(
    deployment: Deployment, http: httpx.AsyncClient
) -> None:
    start = session_event("start")
    publish(deployment, start)
    mine, theirs = await sign_in(http), await sign_in(http, "u2")
    async with deployment.lanes() as lanes:
        assert await ended(lanes, start) is EventState.DONE
        assert (await stream_of(http, start, bearer(theirs))).status_code == 404
        frame, end = parse_sse((await stream_of(http, start, bearer(mine))).content)
        effect = json.loads(frame.data)
        assert (effect["type"], effect["name"], end.event) == ("client_effect", "session", "end")
        session = effect["data"]
        assert parse_sse((await stream_of(http, start, SERVICE)).content)[0].data == frame.data

        assert (await http.get(f"/v1/events/{start.event_id}", headers=bearer(session))).json()["state"] == "done"
        answer = await http.post("/v1/sessions/refresh", json={"refresh_token": session["refresh_token"]})
        assert (answer.status_code, answer.json()["session_id"]) == (200, session["session_id"])

        state: Any = lanes._state
        stream = deployment.keys.stream(start.lane, start.event_id)
        assert 0 < await state.pttl(stream) <= 60_000
        await state.delete(stream)  # the minute is over
        assert (await stream_of(http, start, bearer(mine))).status_code == 404
        left = [key async for key in state.scan_iter() if await holds(state, key, session)]
        assert left == [], "nor does it stand anywhere else"


async def holds(state: Any, key: bytes, session: dict[str, Any]) -> bool:
    """Whether a key holds a secret of the session."""
    dumped = await state.dump(key) or b""
    return any(session[name].encode() in dumped for name in ("client_secret", "refresh_token"))


async def test_a_session_that_the_queue_ends_is_refused_by_the_gateway(
    deployment: Deployment, http: httpx.AsyncClient
) -> None:
    session = await sign_in(http)
    publish(deployment, session_event("end", session_id=session["session_id"]))

    async def refused() -> bool:
        answer = await http.post("/chatkit", json={"type": "threads.list", "params": {}}, headers=bearer(session))
        return answer.status_code == 401 and answer.json()["code"] == "session_revoked"

    assert await eventually(refused)
    answer = await http.post("/v1/sessions/refresh", json={"refresh_token": session["refresh_token"]})
    assert answer.json()["code"] == "session_revoked"


async def queued(lanes: Lanes) -> bool:
    return (await lanes.depth()).states[EventState.QUEUED] == 1


async def test_what_waits_of_a_session_that_is_revoked_is_not_run_and_ends_visibly(
    deployment: Deployment, http: httpx.AsyncClient, provider: FakeProvider
) -> None:
    session = await sign_in(http)
    async with deployment.lanes() as lanes:
        await lanes.pauses.pause(CREATE)
        saying = asyncio.create_task(say(http, session, "hello"))
        await eventually(lambda: queued(lanes))
        path = f"/v1/sessions/{session['session_id']}"
        assert (await http.delete(path, headers=bearer(session))).status_code == 204
        await lanes.pauses.resume(CREATE)
        frames = [json.loads(frame.data) for frame in await saying]
        assert (await lanes.depth()).dropped == {"session_revoked": 1}
    assert frames[-1]["type"] == "error"
    assert "session_revoked" in frames[-1]["message"]
    assert provider.calls == []


async def test_the_open_streams_of_a_session_that_is_revoked_break_off_at_every_gateway(
    deployment: Deployment, http: httpx.AsyncClient
) -> None:
    session, event = await sign_in(http), session_event("start", "2")
    async with deployment.lanes() as lanes, httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as other:
        await lanes.pauses.pause(Paused("type", event.type))
        await lanes.pauses.pause(CREATE)
        publish(deployment, event)
        await eventually(lambda: lanes.status(event.event_id))
        saying = asyncio.create_task(say(http, session, "hello"))
        following = asyncio.create_task(stream_of(http, event, bearer(session)))
        trusted = asyncio.create_task(stream_of(http, event, SERVICE))
        await eventually(lambda: queued(lanes))
        assert (await other.delete(f"/v1/sessions/{session['session_id']}", headers=SERVICE)).status_code == 204
        last = json.loads((await saying)[-1].data)
        assert (last["type"], "session_revoked" in last["message"]) == ("error", True)
        assert "event: end" not in (await following).text, "nobody says that the event has ended"
        assert not trusted.done(), "a service goes on"
        trusted.cancel()


async def test_what_waits_of_a_session_that_merely_came_to_its_end_is_run(
    deployment: Deployment, http: httpx.AsyncClient
) -> None:
    session = await sign_in(http)
    async with deployment.lanes() as lanes:
        await lanes.pauses.pause(CREATE)
        saying = asyncio.create_task(say(http, session, "hello"))
        await eventually(lambda: queued(lanes))
        state: Any = lanes._state
        [record] = [key async for key in state.scan_iter(match=f"*{session['session_id']}")]
        await state.delete(record)  # as its expiry does
        await lanes.pauses.resume(CREATE)
        frames = [json.loads(frame.data) for frame in await saying]
    assert "Welcome." in json.dumps(frames)


async def test_a_refused_sign_in_locks_the_composer_until_the_user_is_back(
    http: httpx.AsyncClient, provider: FakeProvider
) -> None:
    provider.answer = lambda _: Status(401)
    session = await sign_in(http)
    request = {"type": "threads.create", "params": {"input": user_input("hello")}}
    told: list[dict[str, Any]] = []
    async with http.stream("POST", "/chatkit", json=request, headers=bearer(session)) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            told.append(json.loads(line.removeprefix("data: ")))
            if told[-1]["type"] == "client_effect":
                assert told[-1]["name"] == "reauthenticate"
                locked = await thread_of(http, session, told)
                assert locked["status"] == {"type": "locked", "reason": REASON}
                provider.answer = lambda _: Text("Welcome back.")
                await sign_in(http)  # the waiting turn goes on, on the same stream
    statuses = [frame["thread"]["status"]["type"] for frame in told if frame["type"] == "thread.updated"]
    assert (statuses[0], statuses[-1]) == ("locked", "active")
    assert statuses == sorted(statuses, reverse=True), "once free, it is not locked again"
    assert "Welcome back." in json.dumps(told)
    assert (await thread_of(http, session, told))["status"] == {"type": "active"}


async def thread_of(http: httpx.AsyncClient, session: dict[str, Any], told: list[dict[str, Any]]) -> dict[str, Any]:
    """The thread as a page that is loaded now gets it."""
    request = {"type": "threads.get_by_id", "params": {"thread_id": told[0]["thread"]["id"]}}
    thread: dict[str, Any] = (await http.post("/chatkit", json=request, headers=bearer(session))).json()
    return thread


async def test_a_waiting_turn_that_is_cancelled_frees_the_composer(
    http: httpx.AsyncClient, provider: FakeProvider
) -> None:
    provider.answer = lambda _: Status(401)
    session = await sign_in(http)
    request = {"type": "threads.create", "params": {"input": user_input("hello")}}
    told: list[dict[str, Any]] = []
    async with http.stream("POST", "/chatkit", json=request, headers=bearer(session)) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            told.append(json.loads(line.removeprefix("data: ")))
            if told[-1]["type"] == "client_effect":
                path = f"/v1/events/{answer.headers['X-Event-Id']}/cancel"
                assert (await http.post(path, headers=bearer(session))).status_code == 202
    statuses = [frame["thread"]["status"]["type"] for frame in told if frame["type"] == "thread.updated"]
    assert (statuses[0], statuses[-1]) == ("locked", "active")
    assert (await thread_of(http, session, told))["status"] == {"type": "active"}
