"""Text that names something: what may stand in attributes, in Redis keys and in lanes."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints

CONTROL = r"\x00-\x1f\x7f-\x9f"
INVISIBLE = r"\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff"
"""Zero-width, bidirectional and non-characters: two names that look alike must be alike."""

NAME_PATTERN = re.compile(rf"[^\s/{{}}{CONTROL}{INVISIBLE}]{{1,128}}")

NAME_RULE = "1 to 128 characters without white space, slash, braces, control or invisible characters"

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=f"^{NAME_PATTERN.pattern}$")]
"""A tenant, user, thread or session: it is part of Redis keys, where slash and braces have a meaning."""

TEXT_PATTERN = rf"^[^{CONTROL}]+$"

JSON_TYPE_PATTERN = rf"^[aA][pP][pP][lL][iI][cC][aA][tT][iI][oO][nN]/[jJ][sS][oO][nN][ \t]*(;[^{CONTROL}]*)?$"
"""JSON, with parameters or without: `application/json; charset=utf-8`. (The regex of JSON Schema knows no flags.)"""

TRACE_PATTERN = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

TraceParent = Annotated[str, StringConstraints(pattern=TRACE_PATTERN)]
"""The W3C trace header."""


def is_name(value: str) -> bool:
    """Whether it may stand in a key."""
    return NAME_PATTERN.fullmatch(value) is not None
