"""(j) Traffic in steps, from nothing to a peak and back, against `autoscale --min 1 --max 4`: do the workers follow?

The plot goes to `deploy/autoscale.png`, that of a smoke run beside the logs.
"""

import asyncio
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from schemas.events import Event
from tests.bench.sizes import Sizes
from tests.bench.stack import Stack, stack
from tests.bench.table import Line, Table, percentile
from tests.builders import create_event
from tests.cli_process import start
from tests.forked import ROOT
from workers.lanes.connection import connect
from workers.lanes.figures import Figures
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Late, Text

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0)
"""Of the peak, step by step."""
RISE = range(SHARES.index(1.0) + 2)

LEAST, MOST = 1, 4
SLOTS, TURN_SECONDS = 6, 3.0
TARGET_SECONDS, IDLE_SECONDS = 10.0, 15.0
SAMPLE_SECONDS = 0.5
STARTED_SECONDS = ENDED_SECONDS = 120.0

SETTINGS = {
    "OPENAI_API_KEY": "sk-of-no-value",
    "CHATKIT_CONCURRENCY": str(SLOTS),
    "CHATKIT_SCALE_TARGET_AGE": str(TARGET_SECONDS),
    "CHATKIT_SCALE_IDLE": str(IDLE_SECONDS),
    "CHATKIT_DRAIN_SECONDS": "10",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the deployment, `at` seconds after the traffic began."""

    at: float
    offered: float
    ready: int
    age_seconds: float
    running: int
    workers: int


@dataclass(slots=True)
class Run:
    """What was published in which step, what was seen, and what the supervisor said."""

    peak: float
    step_seconds: float
    samples: list[Sample] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    ages: list[tuple[int, float]] = field(default_factory=list)
    attempts: Counter[int] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)


def run(sizes: Sizes) -> list[Table]:
    whole = Run(sizes.scale_peak, sizes.scale_step_seconds)
    with FakeProvider(lambda _: Late(TURN_SECONDS, Text("Here you are."))) as provider, stack() as made:
        made.migrate()
        asyncio.run(_drive(made, provider, whole))
        calls = len(provider.calls)
    picture = ROOT / "deploy" / "autoscale.png" if sizes.scale_plot else Path(tempfile.gettempdir()) / "autoscale.png"
    draw(whole, picture)
    return [_table(whole, calls, picture)]


async def _drive(made: Stack, provider: FakeProvider, whole: Run) -> None:
    state = connect(made.state_url)
    keys = Keys("ck", 8)
    second = timedelta(seconds=1)
    lanes = Lanes(state, keys, owner="bench", lease=second, max_waiting_per_lane=1, max_waiting=1, retention=second)
    environment = {**os.environ, **made.environment, **SETTINGS, "OPENAI_BASE_URL": provider.base_url}
    options = ("autoscale", "--json", "--min", str(LEAST), "--max", str(MOST))
    process = await start(*options, env=environment, cwd=ROOT)
    told = [asyncio.create_task(_read(process, whole)), asyncio.create_task(_keep(process, whole))]
    try:
        await _until_working(state, keys, whole)
        with Publisher(made.broker_url) as publisher:
            watching = asyncio.create_task(_watch(lanes, Figures(state, keys), whole))
            await _offer(publisher, whole)
            await _all_ended(lanes, whole)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)
        await asyncio.gather(*told)
        await state.aclose()


async def _offer(publisher: Publisher, whole: Run) -> None:
    """At even distances, whatever the deployment does with it."""
    for step, share in enumerate(SHARES):
        ends = time.monotonic() + whole.step_seconds
        rate = whole.peak * share
        while time.monotonic() < ends:
            if rate:
                event = create_event(f"question {len(whole.events)}")
                whole.events.append((step, event))
                await publisher.apublish(event)
            await asyncio.sleep(min(1 / rate if rate else whole.step_seconds, max(0.0, ends - time.monotonic())))


async def _watch(lanes: Lanes, figures: Figures, whole: Run) -> None:
    begun = time.monotonic()
    while True:
        at = time.monotonic() - begun
        depth, loads = await lanes.depth(), (await figures.read()).loads
        share = SHARES[min(len(SHARES) - 1, int(at / whole.step_seconds))]
        workers = sum(1 for load in loads.values() if load.limit)
        whole.samples.append(
            Sample(at, whole.peak * share, depth.ready, depth.ready_age_seconds, depth.leases, workers)
        )
        await asyncio.sleep(SAMPLE_SECONDS)


async def _until_working(state: Any, keys: Keys, whole: Run) -> None:
    deadline = time.monotonic() + STARTED_SECONDS
    while not (await Figures(state, keys).read()).loads:
        assert time.monotonic() < deadline, f"no worker: {whole.changes}\n{''.join(whole.said[-40:])}"
        await asyncio.sleep(0.1)


async def _all_ended(lanes: Lanes, whole: Run) -> None:
    async with asyncio.timeout(ENDED_SECONDS):
        for step, event in whole.events:
            while (found := await lanes.status(event.event_id)) is None or found[0].ended_at is None:
                await asyncio.sleep(0.1)
            status = found[0]
            assert status.started_at is not None
            whole.ages.append((step, (status.started_at - status.accepted_at).total_seconds()))
            whole.attempts[status.attempt] += 1
            whole.states[status.state.value] += 1


async def _read(process: asyncio.subprocess.Process, whole: Run) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        whole.changes.append(json.loads(line))


async def _keep(process: asyncio.subprocess.Process, whole: Run) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        whole.said.append(line.decode())


def _table(whole: Run, calls: int, picture: Path) -> Table:
    rising = [age for step, age in whole.ages if step in RISE]
    changes = Counter(change["change"] for change in whole.changes)
    cut = calls - len(whole.events) + sum(count for attempt, count in whole.attempts.items() if attempt > 1)
    p95, workers = percentile(rising, 0.95), [sample.workers for sample in whole.samples]
    done = whole.states["done"]
    return Table(
        f"(j) traffic in steps against autoscale --min {LEAST} --max {MOST}",
        f"0 to {whole.peak:g} events a second and back in {len(SHARES)} steps of {whole.step_seconds:g} s; "
        f"{SLOTS} slots a worker, turns of {TURN_SECONDS:g} s; plot: {picture}",
        [
            Line("events, answered", f"{len(whole.events):,}, {done:,}", "all", done == len(whole.events)),
            Line("p95 age during the rise", f"{p95:.1f} s", f"< {TARGET_SECONDS:g} s", p95 < TARGET_SECONDS),
            Line("workers, least to most", f"{min(workers)} to {max(workers)}", f"to {MOST}", max(workers) == MOST),
            Line("workers at the end", str(workers[-1]), str(LEAST), workers[-1] == LEAST),
            Line("started, drained, crashed", ", ".join(str(changes[name]) for name in ("start", "drain", "crashed"))),
            Line("turns cut (calls beyond one per turn, attempts)", str(cut), "0", cut == 0),
        ],
    )


def draw(whole: Run, picture: Path) -> None:
    """Offered load, depth, age and workers over the run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    at = [sample.at for sample in whole.samples]
    rows: list[tuple[str, Sequence[float]]] = [
        ("offered (events/s)", [sample.offered for sample in whole.samples]),
        ("ready and running", [sample.ready + sample.running for sample in whole.samples]),
        ("age of the oldest (s)", [sample.age_seconds for sample in whole.samples]),
        ("workers", [sample.workers for sample in whole.samples]),
    ]
    for axis, (label, values) in zip(axes, rows, strict=True):
        axis.plot(at, values, linewidth=1.3, drawstyle="steps-post")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[2].set_ylim(0, TARGET_SECONDS * 1.2)
    axes[2].axhline(TARGET_SECONDS, color="tab:red", linestyle="--", linewidth=1)
    axes[3].set_xlabel("seconds")
    figure.savefig(picture, dpi=110)
