"""The whole way: every way in, a worker, a gateway, clients. Real processes over a real Redis."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import redis.asyncio
from celery import Celery

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event, feedback_event, message_event, user_input
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from workers.publisher import Publisher

pytestmark = pytest.mark.redis

STRUCTURED = {"Content-Type": "application/cloudevents+json"}


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url) as deployment:
        yield deployment


@pytest.fixture
async def http(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway; a worker stands behind it."""
    deployment.worker("tests.model_worker")
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as client:
        yield client


async def read_stream(http: httpx.AsyncClient, event_id: str, headers: dict[str, str], after: str | None = None) -> str:
    given = headers | ({"Last-Event-ID": after} if after else {})
    async with http.stream("GET", f"/v1/events/{event_id}/stream", headers=given) as answer:
        assert answer.status_code == 200
        return "".join([chunk async for chunk in answer.aiter_text()])


def lines_of(stream: str) -> list[str]:
    """The stream without keep-alive comments and hints."""
    return [line for line in stream.splitlines() if line.startswith(("id:", "data:", "event:"))]


def ids_of(stream: str) -> list[str]:
    return [line.removeprefix("id:").strip() for line in stream.splitlines() if line.startswith("id:")]


@pytest.mark.rabbitmq
async def test_the_same_event_a_hundred_times_over_every_way_in_is_one_turn(
    deployment: Deployment, http: httpx.AsyncClient, rabbitmq_url: str
) -> None:
    deployment.worker("tests.model_worker", CHATKIT_BROKER_URL=rabbitmq_url)  # beside the one on Redis, on one state
    event = create_event("hello", source="/tenants/default/users/u1")  # as of that user's Idempotency-Key
    body = json.loads(event.to_json())
    user = await sign_in(http)
    celery = Celery(broker=deployment.broker_url, set_as_current=False)
    raw = redis.asyncio.Redis.from_url(deployment.broker_url)

    async def over_http() -> dict[str, Any]:
        answer = await http.post("/v1/events", content=event.to_json(), headers=SERVICE | STRUCTURED)
        assert answer.status_code == (200 if answer.json()["duplicate"] else 202), answer.text
        return dict(answer.json())

    async def over_page() -> str:
        answer = await http.post("/chatkit", json=body["data"], headers=user | {"Idempotency-Key": event.id})
        assert (answer.status_code, answer.headers["X-Event-Id"]) == (200, event.event_id), answer.text
        return answer.text

    async def over_publisher() -> dict[str, Any]:
        with Publisher(deployment.broker_url) as publisher:
            return (await publisher.apublish(event)).model_dump()

    async def over_amqp() -> dict[str, Any]:
        with Publisher(rabbitmq_url) as publisher:
            return (await publisher.apublish(event)).model_dump()

    async def over_stream() -> None:
        await raw.xadd("ck:ingress", {"event": event.to_json()})

    async def over_celery() -> None:
        await asyncio.to_thread(celery.send_task, "chatkit.ingest", [body], queue="chatkit.events")

    ways = [over_http, over_page, over_publisher, over_amqp, over_stream, over_celery]
    told = await asyncio.gather(*(ways[n % len(ways)]() for n in range(100)))
    told.append(await over_http())
    celery.close()
    await raw.aclose()
    answers = [answer for answer in told if isinstance(answer, dict)]
    assert {answer["id"] for answer in answers} == {event.event_id}
    assert {answer["thread_id"] for answer in answers} == {event.thread_id}
    # of all ways in one was the first; who comes when all is over is surely not
    assert [answer.get("duplicate") for answer in answers].count(False) <= 1
    assert (answers[-1]["duplicate"], answers[-1]["state"]) == (True, "done")
    pages = {tuple(lines_of(answer)) for answer in told if isinstance(answer, str)}
    assert len(pages) == 1
    stream = await read_stream(http, event.event_id, SERVICE)
    assert stream.count('"thread.created"') == 1
    assert stream.count("event: end") == 1
    async with deployment.lanes() as lanes:

        async def drained() -> bool:
            return (await lanes.depth()).lanes == 0

        assert await eventually(drained)
        assert (await lanes.depth()).states[EventState.DONE] == 1
    thread = await http.post("/chatkit", json=request("threads.get_by_id", thread_id=event.thread_id), headers=user)
    kinds = [item["type"] for item in thread.json()["items"]["data"]]
    assert kinds == ["user_message", "assistant_message"]


