"""Who reads which turn, over all gateways; and the turns that nobody has read for a while."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta

from workers.cancellation import raise_if_cancelled
from workers.lanes import replies
from workers.lanes.connection import STATE_ERRORS, State
from workers.lanes.keys import Keys
from workers.lanes.records import FIRST_GRACE, Wake
from workers.lanes.scripts import Argument, Call, Clock, ScriptRunner, script

log = logging.getLogger(__name__)

BEAT = timedelta(seconds=3)
"""How often a gateway says that it is alive."""

GONE_AFTER = timedelta(seconds=10)
"""Silence after which its readers are taken for gone."""

PAUSE_AFTER_FAILURE = timedelta(seconds=0.5)
LAST_WORD = timedelta(seconds=1)
LIMIT = 100
"""Turns of a shard that one round stops."""


class Readers:
    """Those of one gateway. It writes when something gets its first reader here or loses its last, and a heartbeat."""

    def __init__(self, state: State, keys: Keys, *, name: str | None = None, clock: Clock | None = None) -> None:
        """`name`, for tests: another one for each process, also on the same host."""
        self._scripts, self._keys, self._clock = ScriptRunner(state), keys, clock
        self._name = name or uuid.uuid4().hex
        self._tags = [keys.tag(shard) for shard in range(keys.shards)]
        self._open: Counter[tuple[str, str]] = Counter()
        self._changed: dict[tuple[str, str], None] = {}
        self._wanted = asyncio.Event()

    def event(self, lane: str, event_id: str) -> AbstractContextManager[None]:
        """For as long as somebody reads an event."""
        return self._while((lane, f"e:{event_id}"))

    def thread(self, lane: str) -> AbstractContextManager[None]:
        """For as long as somebody follows a thread. Its turns are not without a reader then."""
        return self._while((lane, f"l:{lane}"))

    @contextmanager
    def _while(self, what: tuple[str, str]) -> Iterator[None]:
        self._count(what, 1)
        try:
            yield
        finally:  # what is told is told by the loop: this one may be cancelled, and must not wait
            self._count(what, -1)

    def _count(self, what: tuple[str, str], change: int) -> None:
        before = self._open[what]
        self._open[what] += change
        if not self._open[what]:
            del self._open[what]
        if not before or not self._open[what]:
            self._changed[what] = None
            self._wanted.set()

    async def run(self) -> None:
        """Tell what changes, until cancelled; then a last time."""
        now = asyncio.get_running_loop().time
        beaten = -BEAT.total_seconds()
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(beaten + BEAT.total_seconds() - now()):
                        await self._wanted.wait()
                try:
                    if now() - beaten >= BEAT.total_seconds():
                        await self.beat()
                        beaten = now()
                    await self.tell()
                except STATE_ERRORS as error:
                    log.warning("readers_not_told", extra={"error": type(error).__name__})
                    await asyncio.sleep(PAUSE_AFTER_FAILURE.total_seconds())
                raise_if_cancelled()
        finally:
            await asyncio.shield(self._last_word())

    async def beat(self) -> None:
        """Say that this gateway is alive; if that is news, tell of all readers again."""
        beat = script("beat")
        try:
            known = await self._scripts.run([Call(beat, tag, [self._now(), self._name]) for tag in self._tags])
        except BaseException:  # it may have been told that it was gone, and have not heard it; asked again, it is known
            self._changed |= dict.fromkeys(self._open)
            raise
        if not all(known):
            self._changed |= dict.fromkeys(self._open)

    async def tell(self) -> None:
        """Tell what has changed, as it is now. What could not be told is kept."""
        self._wanted.clear()
        taken, self._changed = self._changed, {}
        reader = script("reader")
        calls = [
            Call(reader, self._keys.tag_of(lane), [self._now(), self._name, what, int((lane, what) in self._open)])
            for lane, what in taken
        ]
        try:
            await self._scripts.run(calls)
        except BaseException:
            self._changed = taken | self._changed
            self._wanted.set()
            raise

    async def _last_word(self) -> None:
        with suppress(*STATE_ERRORS):
            async with asyncio.timeout(LAST_WORD.total_seconds()):
                await self.tell()

    def _now(self) -> Argument:
        return "" if self._clock is None else self._clock()


class Abandoned:
    """Stops the turns whose last reader has been gone for `grace`."""

    def __init__(
        self,
        state: State,
        keys: Keys,
        *,
        grace: timedelta,
        retention: timedelta,
        wake: Callable[[Sequence[Wake]], Awaitable[None]],
        leave_line: Callable[[Sequence[str]], None],
        clock: Clock | None = None,
    ) -> None:
        """`leave_line` is told of those that were stopped, since they may have waited for a limit."""
        self._scripts, self._clock = ScriptRunner(state), clock
        self._tags = [keys.tag(shard) for shard in range(keys.shards)]
        times = [grace, GONE_AFTER]
        self._arguments: list[Argument] = [time // timedelta(milliseconds=1) for time in times]
        self._arguments += [LIMIT, keys.cancel_channel()]
        self._arguments += [time // timedelta(milliseconds=1) for time in (retention, FIRST_GRACE)]
        self._wake, self._leave_line = wake, leave_line

    async def stop(self) -> None:
        """Stop them, in one round trip, and wake what is to be woken."""
        now: Argument = "" if self._clock is None else self._clock()
        abandon = script("abandon")
        answers = await self._scripts.run([Call(abandon, tag, [now, *self._arguments]) for tag in self._tags])
        stopped = [event_id.decode() for ids, _ in answers for event_id in ids]
        wakes = [wake for _, flat in answers for wake in replies.wakes_of(flat)]
        for event_id in stopped:
            log.info("turn_abandoned", extra={"event_id": event_id})
        if stopped:  # first: it waits for nothing, and a wake-up that fails must not keep them in line
            self._leave_line(stopped)
        if wakes:
            await self._wake(wakes)
