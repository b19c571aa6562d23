"""The parts that a benchmark drives: a Redis of its own, the real worker and gateway as processes, all ended by pid."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.forked import ROOT
from tests.services import RedisServer
from tests.web_process import gateway_process, web_process
from tests.worker_process import WorkerProcess
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes

SERVICE_KEY = "bench-service-key-of-no-value"
APP = "workers.app"
MODEL_APP = "tests.bench.model_worker"
"""The same app with an in-process model that says a given number of deltas."""


class Stack:
    """Settings of a deployment that lives as long as one benchmark.

    Args:
        folder: where the database is.
        redis: state, and broker unless `broker_url` names another.
        broker_url: of RabbitMQ, say.
    """

    def __init__(self, folder: Path, redis: RedisServer, broker_url: str | None = None) -> None:
        self.folder = folder
        self.state_url = redis.next_database_url()
        self.broker_url = broker_url or self.state_url
        self.database_file = folder / "chatkit.db"
        self.database_url = f"sqlite+aiosqlite:///{self.database_file}"
        self._redis = redis
        self._children = ExitStack()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CHATKIT_BROKER_URL": self.broker_url,
            "CHATKIT_STATE_URL": self.state_url,
            "CHATKIT_DATABASE_URL": self.database_url,
            "CHATKIT_SECRET_KEY": "bench-secret-key-of-no-value-0123456789",
            "CHATKIT_API_KEYS": SERVICE_KEY,
            "CHATKIT_DRAIN_SECONDS": "0",
            "CHATKIT_LOG_LEVEL": "WARNING",
        }

    @property
    def redis_pid(self) -> int:
        assert self._redis.process is not None
        return self._redis.process.pid

    def migrate(self) -> None:
        """Make the tables."""
        command = [sys.executable, "-m", "workers.cli", "db", "upgrade"]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **self.environment}, check=True, capture_output=True)

    def worker(self, app: str = APP, *options: str, **environment: str) -> WorkerProcess:
        """Start a worker, and wait until it consumes."""
        process = WorkerProcess(
            app, environment={**self.environment, **environment}, options=options, log_level="WARNING", fresh=True
        )
        process.start()
        self._children.callback(process.kill)
        return process

    def gateway(self) -> str:
        """Start a gateway; its address."""
        return self._children.enter_context(gateway_process(self.environment, fresh=True))

    def serve(self, app: str) -> str:
        """Start an ASGI app of the benchmark's own; its address."""
        return self._children.enter_context(web_process(app, self.environment, fresh=True))

    async def ask(self, question: Callable[[Lanes], Awaitable[object]]) -> object:
        """Ask the lanes, over a connection of this call's own."""
        state = connect(self.state_url)
        try:
            # bounds, lease and retention matter to those who write; this one reads
            lanes = Lanes(
                state,
                Keys("ck", 8),
                owner="bench",
                lease=timedelta(seconds=10),
                max_waiting_per_lane=1,
                max_waiting=1,
                retention=timedelta(days=1),
            )
            return await question(lanes)
        finally:
            await state.aclose()

    def close(self) -> None:
        """End every process that was started here."""
        self._children.close()


@contextmanager
def stack(broker_url: str | None = None) -> Iterator[Stack]:
    """A stack with an empty Redis, ended with the block."""
    folder = Path(tempfile.mkdtemp(prefix="chatkit-bench-"))
    redis = RedisServer(folder).start()
    made = Stack(folder, redis, broker_url)
    try:
        yield made
    finally:
        # workers before Redis, or each of them would spend its last seconds looking for it
        made.close()
        redis.kill()
        shutil.rmtree(folder, ignore_errors=True)


def rss_mb(pid: int) -> float:
    """Resident memory of one process in MB (10^6 bytes)."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time that one process has used, user and system."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def pid_of(address: str) -> int:
    """The process that serves an address: one of this one's children."""
    port = urlsplit(address).port
    for child in psutil.Process().children(recursive=True):
        if any(it.laddr.port == port and it.status == "LISTEN" for it in child.net_connections("tcp")):
            return child.pid
    raise LookupError(f"nobody serves {address}")


def until(stack: Stack, question: Callable[[Lanes], Awaitable[bool]], within: float) -> None:
    """Wait until the lanes say yes, over one connection."""

    async def poll(lanes: Lanes) -> None:
        deadline = asyncio.get_running_loop().time() + within
        while not await question(lanes):
            assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {await lanes.depth()}"
            await asyncio.sleep(0.2)

    asyncio.run(_ask(stack, poll))


async def _ask(stack: Stack, question: Callable[[Lanes], Awaitable[object]]) -> None:
    await stack.ask(question)
