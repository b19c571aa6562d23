"""Dead letters of what never became an event."""

import base64
import json
from datetime import datetime
from typing import Any

import pydantic_core

from schemas.ids import derived_id
from schemas.outcome import DeadReason
from schemas.records import DeadLetter

MAX_ERROR_CHARS = 2_000
MAX_KEPT_BYTES = 256 * 1024
"""What is kept of one message. Larger ones are cut, and the letter says so: Redis is memory, and anybody who reaches a
way in can send them."""


def raw_id(raw: bytes) -> str:
    """The id of bytes that never parsed: the same bytes have the same id, so a redelivery is kept once."""
    return derived_id("raw", raw)


def json_bytes(value: Any) -> bytes:
    """What Celery has decoded, as JSON again: also what no event may hold (too deep, half a surrogate pair)."""
    try:
        return pydantic_core.to_json(value, fallback=repr)
    except ValueError:
        return json.dumps(value, default=repr).encode()


def invalid_letter(raw: bytes, error: str, *, source: str, worker: str, now: datetime) -> DeadLetter:
    """Keeps the bytes as they came. `source` is the way in, since the event's own cannot be trusted."""
    cut = "" if len(raw) <= MAX_KEPT_BYTES else f" (the first {MAX_KEPT_BYTES} of {len(raw)} bytes are kept)"
    return DeadLetter(
        id=raw_id(raw),
        source=source,
        reason=DeadReason.INVALID,
        error=error[:MAX_ERROR_CHARS] + cut,
        died_at=now,
        worker=worker,
        body=base64.b64encode(raw[:MAX_KEPT_BYTES]).decode(),
        raw=True,
    )
