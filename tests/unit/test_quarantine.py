"""What goes into a quarantine and comes out of it."""

import os
import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    DeadReason,
    Done,
    Dropped,
    DropReason,
    ErrorRecord,
    Outcome,
    Parked,
    ParkReason,
    Released,
    ReleaseReason,
    Retry,
    RetryReason,
)
from tests.builders import create_event, delivery_of
from workers import quarantine
from workers.policies.delivery import Delivery, Waited
from workers.quarantine import NOT_STARTED, Quarantine, delivery_of_line, line_of, line_of_outcome, outcome_of

ERROR = ErrorRecord(kind="InternalServerError", message="HTTP 500")


@pytest.mark.parametrize(
    "outcome",
    [
        Done(),
        Dropped(DropReason.EXPIRED),
        Cancelled(CancelReason.USER),
        Retry(RetryReason.TRANSIENT, timedelta(seconds=1.5), ERROR),
        Parked(ParkReason.RATE_LIMIT, timedelta(minutes=2)),
        Released(ReleaseReason.SHUTDOWN),
        Released(ReleaseReason.HANDOFF, "chatkit.agent.second"),
        DeadLettered(DeadReason.BUG, ERROR),
    ],
)
def test_every_outcome_goes_through_a_line_unchanged(outcome: Outcome) -> None:
    assert outcome_of(line_of_outcome(outcome)) == outcome


def test_a_delivery_goes_through_a_line_as_a_first_run() -> None:
    event = create_event("Zoë\nasks", tenant="acme", userid="u1")
    changes: dict[str, Any] = {
        "attempt": 2,
        "acceptance": 9,
        "next_frame": 7,
        "accepted_at": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "journaled": True,
        "redriven": True,
        "queue": "chatkit.agent.second",
        "hops": 1,
        "age_seconds": 4.5,
        "waited": Waited(3.0, ParkReason.RATE_LIMIT),
        "begun_at": 7.25,
    }
    said_elsewhere = {"event", "lease", "deaths", "stop", "use"}
    assert {field.name for field in fields(Delivery)} == changes.keys() | said_elsewhere  # a new one has to go along
    line = line_of(delivery_of(event, deaths=3, **changes))
    assert line.count(b"\n") == 1
    assert delivery_of_line(line) == delivery_of(event, deaths=1, **changes)


TAKES = "import os, sys, time; sys.stdin.readline(); print('taken', flush=True); "
ANSWERS = TAKES + """print('{"kind": "Done", "fields": {}}', flush=True); """


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Quarantine]:
    """A quarantine whose process runs another program."""

    def stand_in(program: str) -> Quarantine:
        (tmp_path / "stand_in.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(quarantine, "MODULE", "stand_in")
        return Quarantine(memory_bytes=1 << 30, longest=timedelta(seconds=2), start=timedelta(seconds=5))

    return stand_in


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (TAKES + "os._exit(9)", None),
        (TAKES + "time.sleep(60)", None),
        (ANSWERS + "input()", Done()),
        ("import os; os._exit(1)", NOT_STARTED),
        ("import os, sys; sys.stdin.readline(); os._exit(1)", NOT_STARTED),
        ("raise SystemExit('CHATKIT_STATE_URL: cannot be used')", NOT_STARTED),
    ],
)
async def test_only_a_process_that_has_taken_the_event_and_dies_or_hangs_convicts_it(
    program: str, expected: Outcome | None, stand_in: Callable[[str], Quarantine]
) -> None:
    alone = stand_in(program)
    assert await alone.run_alone(delivery_of(create_event())) == expected
    await alone.close()


async def test_a_process_that_hangs_before_it_takes_the_event_convicts_nobody(
    stand_in: Callable[[str], Quarantine],
) -> None:
    stand_in("import time; time.sleep(60)")
    alone = Quarantine(memory_bytes=1 << 30, longest=timedelta(seconds=60), start=timedelta(seconds=0.5))
    assert await alone.run_alone(delivery_of(create_event())) == NOT_STARTED
    assert alone._process is None


async def test_a_process_that_cannot_be_started_convicts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    alone = Quarantine(memory_bytes=1 << 30, longest=timedelta(seconds=2))
    assert await alone.run_alone(delivery_of(create_event())) == NOT_STARTED


async def test_an_event_that_finds_its_process_dead_is_not_what_it_died_of(
    stand_in: Callable[[str], Quarantine],
) -> None:
    alone = stand_in(ANSWERS + "os.close(0); os.close(1); time.sleep(60)")  # as good as dead, and not yet noticed
    assert await alone.run_alone(delivery_of(create_event())) == Done()
    assert await alone.run_alone(delivery_of(create_event())) == NOT_STARTED
    assert await alone.run_alone(delivery_of(create_event())) == Done()  # in a new process
    await alone.close()


async def test_a_signal_to_the_group_of_the_worker_does_not_reach_its_quarantine(
    stand_in: Callable[[str], Quarantine],
) -> None:
    alone = stand_in(ANSWERS + "input()")
    await alone.run_alone(delivery_of(create_event()))
    assert alone._process is not None
    assert os.getpgid(alone._process.pid) != os.getpgid(0)
    await alone.close()
