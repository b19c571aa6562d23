"""Celery's callbacks (accepted, ended, timed out), in order, on the thread where Celery expects them."""

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.concurrency.prefork import _run_ready_callbacks
from kombu.asynchronous import Hub

log = logging.getLogger(__name__)

RESCUE_SECONDS = 0.2


class Callbacks:
    """A queue from the loop thread to the main thread.

    They touch the worker's sets of requests, which the main thread iterates over (control commands, a lost
    connection): run there, as in the prefork pool, the two cannot meet. When the main thread does not come round (it
    sleeps through a soft shutdown, or reconnects), the loop thread runs them itself: what has ended must not be
    cancelled, or run again, for want of a report.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hub: Hub | None) -> None:
        self._loop, self._hub = loop, hub
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._announced = False
        # Re-entrant: a signal handler of the main thread may stop the pool in the middle of a callback.
        self._running = threading.RLock()
        # Not `hub.call_soon`: its set has no order, and what a callback queues there (the ack) would sleep for up to a
        # second, because the hub polls before it looks at the set again.
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)

    def listen(self, hub: Hub) -> None:
        """Let the hub run what is posted. To be called for each new connection: a lost one resets the hub."""
        hub.add_reader(self._bell, self._on_bell)  # type: ignore[no-untyped-call]  # kombu has few types

    def post(self, callback: Callable[..., object] | None, *args: object) -> None:
        """Queue a call. On the loop thread only."""
        if callback is None:
            return
        self._waiting.append((callback, args))
        if self._hub is None:
            self.run()
        elif not self._announced:
            self._announced = True
            self.ring()
            self._loop.call_later(RESCUE_SECONDS, self._rescue)

    def ring(self) -> None:
        """Wake the hub. From any thread, and from a signal handler."""
        with suppress(OSError):  # full: then it rings already
            self._rope.send(b"\0")

    def run(self) -> None:
        """Run what waits. A callback that raises is logged and costs nothing else."""
        with self._running:
            # Cleared before the queue is emptied: whoever appends afterwards announces again.
            self._announced = False
            while self._waiting:
                callback, args = self._waiting.popleft()
                try:
                    callback(*args)
                except Exception:
                    log.exception("pool_callback_failed")

    def flush(self) -> None:
        """Run what waits, the acks it causes, and the hub's timers, while the hub itself no longer turns.

        Without this, acks and broker heartbeats of a draining worker would wait until its last job has ended.
        """
        self.run()
        if self._hub is None:
            return
        try:
            self._hub.fire_timers()  # type: ignore[no-untyped-call]  # kombu has few types
            _run_ready_callbacks(self._hub)
        except Exception:
            log.exception("hub_flush_failed")

    def close(self) -> None:
        """After the last flush."""
        if self._hub is not None:
            self._hub.remove(self._bell)  # type: ignore[no-untyped-call]  # kombu has few types
        self._bell.close()
        self._rope.close()

    def _on_bell(self) -> None:
        with suppress(OSError):
            self._bell.recv(4096)
        self.run()

    def _rescue(self) -> None:
        if not self._waiting:
            return
        if self._running.acquire(blocking=False):  # never make the loop wait for the main thread
            try:
                self.run()
            finally:
                self._running.release()
        else:
            self._loop.call_later(RESCUE_SECONDS, self._rescue)
