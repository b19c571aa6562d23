"""The Redis of a run: a real server with an append-only file, which can be killed and started again."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

from redis.asyncio import Redis

from workers.chaos.processes import ChaosError
from workers.embedded.child import Child
from workers.embedded.redis import answers_ping, free_port, redis_command

START_SECONDS = 15.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02


class RedisServer:
    """One server, on a port and in a folder of its own.

    Args:
        folder: for its data and its log.
        fsync: `always` or `everysec`, Redis' `appendfsync`.
    """

    def __init__(self, folder: Path, *, fsync: str) -> None:
        if shutil.which("redis-server") is None:
            raise ChaosError("redis-server is not on the PATH: it is the only Redis that can be killed and come back")
        self._folder, self._fsync = folder, fsync
        self._child: Child | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it; returns when it has read its data and answers."""
        command = redis_command(self._folder / "redis", self.port, keep=True).command
        options = ("--appendfsync", self._fsync, "--no-appendfsync-on-rewrite", "no")
        self._child = Child("redis", [*command, *options], dict(os.environ), self._folder / "redis.log")
        deadline = time.monotonic() + START_SECONDS
        while not answers_ping(self.port):
            if self._child.code is not None or time.monotonic() > deadline:
                raise ChaosError("\n".join(["redis-server does not answer:", *self._child.last_lines()]))
            await asyncio.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGKILL)
            self._child.ensure_stopped(STOP_SECONDS)

    def stop(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.ask_to_stop()
            self._child.ensure_stopped(STOP_SECONDS)
            self._child = None

    def client(self) -> Redis:
        """A client for the suite's own questions; close it."""
        return Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5)
