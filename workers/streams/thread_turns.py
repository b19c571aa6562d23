"""Where a follower of a thread is among its turns, and which one comes next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.streams.records import Entry, StreamEnd, ThreadEntry, TurnEnd, UnknownFrameError, numbers_of

PAGE = 20
"""Turns of one look."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn to read, from its start or after a frame of it."""

    event_id: str
    acceptance: int
    after: str | None = None


class ThreadTurns:
    """The turns of one lane in order of acceptance, those of one owner: nobody sees what others sent there.

    A turn that died and is redriven is read on, as long as it is the last that was read.
    """

    def __init__(self, state: State, keys: Keys, lane: str, owner: Owner) -> None:
        self._state: Any = state
        self._tag, self._lane, self._index = keys.tag_of(lane), lane, keys.turns(lane)
        self._user = owner.user.encode()
        self._last = Turn("", 0)

    async def first(self, after: str | None) -> Turn | None:
        """The turn to begin with: that of the frame `after`, else what runs or waits longest; None: wait for one.

        Raises:
            UnknownFrameError: `after` is no frame of this thread.
            RedisError, OSError: the state is away.
        """
        if after is not None:
            acceptance, _ = numbers_of(after)
            for turn in await self._owned(acceptance, acceptance):
                return Turn(turn.event_id, turn.acceptance, after)
            raise UnknownFrameError("is no frame id of this thread")
        open_ids: Any = await self._state.lrange(f"{self._tag}lane:{self._lane}", 0, PAGE - 1)
        scores = await self._state.zmscore(self._index, open_ids) if open_ids else []
        if found := [int(score) for score in scores if score is not None]:
            for turn in await self._owned(found[0], "+inf"):
                return turn
        newest: Any = await self._state.zrange(self._index, -1, -1, withscores=True)
        self._last = Turn("", int(newest[0][1]) if newest else 0)
        return None

    async def following(self) -> Turn | None:
        """The turn to read now, if there is one. Raises RedisError, OSError: the state is away."""
        last = self._last
        if last.after is not None:
            stream = f"{self._tag}out:{last.event_id}"
            if await self._state.xrange(stream, f"({last.after}", "+", count=1):
                return last
        for turn in await self._owned(f"({last.acceptance}", "+inf"):
            return turn
        return None

    def read(self, turn: Turn, batch: Sequence[Entry]) -> list[ThreadEntry]:
        """What a batch of the turn adds to the thread."""
        entries: list[ThreadEntry] = []
        for entry in batch:
            if not isinstance(entry, StreamEnd):
                entries.append(entry)
            elif entry.id != turn.after:
                entries.append(TurnEnd(entry.id, turn.event_id, entry.state, entry.reason))
        if batch:
            self._last = Turn(turn.event_id, turn.acceptance, batch[-1].id)
        return entries

    def skip(self, turn: Turn) -> None:
        """Nothing more comes of it: it is past its retention."""
        self._last = Turn(turn.event_id, turn.acceptance)

    async def _owned(self, low: int | str, high: int | str) -> list[Turn]:
        """The owner's turns among the first few in this range."""
        found: Any = await self._state.zrangebyscore(self._index, low, high, start=0, num=PAGE, withscores=True)
        turns = [Turn(id_.decode(), int(score)) for id_, score in found]
        if not turns:
            return []
        asking: Any = self._state.pipeline(transaction=False)
        for turn in turns:
            asking.hget(f"{self._tag}event:{turn.event_id}", "user")
        users = await asking.execute()
        owned = [turn for turn, user in zip(turns, users, strict=True) if user == self._user]
        if not owned and len(turns) == PAGE:
            return await self._owned(f"({turns[-1].acceptance}", high)
        return owned
