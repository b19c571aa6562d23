"""What `chatkit-workers chaos` does: runs, one per seed, and their report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.chaos.conduct import Tell, run
from workers.chaos.deployment import run_folder
from workers.chaos.ours import OurSystem
from workers.chaos.plan import FaultKind
from workers.chaos.report import Report
from workers.chaos.settings import Fsync, RunSettings


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for: `seeds` runs, the first with `seed`."""

    seed: int
    seeds: int
    seconds: float
    lease_seconds: float
    fsync: Fsync
    keep: Path | None


async def run_all(options: Options, tell: Tell) -> Report:
    """Run every seed, one after another.

    Raises:
        ChaosError: the suite could not do its work.
    """
    runs = []
    for seed in range(options.seed, options.seed + options.seeds):
        settings = RunSettings(seed, options.seconds, options.lease_seconds, options.fsync)
        with run_folder(options.keep / f"seed-{seed}" if options.keep else None) as folder:
            runs.append(await run(settings, OurSystem, folder, tell))
    return Report.of(runs)


def list_faults(show: Callable[[Mapping[str, Any], str], None]) -> None:
    """Name the kinds of faults."""
    for kind in FaultKind:
        show({"fault": kind}, kind)
