"""What Flower shows of a task: the event, whose it is, how it goes. There is no text of a conversation in any of it."""

import ast
import re
from collections.abc import Sequence
from typing import Any

COLUMNS = {
    "name": "Event type",
    "uuid": "Event id",
    "state": "State",
    "kwargs": "Tenant / thread",
    "result": "Outcome",
    "received": "Received",
    "runtime": "Runtime",
    "worker": "Worker",
}
"""Of the list of tasks: Flower's names, and what stands above them."""

MAX_TASKS = 20_000
"""Tasks that Flower keeps in memory unless told otherwise: some 40 MB."""

NAMED = re.compile(r"(?:\w+\()?'(.*)'\)?")
"""A result as Celery has written it down, or an exception of ours with its class."""

GIVEN_BACK = "CANCELLED"
"""What Celery says of a task that a cold shutdown or a lost broker has stopped. A cancelled event is REVOKED."""

AUTHENTICATION = ("basic_auth", "auth")
"""Flower's options that make it ask who is there."""


def format_task(task: Any) -> Any:
    """A copy of a task, as the pages show it: its lane as text, and its outcome whichever way it went."""
    task.kwargs = lane_shown(task.kwargs)
    if task.state == GIVEN_BACK:  # the event waits for another worker, as after a release
        task.state, task.exception = "RETRY", "given back: its worker stopped"
    task.result = outcome_shown(task.state, task.result, task.exception)
    return task


def lane_shown(kwargs: Any) -> str:
    """`acme / thr_…` of the arguments of a turn, as Celery has written them down."""
    try:
        tenant, _, thread = str(ast.literal_eval(kwargs)["lane"]).partition("/")
    except (KeyError, SyntaxError, TypeError, ValueError):  # another task, or an older worker
        return str(kwargs or "")
    return f"{tenant} / {thread}"


def outcome_shown(state: str, result: Any, exception: Any) -> str:
    """What the last run came to. Flower keeps the exception of an earlier one."""
    if state == "REVOKED":
        return "cancelled"
    said = str((result if state == "SUCCESS" else exception) or "")
    named = NAMED.fullmatch(said)
    return named[1] if named else said


def asks_who_is_there(options: Sequence[str], environ: Any) -> bool:
    """Whether Flower is told to let in only who is known."""
    given = {option.lstrip("-").partition("=")[0].replace("-", "_") for option in options}
    return any(name in given or environ.get(f"FLOWER_{name.upper()}") for name in AUTHENTICATION)


def address_of(options: Sequence[str], host: str) -> str:
    """Where Flower will listen: its own option comes last, and wins."""
    given = [option.partition("=")[2] for option in options if option.lstrip("-").startswith("address=")]
    return given[-1] if given else host
