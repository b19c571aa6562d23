"""The terminal view of `stats --watch`: what an operator on call looks at first."""

import math
from collections.abc import Callable, Iterable

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.outcome import ENDED_STATES, EventState
from workers.cli.look import Look
from workers.lanes.records import Depth
from workers.limits.limiter import ModelStatus

BAR = 20
BUSY, FULL = 0.7, 0.95
"""Shares from which a bar is yellow, and red."""

OLD_SECONDS = 60.0
"""An age that is worth a colour."""

OF_EVENTS = ("queued", "running", "waiting_retry", "waiting_limit")


def view(look: Look, before: Look | None) -> RenderableType:
    """The whole screen. Rates are per second since `before`."""
    top = Columns([_waiting(look), _ended(look, before), _trouble(look)], padding=(0, 1))
    return Group(top, _workers(look), _models(look), Text("Ctrl-C ends it", style="dim"))


def _waiting(look: Look) -> RenderableType:
    depth, table = look.depth, _table()
    for state in OF_EVENTS:
        table.add_row(state, f"{depth.states[EventState(state)]:,}")
    table.add_row("oldest", Text(_age(depth.oldest_age_seconds), style=_style_of_age(depth.oldest_age_seconds)))
    table.add_row("lanes with work", f"{depth.lanes:,}")
    table.add_row("leases", f"{depth.leases:,}")
    return Panel.fit(table, title="events", box=box.ROUNDED)


def _ended(look: Look, before: Look | None) -> RenderableType:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("", "ever", "per s"):
        table.add_column(name, justify="left" if not name else "right")
    counted: list[tuple[str, Callable[[Depth], int]]] = [
        (state.value, lambda depth, state=state: depth.states[state])  # type: ignore[misc]  # bound to this one
        for state in EventState
        if state in ENDED_STATES
    ]
    counted += [("retried", lambda depth: sum(depth.retried.values())), ("frames", lambda depth: depth.frames)]
    for name, count in counted:
        now = count(look.depth)
        rate = (now - count(before.depth)) / (look.at - before.at) if before is not None else None
        table.add_row(name, f"{now:,}", "" if rate is None else f"{max(0.0, rate):,.1f}")
    return Panel.fit(table, title="ended", box=box.ROUNDED)


def _trouble(look: Look) -> RenderableType:
    depth, table = look.depth, _table()
    for reason, count in sorted(depth.dead.items(), key=lambda item: -item[1]):
        table.add_row(Text(f"dead: {reason}", style="red"), f"{count:,}")
    for reason, count in depth.dropped.items():
        table.add_row(f"dropped: {reason}", f"{count:,}")
    for kind, count in depth.fenced.items():
        table.add_row(f"refused, stale: {kind}", f"{count:,}")
    for paused in look.paused:
        table.add_row(Text(f"paused: {paused}", style="yellow"), "")
    if not table.row_count:
        table.add_row(Text("none", style="green"), "")
    table.add_row(Text("dead letters kept", style="dim"), f"{depth.dead_kept:,}")
    return Panel.fit(table, title="trouble", box=box.ROUNDED)


def _workers(look: Look) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title=f"workers: {len(look.workers)}", title_justify="left", pad_edge=False)
    for name in ("worker", "running", "of", ""):
        table.add_column(name, justify="right" if name in ("running", "of") else "left")
    for name in look.workers:
        load = look.loads.get(name)
        if load is None:  # it has just begun
            table.add_row(name, "", "", "")
        elif not load.limit:
            table.add_row(name, f"{load.running:,}", "", Text("drains", style="yellow"))
        else:
            table.add_row(name, f"{load.running:,}", f"{load.limit:,}", _bar(load.running / max(1, load.limit)))
    if not look.workers:
        table.add_row(Text("none: nothing is worked on", style="red"))
    return table


def _models(look: Look) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title="models", title_justify="left", pad_edge=False)
    for name in ("model", "in flight", "in line", "rpm", "tpm", "concurrency", "circuit"):
        table.add_column(name, justify="right" if name.startswith("in ") else "left", no_wrap=True)
    for one in look.models:
        table.add_row(one.model, f"{one.in_flight:,}", f"{one.waiting:,}", *map(_share, _used(one)), _circuit(one))
    return table


def _used(model: ModelStatus) -> Iterable[float | None]:
    return model.used_rpm, model.used_tpm, model.used_concurrency


def _share(used: float | None) -> Text:
    return Text("no limit", style="dim") if used is None else Text(f"{used:.0%}", style=_style(used))


def _circuit(model: ModelStatus) -> Text:
    if model.circuit == "closed":
        return Text("closed", style="green")
    return Text(f"{model.circuit}, {model.circuit_seconds:.0f} s", style="red")


def _bar(share: float) -> Text:
    filled = min(BAR, math.ceil(share * BAR))
    return Text("█" * filled, style=_style(share)) + Text("░" * (BAR - filled), style="dim")


def _style(share: float) -> str:
    return "green" if share < BUSY else "yellow" if share < FULL else "red"


def _style_of_age(seconds: float) -> str:
    return "" if seconds < OLD_SECONDS else "red"


def _age(seconds: float) -> str:
    if seconds < OLD_SECONDS:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _table() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column()
    table.add_column(justify="right")
    return table
