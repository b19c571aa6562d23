"""Celery's copies of tracebacks, without the column of each instruction.

An `ExceptionInfo` copies every code object of its traceback so that it could be pickled, and with it the positions of
all instructions: 200 kB for the frame of Celery's tracer alone. A task that is parked or not needed ends with two of
them. This pool pickles nothing, and whoever prints such a copy finds the line, without the marks below it.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from types import CodeType
from typing import Any

from billiard import einfo

Position = tuple[int | None, int | None, int | None, int | None]
UNKNOWN: Position = (None, None, None, None)


class BriefCode(einfo._Code):  # type: ignore[misc]  # noqa: SLF001  # it has no types, and no other way
    """A code object's names, and no positions."""

    def __init__(self, code: CodeType) -> None:
        super().__init__(_NoPositions(code))

    @property
    def co_positions(self) -> Callable[[], Iterator[Position]]:
        return lambda: repeat(UNKNOWN)


class _NoPositions:
    """A code object that says nothing of its positions."""

    def __init__(self, code: CodeType) -> None:
        self._code = code

    def co_positions(self) -> tuple[()]:
        return ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._code, name)


def keep_tracebacks_brief() -> None:
    """From now on, in this process."""
    einfo._Frame.Code = BriefCode  # noqa: SLF001  # as above
