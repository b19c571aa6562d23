"""A worker that is of no use any more ends with exit code 1, for its supervisor to start another."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from tests.deployment import Deployment
from tests.eventually import eventually_sync
from tests.worker_process import WorkerProcess
from workers.pool.watchdog import STILL_LOOKS, Watchdog

LOOK_SECONDS = 0.02


class Watched:
    """A loop in a thread, as the pool has one, and a watchdog that only notes what it would do."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.ended: list[int] = []
        self.watchdog = Watchdog(self.loop, look_seconds=LOOK_SECONDS, end=self.ended.append)
        self._thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> "Watched":
        self._thread.start()
        self.watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.watchdog.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    def live(self, looks: int) -> None:
        """Let the main thread turn for so many looks."""
        for _ in range(looks * 2):
            self.watchdog.beat()
            time.sleep(LOOK_SECONDS / 2)


@pytest.fixture
def watched() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


def test_two_threads_that_move_are_left_alone(watched: Watched) -> None:
    watched.live(STILL_LOOKS * 3)
    assert watched.ended == []


def test_a_loop_that_stands_still_ends_the_process(watched: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    released = threading.Event()
    watched.loop.call_soon_threadsafe(released.wait)
    watched.live(STILL_LOOKS * 3)
    released.set()
    assert watched.ended == [1]
    assert "Thread" in capfd.readouterr().err  # what every thread was doing


def test_a_main_thread_that_stands_still_ends_the_process(watched: Watched) -> None:
    watched.live(3)
    eventually_sync(lambda: watched.ended == [1])


def test_a_shutdown_is_not_watched(watched: Watched) -> None:
    watched.watchdog.stop()
    time.sleep(LOOK_SECONDS * STILL_LOOKS * 3)
    assert watched.ended == []


@pytest.mark.redis
def test_a_worker_one_of_whose_loops_has_ended_drains_and_says_so(redis_url: str, sqlite_url: str) -> None:
    with Deployment(redis_url, sqlite_url, TEST_BROKEN_LOOP="1") as deployment:
        worker = WorkerProcess("tests.model_worker", environment=deployment.environment).launch()
        assert worker.wait(60) == 1
        assert "loop_ended: sweeper" in worker.stderr
