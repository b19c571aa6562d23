"""Invariants 1, 2 and 13: what an event comes to, what of it is seen, and what publishing it again does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers.chaos.checker.evidence import Evidence
from workers.chaos.checker.finding import Finding
from workers.chaos.plan import FaultKind
from workers.chaos.records import Case, ModelCall, Stored
from workers.chaos.screen import Screen
from workers.chaos.story import CaseText
from workers.testing.provider_wire import CUT_WORD

ENDED = frozenset({"done", "dropped", "cancelled", "dead"})
EVERYSEC_SECONDS = 2.0
"""Redis' `everysec` writes at most this long after the fact."""


def ends_once(evidence: Evidence) -> Finding:
    """1. Every acknowledged event ends exactly once."""
    lost = [case.event_id for case in evidence.acknowledged if case.event_id not in evidence.statuses]
    excused = [event_id for event_id in lost if _is_excused(evidence, event_id)]
    violations = [f"{evidence.name(one)} was acknowledged and is unknown now" for one in lost if one not in excused]
    for case in evidence.acknowledged:
        violations += _ends_of(evidence, case)
    counted = f"{len(evidence.acknowledged)} acknowledged events"
    if evidence.setup.fsync == "everysec":
        counted += f", {len(excused)} lost within {EVERYSEC_SECONDS:g} s of a Redis kill (appendfsync everysec)"
    return Finding(1, "every acknowledged event ends exactly once", counted, violations, bool(evidence.acknowledged))


def _is_excused(evidence: Evidence, event_id: str) -> bool:
    """Whether an event may be lost: it was acknowledged just before a Redis that writes once a second was killed."""
    kills = [fault.at for fault in evidence.injected if fault.kind == FaultKind.REDIS_KILL]
    last = max(answer.answered_at for answer in evidence.publications[event_id] if answer.acknowledged)
    near = any(0 <= kill - last <= EVERYSEC_SECONDS for kill in kills)
    return near and evidence.setup.fsync == "everysec"


def _ends_of(evidence: Evidence, case: Case) -> Iterator[str]:
    name, status = evidence.name(case.event_id), evidence.statuses.get(case.event_id)
    if status is None:
        return
    if status.state not in ENDED:
        yield f"{name} is still {status.state}"
    told = {
        client: evidence.ends.get((case.event_id, client), ()) for client in evidence.clients.get(case.event_id, ())
    }
    for client, ends in told.items():
        if len(ends) > 1:
            yield f"{name}: {client} was told of {len(ends)} ends"
    states = {end.state for ends in told.values() for end in ends}
    allowed = {status.state} | ({"dead"} if evidence.redriven(case.event_id) else set())
    if not states <= allowed:
        yield f"{name} is {status.state}, and clients were told that it is {', '.join(sorted(states - allowed))}"


