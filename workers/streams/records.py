"""What a reader of an event's stream sees."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from schemas.errors import WorkersError
from schemas.outcome import EventState

FRAME_ID = re.compile(r"(\d{1,15})-(\d{1,15})")


class UnknownFrameError(WorkersError):
    """The frame to go on after is none of this event's stream."""

    reason = "unknown_frame"


class StreamGoneError(WorkersError):
    """The event is past its retention, or the state has lost it: no more frames can come."""

    reason = "stream_gone"


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """One frame: its id, opaque to clients, and the JSON of one `ThreadStreamEvent`."""

    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Joint:
    """Where a message goes on that has joined another turn: in the stream of `event_id`, behind the frame `after`."""

    event_id: str
    after: str

    @property
    def after_any(self) -> str | None:
        """None: from its start."""
        return None if self.after.endswith("-0") else self.after


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How the event ended; nothing comes after it in this stream."""

    id: str
    state: EventState
    reason: str | None
    into: Joint | None = None


Entry = StreamFrame | StreamEnd


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How one turn of a thread ended; the next one follows."""

    id: str
    event_id: str
    state: EventState
    reason: str | None


ThreadEntry = StreamFrame | TurnEnd


@dataclass(frozen=True, slots=True)
class Announcement:
    """What one message on the channel says: frames numbered from `first`, then the end if it has come."""

    first: int
    frames: tuple[bytes, ...]
    end: tuple[EventState, str | None, Joint | None] | None
    size: int

    @classmethod
    def parse(cls, message: bytes) -> "Announcement":
        """Decode a message of the append script. Every reader of the channel shares the result."""
        first, frames, end = from_json(message)
        ending = ending_of(end) if end is not None else None
        return cls(first, tuple(frame.encode() for frame in frames), ending, len(message))

    def entries_from(self, number: int, acceptance: int) -> list[Entry]:
        """The entries numbered from `number`, which is not before `first`."""
        entries: list[Entry] = [
            StreamFrame(f"{acceptance}-{at}", frame)
            for at, frame in enumerate(self.frames[number - self.first :], number)
        ]
        last = self.first + len(self.frames)
        if self.end is not None and number <= last:
            entries.append(StreamEnd(f"{acceptance}-{last}", *self.end))
        return entries


def entry_of(id_: str, fields: dict[bytes, bytes]) -> Entry:
    """An entry as the stream holds it."""
    frame = fields.get(b"d")
    if frame is not None:
        return StreamFrame(id_, frame)
    return StreamEnd(id_, *ending_of(from_json(fields[b"e"])))


def ending_of(end: dict[str, Any]) -> tuple[EventState, str | None, Joint | None]:
    """What an end entry says."""
    into = end.get("into")
    return EventState(end["state"]), end["reason"], Joint(into["event"], into["after"]) if into else None


def numbers_of(id_: str) -> tuple[int, int]:
    """Acceptance number and frame number of a frame id. Raises `UnknownFrameError` for what is none."""
    found = FRAME_ID.fullmatch(id_)
    if found is None:
        raise UnknownFrameError("is no frame id of this event")
    return int(found[1]), int(found[2])
