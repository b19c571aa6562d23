"""Logs: one line per event, as JSON or for a person; an event name and fields, no text of a conversation."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from schemas.errors import WorkersError

Line = MutableMapping[str, Any]

FORBIDDEN_FIELDS = frozenset({"body", "content", "data", "input", "output", "prompt", "text", "token", "authorization"})
"""Fields that could only hold a payload or a secret; they are replaced wherever they turn up."""

QUIET = ("alembic", "amqp", "asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "kombu.pidbox", "mcp", "openai")
"""Libraries whose information lines tell an operator nothing, or repeat a URL with its query."""

HIDDEN = "[hidden]"


def configure_logging(level: str = "INFO", *, as_json: bool | None = None, stream: TextIO | None = None) -> None:
    """Send every logger of the process, ours and the libraries', to `stream`.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        as_json: one JSON object per line; by default unless `stream` is a terminal.
        stream: stderr by default: what a command prints on stdout stays its own.
    """
    stream = stream or sys.stderr
    json_lines = not stream.isatty() if as_json is None else as_json
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,  # of the run that a line belongs to
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_payloads,
        name_exception,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def hide_payloads(_logger: Any, _method: str, line: Line) -> Line:
    """Replace the value of every field that could hold a payload, and drop uvicorn's second copy of its message."""
    line.pop("color_message", None)
    for name in FORBIDDEN_FIELDS & line.keys():
        line[name] = HIDDEN
    return line


def name_exception(_logger: Any, _method: str, line: Line) -> Line:
    """Keep of an exception its class and where it came from; its text only if it is ours, others may quote a prompt."""
    info = line.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else None
    if error is None:
        return line
    line["error"] = type(error).__name__
    if isinstance(error, WorkersError):
        line["error_message"] = str(error)
    line["error_at"] = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][-8:]
    return line
