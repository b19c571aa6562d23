"""The checker finds what is planted: at least one violation of each invariant, and none in a clean run."""

import json
from collections.abc import Callable

import pytest

from tests.unit.chaos.clean_run import (
    FIRST,
    SECOND,
    STOPPED,
    THREAD,
    CleanRun,
    added,
    clean_run,
    delta,
    done,
    frame,
)
from workers.chaos.checker import Finding, Verdict, check
from workers.chaos.plan import FaultKind
from workers.chaos.records import (
    CancelAnswer,
    Case,
    Effect,
    Ended,
    Frame,
    Injected,
    Left,
    Letter,
    ModelCall,
    Publication,
    Redrive,
    Remains,
    Said,
    Setup,
    Status,
    Stored,
)
from workers.chaos.story import CaseText, Kind
from workers.testing.provider_wire import CUT_WORD

Plant = Callable[[CleanRun], CleanRun]
TWO = CaseText("two", Kind.PLAIN, 12)


def finding(run: CleanRun, number: int) -> Finding:
    [found] = [one for one in check(run.records) if one.number == number]
    return found


def of(event_id: str) -> Callable[[Status | Ended | Case | Letter | Redrive | Publication], bool]:
    return lambda record: record.event_id == event_id


def _again(run: CleanRun, frame_id: str) -> CleanRun:
    """A frame right behind itself."""
    [place] = [at for at, one in enumerate(run.records) if isinstance(one, Frame) and one.id == frame_id]
    run.records.insert(place, run.records[place])
    return run


def _store(run: CleanRun, tag: str, text: str) -> CleanRun:
    """The store has another answer to a message."""
    for stored in [one for one in run.records if isinstance(one, Stored)]:
        said = list(stored.said)
        for place, one in enumerate(said):
            if one.role == "user" and f"case {tag} " in one.text:
                said[place + 1] = Said("assistant", text)
        run.change(Stored, lambda one, stored=stored: one == stored, said=tuple(said))  # type: ignore[misc]  # bound above
    return run


def _late(run: CleanRun) -> CleanRun:
    """The first turn was asked with the second one's message before its own."""
    history = (Said("user", str(TWO)), Said("user", str(CaseText("one", Kind.TOOL, 12))))
    return run.change(ModelCall, lambda call: call.tag == "one", history=history)


def _calls(count: int, apart: float, lasting: float) -> list[ModelCall]:
    starts = [100 + number * apart for number in range(count)]
    return [
        ModelCall(f"many{n}", "w1", at, at + lasting, "Text", False, (Said("user", f"case many{n} plain 12"),))
        for n, at in enumerate(starts)
    ]


def _still(run: CleanRun) -> CleanRun:
    """A fault heals while the second turn is under way, of which nothing is seen for long."""
    run.change(Status, of(SECOND), ended_at=50.0).change(Ended, of(SECOND), at=50.0)
    return run.add(Injected(FaultKind.STATE_RESET, 16.5, None, "w2", hit=True))


def _kept_waiting(run: CleanRun) -> CleanRun:
    return run.change(ModelCall, lambda call: call.tag.startswith("beside"), at=20.0, ended_at=20.1)


def _runs_again(run: CleanRun) -> CleanRun:
    run.add(Publication(SECOND, 40, 40.1, "http", "duplicate", THREAD))
    history = next(one.history for one in run.records if isinstance(one, ModelCall) and one.tag == "two")
    return run.add(ModelCall("two", "w2", 41, 42, "Text", False, history))


