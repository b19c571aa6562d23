"""What a benchmark says: measured beside its baseline and its target, never a failure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `target` is what the project set itself; `good` is left out where there is none."""

    what: str
    value: str
    target: str = ""
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The figures of one benchmark, and how they were taken."""

    title: str
    how: str
    lines: Sequence[Line]


def show(table: Table, *, judged: bool) -> str:
    """The table as text. Tiny numbers say nothing about a target: then it is not `judged`."""
    what = max(len(line.what) for line in table.lines)
    value = max(len(line.value) for line in table.lines)
    rows = [
        f"  {line.what:<{what}}  {line.value:>{value}}  {_verdict(line) if judged else ''}".rstrip()
        for line in table.lines
    ]
    return "\n".join([table.title, f"  ({table.how})", *rows, ""])


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _verdict(line: Line) -> str:
    if not line.target:
        return ""
    mark = {True: "ok", False: "MISSED", None: ""}[line.good]
    return f"target {line.target}  {mark}".rstrip()
