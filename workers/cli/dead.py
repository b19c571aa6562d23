"""`dead`: list, show, redrive or purge dead letters."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, FiniteRange, Output
from workers.cli.progress import Counted

if TYPE_CHECKING:
    from schemas.records import DeadLetter
    from workers.lanes.dead_letters import DeadFilter
    from workers.lanes.lanes import Lanes
    from workers.lanes.records import Wake
    from workers.settings import Settings

WAKE_EVERY = 100
REASONS = (
    "invalid",
    "permanent",
    "attempts_exhausted",
    "worker_lost",
    "quota",
    "authentication",
    "loop",
    "overflow",
    "bug",
)
"""The values of `DeadReason`, written out so that `--help` need not load the schemas."""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
WHY = {
    "gone": "no such dead letter (redriven already, purged, or past its retention)",
    "refused": "never was an event: publish it again, corrected",
    "full": "there still is no room for it: try again later",
    "superseded": "a later turn of its conversation has begun; --force answers it out of place",
}


class Since(click.ParamType[datetime]):
    """A moment, or how long ago: `2026-11-24T09:00:00Z`, `90m`, `2h`, `7d`."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        number, unit = value[:-1], UNITS.get(value[-1:])
        try:
            if unit is not None and number.isdecimal():
                return datetime.now(UTC) - timedelta(**{unit: int(number)})
            moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError):  # no time, or none that there has been
            self.fail(f"{value} is neither a time such as 2026-11-24T09:00:00Z nor an age such as 90m, 2h or 7d")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group(cls=CommandGroup)
def command() -> None:
    """Dead letters: events that were given up, and what never parsed. Each is kept for CHATKIT_RETENTION seconds."""


