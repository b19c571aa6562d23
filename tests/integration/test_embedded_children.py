"""Children of the embedded stack: started, watched, stopped, never left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from tests import services
from tests.eventually import eventually_sync
from workers.embedded.child import Child, wait_until
from workers.embedded.redis import answers_ping, free_port, is_free, redis_command

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
PARENT = """
import os, sys, time
from pathlib import Path
from workers.embedded.child import Child
child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(60)
"""


@contextmanager
def child_of(code: str, folder: Path) -> Iterator[Child]:
    child = Child("sleeper", [sys.executable, "-c", code], os.environ, folder / "sleeper.log")
    try:
        yield child
    finally:
        child.ensure_stopped(0)


def test_a_child_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    with child_of(SLEEP, tmp_path) as child:
        assert eventually_sync(lambda: child.said("up"))
        child.ask_to_stop()
        assert child.ensure_stopped(10)
        assert child.code == -signal.SIGTERM


def test_a_child_that_does_not_listen_is_killed_with_all_it_started(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {STUBBORN}"
    with child_of(code, tmp_path) as child:
        assert eventually_sync(lambda: child.log.read_text().count("up") == 2)
        (grandchild,) = psutil.Process(child.pid).children()
        child.ask_to_stop()
        assert not child.ensure_stopped(0.2)
        assert eventually_sync(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_the_last_lines_of_a_child_that_died_are_kept(tmp_path: Path) -> None:
    with child_of("for n in range(50): print('line', n)\nraise SystemExit(3)", tmp_path) as child:
        assert eventually_sync(lambda: child.code == 3)
        assert child.last_lines()[-1] == "line 49"
        assert len(child.last_lines()) < 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "sleeper.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert eventually_sync(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_waiting_is_bounded() -> None:
    assert not wait_until(lambda: False, deadline=time.monotonic() + 0.1, alive=lambda: None)


def test_a_taken_port_is_found_out() -> None:
    port = services.free_port()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)


@contextmanager
def redis_child(folder: Path, *, keep: bool, kind: str) -> Iterator[redis.Redis]:
    port = free_port()
    started = redis_command(folder / "redis", port, keep=keep)
    assert started.kind == kind
    child = Child("redis", started.command, os.environ, folder / "redis.log")
    try:
        assert eventually_sync(lambda: answers_ping(port))
        with redis.Redis(port=port, socket_timeout=5) as client:
            yield client
        child.ask_to_stop()
        assert child.ensure_stopped(10)
    finally:
        child.ensure_stopped(0)


@pytest.mark.redis
@pytest.mark.usefixtures("redis_server")  # leaves the test out where none is installed
def test_a_redis_server_on_the_path_is_used_and_never_evicts(tmp_path: Path) -> None:
    with redis_child(tmp_path, keep=True, kind="redis-server") as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("kept", "1")
    with redis_child(tmp_path, keep=True, kind="redis-server") as client:
        assert client.get("kept") == b"1"


def test_without_a_redis_server_a_fake_one_answers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with redis_child(tmp_path, keep=True, kind="fakeredis") as client:
        client.set("a", "0")
        started = time.monotonic()
        for _ in range(50):
            client.incr("a")
        assert client.get("a") == b"50"
        assert client.eval("return redis.call('TIME')[1]", 0)
        # with Nagle's algorithm on, each of these replies took 40 ms or more
        assert time.monotonic() - started < 50 * 0.04
