"""`/v1/dead`: dead letters over HTTP."""

from datetime import UTC, datetime, timedelta

import httpx

from schemas.events import parse_event
from schemas.outcome import DeadLettered, DeadReason, ErrorRecord
from tests.unit.gateway.stage import SERVICE, Stage, message_request, raw_event
from workers.lanes.records import Begun, Settlement, Start
from workers.settle import dead_letter


async def die(stage: Stage, client: httpx.AsyncClient, number: int, thread: str = "thr_1") -> str:
    """Publish a message and give it up; its id."""
    raw = raw_event(str(number), message_request(thread, f"secret {number}"))
    event = parse_event(raw)
    assert (await client.post("/v1/events", json=raw, headers=SERVICE)).status_code == 202
    [begun] = await stage.lanes.begin([Start(event.lane, event.event_id, f"token-{number}")])
    assert isinstance(begun, Begun)
    outcome = DeadLettered(DeadReason.PERMANENT, ErrorRecord(kind="BadRequestError", message="HTTP 400"))
    letter = dead_letter(event, DeadReason.PERMANENT, "BadRequestError: HTTP 400", worker="w1", now=datetime.now(UTC))
    await stage.lanes.settle([Settlement(begun.lease, outcome, dead=letter)])
    return event.event_id


async def test_dead_letters_are_listed_newest_first_without_what_people_wrote(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    stage.waker.asleep = True
    ids = [await die(stage, client, number, f"thr_{number}") for number in range(3)]
    answer = await client.get("/v1/dead", headers=SERVICE)
    assert answer.status_code == 200
    assert [item["id"] for item in answer.json()["items"]] == ids[::-1]
    assert answer.json()["next"] is None
    item = answer.json()["items"][0]
    expected = {
        "type": "chatkit.threads.add_user_message",
        "thread_id": "thr_2",
        "tenant": "acme",
        "reason": "permanent",
    }
    assert expected.items() <= item.items()
    assert {"source", "error", "died_at", "trace_id"} <= item.keys()
    assert [attempt["error"] for attempt in item["attempts"]] == ["BadRequestError: HTTP 400"]
    assert "secret" not in answer.text
    assert "secret 2" in (await client.get(f"/v1/dead/{ids[2]}", headers=SERVICE)).json()["body"]


async def test_pages_and_filters(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.waker.asleep = True
    ids = [await die(stage, client, number, f"thr_{number}") for number in range(3)]
    first = (await client.get("/v1/dead", params={"limit": 2}, headers=SERVICE)).json()
    second = (await client.get("/v1/dead", params={"limit": 2, "after": first["next"]}, headers=SERVICE)).json()
    assert [item["id"] for item in [*first["items"], *second["items"]]] == ids[::-1]

    async def listed(**params: str) -> int:
        return len((await client.get("/v1/dead", params=params, headers=SERVICE)).json()["items"])

    assert await listed(thread="thr_1", tenant="acme", reason="permanent", type="threads.*") == 1
    assert await listed(reason="bug") == 0
    assert await listed(since=(datetime.now(UTC) - timedelta(hours=1)).isoformat()) == 3
    assert await listed(since=(datetime.now(UTC) + timedelta(hours=1)).isoformat()) == 0


async def test_wrong_parameters_are_named(client: httpx.AsyncClient) -> None:
    for params in ({"reason": "none"}, {"limit": "0"}, {"after": "x"}, {"since": "now"}):
        answer = await client.get("/v1/dead", params=params, headers=SERVICE)
        assert answer.status_code == 400
        assert next(iter(params)) in answer.text


async def test_a_redrive_runs_it_again_once(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.waker.asleep = True
    dead_id = await die(stage, client, 1)
    stage.waker.asleep = False
    runs = len(stage.waker.runs)
    answer = await client.post(f"/v1/dead/{dead_id}/redrive", headers=SERVICE)
    assert (answer.status_code, answer.json()) == (202, {"id": dead_id, "state": "queued"})
    again = await client.post(f"/v1/dead/{dead_id}/redrive", headers=SERVICE)
    assert (again.status_code, again.json()["reason"]) == (409, "gone")
    assert stage.waker.runs[runs:] == [dead_id]


async def test_a_superseded_event_is_a_conflict_unless_forced(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.waker.asleep = True
    dead_id = await die(stage, client, 1)
    await die(stage, client, 2)
    refused = await client.post(f"/v1/dead/{dead_id}/redrive", headers=SERVICE)
    assert (refused.status_code, refused.json()["reason"]) == (409, "superseded")
    forced = await client.post(f"/v1/dead/{dead_id}/redrive", params={"force": "true"}, headers=SERVICE)
    assert forced.status_code == 202


async def test_only_a_service_key_is_taken(client: httpx.AsyncClient, stage: Stage) -> None:
    for method, path in (("GET", "/v1/dead"), ("GET", "/v1/dead/evt_1"), ("POST", "/v1/dead/evt_1/redrive")):
        assert (await client.request(method, path, headers=stage.bearer())).status_code == 401
        if path != "/v1/dead":
            assert (await client.request(method, path, headers=SERVICE)).status_code == 404
