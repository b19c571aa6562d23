"""One pub/sub connection for all channels that a gateway process listens to."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from workers.lanes.connection import State
from workers.lanes.listening import messages_of
from workers.streams.mailbox import Mailbox
from workers.streams.records import Announcement

log = logging.getLogger(__name__)

CANCEL_AGAIN = timedelta(seconds=0.2)

PAUSE_AFTER_FAILURE = timedelta(seconds=0.2)

Parser = Callable[[bytes], Announcement]


class Subscriptions:
    """Hands the messages of channels to mailboxes. Nothing here is reliable, and it says so to the mailboxes:
    whenever a subscription takes effect, the first time or after a lost connection, its readers look into the stream.
    """

    def __init__(self, state: State, anchor: str, parse: Parser = Announcement.parse) -> None:
        """`anchor` is a channel that stays subscribed, so that the connection lives while nobody listens."""
        self._state, self._anchor, self._parse = state, anchor, parse
        self._mailboxes: dict[bytes, set[Mailbox]] = {}
        self._live: set[bytes] = set()
        self._left: set[bytes] = set()
        self._pubsub: Any = None
        self._wire = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self, channel: str) -> Iterator[Mailbox]:
        """A mailbox that gets the channel's messages once `subscribe` was called, until the block is left."""
        mailbox, name = Mailbox(), channel.encode()
        self._mailboxes.setdefault(name, set()).add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes[name].discard(mailbox)
            if not self._mailboxes[name]:
                del self._mailboxes[name]
                self._left.add(name)

    async def subscribe(self, channel: str, mailbox: Mailbox) -> None:
        """Ask for the channel's messages. The mailbox is told when they come, at once if they come already."""
        name = channel.encode()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="frame-subscriptions")
        if name in self._live:
            mailbox.fall_behind()
        elif self._pubsub is not None:
            # a failure shows in the loop as well, which then subscribes to everything again
            with suppress(RedisError, OSError):
                async with self._wire:
                    await self._pubsub.subscribe(name)

    async def close(self) -> None:
        """Stop listening."""
        while self._task is not None and not self._task.done():
            # again, because redis-py loses a cancellation that meets a reconnect (run)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_AGAIN.total_seconds())

    async def _run(self) -> None:
        while True:
            try:
                async with self._state.pubsub() as pubsub:
                    await pubsub.subscribe(self._anchor)
                    with _no_reconnect(pubsub.connection):
                        await self._listen(pubsub)
            except Exception as error:  # noqa: BLE001  # the loop guard: readers poll in the meantime
                log.warning("frames_not_heard", extra={"error": type(error).__name__})
            finally:
                self._pubsub = None
                self._live.clear()
            await asyncio.sleep(PAUSE_AFTER_FAILURE.total_seconds())

    async def _listen(self, pubsub: Any) -> None:
        # from here on new listeners subscribe by themselves; those that came earlier are taken along now
        self._pubsub = pubsub
        async with self._wire:
            if self._mailboxes:
                await pubsub.subscribe(*self._mailboxes)
        async for message in messages_of(pubsub):
            if message is not None:
                self._hand_out(message["type"], message["channel"], message["data"])
            if self._left:
                await self._unsubscribe(pubsub)

    def _hand_out(self, kind: str, channel: bytes, data: bytes) -> None:
        mailboxes = self._mailboxes.get(channel, ())
        if kind == "message" and mailboxes:
            announcement = self._parse(data)
            for mailbox in mailboxes:
                mailbox.put(announcement)
        elif kind == "subscribe":
            self._live.add(channel)
            for mailbox in mailboxes:
                mailbox.fall_behind()

    async def _unsubscribe(self, pubsub: Any) -> None:
        """Leave the channels that nobody came back to in the meantime."""
        async with self._wire:
            names = [name for name in self._left if name not in self._mailboxes]
            self._left.clear()
            self._live.difference_update(names)
            if names:
                await pubsub.unsubscribe(*names)


@contextmanager
def _no_reconnect(connection: Any) -> Iterator[None]:
    """Let a lost connection be an error: of its two users, one listening and one subscribing, each would connect it
    again, at the same time, and one of the two sockets would be lost."""
    retry, connection.retry = connection.retry, Retry(NoBackoff(), 0, supported_errors=())
    try:
        yield
    finally:
        connection.retry = retry  # the connection goes back to the pool
