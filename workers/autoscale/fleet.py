"""Worker processes on one host, as many as there should be: started, replaced when they crash, drained when idle."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from workers.autoscale.decision import Decision
from workers.lanes.figures import Load

FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0
MOST_DOUBLINGS = 10
"""Ten workers that crash at each start crash a thousand times in two hours, and 2.0 ** 1024 is no number."""
LIVED_SECONDS = 60.0
"""A worker that has lived so long did not crash because of how it was started."""

Change = Literal["start", "drain", "ended", "crashed", "refused"]


class Process(Protocol):
    """A worker process."""

    @property
    def pid(self) -> int: ...

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""

    def ask_to_stop(self) -> None:
        """Let it take no more work, finish what it has, and end."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a worker, and why. One that the host refused to start has no name."""

    change: Change
    worker: str
    reason: str


@dataclass(slots=True)
class _Member:
    process: Process
    since: float
    draining: bool = False


@dataclass(slots=True)
class Fleet:
    """Holds as many workers as it is told. It never ends one that has work: who drains is left to come to its end.

    Args:
        start: starts a worker.
        name_of: the name under which the worker of a pid tells its load.
        on_change: is told of every change.
    """

    start: Callable[[], Process]
    name_of: Callable[[int], str]
    on_change: Callable[[Changed], None]
    _members: list[_Member] = field(default_factory=list)
    _crashes: int = 0
    _not_before: float = 0.0

    @property
    def names(self) -> list[str]:
        """Of the workers that take work or are about to."""
        return [self.name_of(one.process.pid) for one in self._working]

    @property
    def processes(self) -> list[Process]:
        """All that have not ended, those that drain as well."""
        return [one.process for one in self._members]

    @property
    def _working(self) -> list[_Member]:
        return [one for one in self._members if not one.draining]

    def reap(self, now: float) -> None:
        """Note who has ended. `now`: seconds that only grow."""
        for one in [one for one in self._members if one.process.code is not None]:
            self._members.remove(one)
            if one.draining:
                self._tell("ended", one, f"exit code {one.process.code}")
                continue
            pause = self._pause(now, 1 if now - one.since >= LIVED_SECONDS else self._crashes + 1)
            self._tell("crashed", one, f"exit code {one.process.code}; another in {pause:g} s")

    def hold(self, decision: Decision, loads: Mapping[str, Load], now: float) -> None:
        """Start or drain what is missing or too many.

        Args:
            decision: how many of this fleet there should be.
            loads: what each worker runs, by its name.
            now: seconds that only grow.
        """
        self.reap(now)
        while len(self._working) < decision.workers and now >= self._not_before:
            try:
                self._members.append(_Member(self.start(), now))
            except OSError as error:  # a limit of the host: those that work go on
                pause = self._pause(now, self._crashes + 1)
                self.on_change(Changed("refused", "", f"{error.strerror or error}; again in {pause:g} s"))
                break
            self._tell("start", self._members[-1], decision.reason)
        for one in self._idlest(loads)[: max(0, len(self._working) - decision.workers)]:
            one.draining = True
            one.process.ask_to_stop()
            self._tell("drain", one, decision.reason)

    def drain(self, reason: str) -> None:
        """Let all of them come to their end."""
        for one in self._working:
            one.draining = True
            one.process.ask_to_stop()
            self._tell("drain", one, reason)

    def _pause(self, now: float, crashes: int) -> float:
        """Start none for a while, longer with each crash; for how long."""
        self._crashes = crashes
        pause = min(LAST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(crashes - 1, MOST_DOUBLINGS))
        self._not_before = now + pause
        return pause

    def _idlest(self, loads: Mapping[str, Load]) -> list[_Member]:
        """Those that run least first, of the same the youngest; one that has not told is about to begin."""
        return sorted(self._working, key=lambda one: (self._running(one, loads), -one.since))

    def _running(self, one: _Member, loads: Mapping[str, Load]) -> int:
        load = loads.get(self.name_of(one.process.pid))
        return 0 if load is None else load.running

    def _tell(self, change: Change, one: _Member, reason: str) -> None:
        self.on_change(Changed(change, self.name_of(one.process.pid), reason))
