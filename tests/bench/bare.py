"""Runs the bare loop in a process of its own."""

import json
import subprocess
import sys
from typing import Literal

from tests.forked import ROOT


def measure_bare(
    what: Literal["cpu", "memory"], *, turns: int, deltas: int = 300, together: int = 20
) -> dict[str, float]:
    """What `tests.bench.bare_turns` prints."""
    command = [sys.executable, "-m", "tests.bench.bare_turns", what]
    command += ["--turns", str(turns), "--deltas", str(deltas), "--together", str(together)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer
