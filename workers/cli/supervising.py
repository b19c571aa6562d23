"""Running a fleet of workers on this host: looks, decides, starts and drains, until it is asked to stop."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from workers.autoscale.decision import Decision, ScalePolicy
from workers.autoscale.fleet import Changed, Fleet
from workers.autoscale.scale import Scale, Scaler
from workers.cli.command import Output
from workers.cli.connections import open_lanes
from workers.embedded.child import Child
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.figures import Load
from workers.lanes.roll import process_name
from workers.settings import Settings

LOOK_SECONDS = 1.0
POLL_SECONDS = 0.1
GIVE_BACK_SECONDS = 20.0
"""What a worker may take to give back its turns and to close."""

LONGEST_DRAIN_SECONDS = 3600.0
STORING_SECONDS = 30.0
"""What a turn may take beyond `CHATKIT_TURN_SECONDS`, to be stored."""


@dataclass(slots=True)
class Supervisor:
    """One fleet. `worker_options` are those of `chatkit-workers worker`."""

    settings: Settings
    policy: ScalePolicy
    worker_options: Sequence[str]
    output: Output
    _children: list[Child] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=partial(count, 1))
    _signals: int = 0
    _away: bool = False
    _scale: Scale | None = None

    async def run(self) -> None:
        """Until SIGTERM or Ctrl-C; a second one does not wait for turns. No worker outlives it."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def asked() -> None:
            self._signals += 1
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked)
        fleet = Fleet(self._start, process_name, lambda changed: self._tell(fleet, changed))
        try:
            async with open_lanes(self.settings) as (lanes, state):
                scaler = Scaler(self.settings, state, lanes, self.policy)
                while not stop.is_set():
                    await self._look(fleet, scaler)
                    await _wait(stop, LOOK_SECONDS)
        finally:
            await self._end(fleet)

    async def _look(self, fleet: Fleet, scaler: Scaler) -> None:
        """While the state is away, as many stay as there were to be."""
        now = asyncio.get_running_loop().time()
        self._reap(fleet, now)
        try:
            depth, told, models = await scaler.read()
            self._scale = await scaler.decide(depth, told, models, starting=frozenset(fleet.names))
        except STATE_ERRORS as error:
            if not self._away:
                self.output.note(f"the state cannot be read ({type(error).__name__}): the workers stay as they are")
            self._away = True
            return
        self._away = False
        fleet.hold(self._of_this_host(self._scale.decision, fleet, told.loads), told.loads, now)

    def _of_this_host(self, decision: Decision, fleet: Fleet, loads: Mapping[str, Load]) -> Decision:
        mine = {process_name(one.pid) for one in fleet.processes}  # one that drains may not have said so yet
        others = sum(1 for name, load in loads.items() if load.limit and name not in mine)
        return Decision(max(self.policy.least, decision.workers - others), decision.reason)

    def _start(self) -> Child:
        name = f"fleet-{os.getpid()}-{next(self._numbers)}"
        command = [sys.executable, "-P", "-m", "workers.cli", "worker", "-n", f"{name}@%h", *self.worker_options]
        child = Child(name, command, os.environ | {"CHATKIT_DRAIN_SECONDS": f"{self._drain_seconds:g}"}, None)
        self._children.append(child)
        return child

    @property
    def _drain_seconds(self) -> float:
        """As long as any turn takes: a worker that is one too many cuts none."""
        longest = max(self.settings.drain_seconds, self.settings.turn_seconds + STORING_SECONDS)
        return min(longest, LONGEST_DRAIN_SECONDS)

    async def _end(self, fleet: Fleet) -> None:
        """Here nobody waits for an hour: after `CHATKIT_DRAIN_SECONDS` turns are given back, for other workers."""
        fleet.drain("stopping")
        if not await self._ended(fleet, self.settings.drain_seconds, until_signals=2):
            for child in self._children:
                child.hurry()
            await self._ended(fleet, GIVE_BACK_SECONDS)
        for child in self._children:
            if not child.ensure_stopped(0):
                self.output.note(f"{child.name} did not stop in time and was killed")

    def _reap(self, fleet: Fleet, now: float) -> None:
        """Who has ended leaves nothing behind. At once: later its pid may be another's."""
        fleet.reap(now)
        for child in [child for child in self._children if child.code is not None]:
            child.ensure_stopped(0)
            self._children.remove(child)

    async def _ended(self, fleet: Fleet, within: float, *, until_signals: int = sys.maxsize) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while fleet.processes and loop.time() < deadline and self._signals < until_signals:
            await asyncio.sleep(POLL_SECONDS)
            self._reap(fleet, loop.time())
        return not fleet.processes

    def _tell(self, fleet: Fleet, changed: Changed) -> None:
        held = len(fleet.names)
        record = {"change": changed.change, "worker": changed.worker, "reason": changed.reason, "workers": held}
        figures = {"scale": self._scale.record()} if self._scale is not None else {}
        self.output.record(record | figures, f"{changed.change:<8} {changed.worker}  {changed.reason}; {held} now")


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
