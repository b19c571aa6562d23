"""Debouncing: messages of one conversation that come shortly after each other are answered together."""

from collections.abc import Mapping
from typing import Any

from schemas.errors import FieldProblem
from schemas.metadata import asked_of

FIELD = "debounce"

LONGEST_SECONDS = 60.0
"""How long a conversation may be asked to be quiet."""

PATIENCE = 5
"""The first message of a burst waits so many quiet times at most, lest a steady typist is never answered."""

DEBOUNCED = frozenset({"threads.create", "threads.add_user_message"})
"""What may begin a burst. What joins one is a message of the same user, `threads.add_user_message`."""


def debounce_of(data: Mapping[str, Any]) -> float | None:
    """The quiet time that a checked request asks for, in seconds; 0: it waits for nothing."""
    asked = asked_of(data, FIELD)
    return None if asked is None else float(asked)


def debounce_problems(data: Mapping[str, Any]) -> list[FieldProblem]:
    """Problems of what a request asks for."""
    asked = asked_of(data, FIELD)
    is_number = isinstance(asked, int | float) and not isinstance(asked, bool)
    if asked is None or (is_number and 0 <= asked <= LONGEST_SECONDS):
        return []
    return [FieldProblem(f"data.metadata.{FIELD}", f"must be a number of seconds from 0 to {LONGEST_SECONDS:g}")]
