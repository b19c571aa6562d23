"""The figures that the processes of a deployment count and the state adds up: nothing is kept where they run.

What may be lost is what a process had not told when it was killed: a second's worth. Nothing is counted twice.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from workers.lanes.connection import STATE_ERRORS, State
from workers.lanes.keys import Keys
from workers.lanes.scripts import Argument, Call, ScriptRunner, script

log = logging.getLogger(__name__)

TELL_EVERY = timedelta(seconds=1)
VOID_AFTER = timedelta(seconds=7)
"""How long a worker counts as busy that has not said so again."""

LAST_WORD = timedelta(seconds=1)
"""How long the last call may take, at the end of a process."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many tasks a worker runs, and how many it may run at once."""

    running: int
    limit: int


@dataclass(frozen=True, slots=True)
class Told:
    """The totals by figure, and the load of each live worker by its name."""

    totals: Mapping[str, float]
    loads: Mapping[str, Load]


class Figures:
    """The sums. One key tag, so that one script sees them all."""

    def __init__(self, state: State, keys: Keys) -> None:
        self._scripts = ScriptRunner(state)
        self._tag = keys.figures

    async def tell(self, process: str, number: int, grown: Mapping[str, float], name: str, load: Load) -> None:
        """Add what has grown. May be repeated with the same number. `name`: "" for a process that is no worker."""
        pairs: list[Argument] = []
        for figure, growth in grown.items():
            pairs += [figure, repr(growth)]
        who: list[Argument] = [process, number, name, load.running, load.limit, int(VOID_AFTER.total_seconds())]
        await self._scripts.run([Call(script("tell"), self._tag, [*who, *pairs])])

    async def read(self) -> Told:
        """All of it."""
        [[totals, loads]] = await self._scripts.run([Call(script("told"), self._tag, [])])
        return Told(
            {figure.decode(): float(total) for figure, total in zip(totals[::2], totals[1::2], strict=True)},
            {name.decode(): Load(*map(int, load.split())) for name, load in zip(loads[::2], loads[1::2], strict=True)},
        )


class Teller:
    """Tells the figures of this process, about once a second and at its end.

    Args:
        figures: of the deployment.
        grown: what has grown since it was last asked.
        name: of the worker; "" for a process that is none.
        load: of the worker.
    """

    def __init__(
        self,
        figures: Figures,
        grown: Callable[[], Mapping[str, float]],
        name: str = "",
        load: Callable[[], Load] = lambda: Load(0, 0),
    ) -> None:
        self._figures, self._grown, self._name, self._load = figures, grown, name, load
        self._process = uuid.uuid4().hex
        self._number = 0
        self._untold: Mapping[str, float] = {}
        """Of a call that failed: it may have been heard, and is repeated as it was."""

    async def run(self) -> None:
        """Tell until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(TELL_EVERY.total_seconds())
                await self._try()
        finally:
            await asyncio.shield(self._last_word())

    async def tell(self) -> None:
        """Tell what has grown. Raises what the state does; then it is told with the next call."""
        if not self._untold:
            self._number += 1
            self._untold = self._grown()
        await self._figures.tell(self._process, self._number, self._untold, self._name, self._load())
        self._untold = {}

    async def _try(self) -> None:
        try:
            await self.tell()
        except STATE_ERRORS as error:
            log.warning("figures_not_told", extra={"error": type(error).__name__})

    async def _last_word(self) -> None:
        try:
            async with asyncio.timeout(LAST_WORD.total_seconds()):
                if self._untold:
                    await self.tell()
                self._load = lambda: Load(0, 0)
                await self.tell()
        except STATE_ERRORS as error:
            log.warning("figures_not_told", extra={"error": type(error).__name__})
