"""Quarantine: an event that may have killed its workers runs alone, in a process of its own with bounded memory.

One at a time per worker. The process says when it has taken a delivery, answers one line for it, and lives on for the
next: an innocent event costs no new process, and a guilty one takes only its own.
"""

import asyncio
import json
import logging
import sys
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from schemas.events import parse_event
from schemas.outcome import Cancelled, DeadLettered, Done, Dropped, Outcome, Parked, ParkReason, Released, Retry
from workers.policies.delivery import Delivery, Lease, Waited

log = logging.getLogger(__name__)

MODULE = "workers.quarantined"
"""What the process runs."""

LONGEST_LINE = 1 << 20
"""Of an answer, in bytes: an outcome has no text of the conversation."""

TAKEN = b"taken\n"
"""What the process says before it runs an event: from now on it is the event that the process dies of."""

START = timedelta(seconds=30)

NOT_STARTED = Parked(ParkReason.OVERLOAD, timedelta(seconds=5))

OUTCOMES: dict[str, Any] = {
    kind.__name__: TypeAdapter(kind) for kind in (Done, Dropped, Cancelled, Retry, Parked, Released, DeadLettered)
}


WAITED: TypeAdapter[Waited | None] = TypeAdapter(Waited | None)


class Quarantine:
    """The parent's side. Implements `workers.policies.worker_lost.Quarantine`.

    Args:
        memory_bytes: of the process, beyond which it gets no more.
        longest: how long one run may take; a process that takes longer is killed.
        start: how long the process may take to start and to take the event.
    """

    def __init__(self, *, memory_bytes: int, longest: timedelta, start: timedelta = START) -> None:
        self._memory_bytes = memory_bytes
        self._longest_seconds, self._start_seconds = longest.total_seconds(), start.total_seconds()
        self._one_at_a_time = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def run_alone(self, delivery: Delivery) -> Outcome | None:
        """The outcome of the whole run; None when the process died of it. An event that the process never took is not
        to blame: it waits, and is tried again."""
        async with self._one_at_a_time:
            log.warning("event_quarantined", extra={"event_id": delivery.lease.event_id})
            try:
                if not await self._hand_over(line_of(delivery)):
                    log.warning("quarantine_not_started", extra={"event_id": delivery.lease.event_id})
                    await self.close()
                    return NOT_STARTED
                answer = await self._read(self._longest_seconds)
            except BaseException:
                await self.close()  # cancelled: whatever it still did would be refused
                raise
            if not answer:
                await self.close()
                return None
            return outcome_of(answer)

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _hand_over(self, line: bytes) -> bool:
        """Give the process the event; whether it has taken it. Anything may keep it from that but the event itself:
        Redis, the settings, the system's memory, its own death while it had nothing to do."""
        try:
            async with asyncio.timeout(self._start_seconds):
                process = await self._started()
                assert process.stdin is not None  # noqa: S101  # as it was started
                process.stdin.write(line)
                await process.stdin.drain()
            return await self._read(self._start_seconds) == TAKEN
        except (OSError, TimeoutError):
            return False

    async def _read(self, within_seconds: float) -> bytes:
        """The next line of the process; empty when it is dead or too late."""
        assert self._process is not None  # noqa: S101  # it was started
        assert self._process.stdout is not None  # noqa: S101  # as it was started
        try:
            async with asyncio.timeout(within_seconds):
                return await self._process.stdout.readline()
        except (OSError, TimeoutError):
            return b""

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                MODULE,
                str(self._memory_bytes),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LONGEST_LINE,
                # What is meant for the worker (Ctrl-C, a signal to its group) must not look like the event's doing.
                start_new_session=True,
            )
        return self._process


def line_of(delivery: Delivery) -> bytes:
    """A delivery as one line of JSON. The deaths stay behind: in there it is a first run."""
    record = {
        "event": delivery.event.to_json(),
        "lease": asdict(delivery.lease),
        "attempt": delivery.attempt,
        "acceptance": delivery.acceptance,
        "next_frame": delivery.next_frame,
        "accepted_at": delivery.accepted_at.isoformat(),
        "journaled": delivery.journaled,
        "redriven": delivery.redriven,
        "queue": delivery.queue,
        "hops": delivery.hops,
        "age_seconds": delivery.age_seconds,
        "waited": asdict(delivery.waited) if delivery.waited else None,
        "begun_at": delivery.begun_at,
    }
    return json.dumps(record).encode() + b"\n"


def delivery_of_line(line: bytes) -> Delivery:
    """The delivery of such a line."""
    record: dict[str, Any] = json.loads(line)
    event, waited = record.pop("event"), record.pop("waited")
    return Delivery(
        event=parse_event(event, max_bytes=len(event) * 4 + 1),
        lease=Lease(**record.pop("lease")),
        accepted_at=datetime.fromisoformat(record.pop("accepted_at")),
        waited=WAITED.validate_python(waited),
        deaths=1,
        **record,
    )


def line_of_outcome(outcome: Outcome) -> bytes:
    """An outcome as one line of JSON."""
    kind = type(outcome).__name__
    content = OUTCOMES[kind].dump_python(outcome, mode="json") if fields(outcome) else {}
    return json.dumps({"kind": kind, "fields": content}).encode() + b"\n"


def outcome_of(line: bytes) -> Outcome:
    """The outcome of such a line."""
    record = json.loads(line)
    outcome: Outcome = OUTCOMES[record["kind"]].validate_python(record["fields"])
    return outcome
