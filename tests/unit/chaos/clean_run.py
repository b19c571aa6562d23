"""The records of a run in which nothing went wrong, for tests to plant a violation in."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from workers.chaos.plan import FaultKind
from workers.chaos.records import (
    CancelAnswer,
    Case,
    Effect,
    Ended,
    Frame,
    Injected,
    Letter,
    ModelCall,
    Publication,
    Record,
    Redrive,
    Remains,
    Said,
    Setup,
    Status,
    Stored,
)
from workers.chaos.story import CaseText, Kind

R = TypeVar("R", bound=Record)

FIRST, SECOND, STOPPED, FLAWED = "evt_first", "evt_second", "evt_stopped", "evt_flawed"
THREAD = "thr_talk"


@dataclass
class CleanRun:
    """A conversation of two turns, of which the first was taken over from a stopped worker; a cancelled event; a dead
    one that was redriven; a quiet tenant beside a flood; an event that was published twice."""

    records: list[Record] = field(default_factory=list)

    def change(self, kind: type[R], where: Callable[[R], bool] = lambda _: True, **fields: Any) -> "CleanRun":
        """Change every record of a kind that is meant."""
        found = [one for one in self.records if isinstance(one, kind) and where(one)]
        assert found, f"there is no such {kind.__name__}"
        self.records = [replace(one, **fields) if one in found else one for one in self.records]
        return self

    def drop(self, kind: type[R], where: Callable[[R], bool] = lambda _: True) -> "CleanRun":
        """Leave records of a kind out."""
        found = [one for one in self.records if isinstance(one, kind) and where(one)]
        assert found, f"there is no such {kind.__name__}"
        self.records = [one for one in self.records if one not in found]
        return self

    def add(self, *records: Record) -> "CleanRun":
        self.records += records
        return self


def clean_run() -> CleanRun:
    """Times are seconds since the run began."""
    run = CleanRun([Setup("tests", 1, lease_seconds=1, fsync="always", rpm=1200, concurrency=8)])
    _conversation(run)
    _cancelled(run)
    _dead(run)
    _flood(run)
    return run.add(
        Injected(FaultKind.STOP, 11.2, None, "w1", hit=True),
        Remains(60, {"leases": 0, "lanes": 0, "streams": 0}, fenced=2),
    )


def _conversation(run: CleanRun) -> None:
    first, second = CaseText("one", Kind.TOOL, 12), CaseText("two", Kind.PLAIN, 12)
    for event_id, case, began in ((FIRST, first, 10.0), (SECOND, second, 14.0)):
        run.add(
            Case(event_id, case.tag, "t", "u", THREAD, case.reference),
            Publication(event_id, began, began + 0.01, "http", "new", THREAD),
            status(event_id, "done", 1 if event_id == FIRST else 2, began, began + 3),
        )
        run.add(*answer(event_id, "c1", case.reference, began + 1, acceptance=1 if event_id == FIRST else 2))
    run.add(
        Publication(FIRST, 13.5, 13.6, "http", "duplicate", THREAD),
        ModelCall("one", "w1", 11.0, 12.9, "Text", fault=False, history=(Said("user", str(first)),)),
        ModelCall("one", "w2", 12.5, 13.0, "Text", fault=False, history=(Said("user", str(first)),)),
        ModelCall(
            "two",
            "w2",
            15.0,
            16.0,
            "Text",
            fault=False,
            history=(Said("user", str(first)), Said("assistant", first.reference), Said("user", str(second))),
        ),
        Effect("one", "key", "w1", 11.5),
        Effect("one", "key", "w2", 12.6),
        Stored(
            THREAD,
            (
                Said("user", str(first)),
                Said("assistant", first.reference),
                Said("user", str(second)),
                Said("assistant", second.reference),
            ),
        ),
    )


def _cancelled(run: CleanRun) -> None:
    case = CaseText("stopped", Kind.PLAIN, 12)
    half = case.reference[: len(case.reference) // 2]
    run.add(
        Case(STOPPED, case.tag, "t", "u", "thr_stopped", case.reference),
        Publication(STOPPED, 20, 20.1, "queue", "confirmed", "thr_stopped"),
        CancelAnswer(STOPPED, 21.4, 21.5, 202, "3-2"),
        status(STOPPED, "cancelled", 3, 20.2, 21.6),
        frame(STOPPED, "c1", "3-1", 21, added("m")),
        frame(STOPPED, "c1", "3-2", 21.3, delta("m", half)),
        Ended("c1", STOPPED, 21.7, "cancelled", "user"),
        Stored("thr_stopped", (Said("user", str(case)), Said("assistant", half))),
    )


def _dead(run: CleanRun) -> None:
    case = CaseText("flawed", Kind.FLAW, 12)
    run.add(
        Case(FLAWED, case.tag, "t", "u", "thr_flawed", case.reference, trace_id="abc"),
        Publication(FLAWED, 30, 30.1, "http", "new", "thr_flawed"),
        Ended("c1", FLAWED, 31, "dead", "permanent"),
        Letter(FLAWED, 40, "permanent", 1, "abc", "flawed"),
        Redrive(FLAWED, 40.1, 202, 409),
        *answer(FLAWED, "c2", case.reference, 41, acceptance=4),
        status(FLAWED, "done", 4, 41, 42),
        Stored("thr_flawed", (Said("user", str(case)), Said("assistant", case.reference))),
    )


def _flood(run: CleanRun) -> None:
    for number in range(8):
        phase = "alone" if number < 4 else "beside"
        case, event_id, thread = CaseText(f"{phase}{number}", Kind.PLAIN, 2), f"evt_{number}", f"thr_{number}"
        run.add(
            Case(event_id, case.tag, "quiet", "q", thread, case.reference, phase=phase),
            Publication(event_id, 1 + number, 1.1 + number, "http", "new", thread),
            ModelCall(case.tag, "w1", 1.2 + number, 1.3 + number, "Text", False, (Said("user", str(case)),)),
            status(event_id, "done", 10 + number, 1 + number, 1.4 + number),
            Stored(thread, (Said("user", str(case)), Said("assistant", case.reference))),
        )


def status(event_id: str, state: str, acceptance: int, started_at: float, ended_at: float | None) -> Status:
    return Status(event_id, state, None, acceptance, started_at - 0.1, started_at, ended_at)


def answer(event_id: str, client: str, text: str, at: float, acceptance: int) -> list[Record]:
    """What a client sees of a whole answer."""
    frames = [added("m"), delta("m", text[:5]), delta("m", text[5:]), done("m", text)]
    shown: list[Record] = [
        frame(event_id, client, f"{acceptance}-{number}", at + number / 10, data)
        for number, data in enumerate(frames, 1)
    ]
    return [*shown, Ended(client, event_id, at + 1, "done", None)]


def frame(event_id: str, client: str, id_: str | None, at: float, data: dict[str, Any]) -> Frame:
    return Frame(client, event_id, at, id_, json.dumps(data))


def added(item_id: str) -> dict[str, Any]:
    return {"type": "thread.item.added", "item": {"type": "assistant_message", "id": item_id, "content": []}}


def delta(item_id: str, text: str) -> dict[str, Any]:
    update = {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": text}
    return {"type": "thread.item.updated", "item_id": item_id, "update": update}


def done(item_id: str, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"type": "thread.item.done", "item": {"type": "assistant_message", "id": item_id, "content": content}}
