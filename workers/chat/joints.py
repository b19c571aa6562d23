"""Messages that steer a turn: they join it before a call to the model, and stand in its journal from then on."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from schemas.chatkit import UserMessageItem
from schemas.events import Event, parse_event

Join = Callable[[str], Awaitable[Mapping[str, bytes]]]
Build = Callable[[Event], Awaitable[UserMessageItem]]

STEERED = "s"
"""Begins the names of their entries: `s<number of the response>:<acceptance>:<event id>`."""


def joined_events(entries: Mapping[str, bytes]) -> list[tuple[str, Event]]:
    """The messages among the entries of a journal, in order of acceptance, each with the name of its entry."""
    names = sorted((name for name in entries if name.startswith(STEERED)), key=_acceptance)
    bodies = {name: entries[name].partition(b"\n")[2] for name in names}
    return [(name, parse_event(body, max_bytes=4 * len(body))) for name, body in bodies.items()]


class Joints:
    """The messages of one run, each handed out once."""

    def __init__(self, entries: Mapping[str, bytes], join: Join, build: Build, commit: Callable[[], Awaitable[None]]):
        """`entries` are those of the journal; `join` lets those that wait join a step; `build` makes the item of a
        message; `commit` stores what has been shown so far."""
        self._entries, self._given = dict(entries), set[str]()
        self._join, self._build, self.commit = join, build, commit

    async def joined(self, response: int) -> list[UserMessageItem]:
        """Those that an earlier attempt has been joined by, up to this response."""
        return await self._give(name for name in self._entries if _response(name) <= response)

    async def join(self, response: int) -> list[UserMessageItem]:
        """Those that join now, before the model is asked for this response; and whatever had joined a later one, should
        the run be another this time.

        Raises:
            WorkersError: the turn is not ours any more, or is to be stopped.
        """
        self._entries |= await self._join(f"{STEERED}{response}")
        return await self._give(self._entries)

    async def _give(self, names: Iterable[str]) -> list[UserMessageItem]:
        new = {name: self._entries[name] for name in names if name.startswith(STEERED) and name not in self._given}
        self._given |= new.keys()
        return [await self._build(event) for _, event in joined_events(new)]


def _acceptance(name: str) -> int:
    return int(name.split(":")[1])


def _response(name: str) -> int:
    return int(name[1:].partition(":")[0])
