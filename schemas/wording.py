"""Our own wording of what is wrong: the place and the remedy, never the input."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import FieldProblem
from schemas.names import JSON_TYPE_PATTERN, NAME_PATTERN, NAME_RULE, TEXT_PATTERN, TRACE_PATTERN

MAX_PROBLEMS = 20

REMEDIES = {
    "specversion": 'write "1.0"',
    "id": "give the event an id of its own; the same one when it is sent again",
    "source": "name the service that sends it, say /shop/web",
    "type": "say which event it is, say chatkit.threads.create",
    "userid": "name the user the event speaks for",
    "data": 'give the request as the ChatKit client sends it: {"type", "params", "metadata"}',
    "data.params": "give the parameters of the request",
    "data.params.thread_id": "name the thread",
    "data.thread_id": "name the thread",
}
"""What to do about a missing field."""

SENTENCES = {
    "string_type": "must be text",
    "string_unicode": "must be text in UTF-8",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "list_type": "must be a list",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "extra_forbidden": "is not known here; leave it out",
    "union_tag_invalid": "has an unknown {discriminator}; known: {expected_tags}",
    "union_tag_not_found": "has no {discriminator}",
    "one_of": "give either effect or message",
    **dict.fromkeys(
        ("timestamp", "datetime_parsing", "datetime_from_date_parsing", "datetime_object_invalid", "timezone_naive"),
        "must be an RFC 3339 time with its zone, say 2026-11-23T12:00:00Z",
    ),
}
"""Error type of pydantic -> sentence. Its own messages are not used, because some of them quote the input."""

PATTERNS = {
    f"^{NAME_PATTERN.pattern}$": f"must be {NAME_RULE}",
    TEXT_PATTERN: "must not hold control characters",
    JSON_TYPE_PATTERN: "must be application/json (parameters may follow)",
    TRACE_PATTERN: "must be a W3C traceparent, or be left out",
}

SHOWABLE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


def problems_of(error: ValidationError, value: Any, prefix: str = "") -> list[FieldProblem]:
    """The problems that pydantic found in `value`, which stands at `prefix` of the event."""
    details = error.errors(include_input=False, include_url=False)
    return [_problem(detail, _path(detail["loc"], value, prefix)) for detail in details]


def bounded(problems: Iterable[FieldProblem]) -> list[FieldProblem]:
    """Each problem once, at most twenty: a message is read by people."""
    unique = list(dict.fromkeys(problems))
    if len(unique) <= MAX_PROBLEMS:
        return unique
    rest = FieldProblem("event", f"has {len(unique) - MAX_PROBLEMS} more wrong fields")
    return [*unique[:MAX_PROBLEMS], rest]


def showable(name: object) -> str:
    """A field's name as it may be shown: names are input as well."""
    text = str(name)
    return text if SHOWABLE.fullmatch(text) else "(unreadable name)"


def _problem(detail: ErrorDetails, field: str) -> FieldProblem:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        remedy = REMEDIES.get(field)
        return FieldProblem(field, f"is missing; {remedy}" if remedy else "is missing")
    if kind == "string_pattern_mismatch":
        return FieldProblem(field, PATTERNS.get(context.get("pattern", ""), "is not of the right form"))
    sentence = SENTENCES.get(kind, "is not valid")
    return FieldProblem(field, sentence.format_map({"max_length": "", "expected": "", **context}))


def _path(loc: Sequence[int | str], value: Any, prefix: str) -> str:
    """Where it stands. Names of union members, which pydantic puts between, are in no event and are left out."""
    parts = [prefix] if prefix else []
    for place, part in enumerate(loc):
        inside = _has(value, part)
        if inside or place == len(loc) - 1:
            parts.append(str(part) if isinstance(part, int) else showable(part))
        if inside:
            value = value[part]
    return ".".join(parts) or "event"


def _has(value: Any, part: int | str) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)
