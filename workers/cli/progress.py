"""Progress of a load run on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

LINE_EVERY_SECONDS = 2.0


class Counted:
    """Counts work whose total is known: on a terminal a line that is written over, elsewhere one at the end."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._count = 0

    def count(self) -> None:
        """One more is done."""
        self._count += 1
        if sys.stderr.isatty():
            print(f"\r{self._line()}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._count:
            print(f"\r{self._line()}", file=sys.stderr, flush=True)

    def _line(self) -> str:
        return f"{self._count} of {self._total} {self._what}"


class LoadProgress:
    """Counts what was published and what the queue has answered. Silent unless the total is known."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._published = self._accepted = 0
        self._started = self._told = time.monotonic()

    def published(self, count: int) -> None:
        """More events are on the broker."""
        self._published += count
        self._tell()

    def accepted(self, count: int) -> None:
        """More events are answered for."""
        self._accepted += count
        if time.monotonic() - self._told > LINE_EVERY_SECONDS:
            self._tell()

    def __enter__(self) -> Self:
        self._started = self._told = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._total is not None and kind is None:
            print(f"\r{self._line()}", file=sys.stderr, flush=True)

    def _tell(self) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if self._total is None or not (terminal or now - self._told > LINE_EVERY_SECONDS):
            return
        self._told = now
        print(f"\r{self._line()}" if terminal else self._line(), end="" if terminal else "\n", file=sys.stderr)

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-6)
        counts = f"published {self._published}/{self._total}, accepted {self._accepted}"
        return f"{counts}, {self._accepted / seconds:.0f} a second, {seconds:.1f} s"
