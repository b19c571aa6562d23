"""The services behind the agents of a run: they write down that they were called. `CHATKIT_SERVICES` names `make`."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from workers import failpoints
from workers.agents.durable_tools import idempotency_key
from workers.agents.ports import ServiceRecord
from workers.chaos.records import Effect, line_of
from workers.failpoints import FailPoint

FOLDER = "CHAOS_RECORDS"
WORKER = "CHAOS_NAME"
"""Variables: where the records are, and what this process is called."""


class RecordingServices:
    """Looks everything up; each call takes effect, and is written down before it answers."""

    def __init__(self, file: Path, worker: str) -> None:
        self._file, self._worker = file, worker

    async def look_up(self, kind: str, key: str, *, tenant: str, user: str) -> ServiceRecord | None:
        line = line_of(Effect(key, idempotency_key(), self._worker, time.time()))
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(file, line.encode())  # one write, so that a kill leaves a whole line or none
        os.close(file)
        failpoints.hit(FailPoint.AFTER_TOOL_EFFECT, subject=key)
        return ServiceRecord(kind, key, {"status": "shipped"})

    def kinds(self) -> Sequence[str]:
        return ["order"]


def make() -> RecordingServices:
    """The services of this process."""
    return RecordingServices(Path(os.environ[FOLDER]) / "Effect.jsonl", os.environ[WORKER])
