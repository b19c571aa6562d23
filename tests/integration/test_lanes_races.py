"""The races of each script on a real Redis: many connections at once, time from Redis itself."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from schemas.outcome import EventState
from tests.eventually import eventually
from tests.lane_builders import FRAME, QUEUE, done, event, lanes_on, letter, retry
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import (
    Accepted,
    Append,
    Appended,
    AppendRefused,
    Begun,
    NotBegun,
    Refused,
    Settled,
    SettleRefused,
    Start,
)
from workers.policies.delivery import Lease

pytestmark = pytest.mark.redis

WORKERS = 40
SHORT = timedelta(milliseconds=30)
FIRST = event("e1", "thr_1")
SECOND = event("e2", "thr_1")


@pytest.fixture
async def workers(redis_url: str, prefix: str) -> AsyncIterator[list[Lanes]]:
    """Each with a connection of its own, so that nothing but the scripts keeps them apart."""
    states = [connect(redis_url) for _ in range(WORKERS)]
    yield [lanes_on(state, Keys(prefix, 2), owner=f"worker-{number}") for number, state in enumerate(states)]
    for state in states:
        await state.aclose()


async def begin(lanes: Lanes, token: str, item: Any = FIRST) -> Any:
    [answer] = await lanes.begin([Start(item.lane, item.event_id, token)])
    return answer


async def begun(lanes: Lanes, token: str = "t1", item: Any = FIRST) -> Lease:
    answer = await begin(lanes, token, item)
    assert isinstance(answer, Begun), answer
    return answer.lease


async def streamed(lanes: Lanes, item: Any) -> list[Any]:
    entries: Any = await lanes._state.xrange(lanes._keys.stream(item.lane, item.event_id))
    return list(entries)


async def test_one_event_published_everywhere_at_once_and_to_two_lanes_is_accepted_once(workers: list[Lanes]) -> None:
    elsewhere = event("e1", "thr_2")
    batches = await asyncio.gather(
        *(lanes.accept([((FIRST, elsewhere)[number % 2], QUEUE)]) for number, lanes in enumerate(workers))
    )
    answers = [answer for batch in batches for answer in batch if isinstance(answer, Accepted)]
    assert len(answers) == WORKERS
    assert sum(not answer.duplicate for answer in answers) == 1
    assert len({(answer.lane, answer.acceptance) for answer in answers}) == 1
    waiting = [await workers[0].events_of(item.lane) for item in (FIRST, elsewhere)]
    assert sorted(map(len, waiting)) == [0, 1]


async def test_a_full_lane_takes_exactly_its_bound_however_many_publish(workers: list[Lanes]) -> None:
    bounded = [lanes_on(lanes._state, lanes._keys, per_lane=10) for lanes in workers]
    answers = await asyncio.gather(
        *(lanes.accept([(event(f"b{number}", "thr_1"), QUEUE)]) for number, lanes in enumerate(bounded))
    )
    refused = [answer for [answer] in answers if isinstance(answer, Refused)]
    assert len(refused) == WORKERS - 10
    assert {answer.reason for answer in refused} == {"lane_full"}
    assert (await workers[0].depth()).states[EventState.QUEUED] == 10


async def test_a_wake_up_that_reaches_every_worker_begins_once(workers: list[Lanes]) -> None:
    await workers[0].accept([(FIRST, QUEUE)])
    answers = await asyncio.gather(*(begin(lanes, f"t{number}") for number, lanes in enumerate(workers)))
    assert sum(isinstance(answer, Begun) for answer in answers) == 1
    assert (await workers[0].depth()).leases == 1


async def test_a_begin_asked_again_at_once_is_one_death_and_one_answer(workers: list[Lanes]) -> None:
    await workers[0].accept([(FIRST, QUEUE)])
    answers = await asyncio.gather(*(begin(workers[0], "t1") for _ in range(WORKERS)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].deaths == 1


async def test_an_expired_lease_is_renewed_or_taken_but_not_both(workers: list[Lanes]) -> None:
    keys = workers[0]._keys
    holder, heir = (lanes_on(lanes._state, keys, owner=f"w{n}", lease=SHORT) for n, lanes in enumerate(workers[:2]))
    seen = set()
    for number in range(30):
        item = event(f"r{number}", f"thr_r{number}")
        await holder.accept([(item, QUEUE)])
        lease = await begun(holder, "t1", item)
        await asyncio.sleep(SHORT.total_seconds() - 0.001 * (number % 3) + 0.001)
        if number % 2:
            [renewed], taken = await asyncio.gather(holder.renew([lease]), begin(heir, "t2", item))
        else:
            taken, [renewed] = await asyncio.gather(begin(heir, "t2", item), holder.renew([lease]))
        if isinstance(taken, Begun):  # though it may have been renewed before, and have run out again
            assert await holder.renew([lease]) == ["lost"]
            assert await heir.renew([taken.lease]) == ["held"]
        else:
            assert (renewed, taken) == ("held", NotBegun("leased"))
        seen.add(type(taken))
    assert Begun in seen, "the heir never came first"


async def test_frames_appended_at_once_by_a_doubled_call_are_there_once(workers: list[Lanes]) -> None:
    await workers[0].accept([(FIRST, QUEUE)])
    lease = await begun(workers[0])
    frames = [f'{{"n":{number}}}'.encode() for number in range(10)]
    calls = [lanes.append([Append(lease, 1, frames[: 1 + n % 10])]) for n, lanes in enumerate(workers)]
    answers = [answer for [answer] in await asyncio.gather(*calls)]
    assert all(isinstance(answer, Appended) for answer in answers)
    assert [entry[b"d"] for _, entry in await streamed(workers[0], FIRST)] == frames


async def test_of_a_stale_and_a_current_worker_only_the_current_one_is_heard(workers: list[Lanes]) -> None:
    brief = lanes_on(workers[1]._state, workers[1]._keys, owner="brief", lease=SHORT)
    await workers[0].accept([(FIRST, QUEUE)])
    stale = await begun(brief)

    async def taken_over() -> Any:
        answer = await begin(workers[0], "t2")
        return answer if isinstance(answer, Begun) else None

    current = (await eventually(taken_over)).lease
    assert current.epoch > stale.epoch
    answers = await asyncio.gather(
        brief.append([Append(stale, 1, [b'"stale"'])]),
        workers[0].append([Append(current, 1, [b'"current"'])]),
        brief.settle([done(stale, b'"stale"')]),
        brief.append([Append(stale, 2, [b'"stale"'])]),
    )
    assert [type(answer) for [answer] in answers] == [AppendRefused, Appended, SettleRefused, AppendRefused]
    assert [entry[b"d"] for _, entry in await streamed(workers[0], FIRST)] == [b'"current"']
    assert (await workers[0].depth()).fenced_writes == 3


async def test_a_settlement_asked_again_at_once_takes_effect_once(workers: list[Lanes]) -> None:
    await workers[0].accept([(FIRST, QUEUE), (SECOND, QUEUE)])
    lease = await begun(workers[0])
    answers = await asyncio.gather(*(lanes.settle([done(lease, FRAME)]) for lanes in workers))
    assert all(answer == answers[0] for answer in answers)
    assert isinstance(answers[0][0], Settled)
    assert len(await streamed(workers[0], FIRST)) == 2
    assert await workers[0].events_of(FIRST.lane) == [SECOND.event_id], "one pop, not one per answer"


async def test_a_retry_asked_again_at_once_spends_one_attempt(workers: list[Lanes]) -> None:
    await workers[0].accept([(FIRST, QUEUE)])
    lease = await begun(workers[0])
    await asyncio.gather(*(lanes.settle([retry(lease, timedelta(0))]) for lanes in workers))
    answer = await begin(workers[1], "t2")
    assert (answer.attempt, answer.deaths) == (2, 1)


async def test_a_cancel_that_races_the_end_either_ends_the_event_or_comes_too_late(workers: list[Lanes]) -> None:
    seen = set()
    for number in range(40):
        item = event(f"c{number}", "thr_1")
        await workers[0].accept([(item, QUEUE)])
        lease = await begun(workers[0], f"t{number}", item)
        pause = 0.0002 * (number % 5)

        async def finish(lease: Lease = lease, pause: float = pause) -> Any:
            await asyncio.sleep(pause)
            return (await workers[0].settle([done(lease, FRAME)]))[0]

        cancellation, settled = await asyncio.gather(workers[1].cancel(item.event_id), finish())
        frames = await streamed(workers[2], item)
        expected = {"ended": (EventState.DONE, 2), "cancelling": (EventState.CANCELLED, 1)}
        assert (settled.state, len(frames)) == expected[cancellation.result]
        seen.add(cancellation.result)
    assert seen <= {"ended", "cancelling"}


async def test_a_cancel_that_races_begin_ends_it_before_or_is_seen_by_the_run(workers: list[Lanes]) -> None:
    for number in range(40):
        item = event(f"d{number}", f"thr_{number}")
        await workers[0].accept([(item, QUEUE)])
        answer, cancellation = await asyncio.gather(
            begin(workers[0], f"t{number}", item), workers[1].cancel(item.event_id)
        )
        if isinstance(answer, Begun):
            assert cancellation.result == "cancelling"
            assert await workers[0].append([Append(answer.lease, 1, [FRAME])]) == [AppendRefused("cancelled", 1)]
        else:
            assert cancellation.result == "cancelled"


async def test_sweepers_that_meet_wake_each_lane_once(workers: list[Lanes]) -> None:
    items = [event(f"s{number}", f"thr_{number}") for number in range(60)]
    await workers[0].accept([(item, QUEUE) for item in items])
    state: Any = workers[0]._state
    for item in items:  # the wake-ups were lost long ago
        await state.zadd(f"{workers[0]._keys.tag_of(item.lane)}alarms", {item.lane: 1})
    swept = await asyncio.gather(*(lanes.sweep() for lanes in workers))
    assert sorted(wake.event_id for wakes in swept for wake in wakes) == sorted(item.event_id for item in items)


async def test_letters_buried_at_once_stay_within_their_bound(workers: list[Lanes]) -> None:
    bounded = [lanes_on(lanes._state, lanes._keys, max_dead=5) for lanes in workers]
    await asyncio.gather(*(lanes.bury([letter(f"raw_{number}")]) for number, lanes in enumerate(bounded)))
    depth = await workers[0].depth()
    assert (depth.dead, depth.dead_kept) == ({"permanent": WORKERS}, 10)
    assert len((await workers[0].dead_letters.page(limit=100)).items) == 10
