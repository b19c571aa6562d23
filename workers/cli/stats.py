"""`stats`: what the lanes hold, and who works."""

import asyncio
from typing import TYPE_CHECKING

import click

from workers.cli.command import Command, Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.lanes.lanes import Lanes
    from workers.lanes.roll import Roll
    from workers.limits.limiter import Limiter, ModelStatus

REFRESH_SECONDS = 1.0


@click.command(cls=Command)
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@click.pass_obj
def command(output: Output, watch: bool) -> None:
    """Depth by state, age of the oldest event, lanes with work, leases, dead letters, what is paused, workers."""
    try:
        asyncio.run(_watch(output) if watch else _once(output))
    except KeyboardInterrupt:  # the way to end --watch
        if not watch:
            raise


async def _once(output: Output) -> None:
    from workers.cli.connections import open_lanes
    from workers.lanes.deployment import keys_of
    from workers.lanes.roll import Roll
    from workers.limits.limiter import Limiter
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (lanes, state):
        figures = await read(lanes, Roll(state, keys_of(settings)), Limiter(state, keys_of(settings)), settings.model)
    output.record(figures, "\n".join(lines(figures)))


async def _watch(output: Output) -> None:
    from rich.live import Live
    from rich.text import Text

    from workers.cli.connections import open_lanes
    from workers.lanes.deployment import keys_of
    from workers.lanes.roll import Roll
    from workers.limits.limiter import Limiter
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (lanes, state):
        roll, limiter = Roll(state, keys_of(settings)), Limiter(state, keys_of(settings))
        with Live(auto_refresh=False) as live:
            while True:
                figures = await read(lanes, roll, limiter, settings.model)
                if output.as_json:
                    output.record(figures, "")
                else:
                    live.update(Text("\n".join(lines(figures))), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


async def read(lanes: "Lanes", roll: "Roll", limiter: "Limiter", model: str) -> dict[str, object]:
    """The figures of this moment."""
    depth = await lanes.depth()
    return {
        "states": {state.value: count for state, count in depth.states.items() if not state.ended},
        "oldest_age_seconds": depth.oldest_age_seconds,
        "lanes": depth.lanes,
        "leases": depth.leases,
        "ended": {state.value: count for state, count in depth.states.items() if state.ended},
        "dropped": dict(depth.dropped),
        "dead": dict(depth.dead),
        "dead_kept": depth.dead_kept,
        "fenced_writes": depth.fenced_writes,
        "fenced": dict(depth.fenced),
        "paused": [str(paused) for paused in await lanes.pauses.all()],
        "models": {one.model: brief(one) for one in await limiter.status(model)},
        "workers": await roll.names(),
    }


def brief(model: "ModelStatus") -> str:
    """How one model does, in a few words."""
    ratios = [ratio for ratio in (model.used_rpm, model.used_tpm, model.used_concurrency) if ratio is not None]
    used = f"{max(ratios):.0%} used" if ratios else "no limits"
    return f"{used}, {model.in_flight} in flight, {model.waiting} in line, circuit {model.circuit}"


def lines(figures: "Mapping[str, object]") -> list[str]:
    """The figures in two columns; nested ones indented."""
    shown: list[str] = []
    for name, value in figures.items():
        match value:
            case dict():
                shown.append(name)
                shown += [f"  {inner:<16}{count!s:>10}" for inner, count in value.items()] or ["  none"]
            case list():
                shown.append(f"{name:<18}{len(value):>10}")
                shown += [f"  {item}" for item in value]
            case float():
                shown.append(f"{name:<18}{value:>10.1f}")
            case _:
                shown.append(f"{name:<18}{value!s:>10}")
    return shown
