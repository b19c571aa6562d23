"""`stats`: what the lanes hold, and who works."""

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from workers.cli.command import Command, Output

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from workers.cli.look import Look
    from workers.lanes.figures import Load
    from workers.limits.limiter import ModelStatus

REFRESH_SECONDS = 1.0


@click.command(cls=Command)
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C, with rates since the last look.")
@click.pass_obj
def command(output: Output, watch: bool) -> None:
    """Depth by state, age of the oldest event, lanes, leases, dead letters, what is paused, limits, workers."""
    try:
        asyncio.run(_watch(output) if watch else _once(output))
    except KeyboardInterrupt:  # the way to end --watch
        if not watch:
            raise


async def _once(output: Output) -> None:
    async with aclosing(_looks()) as looks:
        figures = record_of(await anext(looks))
    output.record(figures, "\n".join(lines(figures)))


async def _watch(output: Output) -> None:
    from rich.console import Console
    from rich.live import Live

    from workers.cli.watch import view

    before: Look | None = None
    console = Console()
    async with aclosing(_looks()) as looks:
        if output.as_json:
            async for look in looks:
                output.record(record_of(look), "")
                await asyncio.sleep(REFRESH_SECONDS)
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            async for look in looks:
                live.update(view(look, before), refresh=True)
                before = look
                await asyncio.sleep(REFRESH_SECONDS)


async def _looks() -> "AsyncGenerator[Look, None]":
    """One look after another, as fast as they are taken."""
    from workers.cli.connections import open_lanes
    from workers.cli.look import look_at
    from workers.lanes.deployment import keys_of
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (lanes, state):
        while True:
            yield await look_at(lanes, state, keys_of(settings), settings.model)


def record_of(look: "Look") -> dict[str, object]:
    """The figures of this moment."""
    depth = look.depth
    return {
        "states": {state.value: count for state, count in depth.states.items() if not state.ended},
        "oldest_age_seconds": depth.oldest_age_seconds,
        "lanes": depth.lanes,
        "leases": depth.leases,
        "ended": {state.value: count for state, count in depth.states.items() if state.ended},
        "retried": dict(depth.retried),
        "dropped": dict(depth.dropped),
        "dead": dict(depth.dead),
        "dead_kept": depth.dead_kept,
        "fenced_writes": depth.fenced_writes,
        "fenced": dict(depth.fenced),
        "stream_frames": depth.frames,
        "paused": look.paused,
        "models": {one.model: brief(one) for one in look.models},
        "workers": look.workers,
        "loads": {name: load_of(load) for name, load in look.loads.items()},
    }


def load_of(load: "Load") -> str:
    """How full a worker is; one that takes no more drains."""
    return f"{load.running} of {load.limit}" if load.limit else f"{load.running}, drains"


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
                shown += [f"  {inner:<19} {count!s:>10}" for inner, count in value.items()] or ["  none"]
            case list():
                shown.append(f"{name:<22}{len(value):>10}")
                shown += [f"  {item}" for item in value]
            case float():
                shown.append(f"{name:<22}{value:>10.1f}")
            case _:
                shown.append(f"{name:<22}{value!s:>10}")
    return shown
