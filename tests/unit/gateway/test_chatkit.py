"""`POST /chatkit`: who may, what is taken, and what comes back."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import jwt
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from schemas.bindings import BATCH_TYPE
from schemas.events import Event, event_id, parse_event
from schemas.outcome import DeadLettered, DeadReason, Done, Dropped, DropReason
from tests.builders import create_event, user_input
from tests.eventually import eventually
from tests.unit.gateway.stage import BEAT, SERVICE, Stage, calling, create_request, message_request, raw_event
from workers.allow_lists import AllowLists
from workers.errors import DatabaseError, PermanentError
from workers.lanes.records import Settlement
from workers.limits.limiter import Ask
from workers.sessions.tokens import TokenMinter
from workers.setting_types import Limits
from workers.settle import dead_letter
from workers.streams.turn_frames import TurnFrames

UNKNOWN_ID = event_id("/nowhere", "1")


async def test_a_streaming_request_is_answered_by_the_frames_of_its_event(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    answer = await client.post("/chatkit", json=create_request(), headers=stage.bearer())
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["X-Accel-Buffering"] == "no"
    lines = [line for line in answer.text.splitlines() if line and not line.startswith((":", "retry:"))]
    assert lines == ["id: 1-1", f"data: {BEAT.decode()}"]
    status = await stage.lanes.status(answer.headers["X-Event-Id"])
    assert status is not None
    assert (status[1].tenant, status[1].user) == ("acme", "u1")


async def test_the_user_is_the_one_of_the_secret_whatever_the_body_says(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    request = {**create_request(), "metadata": {"userid": "root", "tenant": "other"}}
    answer = await client.post("/chatkit", json=request, headers=stage.bearer("u2", "acme"))
    body = await stage.lanes.body(answer.headers["X-Event-Id"])
    assert body is not None
    event = Event.model_validate_json(body)
    assert (event.tenant, event.userid, event.source) == ("acme", "u2", "/tenants/acme/users/u2")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "Bearer x.y.z", "Bearer \u00e9"])
async def test_without_a_client_secret_there_is_a_401_with_a_code(
    client: httpx.AsyncClient, header: str | None
) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    answer = await client.post("/chatkit", json=create_request(), headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "token_invalid"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_an_expired_secret_says_so(client: httpx.AsyncClient, stage: Stage) -> None:
    minter = TokenMinter(_ring(stage), timedelta(minutes=1), now=lambda: datetime.now(UTC) - timedelta(hours=1))
    headers = {"Authorization": f"Bearer {minter.mint('u1', 'acme').client_secret}"}
    answer = await client.post("/chatkit", json=create_request(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


async def test_a_token_without_a_signature_or_for_another_audience_is_refused(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    secret = stage.minter.mint("u1", "acme").client_secret
    claims = jwt.decode(secret, options={"verify_signature": False})
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"typ": "at+jwt"})
    elsewhere = jwt.encode({**claims, "aud": "elsewhere"}, "s" * 40, headers={"typ": "at+jwt"})
    for token in (unsigned, elsewhere):
        answer = await client.post("/chatkit", json=create_request(), headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


async def test_a_service_key_is_no_client_secret(client: httpx.AsyncClient, stage: Stage) -> None:
    [key] = stage.settings.service_keys
    answer = await client.post("/chatkit", json=create_request(), headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"no json", "body"),
        (b"\xff\xfe", "body"),
        (b"[]", "type"),
        (b"{}", "type"),
        (b'{"type": 7}', "type"),
        (b'{"type": "ui.ready"}', "type"),
        (b'{"type": "session.start"}', "type"),
        (b'{"type": "threads.create"}', "params"),
        (b'{"type": "threads.create", "params": {}}', "params.input"),
        (b'{"type": "threads.add_user_message", "params": {"thread_id": "a b", "input": %s}}', "params.thread_id"),
    ],
)
async def test_a_wrong_body_gets_a_400_that_names_the_field(
    client: httpx.AsyncClient, stage: Stage, body: bytes, field: str
) -> None:
    text = json.dumps(message_request("t")["params"]["input"]).encode()
    answer = await client.post("/chatkit", content=body.replace(b"%s", text), headers=stage.bearer())
    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()["errors"]]


async def test_the_same_key_with_the_same_body_gets_the_same_answer_and_runs_once(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    headers = {**stage.bearer(), "Idempotency-Key": "k1"}
    answers = [await client.post("/chatkit", json=create_request(), headers=headers) for _ in range(3)]
    assert len({answer.headers["X-Event-Id"] for answer in answers}) == 1
    assert answers[0].headers["X-Event-Id"] == event_id("/tenants/acme/users/u1", "k1")
    assert [_frames(answer) for answer in answers] == [[BEAT.decode()]] * 3
    assert len(stage.waker.runs) == 1


async def test_the_same_key_with_another_body_gets_a_422_and_runs_nothing(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    headers = {**stage.bearer(), "Idempotency-Key": "k1"}
    await client.post("/chatkit", json=create_request(), headers=headers)
    answer = await client.post("/chatkit", json=create_request("another"), headers=headers)
    assert answer.status_code == 422
    assert len(stage.waker.runs) == 1


async def test_two_users_with_the_same_key_do_not_meet(client: httpx.AsyncClient, stage: Stage) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await client.post("/chatkit", json=create_request(), headers={**stage.bearer("u1"), **key})
    second = await client.post("/chatkit", json=create_request(), headers={**stage.bearer("u2"), **key})
    assert first.headers["X-Event-Id"] != second.headers["X-Event-Id"]
    assert len(stage.waker.runs) == 2


async def test_a_key_that_is_too_long_is_named(client: httpx.AsyncClient, stage: Stage) -> None:
    headers = {**stage.bearer(), "Idempotency-Key": "k" * 600}
    answer = await client.post("/chatkit", json=create_request(), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize("type_", ["threads.sync_custom_action", "input.transcribe"])
async def test_a_request_that_a_worker_answers_by_json_gets_its_one_frame(
    client: httpx.AsyncClient, stage: Stage, type_: str
) -> None:
    async def answer(frames: TurnFrames, _: Event) -> Settlement:
        return Settlement(frames._lease, Done(), final_frames=[b'{"text":"hi"}'])

    stage.waker.answer = answer
    got = await client.post("/chatkit", json=_worker_request(type_), headers=stage.bearer())
    assert (got.status_code, got.json()) == (200, {"text": "hi"})
    assert got.headers["X-Event-Id"].startswith("evt_")


async def test_a_worker_that_gives_up_is_a_502_with_the_reason(client: httpx.AsyncClient, stage: Stage) -> None:
    async def answer(frames: TurnFrames, event: Event) -> Settlement:
        letter = dead_letter(event, DeadReason.PERMANENT, None, worker="w1", now=datetime.now(UTC))
        return Settlement(frames._lease, DeadLettered(letter.reason), dead=letter)

    stage.waker.answer = answer
    got = await client.post("/chatkit", json=_worker_request("input.transcribe"), headers=stage.bearer())
    assert (got.status_code, got.json()["reason"]) == (502, "permanent")


async def test_a_dropped_request_is_gone(client: httpx.AsyncClient, stage: Stage) -> None:
    async def answer(frames: TurnFrames, _: Event) -> Settlement:
        return Settlement(frames._lease, Dropped(DropReason.EXPIRED))

    stage.waker.answer = answer
    got = await client.post("/chatkit", json=_worker_request("input.transcribe"), headers=stage.bearer())
    assert (got.status_code, got.json()["reason"]) == (410, "expired")


async def test_a_worker_that_takes_too_long_is_a_504(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.waker.asleep = True
    stage.settings = stage.settings.model_copy(update={"turn_seconds": 0.05})
    got = await client.post("/chatkit", json=_worker_request("input.transcribe"), headers=stage.bearer())
    assert got.status_code == 504
    assert got.headers["X-Event-Id"].startswith("evt_")


@pytest.mark.parametrize(
    "request_",
    [
        {"type": "threads.list", "params": {}},
        {"type": "threads.get_by_id", "params": {"thread_id": "thr_1"}},
        {"type": "items.list", "params": {"thread_id": "thr_1"}},
        {"type": "threads.update", "params": {"thread_id": "thr_1", "title": "x"}},
        {"type": "items.feedback", "params": {"thread_id": "thr_1", "item_ids": ["i"], "kind": "positive"}},
        {"type": "attachments.create", "params": {"name": "a", "size": 1, "mime_type": "text/plain"}},
        {"type": "attachments.delete", "params": {"attachment_id": "a"}},
    ],
)
async def test_what_needs_no_worker_is_answered_here(
    client: httpx.AsyncClient, stage: Stage, request_: dict[str, Any]
) -> None:
    stage.reads.owners["thr_1"] = "acme/u1"
    answer = await client.post("/chatkit", json=request_, headers=stage.bearer())
    assert (answer.status_code, answer.json()) == (200, {"type": request_["type"], "user": "u1"})
    assert stage.reads.asked[-1]["params"].items() >= request_["params"].items()
    assert stage.waker.woken == []


async def test_deleting_a_thread_stops_what_runs_and_waits_in_it(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.waker.asleep = True
    stage.reads.owners["thr_1"] = "acme/u1"
    waiting = [
        asyncio.create_task(client.post("/chatkit", json=message_request("thr_1", text), headers=stage.bearer()))
        for text in ("one", "two")
    ]
    await eventually(partial(_waiting, stage, 2))
    stopped = await stage.lanes.events_of("acme/thr_1")
    await _in_line(stage, *stopped)
    request = {"type": "threads.delete", "params": {"thread_id": "thr_1"}}
    answer = await client.post("/chatkit", json=request, headers=stage.bearer())
    assert answer.status_code == 200
    assert await stage.lanes.events_of("acme/thr_1") == []
    assert await stage.limiter.places(stopped) == [None, None]
    for answer in await asyncio.gather(*waiting):
        status = await stage.lanes.status(answer.headers["X-Event-Id"])
        assert status is not None
        assert (status[0].state, status[0].reason) == ("cancelled", "thread_deleted")


async def test_another_users_thread_is_not_found_and_nothing_in_it_is_stopped(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    stage.waker.asleep = True
    stage.reads.owners["thr_1"] = "acme/u1"
    waiting = asyncio.create_task(client.post("/chatkit", json=message_request("thr_1"), headers=stage.bearer()))
    await eventually(partial(_waiting, stage, 1))
    request = {"type": "threads.delete", "params": {"thread_id": "thr_1"}}
    answer = await client.post("/chatkit", json=request, headers=stage.bearer("u2"))
    assert answer.status_code == 404
    assert len(await stage.lanes.events_of("acme/thr_1")) == 1
    waiting.cancel()


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (DatabaseError("locked"), 503),
        (PermanentError("the request does not fit"), 400),
        (RedisConnectionError("secret-host refused"), 503),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'"), 503),
        (KeyError("a bug with secret-text"), 500),
    ],
)
async def test_a_failure_is_a_clear_answer_that_tells_nothing_of_the_inside(
    client: httpx.AsyncClient, stage: Stage, failure: Exception, status: int
) -> None:
    stage.reads.failure = failure
    request = {"type": "threads.list", "params": {}}
    answer = await client.post("/chatkit", json=request, headers=stage.bearer())
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert "secret" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_last_event_id_goes_on_after_a_frame_and_is_checked(client: httpx.AsyncClient, stage: Stage) -> None:
    headers = {**stage.bearer(), "Idempotency-Key": "k1"}
    await client.post("/chatkit", json=create_request(), headers=headers)
    again = await client.post("/chatkit", json=create_request(), headers={**headers, "Last-Event-ID": "1-1"})
    assert (again.status_code, _frames(again)) == (200, [])
    wrong = await client.post("/chatkit", json=create_request(), headers={**headers, "Last-Event-ID": "77-1"})
    assert wrong.status_code == 400
    assert "Last-Event-ID" in wrong.json()["detail"]


async def _waiting(stage: Stage, count: int) -> bool:
    return len(await stage.lanes.events_of("acme/thr_1")) == count


async def _in_line(stage: Stage, *event_ids: str) -> None:
    """Let events of the thread stand in line for the model."""
    limits = Limits.model_validate({"models": {"m": {"rpm": 1}}})
    await stage.limiter.set_limits(limits)
    first = create_event("something else")
    bodies: list[Any] = [await stage.state.get(f"{stage.keys.tag_of('acme/thr_1')}body:{id_}") for id_ in event_ids]
    for event in (first, *map(parse_event, bodies)):
        await stage.limiter.reserve(Ask(event, event.lane, "q", "m"), "t1", timedelta(minutes=1))
    assert None not in await stage.limiter.places(event_ids)


@pytest.mark.parametrize(("first", "is_told"), [("u1", True), ("u2", False)])
async def test_the_stream_of_a_thread_tells_the_place_in_line_of_the_users_own_event_only(
    client: httpx.AsyncClient, stage: Stage, first: str, is_told: bool
) -> None:
    stage.waker.asleep = True
    stage.reads.owners["thr_1"] = "acme/u1"
    ids = []
    for number, user in enumerate((first, "u1")):
        event = raw_event(str(number), message_request("thr_1"), userid=user)
        ids.append((await client.post("/v1/events", json=event, headers=SERVICE)).json()["id"])
    await _in_line(stage, ids[0])  # only the head of a lane asks for the model
    following = asyncio.create_task(client.get("/v1/threads/thr_1/stream", headers=stage.bearer()))
    await asyncio.sleep(1)  # a stream without an end; it tells its place within two idle looks of 200 ms
    stage.reader.end_all()
    told = [frame for frame in _frames(await following) if "in line, about" in frame]
    assert bool(told) is is_told


def _worker_request(type_: str) -> dict[str, Any]:
    if type_ == "input.transcribe":
        return {"type": type_, "params": {"audio_base64": "aGk=", "mime_type": "audio/webm"}}
    return {"type": type_, "params": {"thread_id": "thr_1", "action": {"type": "x", "payload": {}}}}


def _frames(answer: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]


def _ring(stage: Stage) -> Any:
    return stage.verifier._keys


async def test_what_is_on_no_list_of_the_deployment_is_refused_before_the_queue(stage: Stage) -> None:
    stage.allowed = AllowLists.of(stage.settings.model_copy(update={"actions": {"ping": {}}}))
    params = {"thread_id": "thr_1", "action": {"type": "explode", "payload": {}}}
    dear = {"type": "threads.create", "params": {"input": {**user_input("hi"), "inference_options": {"model": "o9"}}}}
    async with calling(stage) as client:
        for request, field in (
            ({"type": "threads.custom_action", "params": params}, "params.action.type"),
            ({"type": "threads.sync_custom_action", "params": params}, "params.action.type"),
            (dear, "params.input.inference_options.model"),
        ):
            answer = await client.post("/chatkit", json=request, headers=stage.bearer())
            assert answer.status_code == 400
            [error] = answer.json()["errors"]
            assert error["field"] == field
            assert "is not allowed here; CHATKIT_" in error["message"]
        event = raw_event(request=dear)
        answer = await client.post("/v1/events", json=event, headers=SERVICE)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (
            400,
            "data.params.input.inference_options.model",
        )
        batch = [raw_event("2"), event]
        answer = await client.post(
            "/v1/events", content=json.dumps(batch), headers=SERVICE | {"Content-Type": BATCH_TYPE}
        )
        assert answer.status_code == 202
        assert [place.get("error", {}).get("status") for place in answer.json()] == [None, 400]
    assert len(stage.waker.woken) == 1


async def test_a_request_that_asks_for_it_is_rejected_while_its_conversation_is_busy(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    stage.waker.asleep = True
    running = await client.post("/v1/events", json=raw_event(), headers=SERVICE)
    request = {**message_request(running.json()["thread_id"]), "metadata": {"double_text": "reject"}}
    stage.reads.owners[running.json()["thread_id"]] = "acme/u1"
    refused = await client.post("/chatkit", json=request, headers=stage.bearer())
    assert refused.status_code == 409
    assert (refused.json()["reason"], refused.json()["event_id"]) == ("busy", running.json()["id"])
    published = await client.post("/v1/events", json=raw_event("2", request), headers=SERVICE)
    assert (published.status_code, published.json()["reason"]) == (409, "busy")
    wrong = {**request, "metadata": {"double_text": "shout"}}
    invalid = await client.post("/chatkit", json=wrong, headers=stage.bearer())
    assert (invalid.status_code, invalid.json()["errors"][0]["field"]) == (400, "metadata.double_text")
