"""`autoscale --simulate`: our decision beside plain depth scaling, as a table and a plot."""

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from workers.autoscale.decision import ScalePolicy
from workers.autoscale.simulation import Course, Moment, Ours, PlainDepth, Strategy, read_trace, simulate
from workers.cli.command import CommandFailedError, Output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "this program"
FULL = (0.5, 0.7, 1.0, 2.0)
"""How full a worker of the rival is meant to be: from half of its slots to a queue as long as what runs."""

COOLDOWN_SECONDS = (60, 300)
"""Ours, and what Kubernetes does when it is told nothing."""

SHOWN_RIVAL = (1.0, 300)
"""What the plot shows: a worker for each of its slots' worth, and the cooldown of Kubernetes."""


def name_of(full: float, cooldown: int) -> str:
    """Of a rival."""
    return f"depth / {full:g} of a worker, {cooldown} s"


def strategies(policy: ScalePolicy, slots: int) -> dict[str, Strategy]:
    """Ours, and the rival's whole sweep."""
    rivals = {
        name_of(full, cooldown): PlainDepth(full * slots, cooldown, policy.least, policy.most)
        for full, cooldown in product(FULL, COOLDOWN_SECONDS)
    }
    return {OURS: Ours(policy), **rivals}


def courses(trace: Path, policy: ScalePolicy, slots: int) -> dict[str, Course]:
    """How each went. Raises `SettingsError` or `CommandFailedError` for a trace that is none, or is not there."""
    try:
        with trace.open(newline="", encoding="utf-8") as lines:
            rows = read_trace(lines)
    except OSError as error:
        raise CommandFailedError(f"{trace} cannot be read ({error.strerror})") from error
    return {name: simulate(rows, strategy, slots) for name, strategy in strategies(policy, slots).items()}


def show(found: Mapping[str, Course], output: Output) -> None:
    """A line each."""
    width = max(map(len, found))
    output.note(f"{'':<{width}}  {'p95 age':>9}  {'worst':>9}  {'worker-seconds':>14}  {'most workers':>12}")
    for name, course in found.items():
        worst = max(course.ages, default=0.0)
        most = max(moment.workers for moment in course.moments)
        record = {
            "strategy": name,
            "p95_age_seconds": course.p95_age_seconds,
            "worst_age_seconds": worst,
            "worker_seconds": course.worker_seconds,
            "most_workers": most,
        }
        text = f"{name:<{width}}  {course.p95_age_seconds:>7.0f} s  {worst:>7.0f} s"
        output.record(record, f"{text}  {course.worker_seconds:>14,}  {most:>12}")


def plot(found: Mapping[str, Course], target: Path) -> None:
    """Load, depth, age, workers and cost, ours and one rival.

    Raises:
        CommandFailedError: matplotlib is not there, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CommandFailedError("--plot needs matplotlib: pip install 'chatkit-workers[plot]'") from None
    figure = Figure(figsize=(10, 11), layout="constrained")
    axes = figure.subplots(5, 1, sharex=True)
    shown = {OURS: found[OURS], "plain depth": found[name_of(*SHOWN_RIVAL)]}
    minutes = [moment.at / 60 for moment in found[OURS].moments]
    _draw(axes[0], minutes, {"offered": [moment.offered for moment in found[OURS].moments]}, "events per second")
    rows: dict[str, Callable[[Moment], float]] = {
        "ready": lambda moment: moment.ready,
        "age of the oldest (s)": lambda moment: moment.age_seconds,
        "workers": lambda moment: moment.workers,
    }
    for axis, (label, value) in zip(axes[1:4], rows.items(), strict=True):
        _draw(axis, minutes, {name: [value(one) for one in course.moments] for name, course in shown.items()}, label)
    _draw(axes[4], minutes, {name: _cost(course) for name, course in shown.items()}, "worker-hours so far")
    axes[4].set_xlabel("minutes")
    try:
        figure.savefig(target, dpi=110)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error  # its text says the path a second time
        raise CommandFailedError(f"{target} cannot be written: {said}") from error


def _cost(course: Course) -> list[float]:
    total, so_far = 0, []
    for moment in course.moments:
        total += moment.workers
        so_far.append(total / 3600)
    return so_far


def _draw(axis: "Axes", minutes: list[float], lines: Mapping[str, list[float]], label: str) -> None:
    for name, values in lines.items():
        axis.plot(minutes, values, label=name, linewidth=1.2)
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right")
