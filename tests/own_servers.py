"""RabbitMQ and PostgreSQL of a test's own, to be killed: on free ports, with their data in a temporary folder."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import asyncpg

from tests.services import free_port

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's. The one on the PATH is a wrapper that would run as another user, in another folder."""

START_SECONDS = 60.0


class RabbitServer:
    """`kill()` is SIGKILL; `start()` again uses the same port and folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._name = f"own{self.port}@localhost"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def installed() -> bool:
        return RABBITMQ.is_file()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> "RabbitServer":
        """Start it and wait until it listens; a start takes some ten seconds."""
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start it, without waiting."""
        environment = {
            **os.environ,
            "HOME": str(self.folder),  # of the cookie
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        }
        (self.folder / "plugins").write_text("[].")
        with (self.folder / "output").open("wb") as output:
            # a session of its own: the shell that Debian starts it with, and what that starts, end together
            self._process = subprocess.Popen(
                [str(RABBITMQ)], env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not _shakes_hands(self.port):
            assert self._process.poll() is None, (self.folder / "output").read_text()[-2000:]
            assert time.monotonic() < deadline, "RabbitMQ does not answer"
            time.sleep(0.1)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    stop = kill


def _shakes_hands(port: int) -> bool:
    """Whether it speaks AMQP: it listens a moment before."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
        probe.settimeout(1)
        probe.sendall(b"AMQP\0\0\x09\x01")
        return bool(probe.recv(1))
    return False


class PostgresServer:
    """`kill()` ends it at once, as a crash does; `start()` again uses the same port and folder.

    The server refuses to run as root, and its user could not enter a folder of pytest's.
    """

    def __init__(self) -> None:
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="own-postgres-")), free_port()
        self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        self._data = self.folder / "data"

    @staticmethod
    def installed() -> bool:
        return shutil.which("initdb") is not None and shutil.which("pg_ctl") is not None

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> "PostgresServer":
        """Start it and wait until it answers."""
        if not self._data.exists():
            if self._user:
                shutil.chown(self.folder, "postgres")
            self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", self._data, "-o", options, "-l", self.folder / "log", "-w", "start")
        asyncio.run(_answers(self.url.replace("+asyncpg", "")))
        return self

    def kill(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def stop(self) -> None:
        with suppress(subprocess.CalledProcessError):  # it was killed
            self.kill()
        shutil.rmtree(self.folder)

    def _run(self, *command: str | Path) -> None:
        subprocess.run([*self._user, *map(str, command)], check=True, capture_output=True, timeout=60, cwd="/")


async def _answers(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    await connection.close()
