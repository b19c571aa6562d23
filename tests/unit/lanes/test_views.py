"""What is read of the lanes, how keys are named, and what start-up checks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.outcome import DeadReason, EventState
from tests.lane_builders import FRAME, QUEUE, Deployment, dead, done, event, lanes_on, letter, retry
from workers.errors import SettingsError
from workers.lanes.keys import Keys
from workers.lanes.records import Append, Owner

FIRST = event("e1", "thr_1")
SECOND = event("e2", "thr_1")


async def test_status_tells_whose_it_is_and_where_it_stands(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    found = await deployment.lanes.status(FIRST.event_id)
    waiting = await deployment.lanes.status(SECOND.event_id)
    assert found is not None
    assert waiting is not None
    now = datetime.fromtimestamp(deployment.clock.ms / 1000, UTC)
    status, owner = found
    assert owner == Owner("acme", "u1")
    assert (status.source, status.type, status.lane) == (FIRST.source, FIRST.type, FIRST.lane)
    assert (status.state, status.attempt, status.place, status.last_frame_id) == (EventState.RUNNING, 1, None, "1-1")
    assert (status.accepted_at, status.started_at, status.ended_at) == (now, now, None)
    assert (waiting[0].state, waiting[0].place, waiting[0].last_frame_id) == (EventState.QUEUED, 2, None)


async def test_status_of_an_ended_event_has_its_end(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    deployment.clock.turn(timedelta(seconds=2))
    await deployment.lanes.settle([done(lease, FRAME)])
    found = await deployment.lanes.status(FIRST.event_id)
    assert found is not None
    assert found[0].ended_at == datetime.fromtimestamp(deployment.clock.ms / 1000, UTC)
    assert (found[0].state, found[0].reason, found[0].last_frame_id) == (EventState.DONE, None, "1-2")


async def test_nobody_knows_an_unknown_event(deployment: Deployment) -> None:
    assert await deployment.lanes.status("evt_nobody") is None
    assert await deployment.lanes.body("evt_nobody") is None


async def test_the_body_and_the_events_of_a_lane_can_be_read(deployment: Deployment) -> None:
    await deployment.accepted(FIRST, SECOND)
    assert await deployment.lanes.body(SECOND.event_id) == SECOND.to_json()
    assert await deployment.lanes.events_of(FIRST.lane) == [FIRST.event_id, SECOND.event_id]


async def test_depth_counts_all_shards(deployment: Deployment) -> None:
    items = [event(f"n{number}", f"thr_n{number}") for number in range(6)]
    lease = await deployment.started(items[0])
    deployment.clock.turn(timedelta(seconds=1))
    await deployment.accepted(*items[1:])
    retrying = (await deployment.begun(items[1], "t2")).lease
    await deployment.lanes.settle([retry(retrying)])
    deployment.clock.turn(timedelta(seconds=1))
    depth = await deployment.lanes.depth()
    assert (depth.oldest_age_seconds, depth.lanes, depth.leases) == (2.0, 6, 1)
    assert {state: count for state, count in depth.states.items() if count} == {
        EventState.QUEUED: 4,
        EventState.RUNNING: 1,
        EventState.WAITING_RETRY: 1,
    }
    await deployment.lanes.settle([done(lease)])
    assert (await deployment.lanes.depth()).oldest_age_seconds == 1.0


async def test_ends_retries_and_frames_are_counted_once_whoever_asks_again(deployment: Deployment) -> None:
    lanes = deployment.lanes
    lease = await deployment.started(FIRST, SECOND)
    for _ in range(2):
        await lanes.append([Append(lease, 1, [FRAME, FRAME])])
    again = retry(lease)
    for _ in range(2):
        await lanes.settle([again])
    deployment.clock.turn(again.delay)
    end = done((await deployment.begun(FIRST, "t2")).lease, FRAME)
    for _ in range(2):
        await lanes.settle([end])
        await lanes.cancel(SECOND.event_id)
    depth = await lanes.depth()
    assert depth.ended == {(FIRST.type, EventState.DONE): 1, (SECOND.type, EventState.CANCELLED): 1}
    assert (depth.retried, depth.frames) == ({"transient": 1}, 3)


async def test_an_idle_deployment_has_no_age(deployment: Deployment) -> None:
    depth = await deployment.lanes.depth()
    assert (depth.oldest_age_seconds, depth.lanes, depth.dead) == (0.0, 0, {})


async def test_dead_letters_of_all_shards_come_newest_first_and_bounded(deployment: Deployment) -> None:
    for number in range(6):
        deployment.clock.turn(timedelta(seconds=1))
        await deployment.lanes.bury([letter(f"raw_{number}", DeadReason.INVALID)])
    assert [kept.id for kept in (await deployment.lanes.dead_letters.page(limit=3)).items] == [
        "raw_5",
        "raw_4",
        "raw_3",
    ]
    newest = letter("raw_5", DeadReason.INVALID)
    assert ((await deployment.lanes.dead_letters.page(limit=1)).items)[0] == newest.model_copy(update={"body": None})
    assert await deployment.lanes.dead_letters.get("raw_5") == newest


async def test_the_body_of_an_event_is_kept_once_and_lists_of_dead_letters_do_not_read_it(
    deployment: Deployment,
) -> None:
    item = event()
    await deployment.lanes.settle([dead(await deployment.started(item))])
    [listed] = (await deployment.lanes.dead_letters.page()).items
    assert listed.body is None
    kept = await deployment.lanes.dead_letters.get(item.event_id)
    assert kept is not None
    assert kept.body == item.to_json()
    raw: Any = await deployment.state.hgetall(f"{deployment.keys.tag_of(item.lane)}dead:{item.event_id}")
    assert set(raw) == {b"letter", b"attempts"}


async def test_the_number_of_shards_is_fixed_for_the_life_of_a_deployment(deployment: Deployment) -> None:
    await deployment.lanes.check()
    await deployment.other.check()
    with pytest.raises(SettingsError, match="CHATKIT_SHARDS: is 16, but this deployment was made with 2"):
        await lanes_on(deployment.state, Keys("ck", 16)).check()


async def test_time_is_that_of_redis_when_no_clock_is_given(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys)
    before = datetime.now(UTC) - timedelta(seconds=1)
    await lanes.accept([(FIRST, QUEUE)])
    found = await lanes.status(FIRST.event_id)
    assert found is not None
    assert before < found[0].accepted_at < datetime.now(UTC) + timedelta(seconds=1)


def test_all_keys_of_a_shard_share_a_hash_tag() -> None:
    keys = Keys("ck", 8)
    lane = "acme/thr_1"
    tag = f"ck:{{s{keys.shard_of(lane)}}}:"
    assert keys.stream(lane, "evt_1") == f"{tag}out:evt_1"
    assert keys.channel(lane, "evt_1") == f"{tag}frames:evt_1"
    assert keys.journal(lane, "evt_1") == f"{tag}journal:evt_1"
    assert (keys.where("evt_1"), keys.cancel_channel(), keys.ingress) == ("ck:where:evt_1", "ck:cancel", "ck:ingress")


def test_lanes_spread_evenly_over_the_shards() -> None:
    keys = Keys("ck", 8)
    shards = [keys.shard_of(f"acme/thr_{number}") for number in range(8_000)]
    assert all(700 < shards.count(shard) < 1_300 for shard in range(8))


def test_the_shard_of_a_lane_is_its_crc16_as_on_redis_cluster() -> None:
    assert Keys("ck", 16_384).shard_of("123456789") == 0x31C3
