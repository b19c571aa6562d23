"""What every queue does with what upstream sent: each message is accepted or kept as a dead letter, in order."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress

from schemas.errors import InvalidEventError
from schemas.events import Event, check_fields, parse_event
from schemas.outcome import DeadReason
from schemas.records import DeadLetter
from workers import failpoints
from workers.errors import TransientError
from workers.failpoints import FailPoint
from workers.ingest.intake import Answer, Intake
from workers.ingest.letters import invalid_letter, json_bytes
from workers.ingest.ports import Graveyard, Mourner
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.patience import persistently
from workers.lanes.records import Accepted, Refused
from workers.policies.dead_letter import bug_record
from workers.settle import dead_letter

log = logging.getLogger(__name__)

Raw = object
"""A message as it came: JSON bytes, or what Celery has decoded already, which should be an object."""

STATE_AWAY = (*STATE_ERRORS, TransientError)
"""What may pass by itself: the state cannot be reached, or the intake closes. The message waits, unacknowledged."""

MIN_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 5.0


@dataclass(slots=True)
class Admitted:
    """How many messages became what."""

    accepted: int = 0
    duplicates: int = 0
    buried: int = 0


@dataclass(slots=True)
class Work:
    """A batch on its way: events to be accepted, letters to be buried."""

    events: list[Event] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    result: Admitted = field(default_factory=Admitted)


class Admission:
    """Returns when nothing of a batch can be lost any more, however long that takes; then the way in acknowledges.

    A confirmed event is never refused: a full lane makes it a dead letter (`overflow`), a full system or a state
    that is away makes the way in wait. Callers bound the waiting by cancelling, and then acknowledge nothing.
    """

    def __init__(
        self,
        intake: Intake,
        graveyard: Graveyard,
        *,
        worker: str,
        max_event_bytes: int,
        now: Callable[[], datetime],
        mourner: Mourner | None = None,
        check: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """`check` raises InvalidEventError for an event that is not let through."""
        self._intake, self._graveyard = intake, graveyard
        self._worker, self._max_event_bytes, self._now = worker, max_event_bytes, now
        self._mourner, self._check = mourner, check

    async def admit(self, raws: Sequence[Raw], *, source: str) -> Admitted:
        """Accept or bury each of some messages, in order. `source` is as in `parse`."""
        return await self.settle(self.parse(raws, source=source))

    def parse(self, raws: Sequence[Raw], *, source: str) -> Work:
        """Check messages; what is invalid is to be buried. A way in can do this while the batch before is accepted.

        Args:
            raws: the messages.
            source: the way in, kept with what is buried: `stream ck:ingress`, `queue chatkit.events.plain`.
        """
        work = Work()
        for raw in raws:
            try:
                event = self._parse(raw)
                self._check(event)
                work.events.append(event)
            except InvalidEventError as error:
                data = raw if isinstance(raw, bytes) else json_bytes(raw)
                work.letters.append(self.letter(data, str(error), source=source))
        return work

    def _parse(self, raw: Raw) -> Event:
        if isinstance(raw, bytes | Mapping):
            return parse_event(raw, max_bytes=self._max_event_bytes)
        return check_fields(raw)  # text as well: what is JSON once more inside of JSON is no event

    async def settle(self, work: Work) -> Admitted:
        """Accept the events and bury the letters; returns when nothing of them can be lost."""
        pause = MIN_PAUSE_SECONDS
        while work.events:
            answers = await persistently(lambda: self._submit(work), told="ingest_waits", errors=STATE_AWAY)
            answered = zip(work.events, answers, strict=True)
            waiting = [event for event, answer in answered if not self._place(event, answer, work)]
            if waiting:
                log.warning("ingest_waits", extra={"reason": "system_full", "count": len(waiting)})
                await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  # jitter
                pause = min(MAX_PAUSE_SECONDS, pause * 2) if len(waiting) == len(work.events) else MIN_PAUSE_SECONDS
            work.events = waiting
        await self.bury(work.letters)
        work.result.buried += len(work.letters)
        return work.result

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters, however long it takes."""
        if letters:
            failpoints.hit(FailPoint.IN_DEAD_LETTER)
            new = await persistently(lambda: self._graveyard.bury(letters), told="ingest_waits", errors=STATE_AWAY)
            if self._mourner is not None:  # a message that comes again is kept, and told of, once
                self._mourner.buried(list(compress(letters, new)))

    def letter(self, raw: bytes, error: str, *, source: str) -> DeadLetter:
        """The dead letter of a message that cannot be read."""
        return invalid_letter(raw, error, source=source, worker=self._worker, now=self._now())

    def _place(self, event: Event, answer: Answer | DeadLetter, work: Work) -> bool:
        """Note what became of an event; False if it has to be submitted again."""
        match answer:
            case Accepted(duplicate=duplicate):
                work.result.accepted += not duplicate
                work.result.duplicates += duplicate
            case Refused(reason="lane_full"):
                error = f"the lane {answer.lane} holds as many waiting events as it may"
                work.letters.append(self._refused(event, DeadReason.OVERFLOW, error))
            case Refused(reason="busy"):
                error = f"it asked to be rejected while its conversation is answered, which {answer.by} was"
                work.letters.append(self._refused(event, DeadReason.OVERFLOW, error))
            case DeadLetter():
                work.letters.append(answer)
            case _:
                return False
        return True

    async def _submit(self, work: Work) -> Sequence[Answer | DeadLetter]:
        """Submit what is left. An event that the program trips over does not block those behind it for ever."""
        try:
            return await self._intake.submit(work.events)
        except STATE_AWAY:
            raise
        except Exception:  # noqa: BLE001  # found out one by one
            return [await self._submit_alone(event) for event in work.events]

    async def _submit_alone(self, event: Event) -> Answer | DeadLetter:
        try:
            return (await self._intake.submit([event]))[0]
        except STATE_AWAY:
            raise
        except Exception as error:  # noqa: BLE001  # the dead-letter net of the ways in
            record = bug_record(error)
            return self._refused(event, DeadReason.BUG, f"{record.kind}: {record.message}")

    def _refused(self, event: Event, reason: DeadReason, error: str) -> DeadLetter:
        return dead_letter(event, reason, error, worker=self._worker, now=self._now())
