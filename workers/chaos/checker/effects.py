"""Invariants 6, 7, 8, 10 and 11: tools, limits, what is left, fairness, dead letters."""

from collections.abc import Iterator, Sequence

from workers.chaos.checker.evidence import Evidence
from workers.chaos.checker.finding import Finding
from workers.chaos.records import Case, Effect, Ended, ModelCall

WINDOWS_SECONDS = (1.0, 5.0, 20.0)
BURST_SECONDS = 0.5
"""Of a rate: what it lets through at once."""

FAIR_RATIO = 3.0
LEAST_WAIT_SECONDS = 0.5
"""Waits below this are not told apart: they are what a turn takes on a busy machine."""

LEAST_SAMPLES = 4


def effects_once(evidence: Evidence) -> Finding:
    """6. A tool call takes effect at most once."""
    violations = [
        f"{call}: took effect {count} times, at {', '.join(one.worker for one in effects)}"
        for call, effects in evidence.effects.items()
        if (count := effects_of(effects)) > 1
    ]
    looked_at = f"{len(evidence.effects)} tool calls, made {sum(map(len, evidence.effects.values()))} times"
    return Finding(6, "a tool call takes effect at most once", looked_at, violations, bool(evidence.effects))


def effects_of(effects: Sequence[Effect]) -> int:
    """How often a call took effect: once for each key, and once for each time that it came without one."""
    keys = {effect.key for effect in effects if effect.key is not None}
    return len(keys) + sum(effect.key is None for effect in effects)


def limits_hold(evidence: Evidence) -> Finding:
    """7. Limits hold in every window, and are never overspent by concurrency."""
    calls = sorted((call for calls in evidence.calls.values() for call in calls), key=lambda call: call.at)
    setup = evidence.setup
    violations = [*_rate_faults(evidence, calls)]
    most = most_together(calls)
    if setup.concurrency is not None and most > setup.concurrency:
        violations.append(f"{most} events were with the provider at once, {setup.concurrency} may be")
    looked_at = f"{len(calls)} calls, at most {most} events of {setup.concurrency} at once"
    return Finding(7, "limits hold in every window", looked_at, violations, bool(calls))


def _rate_faults(evidence: Evidence, calls: Sequence[ModelCall]) -> Iterator[str]:
    """Windows with too many calls. A stalled worker holds calls back that were granted, for two leases at most."""
    if evidence.setup.rpm is None:
        return
    rate, held_back = evidence.setup.rpm / 60, 2 * evidence.setup.lease_seconds
    for window in WINDOWS_SECONDS:
        allowed = rate * (window + BURST_SECONDS + held_back) + 1
        first = 0
        for last, call in enumerate(calls):
            while call.at - calls[first].at > window:
                first += 1
            if last - first + 1 > allowed:
                yield f"{last - first + 1} calls within {window:g} s, {allowed:.0f} are allowed"
                break


def most_together(calls: Sequence[ModelCall]) -> int:
    """The most events that were with the provider at one moment. One that was taken over is counted once."""
    moments = sorted([(call.ended_at, 0, call.tag) for call in calls] + [(call.at, 1, call.tag) for call in calls])
    open_: dict[str, int] = {}
    most = 0
    for _, began, tag in moments:
        open_[tag] = open_.get(tag, 0) + (1 if began else -1)
        if not open_[tag]:
            del open_[tag]
        most = max(most, len(open_))
    return most


def nothing_left(evidence: Evidence) -> Finding:
    """8. After quiet: no lease, reservation, waiting lane or unowned stream is left."""
    remains = evidence.remains
    violations = [f"{count} {name} are left" for name, count in remains.kept.items() if count]
    if remains.why:
        violations.insert(0, f"it did not come to rest: {remains.why}")
    return Finding(8, "after quiet nothing is left", ", ".join(remains.kept), violations)


def fair(evidence: Evidence) -> Finding:
    """10. A tenant that floods leaves another's p95 wait under three times of what it is alone."""
    alone, beside = (_waits(evidence, phase) for phase in ("alone", "beside"))
    title = "a flood leaves others their turn"
    if min(len(alone), len(beside)) < LEAST_SAMPLES:
        return Finding(10, title, "no flood", [], tested=False)
    before, during = _p95(alone), _p95(beside)
    flood = sum(case.phase == "flood" for case in evidence.cases.values())
    ratio = max(during, LEAST_WAIT_SECONDS) / max(before, LEAST_WAIT_SECONDS)
    looked_at = f"p95 {before:.2f} s alone, {during:.2f} s beside {flood} events of another tenant: {ratio:.1f}x"
    return Finding(10, title, looked_at, [looked_at] if ratio > FAIR_RATIO else [])


def _waits(evidence: Evidence, phase: str) -> list[float]:
    """From a publication to its first call of the model."""
    return [
        calls[0].at - evidence.publications[case.event_id][0].at
        for case in evidence.cases.values()
        if case.phase == phase and (calls := evidence.calls.get(case.tag))
    ]


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def dead_letters(evidence: Evidence) -> Finding:
    """11. Dead letters carry reason, attempts, payload and trace; a redrive makes no second answer."""
    died = {event_id for event_id, _ in evidence.ends if any(e.state == "dead" for e in _ends(evidence, event_id))}
    cases = [evidence.cases[event_id] for event_id in evidence.redrives if event_id in died]
    violations = [fault for case in cases for fault in _letter_faults(evidence, case)]
    return Finding(11, "dead letters are whole, and redriven once", f"{len(cases)} redriven", violations, bool(cases))


def _letter_faults(evidence: Evidence, case: Case) -> Iterator[str]:
    name, letter = evidence.name(case.event_id), evidence.letters.get(case.event_id)
    redrive = evidence.redrives[case.event_id]
    if letter is None:
        yield f"{name}: has no dead letter"
        return
    missing = {
        "reason": bool(letter.reason),
        "attempts": letter.attempts > 0,
        "payload": letter.body_tag == case.tag,
        "trace": letter.trace_id == case.trace_id,
    }
    for part in (part for part, there in missing.items() if not there):
        yield f"{name}: its dead letter lacks the {part}"
    if redrive.status != 202:
        yield f"{name}: could not be redriven ({redrive.status})"
    elif redrive.again == 202:
        yield f"{name}: could be redriven twice"
    state = evidence.statuses[case.event_id].state
    if state != "done" and any(end.state == "done" for end in _ends(evidence, case.event_id)):
        yield f"{name}: was answered, and is {state}"


def _ends(evidence: Evidence, event_id: str) -> list[Ended]:
    """What clients were told of an event's ends."""
    return [end for client in evidence.clients[event_id] for end in evidence.ends.get((event_id, client), ())]
