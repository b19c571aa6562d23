"""The root of the error tree, and the errors of what goes over the wire.

WorkersError                        reason, retryable
├── InvalidEventError               an event or a batch that cannot be taken, field by field
│   └── EventTooLargeError          larger than the bound, found before parsing
└── (workers.errors)                what goes wrong while an event runs
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class WorkersError(Exception):
    """Every error of this project. `reason` is a word from a closed set; `retryable` says whether a retry may help."""

    reason: ClassVar[str] = "bug"
    retryable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field: where it stands (`data.params.thread_id`) and what to write instead."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidEventError(WorkersError):
    """An event that cannot be taken. It names every wrong field and never holds the input itself."""

    reason = "invalid"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class EventTooLargeError(InvalidEventError):
    """The raw event is larger than the bound."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__([FieldProblem("event", f"is {size_bytes} bytes, at most {limit_bytes} are taken")])
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
