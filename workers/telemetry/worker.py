"""Telemetry of a Celery worker: our log lines instead of Celery's formats, and Sentry once the worker starts."""

import logging
from collections.abc import Callable
from typing import Any

from celery import signals

from workers.telemetry.logging import configure_logging


def install(*, level: str, start_sentry: Callable[[], object]) -> None:
    """To be called once, where the app is made; nothing happens before a worker starts.

    Args:
        level: CHATKIT_LOG_LEVEL; `celery worker -l` counts when it asks for more.
        start_sentry: called in the process of the worker.
    """

    def set_up_logging(loglevel: int | None = None, **_: Any) -> None:
        known = logging.getLevelNamesMapping()
        configure_logging(logging.getLevelName(min(known[level], loglevel or known[level])))

    def set_up_sentry(**_: Any) -> None:
        start_sentry()

    # a receiver of `setup_logging` is what makes Celery leave all logging alone
    signals.setup_logging.connect(set_up_logging, weak=False)
    signals.celeryd_init.connect(set_up_sentry, weak=False)
