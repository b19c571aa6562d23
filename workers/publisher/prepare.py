"""From what a caller hands over to what is sent: validated, timed, encoded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError
from schemas.events import Event, parse_event
from schemas.records import Published

Publishable = Event | Mapping[str, Any] | str | bytes
"""An event as users have it: ours, a decoded object, or JSON."""

MAX_CHUNK_EVENTS = 500
MAX_CHUNK_BYTES = 4 * 1024 * 1024
MAX_REPORTED = 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """One event ready to be sent: what its publisher is told, its type (the routing key) and its JSON."""

    published: Published
    type: str
    body: bytes


def prepare(event: Publishable, *, now: datetime, max_bytes: int) -> Prepared:
    """Check one event and encode it. `time` is filled in when it is missing; what makes the identity never is.

    Raises:
        InvalidEventError: names every wrong field.
    """
    checked = event if isinstance(event, Event) else parse_event(event, max_bytes=max_bytes)
    timed = checked if checked.time is not None else checked.model_copy(update={"time": now})
    body = timed.to_json().encode()
    if len(body) > max_bytes:  # objects were not bounded when they were parsed
        raise EventTooLargeError(len(body), max_bytes)
    published = Published(id=checked.event_id, thread_id=checked.thread_id)
    return Prepared(published, checked.type, body)


def prepare_all(events: Iterable[Publishable], *, now: datetime, max_bytes: int) -> list[Prepared]:
    """Check all of them first, so that a wrong one stops the whole before anything is sent.

    Raises:
        InvalidEventError: the fields of every wrong event (of the first 20), as `events[3].data.type`.
    """
    prepared: list[Prepared] = []
    problems: list[FieldProblem] = []
    refused = 0
    for place, event in enumerate(events):
        try:
            prepared.append(prepare(event, now=now, max_bytes=max_bytes))
        except InvalidEventError as error:
            refused += 1
            if refused <= MAX_REPORTED:
                problems += [FieldProblem(f"events[{place}].{p.field}", p.message) for p in error.problems]
    if refused > MAX_REPORTED:
        problems.append(FieldProblem("events", f"{refused - MAX_REPORTED} more are wrong"))
    if problems:
        raise InvalidEventError(problems)
    return prepared


def chunks(prepared: Sequence[Prepared]) -> Iterator[Sequence[Prepared]]:
    """Slices that one round trip can carry, in order: bounded in events and in bytes."""
    start = size_bytes = 0
    for place, item in enumerate(prepared):
        full = place - start == MAX_CHUNK_EVENTS or size_bytes + len(item.body) > MAX_CHUNK_BYTES
        if full and place > start:
            yield prepared[start:place]
            start, size_bytes = place, 0
        size_bytes += len(item.body)
    if start < len(prepared):
        yield prepared[start:]
