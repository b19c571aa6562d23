"""Double texting: what becomes of a message that comes while its conversation is answered."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from schemas.errors import FieldProblem
from schemas.metadata import asked_of

FIELD = "double_text"


class DoubleText(StrEnum):
    """Chosen by a request's `metadata.double_text`, else by the deployment."""

    ENQUEUE = "enqueue"
    """It waits its turn."""
    REJECT = "reject"
    """It is refused while a turn of the conversation runs or waits."""
    INTERRUPT = "interrupt"
    """What runs is stopped, its half answer kept; what waits is stopped as well; then this one runs."""
    ROLLBACK = "rollback"
    """As `interrupt`, but the turn that ran is taken back: its answer and the message that it answers."""
    STEER = "steer"
    """A user's message joins the turn that runs, at its next step; if none comes any more, it waits its turn."""


MODES = ", ".join(DoubleText)


def double_text_of(data: Mapping[str, Any]) -> DoubleText | None:
    """What a checked request asks for."""
    asked = asked_of(data, FIELD)
    return None if asked is None else DoubleText(asked)


def double_text_problems(data: Mapping[str, Any]) -> list[FieldProblem]:
    """Problems of what a request asks for."""
    asked = asked_of(data, FIELD)
    if asked is None or (isinstance(asked, str) and asked in set(DoubleText)):
        return []
    return [FieldProblem(f"data.metadata.{FIELD}", f"must be one of {MODES}")]
