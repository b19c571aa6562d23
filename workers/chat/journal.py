"""The journal of one turn: what an earlier attempt has completed is not done again, nor paid for, nor shown again."""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from workers.errors import CancelRequestedError, LeaseLostError
from workers.lanes.records import RecordResult
from workers.policies.delivery import Delivery

log = logging.getLogger(__name__)

Action = Callable[[], Awaitable[None]]


class JournalStore(Protocol):
    """Where the completed steps of running events are kept, under their leases."""

    async def read(self, delivery: Delivery) -> Mapping[str, bytes]:
        """The steps that earlier attempts have completed. Raises TransientError."""
        ...

    async def write(self, delivery: Delivery, step: str, entry: bytes) -> RecordResult:
        """Keep one more. Raises TransientError."""
        ...


class TurnJournal:
    """The completed steps of one event, by name, and the items that each has put on the screen.

    A step is kept once its frames are in the stream, never before: what is found in the journal needs not be shown
    again. So the ids of the items of all kept steps say what may stay of an answer that was cut off.
    """

    def __init__(
        self,
        delivery: Delivery,
        store: JournalStore,
        entries: Mapping[str, bytes],
        flush: Action,
    ) -> None:
        """`entries` are those of earlier attempts; `flush` returns when all that was shown is in the stream."""
        self._delivery, self._store, self._flush = delivery, store, flush
        self._entries = {step: entry.partition(b"\n") for step, entry in entries.items()}

    @property
    def items(self) -> frozenset[str]:
        """Ids of the items that completed steps have shown."""
        return frozenset(id_ for head, _, _ in self._entries.values() for id_ in json.loads(head))

    def get(self, step: str) -> bytes | None:
        """What was kept of a step."""
        kept = self._entries.get(step)
        return kept[2] if kept is not None else None

    def forget(self, steps: Iterable[str]) -> list[str]:
        """These do not fit the run any more; the ids of what they have shown, to be taken back."""
        gone = [self._entries.pop(step) for step in steps if step in self._entries]
        return [id_ for head, _, _ in gone for id_ in json.loads(head)]

    def steps(self) -> list[str]:
        """The names of the steps at hand."""
        return list(self._entries)

    async def put(self, step: str, entry: bytes, items: Sequence[str]) -> None:
        """Keep a step, under the lease.

        Raises:
            LeaseLostError: another worker has the turn, or it has ended.
            CancelRequestedError: the user stopped it.
            TransientError: the state is away.
        """
        await self._flush()
        head = json.dumps(list(items)).encode()
        event_id = self._delivery.event.event_id
        match await self._store.write(self._delivery, step, head + b"\n" + entry):
            case "recorded":
                self._entries[step] = (head, b"\n", entry)
            case "full":
                log.warning("journal_full", extra={"event_id": event_id, "step": step})
            case "cancelled":
                raise CancelRequestedError(f"{event_id} is to be stopped")
            case "stale" | "ended":
                raise LeaseLostError(f"{event_id} is no longer ours")
