"""The journal of one turn: what an earlier attempt has completed is not done again, nor paid for, nor shown again."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from workers.lanes.records import JournalStep

Keep = Callable[[JournalStep], Awaitable[bool]]
"""Says whether there was room for it."""


class TurnJournal:
    """The completed steps of one event, by name, and the items that each has put on the screen.

    A step is kept together with the last of its frames: what is found in the journal has been shown. So the ids of the
    items of all kept steps say what may stay of an answer that was cut off.
    """

    def __init__(self, entries: Mapping[str, bytes], keep: Keep) -> None:
        """`entries` are those of earlier attempts; `keep` returns when a step, and all before it, is safe."""
        self._entries = {name: entry.partition(b"\n") for name, entry in entries.items()}
        self._keep = keep
        self.complete = True
        """Whether every step of this attempt could be kept; the journal of an event has a bound."""

    @property
    def items(self) -> frozenset[str]:
        """Ids of the items that completed steps have shown."""
        return frozenset(id_ for head, _, _ in self._entries.values() for id_ in json.loads(head))

    @property
    def entries(self) -> dict[str, bytes]:
        """All that is at hand, as it was kept."""
        return {name: b"".join(parts) for name, parts in self._entries.items()}

    def steps(self) -> list[str]:
        """The names of the steps at hand."""
        return list(self._entries)

    def get(self, step: str) -> bytes | None:
        """What was kept of a step."""
        kept = self._entries.get(step)
        return kept[2] if kept is not None else None

    def forget(self, steps: Iterable[str]) -> list[str]:
        """These do not fit the run any more; the ids of what they have shown, to be taken back."""
        gone = [self._entries.pop(step) for step in steps if step in self._entries]
        return [id_ for head, _, _ in gone for id_ in json.loads(head)]

    async def put(self, step: str, entry: bytes, items: Sequence[str]) -> None:
        """Keep a step, under the lease.

        Raises:
            LeaseLostError: another worker has the turn, or it has ended.
            CancelRequestedError: the user stopped it.
            TransientError: the state is away.
        """
        head = json.dumps(list(items)).encode()
        self.complete = await self._keep(JournalStep(step, head + b"\n" + entry)) and self.complete