def filtered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which letters are meant."""
    for option in (
        click.option("--thread", metavar="ID", help="Of one thread."),
        click.option("--since", type=Since(), metavar="WHEN", help="Died since: 2026-11-24T09:00:00Z, or 90m, 2h, 7d."),
        click.option("--tenant", metavar="NAME", help="Of one tenant."),
        click.option("--reason", type=click.Choice(REASONS), help="Why it was given up."),
        click.option("--type", "type_", metavar="PATTERN", help="Event type, such as threads.create or threads.*"),
    ):
        function = option(function)
    return function


@command.command("list", cls=Command)
@filtered
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Letters at most, newest first.")
@click.pass_obj
def list_(output: Output, /, limit: int, **options: Any) -> None:
    """The newest letters."""
    count = asyncio.run(_list(output, _wanted(options), limit))
    if not count:
        output.note("no dead letters")


@command.command(cls=Command)
@click.argument("letter_id", metavar="ID")
@click.option("--body", is_flag=True, help="With the event itself, or the bytes as base64: what people wrote is in it.")
@click.pass_obj
def show(output: Output, letter_id: str, body: bool) -> None:
    """Everything about one letter."""
    fields = asyncio.run(_get(letter_id)).model_dump(mode="json")
    if not body:
        del fields["body"]
    if not output.as_json:
        fields["attempts"] = "".join(f"\n  {attempt['at']}  {attempt['error']}" for attempt in fields["attempts"]) or 0
    output.table(fields.items())


@command.command(cls=Command)
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@filtered
@click.option("--all", "all_", is_flag=True, help="Every letter that the filters leave.")
@click.option("--rate", type=FiniteRange(0, min_open=True), help="Events a second at most.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@click.option("--force", is_flag=True, help="Also where a later turn has begun: the answer comes out of place.")
@click.pass_obj
def redrive(
    output: Output,
    /,
    letter_ids: tuple[str, ...],
    all_: bool,
    rate: float | None,
    dry_run: bool,
    force: bool,
    **options: Any,
) -> None:
    """Run dead events again, oldest first, under their old ids and in their old places. Exit code 1 if any was left."""
    wanted = _meant(letter_ids, all_, options)
    left = asyncio.run(_redrive(output, letter_ids, wanted, rate=rate, dry_run=dry_run, force=force))
    if left:
        raise CommandFailedError(f"{left} not redriven")


@command.command(cls=Command)
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@filtered
@click.option("--all", "all_", is_flag=True, help="Every letter that the filters leave.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@click.pass_obj
def purge(output: Output, /, letter_ids: tuple[str, ...], all_: bool, dry_run: bool, **options: Any) -> None:
    """Forget dead letters for good."""
    count = asyncio.run(_purge(output, letter_ids, _meant(letter_ids, all_, options), dry_run=dry_run))
    output.note(f"{count} {'would be purged' if dry_run else 'purged'}")


def _meant(letter_ids: tuple[str, ...], all_: bool, options: dict[str, Any]) -> "DeadFilter":
    """The filter; an accident must not do it to everything."""
    if letter_ids and (all_ or any(options.values())):
        raise click.UsageError("give ids, or filters, not both")
    if not letter_ids and not all_ and not any(options.values()):
        raise click.UsageError("give ids, a filter, or --all")
    return _wanted(options)


def _wanted(options: dict[str, Any]) -> "DeadFilter":
    from schemas.outcome import DeadReason
    from workers.lanes.dead_letters import DeadFilter

    reason = options["reason"]
    return DeadFilter(
        type=options["type_"],
        reason=None if reason is None else DeadReason(reason),
        tenant=options["tenant"],
        thread=options["thread"],
        since=options["since"],
    )


async def _list(output: Output, wanted: "DeadFilter", limit: int) -> int:
    from workers.cli.connections import open_lanes
    from workers.settings import load_settings

    async with open_lanes(load_settings()) as (lanes, _):
        page = await lanes.dead_letters.page(wanted, limit=limit)
    for letter in page.items:
        output.record(letter.model_dump(mode="json", exclude={"body"}), _line(letter))
    if page.next is not None:
        output.note(f"… and older ones: --limit shows more than {limit}")
    return len(page.items)


async def _get(letter_id: str) -> "DeadLetter":
    from workers.cli.connections import open_lanes
    from workers.settings import load_settings

    async with open_lanes(load_settings()) as (lanes, _):
        letter = await lanes.dead_letters.get(letter_id)
    if letter is None:
        raise CommandFailedError(f"{letter_id}: {WHY['gone']}")
    return letter


async def _redrive(
    output: Output, ids: tuple[str, ...], wanted: "DeadFilter", *, rate: float | None, dry_run: bool, force: bool
) -> int:
    from workers.cli.connections import open_lanes
    from workers.plugins import router_of
    from workers.redrive import redrive as redrive_letter
    from workers.settings import load_settings

    settings = load_settings()
    queue_of = router_of(settings).queue_of
    wakes: list[Wake] = []
    left = 0
    async with open_lanes(settings) as (lanes, _):
        meant = [id_ async for id_ in _ids(lanes, ids, wanted)]
        with Counted(len(meant), "redriven") as progress:
            for id_ in reversed(meant):  # oldest first: a lane keeps its order
                if dry_run:
                    left += not await _would_be(output, lanes, id_, "redriven")
                    continue
                redriven = await redrive_letter(lanes, id_, queue_of, force=force)
                _say(output, id_, redriven.result)
                wakes += [redriven.wake] if redriven.wake else []
                if redriven.result == "redriven":
                    progress.count()
                else:
                    left += 1
                if len(wakes) >= WAKE_EVERY or rate is not None:
                    await _wake(settings, wakes)
                    wakes = []
                await asyncio.sleep(1 / rate if rate else 0)
    if dry_run:
        output.note(f"{len(meant) - left} would be redriven")
    await _wake(settings, wakes)
    return left


async def _purge(output: Output, ids: tuple[str, ...], wanted: "DeadFilter", *, dry_run: bool) -> int:
    from workers.cli.connections import open_lanes
    from workers.settings import load_settings

    async with open_lanes(load_settings()) as (lanes, _):
        meant = [id_ async for id_ in _ids(lanes, ids, wanted)]
        if dry_run:
            return sum([await _would_be(output, lanes, id_, "purged") for id_ in meant])
        return await lanes.dead_letters.purge(meant)


async def _ids(lanes: "Lanes", ids: tuple[str, ...], wanted: "DeadFilter") -> AsyncIterator[str]:
    """The letters that are meant, newest first; given ids from the last one."""
    for id_ in reversed(ids):
        yield id_
    if not ids:
        async for letter in lanes.dead_letters.walk(wanted):
            yield letter.id


async def _wake(settings: "Settings", wakes: "list[Wake]") -> None:
    from workers.cli.waking import wake

    if wakes:
        await wake(settings, wakes)


async def _would_be(output: Output, lanes: "Lanes", id_: str, done: str) -> bool:
    """Say what would be done with a letter. False if there is none: ids are what somebody has typed."""
    kept = await lanes.dead_letters.get(id_) is not None
    _say(output, id_, f"would be {done}" if kept else "gone")
    return kept


def _say(output: Output, id_: str, result: str) -> None:
    output.record({"id": id_, "result": result}, f"{id_} {result}" + (f": {WHY[result]}" if result in WHY else ""))


def _line(letter: "DeadLetter") -> str:
    type_ = (letter.type or "-").removeprefix("chatkit.")
    died = letter.died_at.strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"{died}  {letter.id:<30}  {letter.reason:<18}  {type_:<28}  {letter.tenant or '-':<12}  {letter.error or ''}"
    )
