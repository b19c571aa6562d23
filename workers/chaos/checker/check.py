"""All thirteen."""

from collections.abc import Callable, Sequence

from workers.chaos.checker.answers import answered_once, ends_once, same_acceptance
from workers.chaos.checker.effects import dead_letters, effects_once, fair, limits_hold, nothing_left
from workers.chaos.checker.evidence import Evidence
from workers.chaos.checker.finding import Finding
from workers.chaos.checker.order import in_order, moves_again, stale_refused
from workers.chaos.checker.streams import frame_ids, silent_after_cancel
from workers.chaos.records import Record

CHECKS: Sequence[Callable[[Evidence], Finding]] = (
    ends_once,
    answered_once,
    in_order,
    stale_refused,
    frame_ids,
    effects_once,
    limits_hold,
    nothing_left,
    moves_again,
    fair,
    dead_letters,
    silent_after_cancel,
    same_acceptance,
)


def check(records: Sequence[Record]) -> list[Finding]:
    """What the records of one run say of each invariant, in their order."""
    evidence = Evidence(records)
    return [look(evidence) for look in CHECKS]