def request(type_: str, **params: Any) -> dict[str, Any]:
    return {"type": type_, "params": params}


async def test_a_page_talks_and_reads_back_what_was_said(http: httpx.AsyncClient) -> None:
    user = await sign_in(http)
    answer = await http.post("/chatkit", json=request("threads.create", input=user_input("hello")), headers=user)
    assert answer.status_code == 200
    assert answer.headers["X-Event-Id"].startswith("evt_")
    assert "event: end" not in answer.text
    thread_id = json.loads(answer.text.split("data: ", 1)[1].split("\n", 1)[0])["thread"]["id"]
    more = await http.post(
        "/chatkit",
        json=request("threads.add_user_message", thread_id=thread_id, input=user_input("and?")),
        headers=user,
    )
    assert "thread.item.done" in more.text
    listed = await http.post("/chatkit", json=request("items.list", thread_id=thread_id, order="asc"), headers=user)
    kinds = [item["type"] for item in listed.json()["data"]]
    assert kinds == ["user_message", "assistant_message"] * 2
    foreign = await http.post(
        "/chatkit", json=request("items.list", thread_id=thread_id), headers=await sign_in(http, "u2")
    )
    assert foreign.status_code == 404


async def test_a_closed_connection_does_not_stop_the_turn_and_every_resumption_gets_the_same_bytes(
    http: httpx.AsyncClient,
) -> None:
    user = await sign_in(http)
    body = request("threads.create", input=user_input("hello"))
    async with http.stream("POST", "/chatkit", json=body, headers=user) as answer:
        event_id = answer.headers["X-Event-Id"]
        await anext(answer.aiter_text())
    undisturbed = await read_stream(http, event_id, user)
    assert '"state":"done"' in undisturbed.replace(" ", "")
    ids = ids_of(undisturbed)
    assert ids == sorted(ids, key=lambda id_: tuple(map(int, id_.split("-"))))
    assert len(set(ids)) == len(ids)
    whole = lines_of(undisturbed)
    for id_ in ids[::3]:
        rest = lines_of(await read_stream(http, event_id, user, after=id_))
        kept = whole[: whole.index(f"id: {id_}") + 2]
        assert kept + rest == whole


async def test_another_users_token_finds_nothing(http: httpx.AsyncClient) -> None:
    event = create_event("hello")
    await http.post("/v1/events", content=event.to_json(), headers=SERVICE | {"Content-Type": "application/json"})
    stranger = await sign_in(http, "u2")
    assert (await http.get(f"/v1/events/{event.event_id}", headers=stranger)).status_code == 404
    assert (await http.get(f"/v1/events/{event.event_id}/stream", headers=stranger)).status_code == 404
    assert (await http.post(f"/v1/events/{event.event_id}/cancel", headers=stranger)).status_code == 404
    foreign = message_event(str(event.thread_id), "let me in", userid="u2")
    await http.post("/v1/events", content=foreign.to_json(), headers=SERVICE | {"Content-Type": "application/json"})
    assert await ends(http, foreign) == "dead"


async def test_an_event_without_a_model_over_http_ends_done(http: httpx.AsyncClient) -> None:
    first = create_event("hello")
    for event in (first, feedback_event(str(first.thread_id))):
        accepted = await http.post("/v1/events", content=event.to_json(), headers=SERVICE | STRUCTURED)
        assert accepted.status_code == 202
        assert await ends(http, event) == "done"  # so each heads its lane, and nothing but its own task wakes it


async def ends(http: httpx.AsyncClient, event: Event) -> str:
    async def state() -> str | None:
        answer = (await http.get(f"/v1/events/{event.event_id}", headers=SERVICE)).json()
        return str(answer["state"]) if answer["ended_at"] else None

    ended = await eventually(state)
    assert ended is not None
    return ended
