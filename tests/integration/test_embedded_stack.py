"""The one-command stack as a user runs it: `up` until it is told to stop, `demo` to its end."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests import services
from tests.cli_process import cli, settings
from tests.embedded_stack import Up, free_ports, up
from tests.eventually import eventually, eventually_sync


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Up]:
    """One stack for the tests that leave it as it was."""
    with up(folder) as running:
        yield running


@contextmanager
def nothing_left() -> Iterator[list[psutil.Process]]:
    """Processes that must have ended at the end."""
    seen: list[psutil.Process] = []
    yield seen
    gone = eventually_sync(lambda: not [process for process in seen if process.is_running()], within=5)
    assert gone


async def test_what_is_published_is_answered_and_flower_finds_it_by_its_id(stack: Up) -> None:
    answered = await stack.publish()
    assert answered.code == 0
    assert "went onto a queue" in answered.out
    event_id = answered.lines[0].partition(" ")[0]
    async with httpx.AsyncClient(timeout=5) as http:

        async def succeeded() -> bool:
            found = await http.get(f"{stack.addresses['flower']}/api/task/info/{event_id}")
            return found.status_code == httpx.codes.OK and found.json()["state"] == "SUCCESS"

        assert await eventually(succeeded)
        assert (await http.get(f"{stack.addresses['gateway']}/readyz")).status_code == httpx.codes.OK


async def test_a_killed_worker_is_replaced(stack: Up) -> None:
    old = stack.children()["worker"]
    old.kill()

    async def replaced() -> bool:
        worker = stack.children().get("worker")
        return worker is not None and worker.pid != old.pid

    assert await eventually(replaced)
    assert (await stack.publish()).code == 0


def test_a_second_stack_in_the_same_folder_is_refused(stack: Up, folder: Path) -> None:
    command = [sys.executable, "-m", "workers.cli", "up", *free_ports()]
    second = subprocess.run(
        command, check=False, cwd=folder, env=settings(), capture_output=True, text=True, timeout=30
    )
    assert second.returncode == 1
    assert "error: another stack is running in" in second.stderr
    assert stack.process.poll() is None


def test_sigterm_ends_every_part_and_the_data_stays(tmp_path: Path) -> None:
    with nothing_left() as seen, up(tmp_path) as stack:
        parts = stack.children()
        seen.extend(parts.values())
        stack.process.terminate()
        assert stack.process.wait(30) == 0
    assert {"worker", "gateway", "flower"} < parts.keys()
    assert (tmp_path / ".chatkit" / "chatkit.db").is_file()


def test_a_gateway_that_dies_ends_the_stack_with_its_last_lines(tmp_path: Path) -> None:
    with nothing_left() as seen, up(tmp_path) as stack:
        seen.extend(stack.children().values())
        stack.children()["gateway"].kill()
        assert stack.process.wait(30) == 1
    assert "gateway ended with exit code -9; its last lines" in (tmp_path / "up.err").read_text()


async def test_a_taken_port_is_one_line_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = await cli("up", "--port", port, env=settings(), cwd=tmp_path)
    assert finished.code == 1
    assert f"error: port {port} for the gateway is taken: choose another with --port" in finished.err
    assert not (tmp_path / ".chatkit" / "logs").exists()


@pytest.mark.parametrize("server", ["redis-server", "fakeredis"])
async def test_the_demo_answers_everything_through_the_queue(server: str, tmp_path: Path) -> None:
    environment = settings()
    if server == "fakeredis":
        environment["PATH"] = str(tmp_path)
    elif not services.redis_installed():
        pytest.skip("left out: redis-server is not installed")
    loop = asyncio.get_running_loop()
    started = loop.time()
    finished = await cli("demo", "--json", env=environment, within=110)
    assert finished.code == 0, finished.err
    assert server in finished.err
    question, order, form, addresses = finished.records
    assert [record["state"] for record in (question, order, form)] == ["done", "done", "done"]
    assert question["thread_id"] == form["thread_id"] != order["thread_id"]
    assert "handoff: Handing over to the Service Orchestrator Agent" in order["around"]
    assert "progress: Looking up order 1042" in order["around"]
    assert "handoff: Handing over to the UI Coordination Agent" in form["around"]
    assert any(line.startswith("shown: widget") for line in form["around"])
    assert "1042" in order["answer"]
    assert addresses["flower_state"] == "SUCCESS"
    assert loop.time() - started < 60


async def test_ctrl_c_in_the_middle_of_the_start_leaves_nothing(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "workers.cli", "demo"],
        env=settings(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    with nothing_left() as seen:

        async def several() -> list[psutil.Process]:
            children = psutil.Process(process.pid).children(recursive=True)
            return children if len(children) >= 3 else []

        seen.extend(await eventually(several, within=30))
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await process.wait() == 1
