"""The processes of a run: started through the fork server, watched, started again when they end, all ended by pid."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from schemas.errors import WorkersError
from workers.chaos.order import Order
from workers.chaos.records import ProcessNews, Recorder

AGAIN_SECONDS = 0.2
"""Before a process that has ended is started again: what a supervisor does."""

START_SECONDS = 60.0
STOP_SECONDS = 8.0
POLL_SECONDS = 0.03
TAIL_LINES = 12
MODULE = "workers.chaos.fork_server"


class ChaosError(WorkersError):
    """The suite itself could not do its work: a part did not start, or did not come to rest."""

    reason = "chaos"


@dataclass(slots=True)
class Process:
    """One part that is to run: `pid` is None between two lives. `ready` says whether it does its work."""

    order: Order
    ready: Callable[["Process"], bool]
    pid: int | None = None
    is_ready: bool = False
    log_start: int = 0

    @property
    def name(self) -> str:
        return self.order.name

    def said(self, line: str) -> bool:
        """Whether a line of this life's log is exactly this."""
        written = Path(self.order.log).read_bytes()[self.log_start :] if Path(self.order.log).exists() else b""
        return line in written.decode(errors="replace").splitlines()

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal, if it lives."""
        if self.pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False


@dataclass(slots=True)
class Processes:
    """All of them. Use as an async context; none outlives it.

    Args:
        folder: for their logs.
        preload: modules that the fork server imports before anything is forked.
        environment: added to that of the fork server, for what is read when modules are imported.
        recorder: told of every start and end.
    """

    folder: Path
    preload: Sequence[str]
    environment: Mapping[str, str]
    recorder: Recorder
    all: dict[str, Process] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _server: asyncio.subprocess.Process | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        """Start the fork server; it loads while others start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "fork-server.log").open("wb") as log:
            self._server = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                MODULE,
                *self.preload,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._watch())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what is left: closing its input ends the server, which kills and reaps every child first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        server = self._server
        if server is None or server.stdin is None:
            return
        server.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await server.wait()
        except TimeoutError:
            server.kill()  # and the kernel kills its children
            await server.wait()

    def start(self, order: Order, ready: Callable[[Process], bool]) -> Process:
        """Start a part, and start it again whenever it ends."""
        process = Process(order, ready)
        self.all[order.name] = process
        self._send(process)
        return process

    async def until_ready(self, within_seconds: float = START_SECONDS) -> None:
        """Return when every part does its work. Raises ChaosError with the end of a log."""
        deadline = time.monotonic() + within_seconds
        while missing := [process for process in self.all.values() if not process.is_ready]:
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise ChaosError(_story(missing[0]))
            await asyncio.sleep(POLL_SECONDS)

    def name_of(self, pid: int) -> str:
        """Whose pid this is, or was; empty when it is none of ours."""
        return self._names.get(pid, "")

    def _send(self, process: Process) -> None:
        log = Path(process.order.log)
        process.is_ready = False
        process.log_start = log.stat().st_size if log.exists() else 0
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.write(process.order.line())

    async def _listen(self) -> None:
        server = self._server
        if server is None or server.stdout is None:
            return
        async for line in server.stdout:
            self._hear(json.loads(line))
        raise ChaosError(f"the fork server ended: see {self.folder / 'fork-server.log'}")

    def _hear(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"ready": _}:
                self._loaded.set()
            case {"began": name, "pid": pid}:
                self.all[name].pid = pid
                self._names[pid] = name
                self._tell(name, pid, "began")
            case {"ended": name, "pid": pid, "code": code}:
                process = self.all[name]
                process.pid, process.is_ready = None, False
                self._tell(name, pid, f"ended {code}")
                asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._send, process)

    async def _watch(self) -> None:
        """Note when parts become ready."""
        while True:
            for process in self.all.values():
                if process.pid is not None and not process.is_ready and await asyncio.to_thread(process.ready, process):
                    process.is_ready = True
                    self._tell(process.name, process.pid, "ready")
            await asyncio.sleep(POLL_SECONDS)

    def _tell(self, name: str, pid: int | None, what: str) -> None:
        self.recorder.write(ProcessNews(name, pid or 0, time.time(), what))


def _story(process: Process) -> str:
    lines = Path(process.order.log).read_text(errors="replace").splitlines()[-12:]
    return "\n".join(
        [f"{process.name} is not ready; the end of {process.order.log}:", *(f"  {line}" for line in lines)]
    )
