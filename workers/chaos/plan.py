"""The plan of a run: which fault when. It follows from the seed alone."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from workers.chaos.proxy import Weather
from workers.failpoints import FailPoint

FIRST_SECONDS = 1.0
PAUSE_SECONDS = (0.3, 0.8)
"""Between a fault that has healed and the next one, in leases: some things recover in time, some are hit again."""


LEAST_FAULTS = 13
"""Faults of a run, however slow the machine: three runs of neighbouring seeds are to see every kind."""


class FaultKind(StrEnum):
    """Everything that is done to a deployment."""

    KILL_AFTER_ACCEPT = "kill after accept"
    KILL_AFTER_BEGIN = "kill after begin"
    KILL_BEFORE_MODEL = "kill before a model response"
    KILL_BETWEEN_CHUNKS = "kill between two chunks"
    KILL_AFTER_MODEL = "kill after a model response"
    KILL_AFTER_TOOL = "kill after a tool's effect"
    KILL_BEFORE_SETTLE = "kill after the answer, before settle"
    KILL_IN_DEAD_LETTER = "kill in the dead-letter write"
    KILL_AFTER_SETTLE = "kill after settle, before the wake-up"
    KILL_GATEWAY = "kill a gateway"
    STOP = "SIGSTOP for two leases"
    STALL = "event loop stalled for two leases"
    DRAIN_WORKER = "SIGTERM a worker"
    DRAIN_GATEWAY = "SIGTERM a gateway"
    CLOCK_FORWARD = "clock forward on one worker"
    CLOCK_BACK = "clock back on one worker"
    REDIS_KILL = "SIGKILL Redis, and restart"
    SCRIPT_FLUSH = "SCRIPT FLUSH"
    STATE_LATENCY = "Redis: latency"
    STATE_RESET = "Redis: connections reset"
    STATE_HALF_OPEN = "Redis: half-open"
    STATE_ONE_WAY = "Redis: one way only"
    STATE_SLOW = "Redis: slow"
    STATE_SLICED = "Redis: sliced"
    MODEL_LATENCY = "provider: latency"
    MODEL_RESET = "provider: connections reset"
    MODEL_HALF_OPEN = "provider: half-open"
    MODEL_ONE_WAY = "provider: one way only"
    MODEL_SLOW = "provider: slow"
    MODEL_SLICED = "provider: sliced"
    MODEL_429 = "provider: 429"
    MODEL_500 = "provider: 500"
    MODEL_HANG = "provider: hangs"
    MODEL_CUT = "provider: cuts the stream"
    DUPLICATES = "duplicate storm"
    SLOW_CLIENTS = "slow clients"
    RECONNECTING_CLIENTS = "reconnecting clients"


KILL_POINTS = {
    FaultKind.KILL_AFTER_ACCEPT: FailPoint.AFTER_ACCEPT,
    FaultKind.KILL_AFTER_BEGIN: FailPoint.AFTER_BEGIN,
    FaultKind.KILL_BEFORE_MODEL: FailPoint.BEFORE_MODEL_CALL,
    FaultKind.KILL_BETWEEN_CHUNKS: FailPoint.AFTER_MODEL_CHUNK,
    FaultKind.KILL_AFTER_MODEL: FailPoint.AFTER_MODEL_RESPONSE,
    FaultKind.KILL_AFTER_TOOL: FailPoint.AFTER_TOOL_EFFECT,
    FaultKind.KILL_BEFORE_SETTLE: FailPoint.BEFORE_SETTLE,
    FaultKind.KILL_IN_DEAD_LETTER: FailPoint.IN_DEAD_LETTER,
    FaultKind.KILL_AFTER_SETTLE: FailPoint.AFTER_SETTLE,
}
STATE_WEATHER = {
    FaultKind.STATE_LATENCY: Weather.LATENCY,
    FaultKind.STATE_HALF_OPEN: Weather.HALF_OPEN,
    FaultKind.STATE_ONE_WAY: Weather.ONE_WAY,
    FaultKind.STATE_SLOW: Weather.SLOW,
    FaultKind.STATE_SLICED: Weather.SLICED,
}
MODEL_WEATHER = {
    FaultKind.MODEL_LATENCY: Weather.LATENCY,
    FaultKind.MODEL_HALF_OPEN: Weather.HALF_OPEN,
    FaultKind.MODEL_ONE_WAY: Weather.ONE_WAY,
    FaultKind.MODEL_SLOW: Weather.SLOW,
    FaultKind.MODEL_SLICED: Weather.SLICED,
}
MAKES_STALE = frozenset({FaultKind.STOP, FaultKind.STALL})
"""Faults that leave a worker which believes that it still holds its leases."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to be injected: `pause` seconds after the one before has healed. `draw` decides what is left open."""

    kind: FaultKind
    pause: float
    draw: int

    def pick(self, number: int) -> int:
        """A number below `number`."""
        return self.draw % number


def plan(seed: int, lease_seconds: float) -> Iterator[Fault]:
    """Faults without end: every kind once in an order of the seed's, then in another. Neighbouring seeds begin at
    different places of the list, so that a few short runs see every kind."""
    chance = random.Random(seed)
    kinds = list(FaultKind)
    for turn in count():
        order = chance.sample(kinds, len(kinds)) if turn else _rotated(kinds, seed)
        for kind in order:
            yield Fault(kind, chance.uniform(*PAUSE_SECONDS) * lease_seconds, chance.getrandbits(16))


def _rotated(kinds: list[FaultKind], seed: int) -> list[FaultKind]:
    """The kinds in one fixed shuffled order, from a place that moves by a third with each seed."""
    order = random.Random(0).sample(kinds, len(kinds))
    start = seed * (len(kinds) // 3 + 1) % len(kinds)
    return order[start:] + order[:start]
