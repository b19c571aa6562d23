"""What ended of an event type lately, in all workers together: what the flood guard goes by."""

from collections import Counter
from dataclasses import dataclass

from schemas.outcome import DeadReason
from workers.lanes.scripts import Call, script
from workers.lanes.views import LaneViews

FLOODING = frozenset(
    {
        DeadReason.BUG,
        DeadReason.ATTEMPTS_EXHAUSTED,
        DeadReason.WORKER_LOST,
        DeadReason.QUOTA,
        DeadReason.AUTHENTICATION,
    }
)
"""What says that something is broken for everybody. The others are faults of one request: whoever sends many of those
must not stop all tenants."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many events of a type ended within a minute, and how many of them as dead letters that count."""

    ended: int
    dead: int


class Floods(LaneViews):
    """Counted by the script that settles: nobody has to be told."""

    async def share(self, type_: str) -> Share:
        """How the type is doing."""
        counts: Counter[str] = Counter()
        for reply in await self._scripts.run([Call(script("ends"), tag, [self._now(), type_]) for tag in self._tags]):
            for how, count in zip(reply[::2], reply[1::2], strict=True):
                counts[how.decode()] += count
        dead = sum(counts[reason] for reason in FLOODING)
        return Share(counts["done"] + dead, dead)
