"""What goes into a quarantine and comes out of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

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
from workers.quarantine import Quarantine, delivery_of_line, line_of, line_of_outcome, outcome_of

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
        DeadLettered(DeadReason.BUG, ERROR),
    ],
)
def test_every_outcome_goes_through_a_line_unchanged(outcome: Outcome) -> None:
    assert outcome_of(line_of_outcome(outcome)) == outcome


def test_a_delivery_goes_through_a_line_as_a_first_run() -> None:
    event = create_event("Zoë\nasks", tenant="acme", userid="u1")
    delivery = delivery_of(event, deaths=3, attempt=2, next_frame=7, accepted_at=datetime(2026, 1, 2, 3, tzinfo=UTC))
    line = line_of(delivery)
    assert line.count(b"\n") == 1
    assert delivery_of_line(line) == delivery_of(
        event, deaths=1, attempt=2, next_frame=7, accepted_at=delivery.accepted_at
    )


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("import os, sys; sys.stdin.readline(); os._exit(9)", None),
        ("import sys, time; sys.stdin.readline(); time.sleep(60)", None),
        ('print(\'{"kind": "Done", "fields": {}}\', flush=True); input(); input()', Done()),
    ],
)
async def test_a_process_that_dies_or_hangs_gives_no_outcome(
    program: str, expected: Outcome | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stand_in.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(quarantine, "MODULE", "stand_in")
    alone = Quarantine(memory_bytes=1 << 30, longest=timedelta(seconds=2))
    assert await alone.run_alone(delivery_of(create_event())) == expected
    await alone.close()
