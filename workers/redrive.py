"""Another life for a dead letter, or a first one for an event that found no room."""

from collections.abc import Callable, Sequence
from typing import Protocol

from schemas.errors import InvalidEventError
from schemas.events import Event, parse_event
from schemas.records import DeadLetter
from workers.lanes.dead_letters import DeadLetters, Redriven
from workers.lanes.records import Accepted, Refused


class RedrivingLanes(Protocol):
    """The part of `Lanes` that is used here."""

    async def accept(
        self, events: Sequence[tuple[Event, str]], *, redriven: bool = False
    ) -> list[Accepted | Refused]: ...

    @property
    def dead_letters(self) -> DeadLetters: ...


async def redrive(
    lanes: RedrivingLanes, id_: str, queue_of: Callable[[Event], str], *, force: bool = False
) -> Redriven:
    """Run a dead event again, once. Wake the lane that is named.

    One that was accepted goes back to its old place. One that was not (its lane was full, ingest tripped over it) is
    accepted now, at the end of its lane and in the queue that it is given. What never parsed is no event: it stays.
    """
    redriven = await lanes.dead_letters.redrive(id_, force=force)
    if redriven.result != "refused":
        return redriven
    letter = await lanes.dead_letters.get(id_)
    return redriven if letter is None or letter.raw else await _accept(lanes, letter, queue_of)


async def _accept(lanes: RedrivingLanes, letter: DeadLetter, queue_of: Callable[[Event], str]) -> Redriven:
    body = letter.body or ""
    try:
        event = parse_event(body, max_bytes=4 * len(body))
    except InvalidEventError:
        return Redriven("refused")
    [answer] = await lanes.accept([(event, queue_of(event))], redriven=True)
    if isinstance(answer, Refused):
        return Redriven("full")
    # In this order: a letter that outlives a crash here is redriven again, and then its event is known.
    await lanes.dead_letters.purge([letter.id])
    return Redriven("gone" if answer.duplicate else "redriven", answer.wake)