def answered_once(evidence: Evidence) -> Finding:
    """2. At most one visible answer, no character of it lost or repeated, on the screen and in the store."""
    violations: list[str] = []
    screens = characters = 0
    stored = {tag: text for thread in evidence.stored.values() for tag, text in by_case(thread).items()}
    for case in evidence.cases.values():
        status = evidence.statuses.get(case.event_id)
        if status is None or case.reference is None:
            continue
        seen = list(_screens(evidence, case))
        screens, characters = screens + len(seen), characters + sum(len(one.screen.text) for one in seen)
        for one in seen:
            violations += _faults_of(one, case, status.state, evidence)
        violations += _store_faults(case, status.state, seen, stored.get(case.tag, []), evidence)
    looked_at = f"{screens} screens, {characters} characters, {len(stored)} stored answers"
    return Finding(2, "at most one visible answer, whole", looked_at, violations, screens > 0)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The screen of one client; `whole`: it was there to the end."""

    client: str
    screen: Screen
    whole: bool


def _screens(evidence: Evidence, case: Case) -> Iterator[_Seen]:
    last = evidence.statuses[case.event_id].state
    for client in evidence.clients.get(case.event_id, ()):
        key = case.event_id, client
        ends = [end.state for end in evidence.ends.get(key, ())]
        screen = Screen.after(frame.data for frame in evidence.frames.get(key, ()))
        yield _Seen(client, screen, whole=key not in evidence.left and ends == [last])


def _faults_of(seen: _Seen, case: Case, state: str, evidence: Evidence) -> Iterator[str]:
    name, text, reference = evidence.name(case.event_id), seen.screen.text, case.reference or ""
    for item in dict.fromkeys(seen.screen.torn):
        yield f"{name}: {seen.client} saw {item} end as something else than was streamed of it"
    for item in dict.fromkeys(seen.screen.repeated):
        yield f"{name}: {seen.client} saw {item} twice"
    if not seen.whole:
        return
    if state == "done" and text != reference:
        yield f"{name}: {seen.client} saw {difference(reference, text)}"
    elif state == "cancelled" and not reference.startswith(_before_the_cut(text)):
        yield f"{name}, cancelled: {seen.client} saw {difference(reference[: len(text)], text)}"
    elif state in ("dead", "dropped") and text:
        yield f"{name} is {state}, and {seen.client} still sees {text[:40]!r}"


def _before_the_cut(text: str) -> str:
    """Without what a failed attempt has said: a cancel that comes before the next attempt keeps what was shown."""
    while text.endswith(CUT_WORD):
        text = text.removesuffix(CUT_WORD)
    return text


def _store_faults(case: Case, state: str, seen: list[_Seen], stored: list[str], evidence: Evidence) -> Iterator[str]:
    """The store against the reference, and for half an answer against the screens."""
    name, text = evidence.name(case.event_id), "".join(stored)
    if state == "done" and text != case.reference:
        yield f"{name}: the store has {difference(case.reference or '', text)}"
    for one in seen:
        if state == "cancelled" and one.whole and one.screen.text.strip() and one.screen.text != text:
            yield f"{name}, cancelled: {one.client} saw {len(one.screen.text)} characters, the store has {len(text)}"


def by_case(thread: Stored) -> dict[str, list[str]]:
    """The answers to each message of a thread, by its tag. A message that is there twice has its answers under both."""
    found: dict[str, list[str]] = {}
    tag = ""
    for said in thread.said:
        if said.role == "user":
            case = CaseText.of(said.text)
            tag = case.tag if case else ""
            found.setdefault(tag, [])
        else:
            found.setdefault(tag, []).append(said.text)
    return found


def difference(expected: str, found: str) -> str:
    """Where two texts part, in a few words."""
    place = next((at for at, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
    if place is None:
        place = min(len(expected), len(found))
    return (
        f"{len(found)} characters instead of {len(expected)}; from {place} on "
        f"{found[place : place + 24]!r} instead of {expected[place : place + 24]!r}"
    )


def same_acceptance(evidence: Evidence) -> Finding:
    """13. Publishing again returns the first acceptance and runs nothing."""
    violations: list[str] = []
    again = 0
    for event_id, publications in evidence.publications.items():
        case, known_since = evidence.cases[event_id], None
        for one in publications:
            if one.acknowledged and one.thread_id != case.thread_id:
                violations.append(f"{evidence.name(event_id)}: was told the thread {one.thread_id}")
            if known_since is not None and one.at > known_since:
                again += 1
                if one.told == "new":
                    violations.append(f"{evidence.name(event_id)}: published again and told that it is new")
                violations += _runs_after(evidence, case, one.at)
            if one.acknowledged and one.way == "http":
                known_since = min(known_since or one.answered_at, one.answered_at)
    looked_at = f"{again} publications of events that were known"
    return Finding(
        13, "publishing again returns the first acceptance and runs nothing", looked_at, violations, again > 0
    )


def _runs_after(evidence: Evidence, case: Case, published_at: float) -> Iterator[str]:
    """Calls for an event that had ended when it was published again, unless by a worker that has lost it."""
    status, calls = evidence.statuses.get(case.event_id), evidence.calls.get(case.tag, ())
    if status is None or status.ended_at is None or status.ended_at > published_at or evidence.redriven(case.event_id):
        return
    for call in calls:
        if call.at > published_at and not _is_stale(call, calls):
            yield f"{evidence.name(case.event_id)}: published again after its end, and the model was called again"


def _is_stale(call: ModelCall, calls: Sequence[ModelCall]) -> bool:
    """Whether another worker had taken the event over before this call."""
    return any(other.worker != call.worker and other.at < call.at for other in calls)
