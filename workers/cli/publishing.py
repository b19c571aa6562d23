"""The work of `publish`: batch after batch onto the broker, then each event's record, in order."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from schemas.errors import InvalidEventError
from schemas.events import Event, parse_event
from schemas.outcome import EventState
from schemas.records import DeadLetter, EventStatus
from workers.cli.acceptance import Acceptances, Verdict
from workers.cli.command import Output
from workers.cli.connections import open_lanes
from workers.cli.follow import follow
from workers.cli.progress import LoadProgress
from workers.cli.sources import MAX_BATCH, Line, batches
from workers.lanes.deployment import keys_of
from workers.publisher import Publisher
from workers.settings import Settings
from workers.streams.reader import FrameReader

BATCHES_A_SECOND = 10
"""How smooth a given rate is."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. `total` is known for load only."""

    wait: bool = False
    rate: float | None = None
    total: int | None = None
    timeout_seconds: float = 30.0

    @property
    def batch(self) -> int:
        return MAX_BATCH if self.rate is None else max(1, min(MAX_BATCH, round(self.rate / BATCHES_A_SECOND)))


class Publishing:
    """One run of `publish`."""

    def __init__(self, settings: Settings, output: Output, options: Options) -> None:
        self._settings, self._output, self._options = settings, output, options
        self._progress = LoadProgress(options.total)
        self._seen: set[str] = set()
        self._failed = 0

    async def run(self, lines: Iterable[Line]) -> int:
        """Publish all; how many were refused or invalid, or, with `wait`, not answered."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            lanes, state = await stack.enter_async_context(open_lanes(settings))
            acceptances = Acceptances(lanes, state, keys_of(settings))
            reader = FrameReader(state, keys_of(settings))
            stack.push_async_callback(reader.close)
            publisher = stack.enter_context(
                Publisher(settings.broker_url, prefix=settings.prefix, max_event_bytes=settings.max_event_bytes)
            )
            stack.enter_context(self._progress)
            async for batch in self._paced(batches(lines, self._options.batch)):
                events = self._valid(batch)
                for verdict in await self._publish(publisher, acceptances, events):
                    await self._tell(verdict, reader)
        return self._failed

    async def _publish(
        self, publisher: Publisher, acceptances: Acceptances, events: Sequence[Event]
    ) -> Sequence[Verdict]:
        """Hand a batch over, and wait until the queue has said what it did with each."""
        ids = [event.event_id for event in events]
        self._seen |= await acceptances.known(ids)
        await publisher.apublish_many(events)
        self._progress.published(len(events))
        records = await acceptances.wait(list(dict.fromkeys(ids)), within_seconds=self._options.timeout_seconds)
        verdicts = []
        for event in events:
            verdicts.append(self._verdict(event, records[event.event_id]))
            self._seen.add(event.event_id)
        return verdicts

    def _verdict(self, event: Event, record: EventStatus | DeadLetter) -> Verdict:
        duplicate = event.event_id in self._seen
        if isinstance(record, DeadLetter):
            return Verdict(event.event_id, event.thread_id, duplicate=False, letter=record)
        return Verdict(event.event_id, event.thread_id, duplicate, record)

    def _valid(self, batch: Sequence[Line]) -> list[Event]:
        events = []
        for line in batch:
            try:
                events.append(parse_event(line.event, max_bytes=self._settings.max_event_bytes))
            except InvalidEventError as error:
                self._refuse(f"{line.place}: {error}", {"place": line.place, "state": "invalid", "error": str(error)})
        return events

    async def _tell(self, verdict: Verdict, reader: FrameReader) -> None:
        self._progress.accepted(1)
        record = {"id": verdict.id, "thread_id": verdict.thread_id, "state": verdict.state}
        if verdict.letter is not None:
            error = f"{verdict.letter.reason}: {verdict.letter.error}"
            self._refuse(f"{verdict.id} refused: {error}", {**record, "error": error})
            return
        self._output.record({**record, "duplicate": verdict.duplicate}, f"{verdict.id} {verdict.state}")
        if self._options.wait and verdict.status is not None:
            end = await follow(reader, verdict.status, self._output)
            if end is None or end.state is not EventState.DONE:
                ended = f"{end.state} ({end.reason})" if end else "no end"
                self._refuse(f"{verdict.id} {ended}", None)

    def _refuse(self, line: str, record: dict[str, object] | None) -> None:
        """An error line; with `--json` the object goes where the others go, so that no place is missing."""
        self._failed += 1
        if self._output.as_json and record is not None:
            self._output.record(record, "")
        else:
            self._output.note(f"error: {line}")

    async def _paced(self, given: Iterable[list[Line]]) -> AsyncIterator[list[Line]]:
        """The batches, no sooner than the rate allows; read in a thread, since stdin blocks."""
        loop = asyncio.get_running_loop()
        iterator, due = iter(given), loop.time()
        while (batch := await asyncio.to_thread(next, iterator, None)) is not None:
            await asyncio.sleep(max(0.0, due - loop.time()))
            yield batch
            if self._options.rate is not None:
                due = max(due, loop.time() - 1) + len(batch) / self._options.rate
