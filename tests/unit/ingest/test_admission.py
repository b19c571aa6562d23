"""What the queues do with what upstream sent."""

import asyncio
import base64
import json
from collections.abc import Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.events import MAX_EVENT_BYTES
from schemas.outcome import DeadReason
from schemas.records import DeadLetter
from tests.builders import feedback_event, message_event, request_event
from tests.unit.ingest.doubles import Bench, MemoryLanes, fixed_now
from workers.allow_lists import AllowLists
from workers.ingest.admission import Admission, Admitted
from workers.ingest.letters import MAX_KEPT_BYTES, raw_id
from workers.settings import Settings

SOURCE = "stream ck:ingress"


def admission_of(bench: Bench) -> Admission:
    return Admission(bench.intake, bench.lanes, worker="w1", max_event_bytes=MAX_EVENT_BYTES, now=fixed_now)


async def test_valid_events_are_accepted_in_order() -> None:
    async with Bench() as bench:
        events = [message_event("thr_1") for _ in range(5)]
        raws = [event.to_json().encode() for event in events]
        assert await admission_of(bench).admit(raws, source=SOURCE) == Admitted(accepted=5)
        assert list(bench.lanes.accepted) == [event.event_id for event in events]


async def test_an_event_that_is_not_let_through_is_a_dead_letter_that_says_why() -> None:
    async with Bench() as bench:
        allowed = AllowLists.of(Settings(actions={"ping": {}}))
        admission = Admission(
            bench.intake, bench.lanes, worker="w1", max_event_bytes=MAX_EVENT_BYTES, now=fixed_now, check=allowed.check
        )
        action = {"thread_id": "thr_1", "action": {"type": "CANARY", "payload": {}}}
        raw = request_event("threads.custom_action", action).to_json().encode()
        good = message_event("thr_1").to_json().encode()
        assert await admission.admit([raw, good], source=SOURCE) == Admitted(accepted=1, buried=1)
        [letter] = bench.lanes.buried
        assert letter.reason is DeadReason.INVALID
        assert letter.error == "data.params.action.type: is not allowed here; CHATKIT_ACTIONS allows ping"


async def test_events_that_celery_decoded_already_are_taken_too() -> None:
    async with Bench() as bench:
        event = message_event("thr_1").model_dump(mode="json", exclude_unset=True)
        assert await admission_of(bench).admit([event, event], source=SOURCE) == Admitted(accepted=1, duplicates=1)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"hello", "is not JSON"),
        (b"\xff\xfe{}", "is not UTF-8"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "specversion"),
        (b" " * (MAX_EVENT_BYTES + 1), "at most"),
        (b"", "is not JSON"),
        (b"null", "must be a JSON object"),
    ],
)
async def test_junk_is_kept_with_its_reason_and_its_bytes_and_the_queue_goes_on(raw: bytes, words: str) -> None:
    async with Bench() as bench:
        good = message_event("thr_1").to_json().encode()
        admitted = await admission_of(bench).admit([raw, good], source=SOURCE)
        assert admitted == Admitted(accepted=1, buried=1)
        [letter] = bench.lanes.buried
        assert letter.reason is DeadReason.INVALID
        assert words in (letter.error or "")
        assert letter.raw
        assert base64.b64decode(letter.body or "") == raw[:MAX_KEPT_BYTES]
        assert (f"the first {MAX_KEPT_BYTES} of {len(raw)} bytes are kept" in (letter.error or "")) is (
            len(raw) > MAX_KEPT_BYTES
        )
        assert letter.source == SOURCE
        assert letter.id == raw_id(raw)


