"""Invariants 3, 4 and 9: one turn of a thread at a time and in order, stale workers refused, lanes that move again."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from workers.chaos.checker.answers import by_case, difference
from workers.chaos.checker.evidence import Evidence
from workers.chaos.checker.finding import Finding
from workers.chaos.plan import MAKES_STALE
from workers.chaos.records import Case, ModelCall, Status, Stored

CLOCK_SECONDS = 0.002
"""What the times of a deployment may be off by: they have milliseconds."""


def in_order(evidence: Evidence) -> Finding:
    """3. Turns of a thread run one at a time, in order of acceptance."""
    violations: list[str] = []
    turns = calls = 0
    for statuses in threads_of(evidence).values():
        turns += len(statuses)
        for before, after in pairwise(statuses):
            if before.ended_at and after.started_at and after.started_at < before.ended_at - CLOCK_SECONDS:
                names = evidence.name(after.event_id), evidence.name(before.event_id)
                violations.append(f"{names[0]} began before {names[1]} had ended")
        for position, status in enumerate(statuses):
            case = evidence.cases[status.event_id]
            for call in evidence.calls.get(case.tag, ()):
                calls += 1
                violations += _history_faults(evidence, case, call, statuses[:position])
    looked_at = f"{turns} turns, and what the model was told of them in {calls} calls"
    return Finding(3, "turns of a thread one at a time, in order", looked_at, violations, turns > 0)


def threads_of(evidence: Evidence) -> Mapping[str, Sequence[Status]]:
    """The turns of each thread in order of acceptance, without those that were redriven: they run out of place."""
    threads: dict[str, list[Status]] = defaultdict(list)
    for event_id, case in evidence.cases.items():
        status = evidence.statuses.get(event_id)
        if status and status.acceptance is not None and case.thread_id and not evidence.redriven(event_id):
            threads[case.thread_id].append(status)
    return {name: sorted(found, key=lambda one: one.acceptance or 0) for name, found in threads.items()}


def _history_faults(evidence: Evidence, case: Case, call: ModelCall, earlier: Sequence[Status]) -> Iterator[str]:
    """What a call says of the conversation: all earlier answers, once each, and nobody's who comes later."""
    name = evidence.name(case.event_id)
    told = by_case(Stored("", call.history))
    places = {evidence.cases[status.event_id].tag: place for place, status in enumerate(earlier)}
    seen = [tag for tag in told if tag in evidence.by_tag]
    if seen[-1:] != [case.tag]:
        yield f"{name}: the model was asked about {seen[-1:] or 'nothing'}"
    for tag in seen[:-1]:
        if tag not in places:
            yield f"{name}: ran after {tag}, which was accepted later"
    for status in earlier:
        before = evidence.cases[status.event_id]
        text = "".join(told.get(before.tag, []))
        if status.state == "done" and text != before.reference:
            yield f"{name}: of {before.tag} the model was told {difference(before.reference or '', text)}"


def stale_refused(evidence: Evidence) -> Finding:
    """4. A stale worker's writes are refused, and it did try."""
    stale = [fault for fault in evidence.injected if fault.kind in MAKES_STALE and fault.hit]
    tried = sum(_was_taken_over(evidence, fault.at, fault.target) for fault in stale)
    fenced = evidence.remains.fenced
    violations = []
    if tried and not fenced:
        violations.append(f"{tried} stale workers lost a turn to another one, and no write was refused")
    looked_at = f"{len(stale)} workers made stale, {fenced} writes refused"
    was_tested = tried > 0 or fenced > 0  # who was refused has tried
    return Finding(4, "a stale worker's writes are refused", looked_at, violations, was_tested)


def _was_taken_over(evidence: Evidence, at: float, worker: str) -> bool:
    """Whether a turn that the worker ran just then was gone on with by another while it was stale."""
    until = at + 2 * evidence.setup.lease_seconds
    for calls in evidence.calls.values():
        mine = [call for call in calls if call.worker == worker and call.at <= at <= call.ended_at]
        if mine and any(call.worker != worker and at < call.at < until for call in calls):
            return True
    return False


def moves_again(evidence: Evidence) -> Finding:
    """9. After the last fault heals, every lane moves again within seconds."""
    healed = max((fault.healed_at or fault.at for fault in evidence.injected), default=0.0)
    bound = moves_seconds(evidence.setup.lease_seconds)
    violations: list[str] = []
    waited = 0
    worst = 0.0
    lanes: dict[str, list[Case]] = defaultdict(list)
    for case in evidence.cases.values():
        status = evidence.statuses.get(case.event_id)
        if status and (status.ended_at or healed + 1) > healed and not evidence.redriven(case.event_id):
            lanes[f"{case.tenant}/{case.thread_id}"].append(case)
    for lane, cases in lanes.items():
        waited += 1
        signs = [at for case in cases for at in signs_of_life(evidence, case) if at > healed]
        took = min(signs, default=evidence.remains.at) - healed
        worst = max(worst, took)
        if took > bound or not signs:
            violations.append(f"{lane}: {'nothing' if not signs else 'the first sign of life'} after {took:.1f} s")
    looked_at = f"{waited} lanes had work when the last fault healed, the slowest moved after {worst:.1f} s"
    return Finding(9, f"lanes move again within {bound:g} s", looked_at, violations, waited > 0)


def moves_seconds(lease_seconds: float) -> float:
    """What is called seconds: a half-open connection takes 15 of them to be found out, and what has lost two workers
    waits for others of its kind in quarantine, for a process to start, and perhaps for a provider that hangs."""
    return 25 + 2 * lease_seconds


def signs_of_life(evidence: Evidence, case: Case) -> Iterator[float]:
    """When something of an event was seen outside: frames, its end, calls of the model."""
    for client in evidence.clients.get(case.event_id, ()):
        for frame in evidence.frames.get((case.event_id, client), ()):
            yield frame.at
        for end in evidence.ends.get((case.event_id, client), ()):
            yield end.at
    for call in evidence.calls.get(case.tag, ()):
        yield call.at
