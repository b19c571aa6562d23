"""What the queue did with published events: read from their records, since a broker only confirms that it has them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.records import DeadLetter, EventStatus
from workers.cli.command import CommandFailedError
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.scripts import pipeline_of

POLL_SECONDS = 0.02
SLOW_POLL_SECONDS = 0.25
LOOK_FOR_LETTERS_AFTER_SECONDS = 0.5
LETTERS = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one publication: the event's status, or the dead letter that it is."""

    id: str
    thread_id: str | None
    duplicate: bool
    status: EventStatus | None = None
    letter: DeadLetter | None = None

    @property
    def state(self) -> str:
        if self.duplicate:
            return "duplicate"
        return "queued" if self.status is not None else "refused"


class Acceptances:
    """Waits for the records of events."""

    def __init__(self, lanes: Lanes, state: State, keys: Keys) -> None:
        self._lanes, self._state, self._keys = lanes, state, keys

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the events that were accepted already."""
        recorded = await self._recorded(ids)
        return {event_id for event_id in recorded if await self._lanes.status(event_id) is not None}

    async def wait(self, ids: Sequence[str], *, within_seconds: float) -> dict[str, EventStatus | DeadLetter]:
        """The records of all the events, or the dead letters of those that were refused.

        Raises:
            CommandFailedError: an event has neither in time.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        found: dict[str, EventStatus | DeadLetter] = {}
        while missing := [event_id for event_id in ids if event_id not in found]:
            waited = loop.time() - started
            if waited > within_seconds:
                raise CommandFailedError(
                    f"{missing[0]}: no record of it after {within_seconds:.0f} s ({len(missing)} such events); it is "
                    "on the broker and will be taken up: is a worker running? (`chatkit-workers doctor`)"
                )
            for event_id in await self._recorded(missing):
                if (status := await self._lanes.status(event_id)) is not None:
                    found[event_id] = status[0]
            if len(found) < len(ids):
                if waited > LOOK_FOR_LETTERS_AFTER_SECONDS:
                    found |= await self._letters(set(missing) - found.keys())
                await asyncio.sleep(POLL_SECONDS if waited < 1 else SLOW_POLL_SECONDS)
        return found

    async def _recorded(self, ids: Sequence[str]) -> list[str]:
        """One round trip for all: an event without this record is surely not accepted."""
        pipeline = pipeline_of(self._state)
        for event_id in ids:
            pipeline.get(self._keys.where(event_id))
        return [event_id for event_id, lane in zip(ids, await pipeline.execute(), strict=True) if lane is not None]

    async def _letters(self, ids: set[str]) -> dict[str, EventStatus | DeadLetter]:
        newest = await self._lanes.dead_letters.page(limit=LETTERS)
        return {letter.id: letter for letter in newest.items if letter.id in ids}