@pytest.mark.parametrize(
    "value", ['{"specversion": "1.0"}', None, 3, 1.5, True, [], ["text"], json.loads("[" * 500 + "]" * 500), "\ud800"]
)
async def test_what_celery_decoded_and_is_no_object_is_kept_as_json_and_the_queue_goes_on(value: object) -> None:
    async with Bench() as bench:
        good = message_event("thr_1").model_dump(mode="json", exclude_unset=True)
        assert await admission_of(bench).admit([value, good], source=SOURCE) == Admitted(accepted=1, buried=1)
        [letter] = bench.lanes.buried
        assert letter.error == "event: must be a JSON object with the CloudEvents attributes"
        assert json.loads(base64.b64decode(letter.body or "")) == value


@pytest.mark.parametrize("value", [json.loads("[" * 500 + "]" * 500), "\ud800"])
async def test_an_object_that_is_no_json_of_ours_is_kept_as_it_came(value: object) -> None:
    async with Bench() as bench:
        given = {**message_event("thr_1").model_dump(mode="json", exclude_unset=True), "note": value}
        assert await admission_of(bench).admit([given], source=SOURCE) == Admitted(buried=1)
        [letter] = bench.lanes.buried
        assert json.loads(base64.b64decode(letter.body or "")) == given


async def test_a_full_lane_makes_a_confirmed_event_a_dead_letter_that_can_be_redriven() -> None:
    async with Bench(lanes=MemoryLanes(lane_bound=1)) as bench:
        first, second = message_event("thr_1"), message_event("thr_1")
        raws = [event.to_json().encode() for event in (first, second)]
        assert await admission_of(bench).admit(raws, source=SOURCE) == Admitted(accepted=1, buried=1)
        [letter] = bench.lanes.buried
        assert (letter.id, letter.reason, letter.raw) == (second.event_id, DeadReason.OVERFLOW, False)
        assert letter.body == second.to_json()


async def test_a_full_system_makes_the_queue_wait_and_loses_no_order() -> None:
    async with Bench(lanes=MemoryLanes(full=True)) as bench:
        events = [message_event("thr_1") for _ in range(3)]
        raws = [event.to_json().encode() for event in events]
        admitting = asyncio.create_task(admission_of(bench).admit(raws, source=SOURCE))
        await asyncio.sleep(0.1)
        assert not admitting.done()
        bench.lanes.full = False
        assert await admitting == Admitted(accepted=3)
        assert list(bench.lanes.accepted) == [event.event_id for event in events]


async def test_a_state_that_is_away_makes_the_queue_wait() -> None:
    lanes = MemoryLanes(failures=[RedisConnectionError("away"), RedisConnectionError("away")])
    async with Bench(lanes=lanes) as bench:
        raws = [message_event("thr_1").to_json().encode(), b"junk"]
        assert await admission_of(bench).admit(raws, source=SOURCE) == Admitted(accepted=1, buried=1)


async def test_what_is_kept_is_told_of_once_however_often_it_comes() -> None:
    class Told(list[str]):
        def buried(self, letters: Sequence[DeadLetter]) -> None:
            self += [letter.reason for letter in letters]

    async with Bench(lanes=MemoryLanes(lane_bound=1)) as bench:
        told = Told()
        admission = Admission(
            bench.intake, bench.lanes, worker="w1", max_event_bytes=MAX_EVENT_BYTES, now=fixed_now, mourner=told
        )
        raws = [message_event("thr_1").to_json().encode(), message_event("thr_1").to_json().encode(), b"junk"]
        for _ in range(2):
            await admission.admit(raws, source=SOURCE)
        assert sorted(told) == [DeadReason.INVALID, DeadReason.OVERFLOW]


async def test_an_event_that_trips_the_program_over_is_kept_and_the_others_go_on() -> None:
    bad = feedback_event("thr_2", id="bad")
    async with Bench(lanes=MemoryLanes(trips_over={"bad"})) as bench:
        raws = [event.to_json().encode() for event in (message_event("thr_1"), bad, message_event("thr_3"))]
        assert await admission_of(bench).admit(raws, source=SOURCE) == Admitted(accepted=2, buried=1)
        [letter] = bench.lanes.buried
        assert (letter.id, letter.reason) == (bad.event_id, DeadReason.BUG)
