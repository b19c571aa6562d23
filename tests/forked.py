"""Processes that have everything imported already: each pytest process has a fork server of its own.

Importing costs three seconds of CPU, and the tests start hundreds of workers and gateways.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workers.chaos.order import Order
from workers.chaos.ours import OurSystem

ROOT = Path(__file__).resolve().parent.parent
BEGIN_SECONDS = 60.0
PRELOAD = (*OurSystem.preload, "uvicorn.main", "workers.testing.model")


class Forked:
    """A process, with what tests use of `subprocess.Popen`."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._began, self._ended = threading.Event(), threading.Event()
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        assert self._pid is not None, "not started"
        return self._pid

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, within: float) -> int:
        """Wait for its end; the exit code, negative for a signal. Raises `subprocess.TimeoutExpired`."""
        if not self._ended.wait(within) or self.returncode is None:
            raise subprocess.TimeoutExpired(f"pid {self._pid}", within)
        return self.returncode

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def until_begun(self) -> None:
        assert self._began.wait(BEGIN_SECONDS), "the fork server does not answer"

    def begin(self, pid: int) -> None:
        """It has begun."""
        self._pid = pid
        self._began.set()

    def end(self, code: int) -> None:
        """It has ended."""
        self.returncode = code
        self._ended.set()


Process = Forked | subprocess.Popen[bytes]


class ForkServer:
    """The fork server of this pytest process; ends with it, and whatever it has forked."""

    def __init__(self) -> None:
        self._children: dict[str, Forked] = {}
        command = [sys.executable, "-m", "workers.chaos.fork_server", *PRELOAD]
        self._server = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        threading.Thread(target=self._listen, name="fork-server", daemon=True).start()
        atexit.register(self._end)

    def fork(self, call: str, arguments: tuple[str, ...], environment: Mapping[str, str], log: Path) -> Forked:
        """Start a process; stdout and stderr go to the end of `log`."""
        child = Forked()
        order = Order(uuid.uuid4().hex, call, arguments, environment, str(log))
        self._children[order.name] = child
        assert self._server.stdin is not None
        self._server.stdin.write(order.line())
        self._server.stdin.flush()
        child.until_begun()
        return child

    def _listen(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            match json.loads(line):
                case {"began": name, "pid": pid}:
                    self._children[name].begin(pid)
                case {"ended": name, "code": code}:
                    self._children.pop(name).end(code)

    def _end(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.kill()


@dataclass(frozen=True, slots=True)
class Program:
    """What `python -m <module>` runs, and the function in it that takes the command line."""

    module: str
    function: str

    def start(self, *arguments: str, environment: Mapping[str, str], log: Path, fresh: bool = False) -> Process:
        """Start it in the project's root; stdout and stderr go to the end of `log`.

        Args:
            arguments: the command line.
            environment: all of it.
            log: a file.
            fresh: in an interpreter of its own, as users do, and not through the fork server.
        """
        if not fresh:
            return _server().fork(self.function, arguments, environment, log)
        command = [sys.executable, "-m", self.module, *arguments]
        with log.open("ab") as output:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)


CELERY = Program("celery", "celery.bin.celery:celery")
UVICORN = Program("uvicorn", "uvicorn.main:main")
OURS = Program("workers.cli", "workers.cli.main:run")


@cache
def _server() -> ForkServer:
    """It starts when it is first asked."""
    return ForkServer()
