"""The Redis of the stack: a `redis-server` of its own if there is one on the PATH, else fakeredis."""

import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RedisCommand:
    """How to start it, and what it is called."""

    kind: str
    command: tuple[str, ...]


def redis_command(folder: Path, port: int, *, keep: bool) -> RedisCommand:
    """The command of the best server that is here.

    Args:
        folder: for its data.
        port: on the loopback address.
        keep: whether what it holds survives a restart (a `redis-server` only; fakeredis forgets).
    """
    server = shutil.which("redis-server")
    if server is None:
        return RedisCommand("fakeredis", (sys.executable, "-P", "-m", "workers.embedded.fake_redis", str(port)))
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--daemonize", "no"]
    # nothing may be evicted: broker bindings and lanes have no expiry, losing one loses events
    options += ["--maxmemory-policy", "noeviction", "--save", "", "--appendonly", "yes" if keep else "no"]
    return RedisCommand("redis-server", (server, *options))


def answers_ping(port: int) -> bool:
    """Whether a Redis on the loopback address is up (and has loaded its data)."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False
