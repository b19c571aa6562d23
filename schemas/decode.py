"""From bytes to a JSON value that is safe to look into: bounded in size and depth, UTF-8, no NaN, no double keys."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jiter
import pydantic_core

from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

HUGE = re.compile(rb"(?:^|[\[:,\s])-?[0-9.]*(?:[0-9.][eE]\+?[0-9]{3}|[0-9]{200})")
"""The beginning of each number that no float can hold, and of little else: not of ids, which are quoted."""


def decode_json(raw: bytes | str, *, max_bytes: int) -> Any:
    """Decode one JSON document.

    Raises:
        EventTooLargeError: larger than `max_bytes`, found before anything is parsed.
        InvalidEventError: not UTF-8, not JSON, nested deeper than about 200, or what JSON leaves undefined.
    """
    data = _bytes(raw, max_bytes)
    try:
        value = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        if str(error).startswith("Detected duplicate key"):  # two readers may see two different events, say two users
            raise _refusal("names a key twice in one object; give each once") from None
        raise _refusal(f"is not JSON: {error}") from None
    if HUGE.search(data):
        json.loads(data, parse_float=_float)
    return value


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


def _bytes(raw: bytes | str, max_bytes: int) -> bytes:
    try:
        data = raw.encode() if isinstance(raw, str) else raw
        if len(data) > max_bytes:
            raise EventTooLargeError(len(data), max_bytes)
        if data.startswith(BYTE_ORDER_MARK):
            raise _refusal("starts with a byte order mark; send it without")
        data.decode()
    except UnicodeDecodeError as error:
        raise _refusal(f"is not UTF-8 (byte {error.start})") from None
    except UnicodeEncodeError as error:
        raise _refusal(f"is not UTF-8 (character {error.start} is half a surrogate pair)") from None
    return data


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _refusal("holds a number that is too large; give it as text")
    return number


def _refusal(message: str) -> InvalidEventError:
    return InvalidEventError([FieldProblem("event", message)])
