"""How long it took until something of what a fault had hit was seen again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers.chaos.checker.evidence import Evidence
from workers.chaos.checker.order import signs_of_life
from workers.chaos.records import Case, Injected

LAG_SECONDS = 0.2
"""What a worker may be behind its provider, and a client behind its worker: what is seen sooner was under way."""


@dataclass(frozen=True, slots=True)
class KindOfFault:
    """What one kind of fault did in some runs. `worst_seconds` None: no event was under way where it struck."""

    kind: str
    injected: int
    hit: int
    worst_seconds: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What some runs add up to. `takeovers`: turns that another worker went on with."""

    events: int
    model_calls: int
    takeovers: int
    fenced: int
    lost: int
    kinds: Sequence[KindOfFault]


def figures_of(runs: Sequence[Evidence]) -> Figures:
    """The figures of runs of one deployment kind."""
    return Figures(
        events=sum(len(run.cases) for run in runs),
        model_calls=sum(len(calls) for run in runs for calls in run.calls.values()),
        takeovers=sum(_takeovers(run) for run in runs),
        fenced=sum(run.remains.fenced for run in runs),
        lost=sum(case.event_id not in run.statuses for run in runs for case in run.acknowledged),
        kinds=_kinds(runs),
    )


def _takeovers(run: Evidence) -> int:
    return sum(len({call.worker for call in calls}) - 1 for calls in run.calls.values())


def _kinds(runs: Sequence[Evidence]) -> list[KindOfFault]:
    found: dict[str, list[tuple[Evidence, Injected]]] = {}
    for run in runs:
        for fault in run.injected:
            found.setdefault(fault.kind, []).append((run, fault))
    kinds = []
    for kind, faults in sorted(found.items()):
        took = [seconds for run, fault in faults if fault.hit and (seconds := recovery_seconds(run, fault)) is not None]
        kinds.append(KindOfFault(kind, len(faults), sum(fault.hit for _, fault in faults), max(took, default=None)))
    return kinds


def recovery_seconds(run: Evidence, fault: Injected) -> float | None:
    """From the fault, or from its healing if it has one, to the next sign of life of the slowest event that it hit."""
    since = fault.healed_at or fault.at
    took = []
    for case in _hit(run, fault):
        status = run.statuses.get(case.event_id)
        if status is None or status.ended_at is None or status.ended_at > since + LAG_SECONDS:
            signs = [at for at in signs_of_life(run, case) if at > since + LAG_SECONDS]
            took.append(min(signs, default=run.remains.at) - since)
    return max(took, default=None)


def _hit(run: Evidence, fault: Injected) -> Iterator[Case]:
    """The events that were running where it struck, at its worker or everywhere if it has no place, and the one that
    it names."""
    for case in run.cases.values():
        open_ = [call for call in run.calls.get(case.tag, ()) if call.at <= fault.at <= call.ended_at + LAG_SECONDS]
        here = any(call.worker == fault.target or not fault.target.startswith("w") for call in open_)
        if (here or case.event_id == fault.subject) and not run.redriven(case.event_id):
            yield case
