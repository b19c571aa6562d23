"""One look at a deployment: all that `stats` shows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from workers.lanes.connection import State
from workers.lanes.figures import Figures, Load
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Depth
from workers.lanes.roll import Roll
from workers.limits.limiter import Limiter, ModelStatus


@dataclass(frozen=True, slots=True)
class Look:
    """`at` is monotonic, in seconds. `loads` is by the names of the workers."""

    at: float
    depth: Depth
    paused: list[str]
    models: list[ModelStatus]
    workers: list[str]
    loads: Mapping[str, Load]


async def look_at(lanes: Lanes, state: State, keys: Keys, model: str) -> Look:
    """Look now. `model` is shown even if it has no limits and nobody uses it."""
    return Look(
        at=time.monotonic(),
        depth=await lanes.depth(),
        paused=[str(paused) for paused in await lanes.pauses.all()],
        models=await Limiter(state, keys).status(model),
        workers=await Roll(state, keys).names(),
        loads=(await Figures(state, keys).read()).loads,
    )
