import logging
from collections.abc import Iterator

import pytest
from celery import signals

from workers.telemetry.worker import install


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, and Celery's signals, left as they were."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    receivers = signals.setup_logging.receivers, signals.celeryd_init.receivers
    signals.setup_logging.receivers, signals.celeryd_init.receivers = [], []
    yield logger
    signals.setup_logging.receivers, signals.celeryd_init.receivers = receivers
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("asked_of_celery", "level"),
    [(logging.DEBUG, logging.DEBUG), (logging.WARNING, logging.INFO), (None, logging.INFO)],
)
def test_the_more_talkative_of_both_levels_counts(
    root: logging.Logger, asked_of_celery: int | None, level: int
) -> None:
    install(level="INFO", start=lambda: None)
    signals.setup_logging.send(sender=None, loglevel=asked_of_celery)
    assert root.level == level


def test_nothing_happens_before_a_worker_starts(root: logging.Logger) -> None:
    before = root.handlers[:]
    install(level="INFO", start=lambda: None)
    assert root.handlers == before
