"""How arguments become the parts of a request, so that none of them can become anything else."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from workers.backend_types import PLACE

MAX_CHARACTERS = 500
TRICKS = re.compile(r"[/\\%\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\.\.|^\.$")
"""What a server or a proxy on the way might take for more than a part of a path, after one decoding or two."""


class UnfitArgumentError(ValueError):
    """An argument cannot stand where it should. The text is for the model."""


def filled(path: str, arguments: Mapping[str, Any]) -> str:
    """The path with every place filled by one part of it, percent-encoded.

    Raises:
        UnfitArgumentError: a value is empty, too long, no scalar, or holds what may not stand in a path.
    """
    return PLACE.sub(lambda place: _part(place.group(1), arguments.get(place.group(1))), path)


def query_of(arguments: Mapping[str, Any]) -> str:
    """The query, percent-encoded; what is null is left out, a list becomes a parameter for each of its values.

    Raises:
        UnfitArgumentError: a text is none.
    """
    given = [
        (name, _encodable(name, _text(one)))
        for name, value in arguments.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    return urlencode(given, quote_via=quote, safe="")


def header_value(value: str) -> str:
    """A value that a header can hold: what is no plain character is percent-encoded (UTF-8)."""
    return quote(value, safe="!#$&'*+-.^_`|~:@=,()[]", errors="replace")


def _part(name: str, value: Any) -> str:
    if isinstance(value, dict | list) or value is None:
        raise UnfitArgumentError(f"{name}: it fills a place of a path, so it must be a text or a number")
    text = _text(value)
    if not text or len(text) > MAX_CHARACTERS or TRICKS.search(text):
        raise UnfitArgumentError(
            f"{name}: it fills a place of a path: 1 to {MAX_CHARACTERS} characters, without slash, backslash, percent "
            "sign and control characters, and not beginning with two dots"
        )
    return quote(text, safe="")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _encodable(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnfitArgumentError(f"{name}: half of a character stands in it") from None
    return text
