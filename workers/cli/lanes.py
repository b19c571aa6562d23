"""`lanes`: which conversations wait longest, and why one does not move."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, Output

if TYPE_CHECKING:
    from schemas.records import EventStatus
    from workers.lanes.connection import State
    from workers.lanes.standing import StandingLane
    from workers.settings import Settings

    Found = tuple[StandingLane, str]


@click.group(cls=CommandGroup)
def command() -> None:
    """Which conversations wait longest, and why one does not move."""


@command.command("list", cls=Command)
@click.option(
    "--older",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="Seconds that its oldest event is there, at least.",
)
@click.option("--tenant", metavar="NAME", help="Of one tenant.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Lanes at most.")
@click.pass_obj
def list_(output: Output, older: int, tenant: str | None, limit: int) -> None:
    """The lanes with the oldest events, oldest first: age, head and why it waits."""
    found = asyncio.run(_list(timedelta(seconds=older), tenant, limit))
    for lane, why in found:
        output.record(_record(lane, why), _line(lane, why))
    if not found:
        output.note(f"no lane has an event older than {older} s")


@command.command(cls=Command)
@click.argument("which", metavar="THREAD|EVENT|LANE")
@click.option("--tenant", metavar="NAME", default="default", show_default=True, help="Whose thread it is.")
@click.pass_obj
def show(output: Output, which: str, tenant: str) -> None:
    """What stands in the lane of a thread (thr_…) or of an event (evt_…), or in a lane (TENANT/THREAD), and why."""
    lane, why = asyncio.run(_show(which, tenant))
    output.table(_record(lane, why).items())


async def _list(older: timedelta, tenant: str | None, limit: int) -> "list[Found]":
    from workers.cli.connections import open_state
    from workers.lanes.deployment import keys_of
    from workers.lanes.standing import StandingLanes
    from workers.settings import load_settings

    settings = load_settings()
    async with open_state(settings) as state:
        lanes = StandingLanes(state, keys_of(settings))
        return await _with_why(await lanes.oldest(older=older, tenant=tenant, limit=limit), state, settings)


async def _show(which: str, tenant: str) -> "Found":
    from schemas.events import lane_of
    from workers.cli.connections import open_state
    from workers.lanes.deployment import keys_of
    from workers.lanes.standing import StandingLanes
    from workers.settings import load_settings

    settings = load_settings()
    async with open_state(settings) as state:
        lanes = StandingLanes(state, keys_of(settings))
        status = await lanes.status(which)
        lane = status[0].lane if status else which if "/" in which else lane_of(tenant, which)
        found = await lanes.standing(lane)
        if found is None:
            raise _nothing(which, lane, status[0] if status else None)
        return (await _with_why([found], state, settings))[0]


def _nothing(which: str, lane: str, status: "EventStatus | None") -> CommandFailedError:
    """Why there is nothing to show: of an event what became of it, of a thread where was looked."""
    from workers.cli.events import unknown

    if status is not None:
        more = f"dead show {which}" if status.state == "dead" else f"events show {which}"
        came_to = f"{status.state} ({status.reason})" if status.reason else status.state
        return CommandFailedError(
            f"{which} has ended: {came_to}; nothing else waits in {lane} (`chatkit-workers {more}`)"
        )
    if which.startswith("evt_"):
        return unknown(which)
    return CommandFailedError(f"nothing waits or runs in {lane} (--tenant says whose thread it is)")


async def _with_why(lanes: "list[StandingLane]", state: "State", settings: "Settings") -> "list[Found]":
    from workers.cli.waits import why
    from workers.lanes.deployment import keys_of
    from workers.lanes.roll import Roll
    from workers.limits.limiter import Limiter

    if not lanes:
        return []
    places = await Limiter(state, keys_of(settings)).places([lane.event_id for lane in lanes])
    workers = await Roll(state, keys_of(settings)).names()
    return [(lane, why(lane, place, workers)) for lane, place in zip(lanes, places, strict=True)]


def _record(lane: "StandingLane", why: str) -> dict[str, Any]:
    return {
        "lane": lane.lane,
        "why": why,
        "state": lane.state.value,
        "age_seconds": _age(lane),
        "events": lane.events,
        "head": lane.event_id,
        "type": lane.type,
        "queue": lane.queue,
        "attempt": lane.attempt,
        "deaths": lane.deaths,
        "worker": lane.worker,
        "last_error": lane.last_error,
    }


def _line(lane: "StandingLane", why: str) -> str:
    events = f"{lane.events} event" + ("s" if lane.events != 1 else "")
    return f"{_age(lane):>7.0f} s  {lane.lane}  {events}  {lane.event_id}  {lane.state}: {why}"


def _age(lane: "StandingLane") -> float:
    return round((datetime.now(UTC) - lane.accepted_at).total_seconds(), 1)
