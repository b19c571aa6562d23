"""What must hold for any input at all."""

import json
from contextlib import suppress
from datetime import UTC
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.bindings import parse_batch, parse_binary
from schemas.errors import InvalidEventError
from schemas.events import Event, event_id, event_types, parse_event
from schemas.examples import example_event

AT_ANY_SPEED = settings(deadline=None)
"""The first example builds the models of all types, and CI is busy."""

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)
NAMES = st.from_regex(r"[A-Za-z0-9:._-]{1,40}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KNOWN = sorted({*Event.model_fields, "data_base64", "partitionkey"})
EXTENSION_NAMES = st.from_regex(r"ext[a-z0-9]{1,16}", fullmatch=True)
EXTENSIONS = st.dictionaries(
    EXTENSION_NAMES, TEXT | st.booleans() | st.integers(min_value=-(2**31), max_value=2**31 - 1), max_size=4
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """A right event of any type, with any names, times and extensions, and metadata of any shape."""
    event = example_event(draw(st.sampled_from(event_types())))
    event |= {"id": draw(TEXT), "source": draw(TEXT), "tenant": draw(NAMES), "userid": draw(NAMES)}
    event |= draw(EXTENSIONS)
    if draw(st.booleans()):
        event["time"] = draw(st.datetimes(timezones=st.just(UTC))).isoformat()
    if "metadata" in event.get("data", {}):
        event["data"]["metadata"] = draw(st.dictionaries(st.text(max_size=12), JSON, max_size=3))
    return event


@AT_ANY_SPEED
@given(events())
def test_a_right_event_goes_round_unchanged(fields: dict[str, Any]) -> None:
    event = parse_event(json.dumps(fields))
    again = parse_event(event.to_json())
    assert again == event
    assert again.to_json() == event.to_json()
    assert (again.event_id, again.thread_id, again.lane) == (event.event_id, event.thread_id, event.lane)
    assert again.data == fields.get("data", {})
    assert parse_event(fields) == event


@AT_ANY_SPEED
@given(events(), st.data())
def test_an_event_with_one_field_replaced_is_taken_or_refused_by_name(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(fields)))
    changed = {**fields, name: data.draw(JSON)}
    try:
        event = parse_event(changed)
    except InvalidEventError as error:
        assert 1 <= len(error.problems) <= 21  # noqa: PT017  # either way is right, each has its own promise
    else:
        assert parse_event(event.to_json()) == event


@AT_ANY_SPEED
@given(st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=10), JSON, max_size=16) | JSON)
def test_any_json_is_an_event_or_an_invalid_event(value: Any) -> None:
    with suppress(InvalidEventError):
        parse_event(json.dumps(value))


@AT_ANY_SPEED
@given(st.dictionaries(st.sampled_from(KNOWN) | st.text(), JSON | st.binary(max_size=8) | st.floats(), max_size=16))
def test_any_decoded_object_is_an_event_or_an_invalid_event(value: dict[str, Any]) -> None:
    with suppress(InvalidEventError):
        parse_event(value)


@AT_ANY_SPEED
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_bytes_and_any_text_are_an_event_or_an_invalid_event(raw: bytes | str) -> None:
    with suppress(InvalidEventError):
        parse_event(raw)


@AT_ANY_SPEED
@given(events(), st.integers(min_value=0), st.binary(min_size=1, max_size=3))
def test_a_damaged_event_is_an_event_or_an_invalid_event(fields: dict[str, Any], place: int, junk: bytes) -> None:
    raw = json.dumps(fields).encode()
    at = place % len(raw)
    with suppress(InvalidEventError):
        parse_event(raw[:at] + junk + raw[at + 1 :])


@AT_ANY_SPEED
@given(
    st.dictionaries(st.text(max_size=12) | st.sampled_from(["ce-id", "Content-Type"]), st.text(max_size=12)),
    st.binary(),
)
def test_any_headers_and_body_are_an_event_or_an_invalid_event(headers: dict[str, str], body: bytes) -> None:
    with suppress(InvalidEventError):
        parse_binary(headers, body)


@given(st.lists(events() | JSON, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_batch_answers_at_every_place(values: list[Any]) -> None:
    answers = parse_batch(json.dumps(values).encode(), max_bytes=1_000_000)
    assert len(answers) == len(values)
    for value, answer in zip(values, answers, strict=True):
        if isinstance(answer, Event):
            assert answer == parse_event(value)


@AT_ANY_SPEED
@given(TEXT, TEXT, TEXT, TEXT)
def test_two_events_have_one_id_only_when_source_and_id_are_the_same(a: str, b: str, c: str, d: str) -> None:
    assert (event_id(a, b) == event_id(c, d)) == ((a, b) == (c, d))
