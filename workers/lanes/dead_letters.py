"""The dead letters of a deployment: listed, shown, redriven, forgotten."""

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Literal

from pydantic import TypeAdapter

from schemas.chatkit import ProgressUpdateEvent, frame_of
from schemas.errors import WorkersError
from schemas.events import PREFIX
from schemas.outcome import DeadReason
from schemas.records import DeadLetter, FailedAttempt
from workers.lanes.records import FIRST_GRACE, Wake
from workers.lanes.replies import wake_of
from workers.lanes.scripts import Call, pipeline_of, script
from workers.lanes.views import LaneViews

ATTEMPTS = TypeAdapter(tuple[FailedAttempt, ...])
LISTED = ("letter", "attempts")
"""Fields of a letter that lists read: not its body, which may be large."""

CHUNK = 500
"""Letters that one look fetches; what is filtered is filtered here."""

TRYING_AGAIN = frame_of(ProgressUpdateEvent(text="Trying again"))

RedriveResult = Literal["redriven", "superseded", "gone", "refused", "full"]
"""`gone`: no such letter (never was, redriven already, past its retention); `refused`: it was never accepted; `full`:
there was no room to accept it, and still is none."""


class UnknownPageError(WorkersError):
    """A cursor that no list has given."""

    reason = "unknown_page"


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which letters are meant: None decides nothing; `type` is a shell-style pattern, with or without its prefix."""

    type: str | None = None
    reason: DeadReason | None = None
    tenant: str | None = None
    thread: str | None = None
    since: datetime | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        type_ = (letter.type or "").removeprefix(PREFIX)
        return (
            (self.type is None or fnmatchcase(type_, self.type.removeprefix(PREFIX)))
            and self.reason in (None, letter.reason)
            and self.tenant in (None, letter.tenant)
            and self.thread in (None, letter.thread_id)
            and (self.since is None or letter.died_at >= self.since)
        )


EVERY = DeadFilter()


@dataclass(frozen=True, slots=True)
class DeadPage:
    """Letters, newest first, and where the next page begins; None: there is no more."""

    items: Sequence[DeadLetter]
    next: str | None


@dataclass(frozen=True, slots=True)
class Redriven:
    """Answer to a redrive, and the lane to wake."""

    result: RedriveResult
    wake: Wake | None = None


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a letter stands in the list of all shards: by its time, then by its id."""

    at_ms: int
    id: str

    def cursor(self) -> str:
        return base64.urlsafe_b64encode(f"{self.at_ms} {self.id}".encode()).decode()

    @classmethod
    def of(cls, cursor: str) -> "_Place":
        try:
            at_ms, _, id_ = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
            return cls(int(at_ms), id_)
        except (binascii.Error, ValueError):
            raise UnknownPageError("is no cursor of this list: leave it out to begin at the newest letter") from None


