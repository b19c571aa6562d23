"""What `chatkit-workers chaos` does: runs, one per seed, and their report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.chaos.conduct import Tell, run
from workers.chaos.deployment import MakeSystem, run_folder
from workers.chaos.ours import OurSystem
from workers.chaos.plan import FaultKind
from workers.chaos.report import Report
from workers.chaos.settings import Fsync, RunSettings
from workers.chaos.usual.system import UsualSystem


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for: `seeds` runs, the first with `seed`."""

    seed: int
    seeds: int
    seconds: float
    lease_seconds: float
    fsync: Fsync
    keep: Path | None
    flood: bool = False
    baseline: bool = False


async def run_all(options: Options, tell: Tell) -> list[Report]:
    """Run every seed, one after another; with `baseline` against the usual way as well. Ours is the first report.

    Raises:
        ChaosError: the suite could not do its work.
    """
    systems: list[tuple[str, MakeSystem]] = [("ours", OurSystem)]
    if options.baseline:
        systems.append(("usual", UsualSystem))
    return [await _run_seeds(name, system, options, tell) for name, system in systems]


async def _run_seeds(name: str, system: MakeSystem, options: Options, tell: Tell) -> Report:
    runs = []
    for seed in range(options.seed, options.seed + options.seeds):
        settings = RunSettings(seed, options.seconds, options.lease_seconds, options.fsync, flood=options.flood)
        with run_folder(options.keep / f"{name}-{seed}" if options.keep else None) as folder:
            runs.append(await run(settings, system, folder, tell))
    return Report.of(runs)


def list_faults(show: Callable[[Mapping[str, Any], str], None]) -> None:
    """Name the kinds of faults."""
    for kind in FaultKind:
        show({"fault": kind}, kind)
