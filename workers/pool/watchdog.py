"""Ends a worker that has stopped working without ending, for its supervisor to start another."""

import asyncio
import faulthandler
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from celery.platforms import EX_FAILURE

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
STILL_LOOKS = 12
"""Looks in a row that find a thread where it was, a minute. Every wait of ours ends sooner. Looks are counted, not
time: a process that was stopped and goes on has missed one."""

LOG_SECONDS = 2.0


class Watchdog:
    """Watches the main thread, which consumes, and the loop, which runs the jobs.

    A thread that stands still keeps its process alive, takes wake-ups and does nothing with them. Its leases have run
    out by then, so ending the process loses nothing. What each thread was doing is written to stderr.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        look_seconds: float = LOOK_SECONDS,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._loop, self._look_seconds, self._end = loop, look_seconds, end
        self._moved = {"main": False, "loop": False}
        self._still = {"main": 0, "loop": 0}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more: a shutdown has bounds of its own."""
        self._stopped.set()

    def beat(self) -> None:
        """The main thread is alive."""
        self._moved["main"] = True

    def _run(self) -> None:
        while not self._stopped.wait(self._look_seconds):
            for name, moved in self._moved.items():
                self._still[name] = 0 if moved else self._still[name] + 1
                self._moved[name] = False
            with suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(self._beat_of_loop)
            for name, looks in self._still.items():
                if looks >= STILL_LOOKS:
                    self._give_up(name)
                    return

    def _beat_of_loop(self) -> None:
        self._moved["loop"] = True

    def _give_up(self, name: str) -> None:
        faulthandler.dump_traceback(file=2)
        # in a thread, since the one that stands still may hold the lock of a handler
        told = threading.Thread(target=log.critical, args=("worker_stuck",), kwargs={"extra": {"stuck": name}})
        told.daemon = True
        told.start()
        told.join(LOG_SECONDS)
        self._end(EX_FAILURE)
