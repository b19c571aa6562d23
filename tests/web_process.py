"""A web server in a process of its own, on a free port of the loopback, ended by pid."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.eventually import eventually_sync
from tests.forked import OURS, UVICORN, Program
from tests.services import free_port


@contextmanager
def web_process(app: str, environment: Mapping[str, str], *options: str, fresh: bool = False) -> Iterator[str]:
    """Serve `app` until the block ends; gives its address once `/healthz` answers. `fresh`: not forked."""
    port = free_port()
    command = (app, "--port", str(port), "--log-level", "warning", *options)
    with serving(UVICORN, command, port, environment, health="/healthz", fresh=fresh) as address:
        yield address


@contextmanager
def flower_process(environment: Mapping[str, str]) -> Iterator[str]:
    """Flower, with its HTTP API open to whoever can reach it."""
    port = free_port()
    command = ("flower", "--port", str(port), "--logging=warning")
    with serving(
        OURS, command, port, {"FLOWER_UNAUTHENTICATED_API": "true", **environment}, health="/healthcheck"
    ) as address:
        yield address


@contextmanager
def serving(
    program: Program,
    arguments: tuple[str, ...],
    port: int,
    environment: Mapping[str, str],
    *,
    health: str,
    fresh: bool = False,
) -> Iterator[str]:
    """Run a command that serves `port` until the block ends; gives its address once `health` answers."""
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="web-") as folder:
        log = Path(folder, "log")
        process = program.start(*arguments, environment={**os.environ, **environment}, log=log, fresh=fresh)

        def answers() -> bool:
            assert process.poll() is None, f"{arguments} ended with {process.returncode}:\n{log.read_text()}"
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
            print(log.read_text(errors="replace"), end="")


@contextmanager
def cli_gateway_process(environment: Mapping[str, str]) -> Iterator[str]:
    """A gateway as operators run it, `chatkit-workers gateway`; the end of the block is its SIGTERM."""
    port = free_port()
    with serving(OURS, ("gateway", "--port", str(port)), port, environment, health="/healthz") as address:
        yield address


@contextmanager
def gateway_process(environment: Mapping[str, str], *, fresh: bool = False) -> Iterator[str]:
    """A gateway, as `web_process` serves it."""
    with web_process("workers.gateway.app:create_app", environment, "--factory", fresh=fresh) as address:
        yield address
