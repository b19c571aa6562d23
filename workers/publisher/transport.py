"""The port to a broker, the two ways it may fail, and the retries around it."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from workers.errors import PublishError, SettingsError
from workers.publisher.prepare import Prepared


class BrokerAwayError(Exception):
    """The broker cannot be reached, or did not answer in time: the batch may or may not have arrived."""


class BrokerRefusedError(Exception):
    """The broker answered no: wrong credentials, wrong type of key, no permission. Trying again does not help."""


class Transport(Protocol):
    """Hands events to a broker, in order; returns once the broker has all of them."""

    def send(self, batch: Sequence[Prepared], *, timeout_seconds: float) -> None:
        """Raises `BrokerAwayError` or `BrokerRefusedError`; either way the next call starts on a new connection."""

    def close(self) -> None: ...


def open_transport(url: str, prefix: str) -> Transport:
    """The transport of a broker URL. Nothing is connected yet, and only the client library it needs is imported.

    Raises:
        SettingsError: the scheme is none of redis, rediss, amqp, amqps.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss"):
        from workers.publisher.redis_stream import RedisStreamTransport

        return RedisStreamTransport(url, f"{prefix}:ingress")
    if scheme in ("amqp", "amqps"):
        from workers.publisher.amqp import AmqpTransport

        return AmqpTransport(url)
    raise SettingsError(f"broker URL: scheme {scheme!r} is not known; redis, rediss, amqp and amqps are")


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Bounds of one hand-over: all tries end within `total_seconds`, each within `attempt_seconds`."""

    total_seconds: float
    attempt_seconds: float = 3.0
    base_seconds: float = 0.05
    cap_seconds: float = 1.0
    random: Callable[[], float] = random.random

    def pause_seconds(self, failures: int) -> float:
        """Exponential with jitter; half of the interval is a floor, so that a thousand publishers spread out."""
        interval = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 20))
        return interval / 2 + interval / 2 * self.random()


def send_with_retries(transport: Transport, batch: Sequence[Prepared], schedule: RetrySchedule) -> None:
    """Send, again and again if the broker is away. Sending twice is safe: the same event is accepted once.

    Raises:
        PublishError: refused, or still away when the time is up.
    """
    deadline = time.monotonic() + schedule.total_seconds
    failures = 0
    while True:
        left = deadline - time.monotonic()
        try:
            return transport.send(batch, timeout_seconds=max(0.05, min(schedule.attempt_seconds, left)))
        except BrokerRefusedError as error:
            raise PublishError(f"the broker refused the event: {error}") from error
        except BrokerAwayError as error:
            failures += 1
            pause = schedule.pause_seconds(failures)
            if time.monotonic() + pause >= deadline:
                raise PublishError(
                    f"no broker after {failures} tries: {error}. Is it up, and the URL right? Publishing again is safe"
                ) from error
            time.sleep(pause)
