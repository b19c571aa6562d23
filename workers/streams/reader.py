"""Reads the frames of events, for all clients of a gateway process, over one subscription and the connection pool.

The stream is the truth. Announcements on the channel save the look into it, as long as they follow on each other;
after any gap, and every few seconds, the reader looks.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from datetime import timedelta
from typing import TypeVar

from redis.exceptions import RedisError

from workers.cancellation import raise_if_cancelled
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.readers import Readers
from workers.lanes.records import Owner
from workers.streams.follower import Follower
from workers.streams.looks import Looks
from workers.streams.mailbox import Mailbox
from workers.streams.records import Entry, Joint, StreamEnd, StreamGoneError, ThreadEntry, numbers_of
from workers.streams.subscriptions import Subscriptions
from workers.streams.thread_turns import ThreadTurns, Turn

Looked = TypeVar("Looked")

IDLE = timedelta(seconds=2)
"""How long a reader trusts a silent channel."""

CONFIRM = timedelta(seconds=0.5)
"""How long the first look waits for the subscription to take effect, so that nothing falls between the two."""

PATIENCE = timedelta(seconds=20)
"""How long a reader stays while the state is away."""

PAUSE = timedelta(milliseconds=250)


class FrameReader:
    """All open readers of a process."""

    def __init__(
        self,
        state: State,
        keys: Keys,
        *,
        idle: timedelta = IDLE,
        patience: timedelta = PATIENCE,
        subscriptions: Subscriptions | None = None,
        readers: Readers | None = None,
    ) -> None:
        """`readers` is told what is read, where turns that nobody reads are stopped."""
        self._state, self._keys, self._looks = state, keys, Looks(state)
        self._idle, self._patience = idle.total_seconds(), patience.total_seconds()
        self._subscriptions = subscriptions or Subscriptions(state, f"{keys.prefix}:frames")
        self._readers = readers
        self._closing = False
        self._open: set[Mailbox] = set()

    @property
    def open_count(self) -> int:
        """How many clients are reading."""
        return len(self._open)

    def end_all(self) -> None:
        """Let every reader come to an end, unfinished: the process shuts down, clients go on elsewhere."""
        self._closing = True
        for mailbox in self._open:
            mailbox.fall_behind()

    async def close(self) -> None:
        """End all readers, and stop listening."""
        self.end_all()
        await self._subscriptions.close()
        self._looks.close()

    async def stream(self, lane: str, event_id: str, after: str | None = None) -> AsyncIterator[Entry]:
        """`batches`, one entry at a time."""
        async with aclosing(self.batches(lane, event_id, after)) as batches:
            async for batch in batches:
                for entry in batch:
                    yield entry

    async def batches(
        self, lane: str, event_id: str, after: str | None = None, *, acceptance: int | None = None
    ) -> AsyncGenerator[Sequence[Entry], None]:
        """The event's frames in order, each once, from the start or after a frame id; the last entry is the end.

        A message that has joined another turn goes on with the frames of that turn, from the joint on, and its end.
        The first batch comes at once, empty if there is nothing yet. Further empty ones come every few seconds while
        nothing happens, so that the caller can keep its client's connection alive. To be used with `aclosing`.
        `acceptance`, where it is known, saves a look when the first frame comes.

        Raises:
            UnknownFrameError: `after` is no frame of this event.
            StreamGoneError: the event's record has gone.
            RedisError, OSError: the state stays away.
        """
        joint: Joint | None = None
        async with aclosing(self._own(lane, event_id, after, acceptance)) as batches:
            async for batch in batches:
                last = batch[-1] if batch else None
                joint = last.into if isinstance(last, StreamEnd) else None
                if joint is None:
                    yield batch
        if joint is not None:
            place = joint.after_any
            if after is not None and numbers_of(after)[0] == numbers_of(joint.after)[0]:
                place = max(after, joint.after, key=numbers_of)
            async with aclosing(self._own(lane, joint.event_id, place, None)) as batches:
                async for batch in batches:
                    yield batch

    async def _own(
        self, lane: str, event_id: str, after: str | None, acceptance: int | None
    ) -> AsyncGenerator[Sequence[Entry], None]:
        """The stream of one event, and nothing else."""
        channel = self._keys.channel(lane, event_id)
        follower = Follower(self._looks, self._keys, lane, event_id, acceptance)
        with self._counted(lane, event_id), self._subscriptions.listen(channel) as mailbox:
            self._open.add(mailbox)
            try:
                await self._subscriptions.subscribe(channel, mailbox)
                await mailbox.take(CONFIRM.total_seconds())
                yield await follower.start(after)
                while not follower.ended:
                    announced = [] if follower.more else await mailbox.take(self._idle)
                    if self._closing:
                        return
                    batch = follower.read(announced)
                    if follower.gap or not announced:
                        batch += await self._patiently(follower.look)
                    yield batch
            finally:
                self._open.discard(mailbox)

    def thread(
        self, lane: str, owner: Owner, after: str | None = None, *, at: Callable[[str | None], None] = lambda _: None
    ) -> AsyncGenerator[Sequence[ThreadEntry], None]:
        """The owner's turns of a thread, one after another, without an end; which, and what it raises: `ThreadTurns`.

        Between two turns the reader waits for the announcement of the next one, and looks every few seconds. `at` is
        told the id of the event that is read from now on, or None between two.
        """
        return self._thread(ThreadTurns(self._state, self._keys, lane, owner), lane, after, at)

    async def _thread(
        self, turns: ThreadTurns, lane: str, after: str | None, at: Callable[[str | None], None]
    ) -> AsyncGenerator[Sequence[ThreadEntry], None]:
        channel = self._keys.turns(lane)
        with self._counted(lane), self._subscriptions.listen(channel) as mailbox:
            self._open.add(mailbox)
            try:
                await self._subscriptions.subscribe(channel, mailbox)
                await mailbox.take(CONFIRM.total_seconds())
                turn = await turns.first(after)
                while not self._closing:
                    at(None if turn is None else turn.event_id)
                    if turn is None:
                        yield ()
                        await mailbox.take(self._idle)
                    else:
                        async with aclosing(self._turn(turns, turn, lane)) as batches:
                            async for batch in batches:
                                yield batch
                    if not self._closing:
                        turn = await self._patiently(turns.following)
                    raise_if_cancelled()  # redis-py loses a cancellation now and then, and this loop has no end
            finally:
                self._open.discard(mailbox)

    async def _turn(self, turns: ThreadTurns, turn: Turn, lane: str) -> AsyncGenerator[Sequence[ThreadEntry], None]:
        try:
            async with aclosing(self._own(lane, turn.event_id, turn.after, turn.acceptance)) as batches:
                async for batch in batches:
                    yield turns.read(turn, batch)
        except StreamGoneError:
            turns.skip(turn)

    def _counted(self, lane: str, event_id: str | None = None) -> AbstractContextManager[None]:
        """A reader of an event, or else a follower of a thread."""
        if self._readers is None:
            return nullcontext()
        return self._readers.thread(lane) if event_id is None else self._readers.event(lane, event_id)

    async def _patiently(self, look: Callable[[], Awaitable[Looked]]) -> Looked:
        """Look, again and again while the state is away."""
        deadline = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await look()
            except (RedisError, OSError):
                if asyncio.get_running_loop().time() + PAUSE.total_seconds() >= deadline:
                    raise
                await asyncio.sleep(PAUSE.total_seconds())
