"""Arming fail points of processes that run already, through the folder that they look into."""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from workers.failpoints import Entry

LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Passed:
    """A process has passed an armed point, and acted."""

    pid: int
    at: float
    subject: str


@dataclass(slots=True)
class FailPointFolder:
    """The folder of `CHATKIT_FAILPOINTS=@…`."""

    folder: Path
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def passed(self, entry: Entry, within_seconds: float) -> Passed | None:
        """Arm an entry, and wait until a process has acted on it; None when none came by, and it is withdrawn."""
        file = self.arm(entry)
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            if (found := self.result(file)) is not None:
                return found
            await asyncio.sleep(LOOK_SECONDS)
        file.unlink(missing_ok=True)
        return self.result(file)

    def arm(self, entry: Entry) -> Path:
        """Arm an entry; the file that stands for it."""
        name = f"{next(self._numbers):04}"
        written = self.folder / f"{name}.new"
        written.write_text(str(entry))
        return written.rename(self.folder / f"{name}.arm")  # whole, or not there

    def result(self, file: Path) -> Passed | None:
        """Who acted on it, if anybody has."""
        hit = file.with_suffix(".hit")
        return Passed(**json.loads(hit.read_text())) if hit.exists() else None
