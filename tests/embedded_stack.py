"""`chatkit-workers up` as a user runs it, for tests."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests import services
from tests.builders import create_event
from tests.cli_process import Finished, cli, settings


@dataclass(frozen=True, slots=True)
class Up:
    """A running `up`."""

    process: subprocess.Popen[str]
    addresses: Mapping[str, Any]

    def children(self) -> dict[str, psutil.Process]:
        """Its children by what they run: redis-server, worker, gateway, flower."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.ZombieProcess):
                command = child.cmdline()
                found[command[4] if "workers.cli" in command else Path(command[0]).name] = child
        return found

    def processes(self) -> list[psutil.Process]:
        """Its children, several workers as well."""
        return psutil.Process(self.process.pid).children()

    async def publish(self) -> Finished:
        """Publish a question through its Redis, and wait for the answer."""
        env = settings(broker_url=self.addresses["redis"], state_url=self.addresses["redis"])
        return await cli("publish", "-", "--wait", env=env, stdin=create_event("Hello!").to_json())


def free_ports() -> list[str]:
    return ["--port", str(services.free_port()), "--flower-port", str(services.free_port())]


@contextmanager
def up(folder: Path, *options: str, **more: object) -> Iterator[Up]:
    """Run `up` with its data in a folder; it must end by itself when it is told to. `more` are settings."""
    command = [sys.executable, "-m", "workers.cli", "up", "--json", *free_ports(), *options]
    env = settings(**more)
    with (folder / "up.err").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=said, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # bounded by the stack's own time-out
        assert line, (folder / "up.err").read_text()
        yield Up(process, json.loads(line))
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