class DeadLetters(LaneViews):
    """The dead letters of all shards."""

    async def page(self, wanted: DeadFilter = EVERY, *, limit: int = 100, after: str | None = None) -> DeadPage:
        """The newest letters that are meant, without their bodies.

        Args:
            wanted: the filter.
            limit: letters at most.
            after: `next` of the page before.

        Raises:
            UnknownPageError: `after` is no cursor.
        """
        found: list[tuple[_Place, DeadLetter]] = []
        async for item in self._walk(wanted, _Place.of(after) if after else None):
            if len(found) == limit:
                return DeadPage([letter for _, letter in found], found[-1][0].cursor())
            found.append(item)
        return DeadPage([letter for _, letter in found], None)

    async def walk(self, wanted: DeadFilter) -> AsyncIterator[DeadLetter]:
        """All letters that are meant, newest first, without their bodies."""
        async for _, letter in self._walk(wanted, None):
            yield letter

    async def get(self, id_: str) -> DeadLetter | None:
        """One letter, with its body."""
        for tag in await self._tags_of(id_):
            pipeline = pipeline_of(self._state)
            pipeline.hmget(f"{tag}dead:{id_}", *LISTED, "body")
            pipeline.get(f"{tag}body:{id_}")
            [[*listed, own], accepted] = await pipeline.execute()
            if (kept := _letter_of(*listed)) is not None:
                body = own or accepted
                return kept.model_copy(update={"body": None if body is None else body.decode()})
        return None

    async def redrive(self, id_: str, *, force: bool = False) -> Redriven:
        """Give a dead event another life, in its old place of its lane. Wake the lane that is named. For callers there
        is `workers.redrive`, which takes what was never accepted as well."""
        lane = await self._lane_of(id_)
        if lane is None:
            return Redriven("refused" if await self.get(id_) else "gone")
        arguments = [self._now(), id_, int(force), round(FIRST_GRACE.total_seconds() * 1000), TRYING_AGAIN]
        [[result, *head]] = await self._scripts.run([Call(script("redrive"), self._keys.tag_of(lane), arguments)])
        if result == b"redriven":
            # its record is to live as long as the event does; the script took it off the list of those to expire
            await self._state.persist(self._keys.where(id_))
        elif result == b"gone" and await self.get(id_):
            return Redriven("refused")  # it was never accepted, so its letter is in the shard of its id
        return Redriven(result.decode(), wake_of(lane, head))

    async def purge(self, ids: Sequence[str]) -> int:
        """Forget letters for good; how many there were."""
        calls = [Call(script("purge"), tag, [id_]) for id_ in ids for tag in await self._tags_of(id_)]
        return sum(await self._scripts.run(calls))

    async def _walk(self, wanted: DeadFilter, after: _Place | None) -> AsyncIterator[tuple[_Place, DeadLetter]]:
        while True:
            places = await self._look(after)
            letters = await self._letters([(tag, place.id) for place, tag in places])
            for (place, _), letter in zip(places, letters, strict=True):
                if letter is not None and wanted.matches(letter):
                    yield place, letter
            if len(places) < CHUNK:
                return
            after = places[-1][0]
            if wanted.since is not None and after.at_ms < wanted.since.timestamp() * 1000:
                return

    async def _look(self, after: _Place | None) -> list[tuple[_Place, str]]:
        """The next places of all shards, newest first."""
        pipeline = pipeline_of(self._state)
        for tag in self._tags:
            largest: int | str = "+inf" if after is None else after.at_ms
            pipeline.zrevrangebyscore(f"{tag}dead", largest, "-inf", start=0, num=CHUNK, withscores=True)
        found = [
            (_Place(int(died), id_.decode()), tag)
            for tag, ids in zip(self._tags, await pipeline.execute(), strict=True)
            for id_, died in ids
        ]
        return list(islice(sorted((item for item in found if after is None or item[0] < after), reverse=True), CHUNK))

    async def _letters(self, places: Sequence[tuple[str, str]]) -> list[DeadLetter | None]:
        """Letters by shard and id, without their bodies; one may have expired between two round trips."""
        if not places:
            return []
        pipeline = pipeline_of(self._state)
        for tag, id_ in places:
            pipeline.hmget(f"{tag}dead:{id_}", *LISTED)
        return [_letter_of(*listed) for listed in await pipeline.execute()]

    async def _tags_of(self, id_: str) -> list[str]:
        """The shards that may hold a letter: that of its lane, or for what was never accepted that of its id."""
        lane = await self._lane_of(id_)
        return list(dict.fromkeys([*([self._keys.tag_of(lane)] if lane else []), self._keys.tag_of(id_)]))


def _letter_of(letter: bytes | None, attempts: Any) -> DeadLetter | None:
    """The letter as it was written, with the attempts that the lane counted; None when there is none."""
    if letter is None:
        return None
    counted = ATTEMPTS.validate_json(attempts)
    record = DeadLetter.model_validate_json(letter)
    return record.model_copy(update={"attempts": counted}) if counted else record
