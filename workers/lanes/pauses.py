"""Pausing a type, a tenant or a queue: its events are kept, and none of them begins until it is resumed."""

from dataclasses import dataclass
from typing import Literal

from workers.lanes.scripts import Call, pipeline_of, script
from workers.lanes.views import LaneViews

PauseKind = Literal["type", "tenant", "queue"]
LANES_PER_CALL = 500


@dataclass(frozen=True, slots=True, order=True)
class Paused:
    """What is paused: the value is a whole name, not a pattern."""

    kind: PauseKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


class Pauses(LaneViews):
    """The pauses of a deployment. They live in its state, so they outlast every process."""

    async def pause(self, what: Paused) -> bool:
        """Pause it; False when it was paused already. What runs goes on to its end."""
        pipeline = pipeline_of(self._state)
        for tag in self._tags:
            pipeline.sadd(f"{tag}paused", str(what))
        return any(await pipeline.execute())

    async def resume(self, what: Paused) -> bool:
        """Let it go on; False when it was not paused."""
        was_paused, tags, first = False, self._tags, 1
        while tags:
            arguments = [self._now(), str(what), LANES_PER_CALL, first]
            replies = await self._scripts.run([Call(script("resume"), tag, arguments) for tag in tags])
            was_paused, first = was_paused or any(was for was, _ in replies), 0
            tags = [tag for tag, (_, left) in zip(tags, replies, strict=True) if left]
        return was_paused

    async def all(self) -> list[Paused]:
        """What is paused, sorted."""
        pipeline = pipeline_of(self._state)
        for tag in self._tags:
            pipeline.smembers(f"{tag}paused")
        names = {name.decode() for names in await pipeline.execute() for name in names}
        return sorted(Paused(*name.split(":", 1)) for name in names)
