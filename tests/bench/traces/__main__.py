"""Write the three traces beside this file."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
HEADER = "at,arrivals_per_second,service_seconds,provider_per_second"
SEED = 6
MINUTE = 60


def daily() -> Iterator[str]:
    """A day in four hours: from an event in two seconds to twelve a second and back, each minute up to a fifth off."""
    dice = random.Random(SEED)
    for minute in range(4 * 60):
        height = (1 - math.cos(2 * math.pi * minute / (4 * 60))) / 2
        yield f"{minute * MINUTE},{(0.5 + 11.5 * height) * dice.uniform(0.8, 1.2):.2f},8,"
    yield f"{4 * 60 * MINUTE},0,8,"


def burst() -> Iterator[str]:
    """An hour of two events a second, with three bursts of two minutes of twenty-five."""
    for begin, end in ((0, 600), (720, 1800), (1920, 2700), (2820, 3600)):
        yield f"{begin},2,8,"
        yield f"{end},{25 if end < 3600 else 0},8,"


def outage() -> Iterator[str]:
    """An hour of eight events a second; the provider lets twelve through, and for ten minutes none."""
    yield from ("0,8,8,12", "1200,8,8,0", "1800,8,8,12", "3600,0,8,12")


if __name__ == "__main__":
    for trace in (daily, burst, outage):
        (FOLDER / f"{trace.__name__}.csv").write_text("\n".join([HEADER, *trace(), ""]))
