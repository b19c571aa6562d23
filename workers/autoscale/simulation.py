"""What a way of scaling makes of a trace: depth, age and workers, second by second, the same each time.

An event that the provider does not let through waits for its limit; then it is ready, and takes a slot for as long as
its run takes. A worker takes a while to start, and one that is too many ends when its last event has.
"""

import csv
import heapq
import math
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workers.autoscale.decision import Quota, Readings, ScalePolicy, decide, needed
from workers.autoscale.recent import Needed
from workers.errors import SettingsError

COLUMNS = ("at", "arrivals_per_second", "service_seconds", "provider_per_second")
SEED = 20_261_126
SPREAD = 0.5
"""A run takes the service time, give or take this share of it."""

LOOK_SECONDS = 5
START_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Row:
    """What holds from `at` (s) until the next row; the last one is the end. `provider_per_second`: None is no limit."""

    at: float
    arrivals_per_second: float
    service_seconds: float
    provider_per_second: float | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A second of a simulation."""

    at: int
    offered: float
    ready: int
    waiting: int
    running: int
    age_seconds: float
    workers: int


@dataclass(frozen=True, slots=True)
class Course:
    """How it went. `ages`: how long each event was ready before it began."""

    moments: Sequence[Moment]
    ages: Sequence[float]

    @property
    def p95_age_seconds(self) -> float:
        ordered = sorted(self.ages)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else 0.0

    @property
    def worker_seconds(self) -> int:
        """What is paid for: also of workers that start or drain."""
        return sum(moment.workers for moment in self.moments)


class Strategy(Protocol):
    """A way of scaling."""

    def workers(self, readings: Readings, waiting: int, at: float) -> int:
        """How many there should be. `waiting`: for a limit."""


class Ours:
    """The decision of this program."""

    def __init__(self, policy: ScalePolicy) -> None:
        self._policy, self._needed = policy, Needed(policy.idle_seconds)

    def workers(self, readings: Readings, waiting: int, at: float) -> int:
        lately = self._needed.most(needed(readings, self._policy).workers, at)
        return decide(readings, self._policy, lately).workers


@dataclass(slots=True)
class PlainDepth:
    """As KEDA scales on the length of a queue: all that is unfinished over `per_worker`, and no fewer than at any look
    within `cooldown_seconds`."""

    per_worker: float
    cooldown_seconds: float
    least: int
    most: int
    _seen: list[tuple[float, int]] = field(default_factory=list)

    def workers(self, readings: Readings, waiting: int, at: float) -> int:
        depth = readings.ready + readings.running + waiting
        wanted = min(self.most, max(self.least, math.ceil(depth / self.per_worker)))
        self._seen = [(seen, count) for seen, count in self._seen if at - seen < self.cooldown_seconds]
        self._seen.append((at, wanted))
        return max(count for _, count in self._seen)


def read_trace(lines: Iterable[str]) -> list[Row]:
    """Rows of CSV with the `COLUMNS`; an empty `provider_per_second` is no limit.

    Raises:
        SettingsError: a line that is no row, or fewer than two, or times that do not grow.
    """
    reader = csv.DictReader(lines)
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise SettingsError(f"the trace's first line has to be {','.join(COLUMNS)}")
    rows: list[Row] = []
    for row in reader:
        try:
            at, arrivals, service = (float(row[name]) for name in COLUMNS[:3])
            provider = float(row[COLUMNS[3]]) if row[COLUMNS[3]] else None
        except (TypeError, ValueError):
            raise SettingsError(f"line {reader.line_num} of the trace is no row of numbers") from None
        if not (math.isfinite(at) and 0 <= arrivals < math.inf and 0 < service < math.inf and (provider or 0) >= 0):
            raise SettingsError(f"line {reader.line_num} of the trace: a number is out of its range")
        if rows and at <= rows[-1].at:
            raise SettingsError(f"line {reader.line_num} of the trace: times have to grow")
        rows.append(Row(at, arrivals, service, provider))
    if len(rows) < 2:
        raise SettingsError("a trace has two rows at least: the last one is its end")
    return rows


def simulate(trace: Sequence[Row], strategy: Strategy, slots: int) -> Course:
    """Run a trace. `slots`: of each worker. At the end of the trace it stops, whatever is left."""
    world = _World(slots)
    for at, row, services in _arrivals(trace):
        world.step(at, row, services)
        if at % LOOK_SECONDS == 0:
            readings = world.readings(at, row)
            world.hold(strategy.workers(readings, len(world.limited), at), at)
        world.note(at, row)
    return Course(world.moments, world.ages)


def _arrivals(trace: Sequence[Row]) -> Iterator[tuple[int, Row, list[float]]]:
    """Each second, its row, and how long each event that comes in it will run: the same for every strategy."""
    dice = random.Random(SEED)  # noqa: S311  # to be drawn again the same
    index = 0
    for at in range(int(trace[0].at), int(trace[-1].at)):
        while trace[index + 1].at <= at:
            index += 1
        row, services, passed = trace[index], [], 0.0
        while row.arrivals_per_second and (passed := passed + dice.expovariate(row.arrivals_per_second)) < 1:
            services.append(row.service_seconds * dice.uniform(1 - SPREAD, 1 + SPREAD))
        yield at, row, services


@dataclass(slots=True, eq=False)
class _Worker:
    ready_at: int
    running: int = 0
    draining: bool = False


@dataclass(slots=True)
class _World:
    slots: int
    workers: list[_Worker] = field(default_factory=list)
    limited: deque[float] = field(default_factory=deque)
    ready: deque[tuple[int, float]] = field(default_factory=deque)
    ends: list[tuple[float, int, _Worker]] = field(default_factory=list)
    allowance: float = 0.0
    begun: int = 0
    moments: list[Moment] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)

    def step(self, at: int, row: Row, services: list[float]) -> None:
        """A second passes: runs end, events come, the provider lets some through, slots take them."""
        while self.ends and self.ends[0][0] <= at:
            heapq.heappop(self.ends)[2].running -= 1
        self.workers = [worker for worker in self.workers if worker.running or not worker.draining]
        self.limited.extend(services)
        through = len(self.limited)
        if row.provider_per_second is not None:
            self.allowance = min(self.allowance + row.provider_per_second, max(1.0, row.provider_per_second))
            through = min(through, int(self.allowance))
            self.allowance -= through
        for _ in range(through):
            self.ready.append((at, self.limited.popleft()))
        for worker in self._working(at):
            while self.ready and worker.running < self.slots:
                since, service = self.ready.popleft()
                self.begun += 1
                self.ages.append(at - since)
                worker.running += 1
                heapq.heappush(self.ends, (at + service, self.begun, worker))

    def readings(self, at: int, row: Row) -> Readings:
        live, working = [one for one in self.workers if not one.draining], self._working(at)
        return Readings(
            ready=len(self.ready),
            oldest_age_seconds=self._age(at),
            running=sum(worker.running for worker in working),
            capacity=len(live) * self.slots,
            workers=len(live),
            service_seconds=row.service_seconds,
            quotas=() if row.provider_per_second is None else (Quota(row.provider_per_second),),
            starting=len(live) - len(working),
        )

    def hold(self, count: int, at: int) -> None:
        """Start what is missing; drain the idlest of what is too many."""
        live = sorted((one for one in self.workers if not one.draining), key=lambda one: (one.running, -one.ready_at))
        for _ in range(count - len(live)):
            self.workers.append(_Worker(at + START_SECONDS))
        for worker in live[: max(0, len(live) - count)]:
            worker.draining = True

    def note(self, at: int, row: Row) -> None:
        running = sum(worker.running for worker in self.workers)
        self.moments.append(
            Moment(
                at,
                row.arrivals_per_second,
                len(self.ready),
                len(self.limited),
                running,
                self._age(at),
                len(self.workers),
            )
        )

    def _working(self, at: int) -> list[_Worker]:
        return [one for one in self.workers if one.ready_at <= at and not one.draining]

    def _age(self, at: int) -> float:
        return at - self.ready[0][0] if self.ready else 0.0
