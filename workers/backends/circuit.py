"""The circuit of one backend in one process: after enough failures in a row no call is made, until one tries again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from workers.backend_types import CircuitNumbers


class Attempt:
    """One admitted call, which says how it went; one that says nothing counts for nothing."""

    def __init__(self) -> None:
        self.failed: bool | None = None


class Circuit:
    """Closed, open, or half open with one call that tries. The tasks of one event loop share it."""

    def __init__(self, numbers: CircuitNumbers, clock: Callable[[], float] = time.monotonic) -> None:
        self._numbers, self._clock = numbers, clock
        self._failures = 0
        self._open_until: float | None = None
        self._tried = False

    @property
    def is_open(self) -> bool:
        """Whether a call would be refused now."""
        return self._open_until is not None and (self._tried or self._clock() < self._open_until)

    @contextmanager
    def attempt(self) -> Iterator[Attempt | None]:
        """A call; None: it is not to be made."""
        if self.is_open:
            yield None
            return
        tries = self._open_until is not None
        self._tried = tries
        attempt = Attempt()
        try:
            yield attempt
        finally:
            if tries:
                self._tried = False  # also of one that was cancelled: the next may try
            self._count(attempt)

    def _count(self, attempt: Attempt) -> None:
        if attempt.failed is None:
            return
        if not attempt.failed:
            self._failures, self._open_until = 0, None
            return
        self._failures += 1
        if self._failures >= self._numbers.failures:
            self._open_until = self._clock() + self._numbers.open_seconds
