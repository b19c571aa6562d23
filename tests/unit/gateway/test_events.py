"""`/v1/events`: publishing in every mode, looking, cancelling, and whom an event belongs to."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from schemas.bindings import MAX_BATCH_EVENTS
from schemas.events import event_id
from tests.unit.gateway.conftest import beat
from tests.unit.gateway.stage import SERVICE, Stage, calling, create_request, message_request, raw_event, stage_on

ID = event_id("/shop", "1")
BATCH = {**SERVICE, "Content-Type": "application/cloudevents-batch+json"}


async def publish(client: httpx.AsyncClient, event: dict[str, Any], **headers: str) -> httpx.Response:
    kind = {"Content-Type": "application/cloudevents+json"}
    return await client.post("/v1/events", content=json.dumps(event), headers={**SERVICE, **kind, **headers})


async def publish_batch(client: httpx.AsyncClient, events: Any) -> httpx.Response:
    return await client.post("/v1/events", content=json.dumps(events), headers=BATCH)


async def test_an_event_is_accepted_once_and_says_so(client: httpx.AsyncClient, stage: Stage) -> None:
    first, second = await publish(client, raw_event()), await publish(client, raw_event())
    thread = "thr_" + ID.removeprefix("evt_")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == {"id": ID, "thread_id": thread, "state": "queued", "duplicate": False}
    assert {**second.json(), "state": None} == {"id": ID, "thread_id": thread, "state": None, "duplicate": True}
    assert first.headers["Location"] == second.headers["Location"] == f"/v1/events/{ID}"
    assert len(stage.waker.runs) == 1


async def test_a_hundred_publications_at_once_are_one_acceptance(client: httpx.AsyncClient, stage: Stage) -> None:
    answers = await asyncio.gather(*(publish(client, raw_event()) for _ in range(100)))
    assert sorted(answer.status_code for answer in answers) == [200] * 99 + [202]
    assert {answer.json()["id"] for answer in answers} == {ID}
    await asyncio.gather(*stage.waker.tasks)
    assert stage.waker.runs == [ID]


async def test_plain_json_is_structured_mode(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", json=raw_event(), headers=SERVICE)
    assert (answer.status_code, answer.json()["id"]) == (202, ID)


async def test_binary_mode_takes_its_attributes_from_headers(client: httpx.AsyncClient, stage: Stage) -> None:
    event = raw_event(userid="Zo%C3%AB")
    headers = {f"ce-{name}": value for name, value in event.items() if name != "data"}
    answer = await client.post("/v1/events", json=event["data"], headers={**SERVICE, **headers})
    assert (answer.status_code, answer.json()["id"]) == (202, ID)
    found = await stage.lanes.status(ID)
    assert found is not None
    assert found[1].user == "Zoë"


async def test_a_batch_keeps_its_order_and_answers_each_place(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.waker.asleep = True
    events: list[Any] = [raw_event(str(number), message_request("thr_1", str(number))) for number in range(250)]
    events[7] = {"specversion": "1.0"}
    events[8] = "no event"
    answer = await publish_batch(client, events)
    assert answer.status_code == 202
    places = answer.json()
    assert places[7]["error"]["status"] == places[8]["error"]["status"] == 400
    assert {"id", "source", "type", "data"} <= {error["field"] for error in places[7]["error"]["errors"]}
    ids = [place["id"] for place in places if "id" in place]
    assert ids == [event_id("/shop", str(number)) for number in range(250) if number not in {7, 8}]
    assert await stage.lanes.events_of("acme/thr_1") == ids
    assert (await publish_batch(client, events)).status_code == 200


@pytest.mark.parametrize(
    ("batch", "status", "field"),
    [({}, 400, "batch"), ([{}] * (MAX_BATCH_EVENTS + 1), 400, "batch"), ([], 200, None), ([{}], 400, None)],
)
async def test_a_batch_that_is_none_is_refused_as_a_whole(
    client: httpx.AsyncClient, batch: Any, status: int, field: str | None
) -> None:
    answer = await publish_batch(client, batch)
    assert answer.status_code == status
    if field is not None:
        assert answer.json()["errors"][0]["field"] == field


async def test_one_event_of_a_batch_that_is_too_large_is_named_in_its_place(client: httpx.AsyncClient) -> None:
    answer = await publish_batch(client, [raw_event("1", create_request("x" * 1_100_000)), raw_event("2")])
    assert answer.status_code == 202
    assert [place.get("error", {}).get("status") for place in answer.json()] == [413, None]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"no json", ["event"]),
        (b"\xff", ["event"]),
        (b"[]", ["event"]),
        (
            json.dumps({"specversion": "1.0", "type": "chatkit.nope"}).encode(),
            ["id", "source", "type", "data", "userid"],
        ),
        (json.dumps(raw_event(type="chatkit.nope")).encode(), ["type"]),
        (json.dumps(raw_event(subject="thr_other")).encode(), ["subject"]),
        (json.dumps(raw_event(time="yesterday", userid="a/b")).encode(), ["time", "userid"]),
    ],
)
async def test_a_wrong_event_gets_a_400_that_names_every_wrong_field(
    client: httpx.AsyncClient, body: bytes, fields: list[str]
) -> None:
    headers = {**SERVICE, "Content-Type": "application/cloudevents+json"}
    answer = await client.post("/v1/events", content=body, headers=headers)
    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == set(fields)


async def test_another_content_type_is_a_415(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", content="x", headers={**SERVICE, "Content-Type": "text/xml"})
    assert answer.status_code == 415


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic a-service-key"}])
async def test_publishing_needs_a_service_key(client: httpx.AsyncClient, header: dict[str, str]) -> None:
    answer = await client.post("/v1/events", json=raw_event(), headers=header)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


async def test_a_client_secret_publishes_no_event_but_those_of_a_page(client: httpx.AsyncClient, stage: Stage) -> None:
    answer = await client.post("/v1/events", json=raw_event(), headers=stage.bearer())
    assert answer.status_code == 401


async def test_full_lanes_and_a_full_system_are_a_429_with_a_time_to_come_back() -> None:
    state = FakeAsyncRedis()
    async with stage_on(state, "ck", beat, per_lane=2, shards=1, waiting=3) as stage, calling(stage) as client:
        stage.waker.asleep = True
        events = [raw_event(str(number), message_request("thr_1")) for number in range(3)]
        answers = [await publish(client, event) for event in events]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert int(answers[2].headers["Retry-After"]) >= 1
        assert answers[2].json()["reason"] == "lane_full"
        batch = await publish_batch(client, [raw_event("x", message_request("thr_2")), events[2], raw_event("y")])
        assert batch.status_code == 202
        assert [place.get("error", {}).get("reason") for place in batch.json()] == [None, "lane_full", "system_full"]
        assert int(batch.headers["Retry-After"]) >= 1
        full = await publish_batch(client, [raw_event("z")])
        assert full.status_code == 429
        chat = await client.post("/chatkit", json=create_request(), headers=stage.bearer())
        assert (chat.status_code, chat.json()["reason"]) == (429, "system_full")
    await state.aclose()


async def test_the_state_of_an_event_is_shown_to_its_owner_and_to_services_only(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    await publish(client, raw_event())
    await asyncio.gather(*stage.waker.tasks)
    for headers in (SERVICE, stage.bearer("u1", "acme")):
        answer = await client.get(f"/v1/events/{ID}", headers=headers)
        assert answer.status_code == 200
        assert answer.json().items() >= {"id": ID, "state": "done", "type": "chatkit.threads.create"}.items()
        followed = await client.get(f"/v1/events/{ID}/stream", headers=headers)
        assert followed.text.endswith('event: end\ndata: {"state":"done","reason":null}\n\n')
    for headers in (stage.bearer("u2", "acme"), stage.bearer("u1", "other")):
        for method, path in (("GET", ""), ("GET", "/stream"), ("POST", "/cancel")):
            answer = await client.request(method, f"/v1/events/{ID}{path}", headers=headers)
            assert (answer.status_code, answer.json()["detail"]) == (404, "no such event")
    assert (await client.get(f"/v1/events/{ID}")).status_code == 401


@pytest.mark.parametrize("unknown", [event_id("/nowhere", "1"), "x", "{s1}", "..", "%00", "e" * 500])
async def test_an_unknown_event_is_not_found(client: httpx.AsyncClient, unknown: str) -> None:
    for path in ("", "/stream"):
        answer = await client.get(f"/v1/events/{unknown}{path}", headers=SERVICE)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_cancelling_a_waiting_event_ends_it_and_wakes_the_next(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.waker.asleep = True
    events = [raw_event(str(number), message_request("thr_1")) for number in range(2)]
    for event in events:
        await publish(client, event)
    first, second = (event_id("/shop", event["id"]) for event in events)
    stage.waker.woken.clear()
    answer = await client.post(f"/v1/events/{first}/cancel", headers=stage.bearer())
    assert answer.status_code == 202
    assert [wake.event_id for wake in stage.waker.woken] == [second]
    status = (await client.get(f"/v1/events/{first}", headers=SERVICE)).json()
    assert (status["state"], status["reason"]) == ("cancelled", "user")
    assert (await client.post(f"/v1/events/{first}/cancel", headers=stage.bearer())).status_code == 409
    await client.post(f"/v1/events/{second}/cancel", headers=SERVICE)
    assert (await client.get(f"/v1/events/{second}", headers=SERVICE)).json()["reason"] == "operator"


@pytest.mark.parametrize("last", ["nonsense", "1-77", "9-1", "1-1\tx"])
async def test_a_last_event_id_of_another_stream_is_a_400(client: httpx.AsyncClient, stage: Stage, last: str) -> None:
    await publish(client, raw_event())
    await asyncio.gather(*stage.waker.tasks)
    answer = await client.get(f"/v1/events/{ID}/stream", headers={**SERVICE, "Last-Event-ID": last})
    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.json()["detail"]
