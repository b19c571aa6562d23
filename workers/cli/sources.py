"""Where `publish` takes events from: lines of NDJSON as they come, or the same events again and again for load."""

import itertools
import queue
import re
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from pydantic_core import from_json

from workers.cli.command import CommandFailedError

MAX_BATCH = 500
DONE = None
PRETTY = re.compile(rb'\s*(?:\{[ \t]*\r?\n\s*"|\[[ \t]*\r?\n\s*[{\[])')
"""How a document begins that was written for people: a bracket alone on its line, and what is in it on the next."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event as it was given, and where."""

    place: str
    event: bytes | dict[str, Any]


def read_lines(path: str) -> Iterator[Line]:
    """The non-empty lines of a file, or of stdin for `-`.

    Raises:
        CommandFailedError: the file cannot be read, or holds one document on many lines.
    """
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as file:
            # else each of its lines would be told that it is not JSON
            if PRETTY.match(cast("BufferedReader", file).peek()):
                raise CommandFailedError(f"{path}: is one JSON document on many lines: give each event on one line")
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Line(f"line {number}", line.strip())
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from error


def repeat(lines: Sequence[Line], count: int) -> Iterator[Line]:
    """`count` events: the given ones in turn, with ids of this run, so that none is a duplicate of an earlier run."""
    run = uuid.uuid4().hex[:12]
    objects = [_object(line) for line in lines]
    for number, event in zip(range(count), itertools.cycle(objects), strict=False):
        yield Line(f"event {number + 1}", {**event, "id": f"{event.get('id', 'load')}-{run}-{number + 1}"})


def sample() -> Line:
    """The event that `--count` without a file publishes: a new thread with a question."""
    text = {"type": "input_text", "text": "Hello! How does the queue work?"}
    message = {"content": [text], "attachments": [], "inference_options": {}}
    data = {"type": "threads.create", "params": {"input": message}}
    event = {"specversion": "1.0", "id": "sample", "source": "/chatkit-workers/publish", "userid": "sample"}
    return Line("sample", {**event, "type": "chatkit.threads.create", "data": data})


def batches(lines: Iterable[Line], most: int = MAX_BATCH) -> Iterator[list[Line]]:
    """What is there, at most `most` at a time: a slow writer's line does not wait for the next one."""
    waiting: queue.Queue[Line | BaseException | None] = queue.Queue(2 * most)
    threading.Thread(target=_fill, args=(lines, waiting), name="publish-reader", daemon=True).start()
    while True:
        batch: list[Line] = []
        item = waiting.get()
        while isinstance(item, Line):
            batch.append(item)
            if len(batch) == most:
                break
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                break
        if batch:
            yield batch
        if isinstance(item, BaseException):
            raise item
        if item is DONE:
            return


def _fill(lines: Iterable[Line], waiting: "queue.Queue[Line | BaseException | None]") -> None:
    try:
        for line in lines:
            waiting.put(line)
    except Exception as error:  # noqa: BLE001  # raised where the lines are used
        waiting.put(error)
    else:
        waiting.put(DONE)


def _object(line: Line) -> dict[str, Any]:
    try:
        event = from_json(line.event) if isinstance(line.event, bytes) else line.event
    except ValueError as error:
        raise CommandFailedError(f"{line.place}: is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise CommandFailedError(f"{line.place}: is no JSON object")
    return event
