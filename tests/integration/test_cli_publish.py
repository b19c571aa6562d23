"""`publish` and `events` against real lanes: a drain takes what is published, nobody runs it unless the test does."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done, Outcome
from tests.builders import create_event, feedback_event, message_event
from tests.cli_process import cli, settings, start
from tests.eventually import eventually
from tests.integration.ingest_process import ingest_process
from tests.integration.ingest_stack import IngestStack, ingest_stack
from workers.lanes.records import Append, Begun, Settlement, Start
from workers.routing import default_queue

SHARDS = 4
"""Of the ingest stack."""

redis = pytest.mark.redis


def environment(redis_url: str, prefix: str, **fields: object) -> Mapping[str, str]:
    urls = {"broker_url": redis_url, "state_url": redis_url}
    return settings(**{**urls, "prefix": prefix, "shards": SHARDS, **fields})


def ndjson(events: Sequence[Event]) -> str:
    return "\n".join(event.to_json() for event in events)


@asynccontextmanager
async def draining(redis_url: str, prefix: str, **bounds: int) -> AsyncIterator[IngestStack]:
    async with ingest_stack(redis_url, prefix, **bounds) as stack:
        task = asyncio.create_task(stack.ingress(redis_url).run())
        try:
            yield stack
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def begin(stack: IngestStack, event: Event) -> Begun:
    async def begun() -> Begun | None:
        [answer] = await stack.lanes.begin([Start(event.lane, event.event_id, "token")])
        return answer if isinstance(answer, Begun) else None

    answer = await eventually(begun, within=20)
    assert answer is not None
    return answer


async def say(stack: IngestStack, event: Event, words: Sequence[str], outcome: Outcome) -> None:
    """Be the worker: answer with these words."""
    begun = await begin(stack, event)
    update = {"type": "assistant_message.content_part.text_delta", "content_index": 0}
    frames: list[dict[str, Any]] = [
        {"type": "thread.item.updated", "item_id": "msg_1", "update": {**update, "delta": word}} for word in words
    ]
    await stack.lanes.append([Append(begun.lease, begun.next_frame, [json.dumps(frame).encode() for frame in frames])])
    await stack.lanes.settle([Settlement(begun.lease, outcome)])


@redis
async def test_each_event_is_answered_with_its_id_and_what_the_queue_did(redis_url: str, prefix: str) -> None:
    events = [create_event(), feedback_event("thr_1"), create_event()]
    async with draining(redis_url, prefix):
        env = environment(redis_url, prefix)
        first = await cli("publish", "-", env=env, stdin=ndjson(events))
        again = await cli("publish", "-", env=env, stdin=ndjson([*events[:2], create_event(), events[0]]))
    assert (first.code, first.err) == (0, "")
    assert first.lines == [f"{event.event_id} queued" for event in events]
    assert again.code == 0
    assert [line.partition(" ")[2] for line in again.lines] == ["duplicate", "duplicate", "queued", "duplicate"]


@redis
async def test_a_file_is_published_and_json_has_an_object_per_event(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    events = [create_event(), message_event("thr_9")]
    (tmp_path / "events.ndjson").write_text(ndjson(events))
    async with draining(redis_url, prefix):
        env = environment(redis_url, prefix)
        finished = await cli("publish", str(tmp_path / "events.ndjson"), "--json", env=env)
    assert finished.code == 0
    assert finished.records == [
        {"id": event.event_id, "thread_id": event.thread_id, "state": "queued", "duplicate": False} for event in events
    ]


@redis
async def test_an_invalid_event_gets_an_error_line_and_the_others_are_published(redis_url: str, prefix: str) -> None:
    good = create_event()
    stdin = f'{{\n{{"specversion": "1.0"}}\n{good.to_json()}'
    async with draining(redis_url, prefix):
        finished = await cli("publish", "-", env=environment(redis_url, prefix), stdin=stdin)
    assert finished.code == 1
    assert finished.lines == [f"{good.event_id} queued"]
    first, second = finished.err.splitlines()
    assert first.startswith("error: line 1: event: is not JSON")
    assert second.startswith("error: line 2: ")
    assert "type" in second


@redis
async def test_an_event_that_its_full_lane_refused_gets_an_error_line(redis_url: str, prefix: str) -> None:
    events = [message_event("thr_1"), message_event("thr_1")]
    async with draining(redis_url, prefix, lane=1):
        finished = await cli("publish", "-", env=environment(redis_url, prefix), stdin=ndjson(events))
    assert finished.code == 1
    assert finished.lines == [f"{events[0].event_id} queued"]
    assert finished.err.startswith(f"error: {events[1].event_id} refused: overflow: ")


@redis
async def test_without_a_worker_it_says_that_the_event_is_safe_on_the_broker(redis_url: str, prefix: str) -> None:
    event = create_event()
    env = environment(redis_url, prefix)
    finished = await cli("publish", "-", "--timeout", "0.5", env=env, stdin=event.to_json())
    assert finished.code == 1
    assert event.event_id in finished.err
    assert "is a worker running?" in finished.err


@redis
async def test_wait_prints_the_answer_as_it_streams(redis_url: str, prefix: str) -> None:
    event = create_event()
    async with draining(redis_url, prefix) as stack:
        process = await start(
            "publish", "-", "--wait", env=environment(redis_url, prefix), stdin=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(event.to_json().encode())
        process.stdin.close()
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == f"{event.event_id} queued\n".encode()
            await say(stack, event, ["Hello ", "you"], Done())
            assert await process.stdout.read() == b"Hello you\n"
            assert await process.wait() == 0


@redis
async def test_wait_fails_when_the_event_was_not_answered(redis_url: str, prefix: str) -> None:
    event = create_event()
    async with draining(redis_url, prefix) as stack:
        answering = asyncio.create_task(say(stack, event, ["Hel"], Cancelled(CancelReason.USER)))
        finished = await cli("publish", "-", "--wait", env=environment(redis_url, prefix), stdin=event.to_json())
        await answering
    assert finished.code == 1
    assert finished.err == f"error: {event.event_id} cancelled (user)\n"


@redis
async def test_load_publishes_the_count_with_progress_on_stderr(redis_url: str, prefix: str) -> None:
    event = feedback_event("thr_1")
    async with draining(redis_url, prefix) as stack:
        env = environment(redis_url, prefix)
        finished = await cli("publish", "-", "--count", "700", env=env, stdin=event.to_json())

        async def all_ran() -> bool:
            return len(await stack.runs.ran()) == 700

        assert await eventually(all_ran)
    assert finished.code == 0
    assert len(set(finished.lines)) == 700
    assert "published 700/700, accepted 700" in finished.err


@redis
async def test_load_keeps_to_its_rate(redis_url: str, prefix: str) -> None:
    async with draining(redis_url, prefix):
        loop = asyncio.get_running_loop()
        started = loop.time()
        finished = await cli("publish", "--count", "30", "--rate", "20", env=environment(redis_url, prefix))
    assert len(finished.lines) == 30
    assert loop.time() - started > 1.3


@redis
async def test_events_show_tail_and_cancel(redis_url: str, prefix: str) -> None:
    event, waiting = create_event(), create_event()
    env = environment(redis_url, prefix)
    async with draining(redis_url, prefix) as stack:
        await cli("publish", "-", env=env, stdin=ndjson([event, waiting]))
        shown = await cli("events", "show", event.event_id, "--json", env=env)
        await say(stack, event, ["Hello ", "you"], Done())
        tailed = await cli("events", "tail", event.event_id, env=env)
        frames = await cli("events", "tail", event.event_id, "--json", env=env)
        cancelled = await cli("events", "cancel", waiting.event_id, env=env)
        ended = await cli("events", "show", waiting.event_id, env=env)
        again = await cli("events", "cancel", waiting.event_id, env=env)
        unknown = await cli("events", "show", "evt_nothing", env=env)
    assert shown.records[0]["state"] == "queued"
    assert shown.records[0]["place"] == 1
    assert (tailed.code, tailed.out) == (0, "Hello you\n")
    assert [record["frame"]["update"]["delta"] for record in frames.records] == ["Hello ", "you"]
    assert cancelled.out == f"{waiting.event_id} cancelled\n"
    assert "reason         operator" in ended.out
    assert (again.code, again.err) == (1, f"error: {waiting.event_id} has ended already\n")
    assert unknown.code == 1
    assert unknown.err.startswith("error: evt_nothing: no such event")


@redis
async def test_a_cancel_wakes_the_next_event_of_the_lane(redis_url: str, prefix: str) -> None:
    first = create_event()
    second = message_event(str(first.thread_id))
    async with ingest_stack(redis_url, prefix) as stack:
        await stack.lanes.accept([(event, default_queue(event)) for event in (first, second)])
        cancelled = await cli("events", "cancel", first.event_id, env=environment(redis_url, prefix))
        messages: Any = await stack.state.execute_command("LRANGE", default_queue(second), 0, -1)
    assert (cancelled.code, cancelled.out) == (0, f"{first.event_id} cancelled\n")
    [message] = messages
    assert json.loads(message)["headers"]["id"] == second.event_id


@redis
async def test_a_cancel_does_not_fail_when_the_broker_is_away(redis_url: str, prefix: str, free_port: int) -> None:
    first = create_event()
    second = message_event(str(first.thread_id))
    env = environment(redis_url, prefix, broker_url=f"redis://127.0.0.1:{free_port}/0")
    async with ingest_stack(redis_url, prefix) as stack:
        await stack.lanes.accept([(event, default_queue(event)) for event in (first, second)])
        cancelled = await cli("events", "cancel", first.event_id, env=env)
    assert (cancelled.code, cancelled.out) == (0, f"{first.event_id} cancelled\n")


@redis
async def test_stats_count_what_waits(redis_url: str, prefix: str) -> None:
    env = environment(redis_url, prefix)
    async with draining(redis_url, prefix):
        await cli("publish", "-", env=env, stdin=ndjson([create_event(), create_event()]))
        finished = await cli("stats", "--json", env=env)
        text = await cli("stats", env=env)
    assert finished.records[0]["states"]["queued"] == 2
    assert finished.records[0]["lanes"] == 2
    assert "queued                       2" in text.out


@redis
@pytest.mark.rabbitmq
async def test_on_amqp_the_acceptance_is_read_from_the_state(redis_url: str, rabbitmq_url: str, prefix: str) -> None:
    event = create_event()
    env = environment(redis_url, prefix, broker_url=rabbitmq_url)
    with ingest_process("celery", rabbitmq_url, redis_url, prefix):
        first = await cli("publish", "-", env=env, stdin=event.to_json())
        again = await cli("publish", "-", env=env, stdin=event.to_json())
    assert first.lines == [f"{event.event_id} queued"]
    assert again.lines == [f"{event.event_id} duplicate"]


async def test_a_broker_that_is_away_is_one_line(free_port: int) -> None:
    env = environment(f"redis://:hunter2@127.0.0.1:{free_port}/0", "t")
    for arguments in (["publish", "--count", "1"], ["stats"], ["events", "show", "evt_1"], ["gateway"], ["worker"]):
        finished = await cli(*arguments, env=env)
        assert finished.code == 1
        (line,) = finished.err.splitlines()
        assert "Redis at redis://:********@127.0.0.1" in line
        assert line.endswith("cannot be reached (connection refused): start it, or set CHATKIT_STATE_URL")


@redis
async def test_another_number_of_shards_than_the_deployments_is_refused(redis_url: str, prefix: str) -> None:
    async with ingest_stack(redis_url, prefix) as stack:
        await stack.lanes.check()
    finished = await cli("stats", env=environment(redis_url, prefix, shards=5))
    assert finished.code == 1
    assert finished.err.startswith("error: CHATKIT_SHARDS: is 5, but this deployment was made with 4")
