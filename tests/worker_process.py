"""A real `celery worker` process for tests."""

import os
import re
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.forked import CELERY, Process

READY = re.compile(r"(^|\s)ready\.?\s*$", re.MULTILINE)


class WorkerProcess:
    """`celery -A <app> worker <options>`, in the project's root.

    Args:
        app: import path of the Celery app.
        environment: added to this process's environment, or taking its place where the names meet.
        options: more options of `celery worker`.
        log_level: Celery's `--loglevel`. The default app says "ready" at any level, others at INFO.
        fresh: start it as users do, not through the fork server: for measurements.
    """

    def __init__(
        self,
        app: str = "workers.app",
        *,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        log_level: str = "INFO",
        fresh: bool = False,
    ) -> None:
        self.name = f"w{uuid.uuid4().hex[:8]}@localhost"
        self._arguments = ["-A", app, "worker", "--hostname", self.name, "--loglevel", log_level, *options]
        self._environment = {**os.environ, **(environment or {})}
        self._fresh = fresh
        self._output = Path(tempfile.mkstemp(prefix="worker-", suffix=".log")[1])
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def stderr(self) -> str:
        """All that it wrote so far: stderr, and stdout with it."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._process.poll() if self._process is not None else None

    def launch(self) -> "WorkerProcess":
        """Start it, without waiting."""
        self._process = CELERY.start(
            *self._arguments, environment=self._environment, log=self._output, fresh=self._fresh
        )
        return self

    def start(self, within: float = 60.0) -> "WorkerProcess":
        """Start it and wait until it says that it is ready."""
        self.launch()
        try:
            self.wait_for_line(READY, within)
        except BaseException:
            self.kill()
            raise
        return self

    def wait_for_line(self, pattern: str | re.Pattern[str], within: float = 10.0) -> None:
        """Wait for something in its output."""
        deadline = time.monotonic() + within
        while not re.search(pattern, self.stderr):
            assert self.exit_code is None, f"ended with {self.exit_code}:\n{self.stderr[-4000:]}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {within} s:\n{self.stderr[-4000:]}"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this one process."""
        os.kill(self.pid, number)

    def wait(self, within: float = 30.0) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None, "not started"
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within} s:\n{self.stderr[-4000:]}") from None

    def stop(self, within: float = 30.0) -> int:
        """Warm shutdown (SIGTERM), and wait for it."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self.exit_code is None and self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def end(self) -> None:
        """Kill it; what it wrote is printed, for pytest to show with a failure."""
        self.kill()
        print(f"--- {self.name}: {self.stderr[-8000:] or 'wrote nothing'}")
        self._output.unlink(missing_ok=True)

    def __enter__(self) -> "WorkerProcess":
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
