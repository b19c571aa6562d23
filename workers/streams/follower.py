"""Where one reader is in its stream, and what follows on it."""

from collections.abc import Sequence

from workers.lanes.keys import Keys
from workers.streams.looks import Looks
from workers.streams.records import (
    Announcement,
    Entry,
    StreamEnd,
    StreamGoneError,
    UnknownFrameError,
    entry_of,
    numbers_of,
)

CHUNK = 200
"""Frames of one look: what a client far behind costs in memory."""


class Follower:
    """Puts announcements and looks into the stream together: each entry once, in order, without a gap."""

    def __init__(self, looks: Looks, keys: Keys, lane: str, event_id: str, acceptance: int | None = None) -> None:
        """`acceptance` is the first half of every frame id; where it is unknown, the first look that finds tells."""
        self._looks = looks
        self._stream = keys.stream(lane, event_id)
        self._record = f"{keys.tag_of(lane)}event:{event_id}"
        self._acceptance = acceptance
        self._next = 1
        self.ended = False
        self.more = False
        """The last look did not reach the end of the stream."""
        self.gap = False
        """The last announcements did not follow on what was read: look."""

    async def start(self, after: str | None) -> list[Entry]:
        """The first look, from the beginning or after a frame id. Raises `UnknownFrameError`."""
        if after is not None:
            acceptance, number = numbers_of(after)
            last = await self._last()
            if isinstance(last, StreamEnd) and last.into and numbers_of(last.into.after)[0] == acceptance:
                self.ended = True  # the frame is one of the turn that this message has joined
                return [last]
            if last is None or numbers_of(last.id) < (acceptance, number) or numbers_of(last.id)[0] != acceptance:
                raise UnknownFrameError("is no frame id of this event")
            self._acceptance, self._next = acceptance, number + 1
            if isinstance(last, StreamEnd) and last.id == after:
                self.ended = True
                return [last]
        return await self.look()

    def read(self, announcements: Sequence[Announcement]) -> list[Entry]:
        """What announcements add, as far as they follow on each other."""
        entries: list[Entry] = []
        self.gap = False
        for announcement in announcements:
            if self._acceptance is None or announcement.first > self._next:
                self.gap = True
                break
            entries += self._advance(announcement.entries_from(self._next, self._acceptance))
        return entries

    async def look(self) -> list[Entry]:
        """What the stream adds, at most `CHUNK` entries. An end is the last of them only if nothing follows it.

        Raises:
            StreamGoneError: nothing, and the event's record has gone as well, or says that the end was there.
            RedisError, OSError: the state is away.
        """
        first = "-" if self._acceptance is None else f"({self._acceptance}-{self._next - 1}"
        rows = await self._looks.entries(self._stream, first, CHUNK)
        if not rows and await self._is_over():
            # The end may have come between the two looks, and then stands in the stream by now.
            rows = await self._looks.entries(self._stream, first, CHUNK)
            if not rows:
                raise StreamGoneError("the event is past its retention")
        entries = [entry_of(id_.decode(), fields) for id_, fields in rows]
        self.gap, self.more = False, len(rows) == CHUNK
        if self.more and isinstance(entries[-1], StreamEnd):
            # It may be the end of an earlier life, with the frames of a redrive behind it: the next look tells.
            entries.pop()
        return self._advance(entries)

    async def _is_over(self) -> bool:
        acceptance, ended = await self._looks.fields(self._record, "acceptance", "ended")
        return acceptance is None or ended is not None

    async def _last(self) -> Entry | None:
        rows = await self._looks.last(self._stream)
        return entry_of(rows[0][0].decode(), rows[0][1]) if rows else None

    def _advance(self, entries: list[Entry]) -> list[Entry]:
        if entries:
            self._acceptance, number = numbers_of(entries[-1].id)
            self._next = number + 1
            self.ended = isinstance(entries[-1], StreamEnd)
        return entries
