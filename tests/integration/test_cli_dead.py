"""`dead purge` and `dead redrive` on the command line, over a real Redis and without a worker."""

import asyncio
import time
from itertools import pairwise

import pytest

from schemas.events import Event
from schemas.outcome import DeadReason, EventState
from tests.builders import create_event
from tests.cli_process import Finished, cli, settings
from tests.lane_builders import QUEUE, dead, lanes_on, letter
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Begun, Start

pytestmark = pytest.mark.redis


async def died(lanes: Lanes, event: Event) -> None:
    """Accept an event, begin it and give it up."""
    await lanes.accept([(event, QUEUE)])
    [begun] = await lanes.begin([Start(event.lane, event.event_id, event.id)])
    assert isinstance(begun, Begun)
    await lanes.settle([dead(begun.lease)])
    await asyncio.sleep(0.002)  # each in a millisecond of its own, so that one is the oldest


async def run(redis_url: str, *arguments: str) -> Finished:
    return await cli("dead", *arguments, env=settings(broker_url=redis_url, state_url=redis_url))


async def test_purge_forgets_the_letters_that_are_meant_and_no_others(redis_url: str) -> None:
    state = connect(redis_url)
    lanes = lanes_on(state, Keys("ck", 8))
    events = [create_event("hello", tenant=tenant) for tenant in ("acme", "acme", "other")]
    for event in events:
        await died(lanes, event)
    await lanes.bury([letter("raw_1", DeadReason.INVALID)])
    only_said = await run(redis_url, "purge", "--reason", "invalid", "--dry-run", "--json")
    assert (only_said.code, only_said.records) == (0, [{"id": "raw_1", "result": "would be purged"}])
    by_reason = await run(redis_url, "purge", "--reason", "invalid")
    assert (by_reason.code, by_reason.err.strip()) == (0, "1 purged")
    nothing = await run(redis_url, "purge", "--dry-run", "evt_nothing", events[2].event_id)
    assert (nothing.code, nothing.err.strip()) == (0, "1 would be purged")
    by_id = await run(redis_url, "purge", events[2].event_id)
    assert (by_id.code, by_id.err.strip()) == (0, "1 purged")
    assert {kept.id for kept in (await lanes.dead_letters.page()).items} == {event.event_id for event in events[:2]}
    everything = await run(redis_url, "purge", "--all")
    assert (everything.code, everything.err.strip()) == (0, "2 purged")
    assert (await lanes.dead_letters.page()).items == []
    await state.aclose()


async def test_redrive_keeps_to_its_rate_oldest_first_and_says_how_far_it_is(redis_url: str) -> None:
    state = connect(redis_url)
    lanes = lanes_on(state, Keys("ck", 8))
    events = [create_event("hello") for _ in range(6)]
    for event in events:
        await died(lanes, event)
    began = time.monotonic()
    redriven = await run(redis_url, "redrive", "--all", "--rate", "5")
    assert time.monotonic() - began >= (len(events) - 1) / 5
    assert redriven.code == 0
    assert [line.split()[:2] for line in redriven.lines] == [[event.event_id, "redriven"] for event in events]
    assert redriven.err.strip().splitlines()[-1] == "6 of 6 redriven"
    found = [await lanes.status(event.event_id) for event in events]
    assert {one[0].state for one in found if one} == {EventState.QUEUED}
    moments = [one[0].accepted_at.timestamp() for one in found if one]
    assert min(later - earlier for earlier, later in pairwise(moments)) >= 0.19
    again = await run(redis_url, "redrive", events[0].event_id)
    assert again.code == 1
    assert "redriven already" in again.out
    assert again.err == "error: 1 not redriven\n", "counted as redriven"
    await state.aclose()


async def test_a_dry_run_of_redrive_knows_which_letters_there_are(redis_url: str) -> None:
    dry = await run(redis_url, "redrive", "--dry-run", "evt_nothing")
    assert (dry.code, dry.err) == (1, "0 would be redriven\nerror: 1 not redriven\n")
    assert dry.out.startswith("evt_nothing gone: no such dead letter")
