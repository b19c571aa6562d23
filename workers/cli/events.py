"""`events`: show, follow or cancel one event."""

import asyncio
from typing import TYPE_CHECKING, assert_never

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, Output

if TYPE_CHECKING:
    from schemas.records import EventStatus


@click.group(cls=CommandGroup)
def command() -> None:
    """Show, follow or cancel one event, by the id that publishing gave (evt_…)."""


@command.command(cls=Command)
@click.argument("event_id", metavar="ID")
@click.pass_obj
def show(output: Output, event_id: str) -> None:
    """State, attempt, place in line and times of an event."""
    status = asyncio.run(_status(event_id))
    output.table(status.model_dump(mode="json").items())


@command.command(cls=Command)
@click.argument("event_id", metavar="ID")
@click.pass_obj
def tail(output: Output, event_id: str) -> None:
    """Print the answer from its start, and go on until it ends. With --json: one object per frame."""
    from schemas.outcome import EventState

    ended = asyncio.run(_tail(event_id, output))
    if ended not in (EventState.DONE, None):
        raise CommandFailedError(f"{event_id}: {ended}")


@command.command(cls=Command)
@click.argument("event_id", metavar="ID")
@click.pass_obj
def cancel(output: Output, event_id: str) -> None:
    """Stop an event. When this returns, no more of its text can appear."""
    asyncio.run(_cancel(event_id, output))


async def _status(event_id: str) -> "EventStatus":
    from workers.cli.connections import open_lanes
    from workers.lanes.deployment import keys_of
    from workers.limits.limiter import Limiter
    from workers.limits.places import in_line
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (lanes, state):
        found = await lanes.status(event_id)
        if found is None:
            raise unknown(event_id)
        return await in_line(found[0], Limiter(state, keys_of(settings)))


async def _tail(event_id: str, output: Output) -> str | None:
    from workers.cli.connections import open_lanes
    from workers.cli.follow import follow
    from workers.lanes.deployment import keys_of
    from workers.settings import load_settings
    from workers.streams.reader import FrameReader

    settings = load_settings()
    async with open_lanes(settings) as (lanes, state):
        found = await lanes.status(event_id)
        if found is None:
            raise unknown(event_id)
        reader = FrameReader(state, keys_of(settings))
        try:
            end = await follow(reader, found[0], output, frames=True)
        finally:
            await reader.close()
    return end.state if end else None


async def _cancel(event_id: str, output: Output) -> None:
    from schemas.outcome import CancelReason
    from workers.cli.connections import open_lanes
    from workers.cli.waking import wake
    from workers.lanes.deployment import keys_of
    from workers.limits.limiter import Limiter
    from workers.limits.places import forget
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (lanes, state):
        cancellation = await lanes.cancel(event_id, CancelReason.OPERATOR)
        await forget(event_id, Limiter(state, keys_of(settings)))
    match cancellation.result:
        case "cancelled" | "cancelling" as result:
            output.record({"id": event_id, "result": result}, f"{event_id} {result}")
        case "ended":
            raise CommandFailedError(f"{event_id} has ended already")
        case "unknown":
            raise unknown(event_id)
        case _:
            assert_never(cancellation.result)
    if cancellation.wake is not None:  # last: the broker may be away, and that takes its time
        await wake(settings, [cancellation.wake])


def unknown(event_id: str) -> CommandFailedError:
    """The error for an id that the state does not know."""
    return CommandFailedError(f"{event_id}: no such event (never accepted, or its retention is over)")
