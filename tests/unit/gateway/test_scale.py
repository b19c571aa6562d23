"""`/v1/scale`: what starts workers is told how many there should be."""

import asyncio
from datetime import timedelta

import httpx

from schemas.outcome import ErrorRecord, Outcome, Parked, ParkReason, Retry, RetryReason
from tests.builders import create_event, message_event
from tests.lane_builders import QUEUE
from tests.unit.gateway.stage import SERVICE, Stage
from workers.gateway.scale import REASON
from workers.lanes.figures import Figures, Load
from workers.lanes.records import Begun, Settlement, Start

FIELDS = {
    "ready",
    "running",
    "waiting_retry",
    "waiting_limit",
    "oldest_age_seconds",
    "capacity",
    "workers",
    "desired_workers",
}


async def work(stage: Stage, **loads: Load) -> None:
    """Workers of these names are there."""
    for name, load in loads.items():
        await Figures(stage.state, stage.keys).tell(name, 1, {}, name, load)


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    answer = await client.get("/v1/scale", headers=SERVICE)
    assert answer.status_code == 200, answer.text
    return answer


async def test_it_takes_a_service_key_and_nothing_else(client: httpx.AsyncClient, stage: Stage) -> None:
    assert (await client.get("/v1/scale")).status_code == 401
    assert (await client.get("/v1/scale", headers=stage.bearer())).status_code == 401
    assert (await ask(client)).json().keys() == FIELDS


async def test_a_backlog_that_a_worker_could_run_asks_for_more_of_them(client: httpx.AsyncClient, stage: Stage) -> None:
    await work(stage, a=Load(10, 10))
    await stage.lanes.accept([(create_event(f"question {number}"), QUEUE) for number in range(60)])
    answer = await ask(client)
    found = answer.json()
    assert (found["ready"], found["workers"], found["capacity"], found["running"]) == (60, 1, 10, 10)
    assert found["desired_workers"] == 4  # 10 running, and 60 of 5 s that begin within 10: 30 slots more
    assert answer.headers[REASON] == "60 ready and 10 running, 5.0 s each"


async def test_what_waits_for_a_limit_or_a_retry_or_behind_another_asks_for_nobody(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    await work(stage, a=Load(0, 10))
    wait = timedelta(seconds=60)
    failure = ErrorRecord(kind="TransientError", message="503")
    events = [create_event(f"question {number}") for number in range(30)]
    await stage.lanes.accept([(event, QUEUE) for event in events])
    begun = await stage.lanes.begin([Start(event.lane, event.event_id, "t1") for event in events])
    outcomes: list[Outcome] = [Parked(ParkReason.RATE_LIMIT, wait), Retry(RetryReason.TRANSIENT, wait, failure)]
    settlements = [
        Settlement(one.lease, outcomes[number % 2], delay=wait)
        for number, one in enumerate(begun)
        if isinstance(one, Begun)
    ]
    await stage.lanes.settle(settlements)
    behind = [message_event(str(event.thread_id), "and then?") for event in events]
    await stage.lanes.accept([(event, QUEUE) for event in behind])
    found = (await ask(client)).json()
    assert (found["waiting_limit"], found["waiting_retry"]) == (15, 15)
    assert (found["ready"], found["oldest_age_seconds"], found["desired_workers"]) == (0, 0, 1)


async def test_a_worker_that_drains_counts_no_more(client: httpx.AsyncClient, stage: Stage) -> None:
    await work(stage, a=Load(2, 10), b=Load(5, 0))
    found = (await ask(client)).json()
    assert (found["workers"], found["capacity"], found["running"]) == (1, 10, 2)


async def test_a_message_is_as_old_as_its_lane_is_free(client: httpx.AsyncClient, stage: Stage) -> None:
    await work(stage, a=Load(1, 10))
    first = create_event("question")
    second = message_event(str(first.thread_id), "and then?")
    await stage.lanes.accept([(first, QUEUE), (second, QUEUE)])
    [begun] = await stage.lanes.begin([Start(first.lane, first.event_id, "t1")])
    assert isinstance(begun, Begun)
    await asyncio.sleep(0.3)
    await stage.lanes.settle([Settlement(begun.lease, Parked(ParkReason.RATE_LIMIT, timedelta(0)))])
    await stage.lanes.cancel(first.event_id)
    found = (await ask(client)).json()
    assert found["ready"] == 1
    assert found["oldest_age_seconds"] < 0.3


async def test_metrics_say_the_same_for_prometheus(client: httpx.AsyncClient, stage: Stage) -> None:
    await work(stage, a=Load(10, 10))
    await stage.lanes.accept([(create_event(f"question {number}"), QUEUE) for number in range(60)])
    text = (await client.get("/metrics")).text
    for line in ("chatkit_events_ready 60.0", "chatkit_workers 1.0", "chatkit_workers_desired 4.0"):
        assert line in text.splitlines()
