"""The one event loop of the process, in a thread of its own, with hooks for what lives as long as it does."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from workers.pool.interpreter import tune_interpreter

log = logging.getLogger(__name__)

T = TypeVar("T")
HookT = TypeVar("HookT", bound=Callable[[], Awaitable[Any]])

START_SECONDS = 60.0
STOP_SECONDS = 15.0
"""What all stop hooks together may take; then the process ends without them."""
LEFTOVER_SECONDS = 1.0

_start_hooks: list[Callable[[], Awaitable[Any]]] = []
_stop_hooks: list[Callable[[], Awaitable[Any]]] = []
_current: asyncio.AbstractEventLoop | None = None


def on_loop_start(callback: HookT) -> HookT:
    """Await `callback()` on the pool's loop before its first job. If it raises, the worker does not start."""
    _start_hooks.append(callback)
    return callback


def on_loop_stop(callback: HookT) -> HookT:
    """Await `callback()` on the pool's loop after the drain, last registered first.

    Also called after a failed start, so it must cope with what was never opened.
    """
    _stop_hooks.append(callback)
    return callback


def current_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of the running pool of this process."""
    return _current


class LoopThread:
    """Owns the loop. Every method is called from the main thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_log_uncaught)
        # A daemon: a job that blocks the loop for good must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="task-loop", daemon=True)
        self._stopping = False

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread and run the start hooks. Raises what a hook raised."""
        global _current
        self._thread.start()
        _current = self.loop
        try:
            self.run(_call_start_hooks(), START_SECONDS)
        except BaseException:
            self.stop()
            raise
        tune_interpreter()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the loop soon. After the loop's end it is dropped: there is nothing left to act on."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def run(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run a coroutine on the loop and wait for it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    def stop(self) -> None:
        """Run the stop hooks, cancel what is left, end the thread. Bounded, whatever the jobs do."""
        global _current
        if self.loop.is_closed():
            return
        try:
            self.run(_wind_up(), STOP_SECONDS + 2 * LEFTOVER_SECONDS)
        except TimeoutError:
            log.error("loop_stop_timeout")
        self._stopping = True
        self.call(self.loop.stop)
        self._thread.join(LEFTOVER_SECONDS)
        _current = None
        if not self._thread.is_alive():
            self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio lets these two through; the other jobs of the process must not die of them.
                log.error("loop_interrupted", extra={"error": repr(error)})


async def _call_start_hooks() -> None:
    for hook in _start_hooks:
        await hook()


async def _wind_up() -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            for hook in reversed(_stop_hooks):
                await _guarded(hook)
    except TimeoutError:
        log.error("stop_hooks_timeout", extra={"seconds": STOP_SECONDS})
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftovers:
        task.cancel()
    if leftovers:
        await asyncio.wait(leftovers, timeout=LEFTOVER_SECONDS)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _guarded(hook: Callable[[], Awaitable[Any]]) -> None:
    try:
        await hook()
    except Exception:  # the other hooks have things to close, too
        log.exception("stop_hook_failed")


def _log_uncaught(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Nobody awaits what failed here, so this log line is all that is left of it."""
    error = context.get("exception")
    log.error("loop_exception: %s", context.get("message"), exc_info=error if error is not None else False)
