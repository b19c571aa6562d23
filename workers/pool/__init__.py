"""The asyncio pool: Celery's tasks as coroutines on one long-lived event loop per process.

Set by `worker_pool = "workers.pool:TaskPool"`. Celery's own synchronous tracer runs in a greenlet, so acks,
signals, events and retries are Celery's; only the task body awaits, through `run_coroutine`.

Threads: the *main* thread is Celery's (consumer, timers, control commands), the *loop* thread runs the jobs.
"""

from workers.pool.bridge import DrainTimeout, StopCause, run_coroutine, stop_cause
from workers.pool.ending import shut_down
from workers.pool.jobs import current_load
from workers.pool.loop import current_loop, on_loop_start, on_loop_stop
from workers.pool.task_pool import TaskPool

__all__ = [
    "DrainTimeout",
    "StopCause",
    "TaskPool",
    "current_load",
    "current_loop",
    "on_loop_start",
    "on_loop_stop",
    "run_coroutine",
    "shut_down",
    "stop_cause",
]
