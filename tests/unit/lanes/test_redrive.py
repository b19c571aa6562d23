"""Dead letters: listed, and given another life in their old place."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.events import Event, parse_event
from schemas.outcome import DeadReason, EventState
from schemas.records import DeadLetter
from tests.builders import create_event, message_event
from tests.lane_builders import Deployment, dead, done, event, letter, retry
from workers.lanes.dead_letters import CHUNK, DeadFilter, Redriven, UnknownPageError

FIRST = create_event("one")
THREAD = str(FIRST.thread_id)


def turn(number: int) -> Event:
    return message_event(THREAD, f"message {number}")


async def buried(deployment: Deployment, item: Event, token: str = "t1") -> None:
    """Begin the head of a lane and give it up."""
    begun = await deployment.begun(item, token)
    await deployment.lanes.settle([dead(begun.lease)])


async def answered(deployment: Deployment, item: Event, token: str) -> None:
    await deployment.lanes.settle([done((await deployment.begun(item, token)).lease)])


async def test_a_redriven_event_runs_again_under_its_id_with_new_attempts_and_its_frames_go_on(
    deployment: Deployment,
) -> None:
    await deployment.accepted(FIRST)
    first = await deployment.begun(FIRST)
    await deployment.lanes.settle([retry(first.lease)])
    deployment.clock.turn(timedelta(seconds=5))
    await deployment.lanes.settle([dead((await deployment.begun(FIRST, "t2")).lease)])
    deployment.clock.turn(timedelta(minutes=10))
    redriven = await deployment.lanes.dead_letters.redrive(FIRST.event_id)
    assert redriven.result == "redriven"
    assert redriven.wake is not None
    assert redriven.wake.event_id == FIRST.event_id
    assert await deployment.alarm_ms(FIRST) == 2000
    begun = await deployment.begun(FIRST, "t3")
    assert (begun.attempt, begun.deaths, begun.acceptance) == (1, 1, first.acceptance)
    assert begun.accepted_at == datetime.fromtimestamp(deployment.clock.ms / 1000, UTC)  # its deadline counts from now
    assert (first.redriven, begun.redriven) == (False, True)
    await deployment.lanes.settle([done(begun.lease, b'{"type":"x"}')])
    kinds = ["".join(key.decode() for key in fields) for _, fields in await deployment.frames(FIRST)]
    assert kinds == ["e", "d", "d", "e"]  # the old end, "trying again", the answer, the new end
    numbers = [int(id_.decode().split("-")[1]) for id_, _ in await deployment.frames(FIRST)]
    assert numbers == [1, 2, 3, 4]


async def test_what_is_kept_of_a_redriven_event_does_not_expire_while_it_lives(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    begun = await deployment.begun(FIRST)
    tag = deployment.keys.tag_of(FIRST.lane)
    await deployment.state.hset(f"{tag}journal:{FIRST.event_id}", "step", "1")
    await deployment.lanes.settle([dead(begun.lease)])
    await deployment.lanes.sweep()
    kept = [
        deployment.keys.where(FIRST.event_id),
        *(f"{tag}{kind}:{FIRST.event_id}" for kind in ("event", "body", "out", "journal")),
    ]
    assert [await deployment.state.ttl(key) > 0 for key in kept] == [True] * 5
    await deployment.lanes.dead_letters.redrive(FIRST.event_id)
    await deployment.lanes.sweep()
    assert [await deployment.state.ttl(key) for key in kept] == [-1] * 5


async def test_a_second_redrive_finds_nothing(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    await buried(deployment, FIRST)
    dead_letters = deployment.lanes.dead_letters
    assert (await dead_letters.redrive(FIRST.event_id)).result == "redriven"
    assert await dead_letters.redrive(FIRST.event_id) == Redriven("gone")
    await answered(deployment, FIRST, "t9")
    assert await dead_letters.redrive(FIRST.event_id, force=True) == Redriven("gone")
    assert await dead_letters.redrive("evt_unknown") == Redriven("gone")


async def test_a_turn_that_began_later_supersedes_it_unless_forced(deployment: Deployment) -> None:
    later = turn(2)
    await deployment.accepted(FIRST, later)
    await buried(deployment, FIRST)
    begun = await deployment.begun(later, "t2")
    dead_letters = deployment.lanes.dead_letters
    assert await dead_letters.redrive(FIRST.event_id) == Redriven("superseded")
    assert [kept.id for kept in (await dead_letters.page()).items] == [FIRST.event_id]
    assert await dead_letters.redrive(FIRST.event_id, force=True) == Redriven("redriven")
    assert await deployment.lanes.events_of(FIRST.lane) == [later.event_id, FIRST.event_id]
    [settled] = await deployment.lanes.settle([done(begun.lease)])
    assert settled.wake is not None  # type: ignore[union-attr]  # settled, not refused
    assert settled.wake.event_id == FIRST.event_id  # type: ignore[union-attr]


async def test_later_events_that_wait_or_need_no_model_do_not_supersede_it(deployment: Deployment) -> None:
    feedback = event("f1", THREAD, tenant=FIRST.tenant, user=FIRST.userid)
    waiting = turn(2)
    await deployment.accepted(FIRST, feedback, waiting)
    await buried(deployment, FIRST)
    await answered(deployment, feedback, "t2")
    assert (await deployment.lanes.dead_letters.redrive(FIRST.event_id)).result == "redriven"
    assert await deployment.lanes.events_of(FIRST.lane) == [FIRST.event_id, waiting.event_id]


async def test_events_of_a_lane_that_are_redriven_oldest_first_stand_in_their_old_order(deployment: Deployment) -> None:
    second, third = (event(name, THREAD, tenant=FIRST.tenant, user=FIRST.userid) for name in ("s", "t"))
    await deployment.accepted(FIRST, second, third)
    for number, item in enumerate((FIRST, second, third)):
        await buried(deployment, item, f"t{number}")
    for item in (second, FIRST, third):  # in any order
        assert (await deployment.lanes.dead_letters.redrive(item.event_id)).result == "redriven"
    assert await deployment.lanes.events_of(FIRST.lane) == [FIRST.event_id, second.event_id, third.event_id]


async def test_what_was_never_accepted_is_not_redriven(deployment: Deployment) -> None:
    await deployment.lanes.bury([letter("raw_1", DeadReason.INVALID), letter(FIRST.event_id, DeadReason.OVERFLOW)])
    dead_letters = deployment.lanes.dead_letters
    assert await dead_letters.redrive("raw_1") == Redriven("refused")
    assert await dead_letters.redrive(FIRST.event_id) == Redriven("refused")
    await deployment.accepted(FIRST)  # published again: another life of the same id
    assert await dead_letters.redrive(FIRST.event_id) == Redriven("refused")


async def test_a_redriven_event_can_die_again(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    await buried(deployment, FIRST)
    await deployment.lanes.dead_letters.redrive(FIRST.event_id)
    await buried(deployment, FIRST, "t2")
    kept = await deployment.lanes.dead_letters.get(FIRST.event_id)
    assert kept is not None
    assert [attempt.error for attempt in kept.attempts] == ["PermanentError: 400"] * 2
    assert (await deployment.lanes.dead_letters.redrive(FIRST.event_id)).result == "redriven"
    depth = await deployment.lanes.depth()
    assert (depth.states[EventState.QUEUED], depth.dead_kept) == (1, 0)


def died(number: int, **fields: object) -> DeadLetter:
    at = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return letter(f"raw_{number:04}").model_copy(update={"died_at": at, **fields})


async def test_pages_give_every_letter_once_newest_first(deployment: Deployment) -> None:
    for number in range(25):
        deployment.clock.turn(timedelta(milliseconds=number % 3))  # some in the same millisecond
        await deployment.lanes.bury([died(number)])
    seen: list[str] = []
    after: str | None = None
    for _ in range(9):
        page = await deployment.lanes.dead_letters.page(limit=4, after=after)
        seen += [kept.id for kept in page.items]
        after = page.next
        if after is None:
            break
    assert sorted(seen) == [f"raw_{number:04}" for number in range(25)]
    assert seen[0] == "raw_0024"
    with pytest.raises(UnknownPageError):
        await deployment.lanes.dead_letters.page(after="what?")


async def test_more_letters_than_one_look_fetches_are_walked_and_purged(deployment: Deployment) -> None:
    for number in range(CHUNK + 20):
        deployment.clock.turn(timedelta(milliseconds=1))
        await deployment.lanes.bury([died(number, tenant="a" if number % 2 else "b")])
    wanted = DeadFilter(tenant="a")
    ids = [kept.id async for kept in deployment.lanes.dead_letters.walk(wanted)]
    assert ids == [f"raw_{number:04}" for number in reversed(range(CHUNK + 20)) if number % 2]
    assert await deployment.lanes.dead_letters.purge(ids) == len(ids)
    assert await deployment.lanes.dead_letters.purge(ids) == 0
    assert [kept.tenant async for kept in deployment.lanes.dead_letters.walk(DeadFilter())] == ["b"] * (CHUNK // 2 + 10)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (DeadFilter(), True),
        (DeadFilter(type="threads.*"), True),
        (DeadFilter(type="chatkit.threads.create"), True),
        (DeadFilter(type="chatkit.ui.*"), False),
        (DeadFilter(reason=DeadReason.PERMANENT), True),
        (DeadFilter(reason=DeadReason.BUG), False),
        (DeadFilter(tenant="acme", thread="thr_1"), True),
        (DeadFilter(tenant="acme", thread="thr_2"), False),
        (DeadFilter(since=datetime(2027, 1, 1, tzinfo=UTC)), True),
        (DeadFilter(since=datetime(2027, 1, 2, tzinfo=UTC)), False),
    ],
)
def test_a_filter_means_what_all_its_parts_mean(wanted: DeadFilter, matches: bool) -> None:
    one = died(1, type="chatkit.threads.create", tenant="acme", thread_id="thr_1")
    assert wanted.matches(one) is matches


def test_the_events_of_these_tests_are_of_one_lane() -> None:
    assert {parse_event(item.to_json()).lane for item in (FIRST, turn(2))} == {FIRST.lane}
