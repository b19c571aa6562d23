"""A web server in a process of its own, on a free port of the loopback, ended by pid."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx

from tests.eventually import eventually_sync
from tests.services import free_port
from tests.worker_process import ROOT


@contextmanager
def web_process(app: str, environment: Mapping[str, str], *options: str) -> Iterator[str]:
    """Serve `app` until the block ends; gives its address once `/healthz` answers."""
    port = free_port()
    command = ["uvicorn", app, "--port", str(port), "--log-level", "warning", *options]
    with serving(command, port, environment, health="/healthz") as address:
        yield address


@contextmanager
def flower_process(environment: Mapping[str, str]) -> Iterator[str]:
    """Flower, with its HTTP API open to whoever can reach it."""
    port = free_port()
    command = ["workers.cli", "flower", "--port", str(port), "--logging=warning"]
    with serving(
        command, port, {**environment, "FLOWER_UNAUTHENTICATED_API": "true"}, health="/healthcheck"
    ) as address:
        yield address


@contextmanager
def serving(module: Sequence[str], port: int, environment: Mapping[str, str], *, health: str) -> Iterator[str]:
    """Run a module that serves `port` until the block ends; gives its address once `health` answers."""
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", *module], cwd=ROOT, env={**os.environ, **environment})

    def answers() -> bool:
        assert process.poll() is None, f"{module} ended with {process.returncode}"
        try:
            return httpx.get(f"{address}{health}", timeout=2).is_success
        except httpx.TransportError:
            return False

    try:
        eventually_sync(answers, within=60, every=0.05)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def cli_gateway_process(environment: Mapping[str, str]) -> Iterator[str]:
    """A gateway as operators run it, `chatkit-workers gateway`; the end of the block is its SIGTERM."""
    port = free_port()
    with serving(["workers.cli", "gateway", "--port", str(port)], port, environment, health="/healthz") as address:
        yield address


@contextmanager
def gateway_process(environment: Mapping[str, str]) -> Iterator[str]:
    """A gateway, as `web_process` serves it."""
    with web_process("workers.gateway.app:create_app", environment, "--factory") as address:
        yield address
