"""What Celery sees: a pool like any other."""

import itertools
import logging
import time
from typing import Any

from celery import signals
from celery.concurrency.base import BasePool
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.worker import state as worker_state
from kombu.asynchronous import Hub, get_event_loop

from schemas.errors import WorkersError
from workers.pool.callbacks import Callbacks
from workers.pool.job import Job
from workers.pool.jobs import RELEASE_SECONDS, Jobs
from workers.pool.loop import LoopThread
from workers.pool.watchdog import Watchdog
from workers.settings import load_settings

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.05


class TaskPool(BasePool):  # type: ignore[misc]  # Celery has no types
    """Runs tasks on the event loop of the process. Every method is called from the main thread.

    Not possible in one process, and so different from prefork: a body that blocks the loop (no await) is stopped by
    no time limit and by no revoke.
    """

    signal_safe = False
    body_can_be_buffer = False  # a job may wait longer than the broker's buffer lives
    task_join_will_block = True  # `result.get()` in a body would block the loop: Celery refuses it

    def __init__(self, limit: int | None = None, **options: Any) -> None:
        super().__init__(limit, **options)
        self.limit: int = limit or 0
        self._ids = itertools.count(1)
        self._stopping = False
        self._hurry = False

    def on_start(self) -> None:
        try:
            self._drain_seconds = load_settings().drain_seconds
            self._start_loop()
        except WorkersError as error:
            log.critical("worker_start_failed: %s", error)
            raise WorkerShutdown(EX_FAILURE) from None

    def _start_loop(self) -> None:
        self._loop = LoopThread()
        self._callbacks = Callbacks(self._loop.loop, get_event_loop())
        self._jobs = Jobs(self._callbacks, self.limit)
        try:
            self._loop.start()
        except BaseException:
            self._callbacks.close()
            raise
        self._watchdog = Watchdog(self._loop.loop)
        self._watchdog.start()
        signals.worker_shutting_down.connect(self._on_shutting_down)

    def register_with_event_loop(self, loop: Hub) -> None:
        """Celery's, for each connection to the broker."""
        self._callbacks.listen(loop)
        loop.on_tick.add(self._watchdog.beat)

    def beat(self) -> None:
        """The main thread is alive, though its hub does not turn: it waits for the broker to come back."""
        self._watchdog.beat()

    def on_apply(
        self,
        target: Any,
        args: Any = (),
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        timeout_callback: Any = None,
        error_callback: Any = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        correlation_id: str | None = None,
        **_: Any,
    ) -> Job:
        """Take a job. The defaults of the limits are those of the worker (`--soft-time-limit`, `--time-limit`)."""
        job = Job(
            id=next(self._ids),
            task_id=correlation_id,
            target=target,
            args=args,
            kwargs=kwargs or {},
            on_accepted=accept_callback,
            on_result=callback,
            on_failure=error_callback,
            on_timeout=timeout_callback,
            soft_seconds=soft_timeout or self.options.get("soft_timeout"),
            hard_seconds=timeout or self.options.get("timeout"),
            on_terminate=self._terminate,
        )
        self._loop.call(self._jobs.submit, job)
        return job

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Stop the job with this id: Celery has reported it as revoked or cancelled."""
        self._loop.call(self._jobs.terminate_id, pid, signal)

    def flush(self) -> None:
        """The connection to the broker was lost, or is about to be given up by a shutdown."""
        if self.active:  # at a shutdown `on_stop` hands back what waits, while the connection still works
            self._loop.call(self._jobs.drop_pending)

    def grow(self, n: int = 1) -> None:
        """Add slots."""
        self._resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """Take slots away; nothing that runs is stopped."""
        self._resize(max(0, self.limit - n))

    def on_stop(self) -> None:
        """Warm: let jobs end, then stop them. Cold, or when asked a second time: stop them now.

        The order: what waits goes back to the broker; jobs end, while acks and heartbeats flow; the rest is cancelled
        and lets go; then the stop hooks close what jobs needed.
        """
        if self._stopping:  # SIGQUIT during the drain; this is its signal handler, on top of the drain below
            self._hurry = True
            return
        self._stopping = True
        self._watchdog.stop()
        self._hurry = self._hurry or bool(worker_state.should_terminate)
        self._loop.call(self._jobs.close)
        self._wait_idle(self._drain_seconds)
        if not self._jobs.idle.is_set():
            log.warning("drain_timeout", extra={"jobs": len(self._jobs.running)})
            self._loop.call(self._jobs.drain)
            self._hurry = False
            self._wait_idle(RELEASE_SECONDS + 1)
        self._loop.stop()
        self._callbacks.flush()
        self._callbacks.close()

    def on_terminate(self) -> None:
        self._hurry = True
        self.on_stop()

    def _on_shutting_down(self, **_: Any) -> None:
        """A signal does not wake the hub: without this it would look for its shutdown up to a second later."""
        self._watchdog.stop()
        self._callbacks.ring()

    def _terminate(self, job: Job, signal: int | None) -> None:
        self._loop.call(self._jobs.terminate, job, signal)

    def _resize(self, limit: int) -> None:
        self.limit = limit
        self._loop.call(self._jobs.resize, limit)

    def _wait_idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._jobs.idle.wait(FLUSH_SECONDS) and not self._hurry and time.monotonic() < deadline:
            self._callbacks.flush()
        self._callbacks.flush()

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info["max-concurrency"] = self.limit
        info["running"] = len(self._jobs.running)
        info["pending"] = len(self._jobs.pending)
        info["abandoned"] = len(self._jobs.abandoned)
        return info
