"""`python -m tests.bench [a] … [k] [--smoke]`: print each benchmark's table. Never fails on a time."""

import argparse
import os
import platform

from tests.bench import (
    backlog,
    durability,
    fairness,
    first_frame,
    in_flight,
    light_events,
    open_streams,
    parked,
    scaling,
    sessions,
    turn_cpu,
)
from tests.bench.sizes import FULL, SMOKE
from tests.bench.table import show

BENCHMARKS = {
    "a": light_events.run,
    "b": in_flight.run,
    "c": first_frame.run,
    "d": turn_cpu.run,
    "e": backlog.run,
    "f": parked.run,
    "g": fairness.run,
    "h": durability.run,
    "i": sessions.run,
    "j": scaling.run,
    "k": open_streams.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument(
        "which",
        nargs="*",
        help="a light events, b turns in flight, c first frame, d CPU, e backlog, f parked, g fairness, h durability, "
        "i sessions, j scaling, k open streams",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny numbers: does it still run?")
    asked = parser.parse_args()
    if unknown := set(asked.which) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n", flush=True)
    if asked.smoke:
        print("smoke run: the figures mean nothing\n", flush=True)
    for name in sorted(asked.which) or BENCHMARKS:
        for table in BENCHMARKS[name](SMOKE if asked.smoke else FULL):
            print(show(table, judged=not asked.smoke), flush=True)


if __name__ == "__main__":
    main()