VIOLATIONS: dict[str, tuple[int, Plant]] = {
    "an acknowledged event is unknown": (1, lambda run: run.drop(Status, of(FIRST))),
    "an event never ends": (1, lambda run: run.change(Status, of(FIRST), state="running", ended_at=None)),
    "a client is told of two ends": (1, lambda run: run.add(Ended("c1", FIRST, 50, "done", None))),
    "clients are told of different ends": (1, lambda run: run.add(Ended("c2", FIRST, 50, "dead", "bug"))),
    "a delta is lost": (2, lambda run: run.drop(Frame, lambda f: f.event_id == SECOND and f.id == "2-3")),
    "a delta is shown twice": (2, lambda run: _again(run, "2-2")),
    "a whole message is shown twice": (
        2,
        lambda run: run.add(frame(SECOND, "c1", "2-5", 16, added("n")), frame(SECOND, "c1", "2-6", 16, done("n", "x"))),
    ),
    "a finished message is shown again": (2, lambda run: run.add(frame(SECOND, "c1", "2-5", 16, added("m")))),
    "the store has half an answer": (2, lambda run: _store(run, "two", "two.0 two.1 ")),
    "the store has an answer twice": (
        2,
        lambda run: _store(run, "two", 2 * CaseText("two", Kind.PLAIN, 12).reference),
    ),
    "a dead event leaves text on the screen": (
        2,
        lambda run: run.change(Status, of(SECOND), state="dead").change(Ended, of(SECOND), state="dead"),
    ),
    "a cancelled event shows what was never said": (
        2,
        lambda run: run.change(Frame, lambda f: f.id == "3-2", data=json.dumps(delta("m", "something else"))),
    ),
    "the store has another half than the screen": (2, lambda run: _store(run, "stopped", "stopped.0 ")),
    "two turns of a thread overlap": (3, lambda run: run.change(Status, of(SECOND), started_at=12.0)),
    "the model is not told of the answer before": (
        3,
        lambda run: run.change(ModelCall, lambda c: c.tag == "two", history=(Said("user", str(TWO)),)),
    ),
    "a turn runs after one that was accepted later": (3, _late),
    "a stale worker's writes are taken": (4, lambda run: run.change(Remains, fenced=0)),
    "a frame is missing": (5, lambda run: run.drop(Frame, lambda f: f.event_id == SECOND and f.id == "2-2")),
    "a frame comes twice": (5, lambda run: _again(run, "2-2")),
    "the first frame is missing": (5, lambda run: run.drop(Frame, lambda f: f.event_id == SECOND and f.id == "2-1")),
    "text has no ids": (5, lambda run: run.change(Frame, lambda f: f.event_id == SECOND, id=None)),
    "a tool takes effect twice for want of a key": (6, lambda run: run.change(Effect, key=None)),
    "a tool is called with another key": (6, lambda run: run.add(Effect("one", "other", "w2", 12.7))),
    "more calls than the limit allows": (7, lambda run: run.add(*_calls(90, 0.001, 0.0005))),
    "more events at once than are allowed": (7, lambda run: run.add(*_calls(9, 0.001, 5.0))),
    "a lease is left": (8, lambda run: run.change(Remains, kept={"leases": 1})),
    "it does not come to rest": (8, lambda run: run.change(Remains, why="1 event has not ended")),
    "a lane stands still after the last fault": (9, _still),
    "a flood keeps others waiting": (10, _kept_waiting),
    "an event has no dead letter": (11, lambda run: run.drop(Letter)),
    "a dead letter has no attempts": (11, lambda run: run.change(Letter, attempts=0)),
    "a dead letter has no reason": (11, lambda run: run.change(Letter, reason="")),
    "a dead letter has another payload": (11, lambda run: run.change(Letter, body_tag="other")),
    "a dead letter has lost its trace": (11, lambda run: run.change(Letter, trace_id=None)),
    "a dead letter is redriven twice": (11, lambda run: run.change(Redrive, again=202)),
    "text appears after a cancel": (12, lambda run: run.add(frame(STOPPED, "c1", "3-3", 22, delta("m", "more")))),
    "a publication again is told that it is new": (
        13,
        lambda run: run.change(Publication, lambda p: p.at == 13.5, told="new"),
    ),
    "a publication again is told another thread": (
        13,
        lambda run: run.change(Publication, lambda p: p.at == 13.5, thread_id="thr_other"),
    ),
    "a publication again runs the event again": (13, _runs_again),
}


def test_a_clean_run_passes_and_every_invariant_was_tested() -> None:
    assert {one.number: one.verdict for one in check(clean_run().records)} == dict.fromkeys(range(1, 14), Verdict.PASS)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_is_found(name: str) -> None:
    number, plant = VIOLATIONS[name]
    found = finding(plant(clean_run()), number)
    assert found.verdict is Verdict.FAIL, found
    assert found.lines()[1:], "a failure without its evidence"


def test_every_invariant_has_a_planted_violation() -> None:
    assert {number for number, _ in VIOLATIONS.values()} == set(range(1, 14))


def test_what_a_client_missed_that_left_is_no_violation() -> None:
    run = clean_run().drop(Frame, lambda f: f.event_id == SECOND and f.id in ("2-3", "2-4"))
    run.drop(Ended, of(SECOND)).add(Left("c1", SECOND, 16, meant=True))
    assert finding(run, 2).verdict is Verdict.PASS
    assert finding(run, 5).verdict is Verdict.PASS


def test_what_a_failed_attempt_said_may_stay_when_the_event_is_cancelled_before_the_next() -> None:
    cut = CUT_WORD * 2
    run = _store(clean_run(), "stopped", cut)
    run.change(Frame, lambda f: f.id == "3-2", data=json.dumps(delta("m", cut)))
    assert finding(run, 2).verdict is Verdict.PASS
    run.change(Status, of(STOPPED), state="done").change(Ended, of(STOPPED), state="done")
    assert finding(run, 2).verdict is Verdict.FAIL


def test_an_event_is_excused_only_if_redis_writes_once_a_second_and_was_killed_just_then() -> None:
    lost = clean_run().drop(Status, of(STOPPED))
    lost.add(Injected(FaultKind.REDIS_KILL, 20.5, 21, "", hit=True))
    assert finding(lost, 1).verdict is Verdict.FAIL
    assert finding(lost.change(Setup, fsync="everysec"), 1).verdict is Verdict.PASS
    assert finding(lost.change(Injected, at=30), 1).verdict is Verdict.FAIL


def test_two_calls_with_one_key_are_one_effect() -> None:
    assert finding(clean_run(), 6).looked_at == "1 tool calls, made 2 times"


def test_an_event_that_two_workers_have_with_the_provider_counts_once() -> None:
    assert "at most 1 events" in finding(clean_run(), 7).looked_at


def test_a_refused_write_shows_that_a_stale_worker_has_tried() -> None:
    assert finding(clean_run().drop(Injected), 4).verdict is Verdict.PASS


def test_without_an_occasion_nothing_is_claimed() -> None:
    run = (
        clean_run()
        .change(Remains, fenced=0)
        .drop(CancelAnswer)
        .drop(Redrive)
        .drop(Injected)
        .drop(Case, lambda case: case.phase == "alone")
    )
    run.drop(Publication, lambda one: one.event_id in ("evt_0", "evt_1", "evt_2", "evt_3"))
    verdicts = {one.number: one.verdict for one in check(run.records)}
    assert [number for number, verdict in verdicts.items() if verdict is Verdict.NOT_TESTED] == [4, 10, 11, 12]
