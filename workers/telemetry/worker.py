"""Telemetry of a Celery worker: our log lines instead of Celery's formats, and what others are told once it starts."""

import logging
from collections.abc import Callable
from typing import Any

from celery import signals

from workers.telemetry.logging import configure_logging


def install(*, level: str, start: Callable[[], object], end: Callable[[], object] = lambda: None) -> None:
    """To be called once, where the app is made; nothing happens before a worker starts.

    Args:
        level: CHATKIT_LOG_LEVEL; `celery worker -l` counts when it asks for more.
        start: called in the process of the worker.
        end: called when it has drained.
    """

    def set_up_logging(loglevel: int | None = None, **_: Any) -> None:
        known = logging.getLevelNamesMapping()
        configure_logging(logging.getLevelName(min(known[level], loglevel or known[level])))

    def set_up_exports(**_: Any) -> None:
        start()

    def close_exports(**_: Any) -> None:
        end()

    # a receiver of `setup_logging` is what makes Celery leave all logging alone
    signals.setup_logging.connect(set_up_logging, weak=False)
    signals.celeryd_init.connect(set_up_exports, weak=False)
    signals.worker_shutdown.connect(close_exports, weak=False)
