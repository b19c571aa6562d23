"""What was lately: the workers that were needed, and how long turns took."""

from datetime import timedelta
from typing import Any

from prometheus_client.samples import Sample

from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.scripts import Argument, Call, Clock, ScriptRunner, script
from workers.telemetry.metrics import MODEL, PREFIX
from workers.telemetry.totals import figure_of

PACKAGE = "workers.autoscale"

UNSEEN = timedelta(minutes=2)
"""How long nobody may look at the readings, before what was seen counts no more."""

PACE_OVER = timedelta(minutes=1)

SECONDS, TURNS = (figure_of(Sample(f"{PREFIX}_turn_seconds_{what}", {"stage": MODEL}, 0)) for what in ("sum", "count"))


class Recent:
    """Kept in the state, so that whichever gateway is asked, the answer is the same."""

    def __init__(self, state: State, keys: Keys, clock: Clock | None = None) -> None:
        """`clock` is for tests; without one the time is that of Redis."""
        self._scripts, self._tag, self._clock = ScriptRunner(state), keys.figures, clock

    async def service_seconds(self) -> float | None:
        """How long a turn takes that calls the model. None: none ever did."""
        reply = await self._run("pace", SECONDS, TURNS, _ms(PACE_OVER))
        return float(reply) if reply else None

    async def most_needed(self, now: int, within: timedelta) -> int | None:
        """Note how many workers are needed now; the most at any look within a while. None: nobody has looked for so
        long."""
        most = int(await self._run("wanted", now, _ms(within), _ms(UNSEEN)))
        return None if most < 0 else most

    async def _run(self, name: str, *arguments: Argument) -> Any:
        now = "" if self._clock is None else self._clock()
        [reply] = await self._scripts.run([Call(script(name, PACKAGE), self._tag, [now, *arguments])])
        return reply


class Needed:
    """The same of `most_needed`, for one process."""

    def __init__(self, within_seconds: float) -> None:
        self._within = within_seconds
        self._since: float | None = None
        self._seen: dict[int, float] = {}

    def most(self, now: int, at: float) -> int | None:
        """`at`: seconds that only grow."""
        self._since = at if self._since is None else self._since
        self._seen[now] = at
        self._seen = {number: seen for number, seen in self._seen.items() if at - seen < self._within}
        return max(self._seen) if at - self._since >= self._within else None


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
