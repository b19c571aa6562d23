"""What happens when a tool fails: our own errors end the run, anything else is told to the model."""

from typing import Any

from agents import RunContextWrapper

from schemas.errors import WorkersError


def report_failure(_context: RunContextWrapper[Any], error: Exception) -> str:
    """The text that the model gets in place of a result.

    A `WorkersError` (lease lost, cancelled, rate limited, database gone) is the queue's business, not the model's: it
    is raised again and ends the run. The text names the class only, since messages of foreign errors hold anything.
    """
    if isinstance(error, WorkersError):
        raise error
    return f"The tool failed ({type(error).__name__}). Tell the user if it matters; do not call it again unchanged."
