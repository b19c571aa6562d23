"""Real servers for tests: found, or started on a free port with their data in a temporary folder."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import redis

REQUIRED = os.environ.get("REQUIRE_SERVICES") == "1"
POSTGRES_ADMIN_URL = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
DATABASES = 4096
RABBITMQ_URL = os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


class RedisServer:
    """A redis-server of the test's own. `kill()` is SIGKILL; `start()` again uses the same port and folder."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder, self.options, self.port = folder, options, port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._databases = iter(range(1, DATABASES))

    def next_database_url(self) -> str:
        """An empty database that nobody was given yet."""
        return f"redis://127.0.0.1:{self.port}/{next(self._databases)}"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "RedisServer":
        arguments = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        arguments += ["--save", "", "--maxmemory-policy", "noeviction"]
        arguments += ["--databases", str(DATABASES), *self.options]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        with redis.Redis(port=self.port, socket_timeout=1) as client:
            while True:
                with suppress(redis.RedisError):
                    if client.ping():
                        return self
                assert self.process.poll() is None, "redis-server did not start"
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


def redis_installed() -> bool:
    return shutil.which("redis-server") is not None


def rabbitmq_reachable() -> bool:
    host, _, port = RABBITMQ_URL.rpartition("@")[2].split("/")[0].partition(":")
    return listening(host, int(port or 5672))


@contextmanager
def rabbitmq_vhost() -> Iterator[str]:
    """A fresh virtual host, where `rabbitmqctl` can make one; else the default one."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    base = RABBITMQ_URL.rstrip("/")
    if shutil.which("rabbitmqctl") is None:
        yield RABBITMQ_URL
        return
    user = base.partition("://")[2].partition(":")[0]
    run = ["rabbitmqctl", "--quiet"]
    subprocess.run([*run, "add_vhost", name], check=True, capture_output=True, timeout=60)
    try:
        subprocess.run(
            [*run, "set_permissions", "-p", name, user, ".*", ".*", ".*"], check=True, capture_output=True, timeout=60
        )
        yield f"{base}/{name}"
    finally:
        subprocess.run([*run, "delete_vhost", name], check=False, capture_output=True, timeout=60)


def postgres_reachable() -> bool:
    async def ping() -> bool:
        with suppress(OSError, asyncpg.PostgresError, TimeoutError):
            connection = await asyncpg.connect(POSTGRES_ADMIN_URL, timeout=3)
            await connection.close()
            return True
        return False

    return asyncio.run(ping())


@contextmanager
def postgres_database() -> Iterator[str]:
    """A fresh database, dropped at the end; the SQLAlchemy URL of it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _in_postgres(POSTGRES_ADMIN_URL, f"CREATE DATABASE {name}")
    try:
        _in_postgres(POSTGRES_ADMIN_URL, f"ALTER DATABASE {name} SET synchronous_commit TO off")  # it is never killed
        yield POSTGRES_ADMIN_URL.replace("postgresql://", "postgresql+asyncpg://").rpartition("/")[0] + f"/{name}"
    finally:
        _in_postgres(POSTGRES_ADMIN_URL, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def empty_tables(url: str) -> None:
    """Delete all rows of a PostgreSQL database but its version."""
    _in_postgres(
        url.replace("+asyncpg", ""),
        """DO $$ DECLARE one text; BEGIN
             SET LOCAL lock_timeout TO '10s';
             FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'
             LOOP EXECUTE format('DELETE FROM %I', one); END LOOP; END $$""",
    )


def _in_postgres(url: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute())
