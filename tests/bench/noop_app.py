"""The baseline of (a): a bare Celery app with one `acks_late` task that does nothing."""

import os
import time
from typing import Any

from celery import Celery

BROKER_URL = os.environ.get("BENCH_BROKER_URL", "redis://127.0.0.1:6379/0")
MARKS = os.environ.get("BENCH_MARKS", "")
MARK_EACH = int(os.environ.get("BENCH_MARK_EACH", "100"))

app = Celery("noop", broker=BROKER_URL, set_as_current=False)
app.conf.update(task_ignore_result=True, task_acks_late=True, broker_connection_retry_on_startup=True)


def noop(number: int, event: Any = None) -> None:
    """Nothing; every n-th call notes the time."""
    if number % MARK_EACH == 0:
        # one short write to a file opened for appending is whole, from any number of processes
        file = os.open(MARKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, f"{time.time()}\n".encode())
        finally:
            os.close(file)


task = app.task(noop, name="noop")
