"""From bytes to a JSON value that is safe to look into: bounded in size and depth, UTF-8, no NaN, no double keys."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pydantic_core

from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decode_json(raw: bytes | str, *, max_bytes: int) -> Any:
    """Decode one JSON document.

    Raises:
        EventTooLargeError: larger than `max_bytes`, found before anything is parsed.
        InvalidEventError: not UTF-8, not JSON, nested deeper than about 200, or what JSON leaves undefined.
    """
    text = _text(raw, max_bytes)
    try:
        # First the strict parser, which bounds the depth; only then the one that can see a key given twice.
        pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise _refusal(f"is not JSON: {error}") from None
    return json.loads(text, object_pairs_hook=_object, parse_float=_float)


def decode_object(value: Mapping[str, Any], *, max_bytes: int) -> Any:
    """What a decoded object is on the wire, under the same rules as bytes: `datetime` becomes text, NaN is refused.

    Raises:
        EventTooLargeError: its JSON is larger than `max_bytes`.
        InvalidEventError: holds what JSON cannot.
    """
    try:
        raw = pydantic_core.to_json(value)
    except ValueError:  # circular, nested too deep, half a surrogate pair, an object of no JSON type
        raise _refusal("holds what JSON cannot: give only objects, lists, text, numbers, booleans and null") from None
    return decode_json(raw, max_bytes=max_bytes)


def _text(raw: bytes | str, max_bytes: int) -> str:
    try:
        data = raw.encode() if isinstance(raw, str) else raw
        if len(data) > max_bytes:
            raise EventTooLargeError(len(data), max_bytes)
        if data.startswith(BYTE_ORDER_MARK):
            raise _refusal("starts with a byte order mark; send it without")
        return data.decode()
    except UnicodeDecodeError as error:
        raise _refusal(f"is not UTF-8 (byte {error.start})") from None
    except UnicodeEncodeError as error:
        raise _refusal(f"is not UTF-8 (character {error.start} is half a surrogate pair)") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a double key may see two different events, say two users; so nobody sees it."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _refusal("names a key twice in one object; give each once")
    return value


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _refusal("holds a number that is too large; give it as text")
    return number


def _refusal(message: str) -> InvalidEventError:
    return InvalidEventError([FieldProblem("event", message)])
