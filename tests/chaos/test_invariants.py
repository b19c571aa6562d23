"""What may never happen: under faults from seeds, and with a kill at every place of an answer.

The runs under faults go on in a process of their own meanwhile, since both wait for leases more than they work.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import services
from tests.conftest import leave_out
from tests.eventually import eventually_sync
from tests.forked import ROOT
from workers.chaos.deployment import Deployment, deployed
from workers.chaos.every_chunk import chunks, kill_at_each
from workers.chaos.ours import OurSystem
from workers.chaos.plan import FaultKind
from workers.chaos.records import Recorder
from workers.chaos.settings import RunSettings

SEEDS = 3
SECONDS = 20
LONG_SEEDS = 20
LONG_MINUTES = 2
WORD_SECONDS = 0.005
STOP_SECONDS = 30


@dataclass
class ChaosCommand:
    """`chatkit-workers chaos` in the background."""

    folder: Path
    arguments: tuple[str, ...]

    def __enter__(self) -> "ChaosCommand":
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "workers.cli", "chaos", "--json", "--keep", str(self.folder), *self.arguments]
        self._out, self._err = (self.folder / "out").open("wb"), (self.folder / "err").open("wb")
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=self._out, stderr=self._err)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # it ends what it has started
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._out.close()
        self._err.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has said of its progress."""
        return (self.folder / "err").read_text()

    def report(self, within: float) -> dict[str, Any]:
        """What it prints at its end."""
        code = self._process.wait(within)
        assert code in (0, 1), self.said
        lines = (self.folder / "out").read_text().splitlines()
        assert lines, self.said
        report: dict[str, Any] = json.loads(lines[0])
        return report


def failures(report: dict[str, Any]) -> list[str]:
    """Every failed invariant with its first evidence."""
    return [
        f"seed {seed}: {finding['number']} {finding['invariant']}: {finding['violations'][:3]}"
        for seed, findings in report["seeds"].items()
        for finding in findings
        if finding["verdict"] == "FAIL"
    ]


@pytest.fixture(scope="module")
def real_redis() -> None:
    """fakeredis cannot be killed and come back."""
    if not services.redis_installed():
        leave_out("Redis")


@pytest.fixture(scope="module")
def short_runs(real_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosCommand]:
    minutes = str(SECONDS / 60)
    arguments = ("--seed", "1", "--seeds", str(SEEDS), "--minutes", minutes, "--lease", "1", "--no-flood")
    with ChaosCommand(tmp_path_factory.mktemp("chaos"), arguments) as command:
        yield command


@asynccontextmanager
async def quiet_deployment(folder: Path) -> AsyncIterator[Deployment]:
    """Three workers and a gateway without any load."""
    (folder / "records").mkdir()
    recorder = Recorder(folder / "records")
    settings = RunSettings(seed=0, seconds=0, lease_seconds=1, gateways=1)
    async with deployed(settings, OurSystem, recorder, folder, delay_seconds=WORD_SECONDS) as deployment:
        yield deployment
    recorder.close()


@pytest.mark.redis
@pytest.mark.timeout(900)
async def test_every_chunk(short_runs: ChaosCommand, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """SIGKILL after a chunk of an answer of 60 words with one handoff and one tool call: the client has every word
    once, the tool took effect once, and the model was called once more at most."""
    step = 1 if request.config.getoption("--long") else 10
    places = range(0, chunks(), step)
    async with quiet_deployment(tmp_path) as deployment:
        runs = [run async for run in kill_at_each(deployment, places)]
    assert [run.index for run in runs] == list(places)
    assert {run.index: run.faults for run in runs if run.faults} == {}


@pytest.mark.redis
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind_however_it_ends(real_redis: None, number: signal.Signals, tmp_path: Path) -> None:
    with ChaosCommand(tmp_path, ("--minutes", "5", "--no-flood")) as command:
        eventually_sync(lambda: "is up" in command.said, within=60)
        started = psutil.Process(command.pid).children(recursive=True)
        assert {"redis-server", Path(sys.executable).name} <= {process.name() for process in started}
        os.kill(command.pid, number)
        _, alive = psutil.wait_procs(started, timeout=STOP_SECONDS)
        assert alive == []


@pytest.mark.redis
@pytest.mark.timeout(400)
def test_short_runs_under_every_kind_of_fault(short_runs: ChaosCommand) -> None:
    report = short_runs.report(within=360)
    assert failures(report) == []
    figures = report["figures"]
    assert {kind["kind"] for kind in figures["kinds"]} == set(FaultKind)
    assert figures["fenced"] > 0
    assert figures["takeovers"] > 0
    assert figures["lost"] == 0


@pytest.mark.redis
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1, LONG_SEEDS + 1))
def test_long_runs_under_every_kind_of_fault(real_redis: None, seed: int, tmp_path: Path) -> None:
    with ChaosCommand(tmp_path, ("--seed", str(seed), "--minutes", str(LONG_MINUTES), "--lease", "1")) as command:
        assert failures(command.report(within=500)) == []
