"""Binary mode and batches."""

import json
from typing import Any

import pytest

from schemas.bindings import is_binary, parse_batch, parse_binary
from schemas.errors import EventTooLargeError, InvalidEventError
from schemas.events import Event, parse_event
from schemas.examples import example_event

FEEDBACK = "chatkit.items.feedback"


def headers_of(event: dict[str, Any]) -> dict[str, str]:
    return {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}


def test_an_event_in_headers_is_the_same_event() -> None:
    event = example_event(FEEDBACK)
    headers = {name.upper(): value for name, value in headers_of(event).items()} | {"Accept": "*/*"}
    parsed = parse_binary(headers, json.dumps(event["data"]).encode())
    assert parsed == parse_event(event)


def test_headers_are_percent_encoded_utf_8() -> None:
    event = example_event(FEEDBACK)
    headers = headers_of(event) | {"ce-id": "caf%C3%A9%20%25", "Content-Type": "application/json; charset=utf-8"}
    parsed = parse_binary(headers, json.dumps(event["data"]).encode())
    assert parsed.id == "café %"
    assert parsed.datacontenttype == "application/json; charset=utf-8"


def test_what_is_wrong_in_headers_and_body_is_named_together() -> None:
    headers = headers_of(example_event(FEEDBACK)) | {"ce-id": "%ff", "ce-userid": "a b", "ce-hop-count": "1"}
    with pytest.raises(InvalidEventError) as caught:
        parse_binary(headers, b"{not json")
    problems = {problem.field: problem.message for problem in caught.value.problems}
    assert set(problems) == {"id", "userid", "data", "hop-count"}
    assert problems["id"] == "is not percent-encoded UTF-8"
    assert problems["data"].startswith("is not JSON")


def test_headers_without_a_body_lack_data() -> None:
    with pytest.raises(InvalidEventError, match=r"^data: is missing"):
        parse_binary(headers_of(example_event(FEEDBACK)), b"")


def test_headers_and_body_are_bounded_together() -> None:
    headers = headers_of(example_event(FEEDBACK))
    with pytest.raises(EventTooLargeError):
        parse_binary(headers, b" " * 900, max_bytes=1_000)


@pytest.mark.parametrize("header", ["CE-SpecVersion", "ce-id", "ce-source", "ce-type"])
def test_any_required_attribute_in_a_header_makes_the_mode_so_that_a_missing_one_is_named(header: str) -> None:
    assert is_binary({header: "1.0"})
    assert not is_binary({"content-type": "application/json", "ce-subject": "1"})


def test_a_wrong_event_of_a_batch_does_not_hold_up_the_others() -> None:
    good, wrong = example_event(FEEDBACK), {**example_event(FEEDBACK), "userid": 3}
    first, second, third = parse_batch(json.dumps([good, wrong, good]).encode(), max_bytes=100_000)
    assert isinstance(second, InvalidEventError)
    assert [problem.field for problem in second.problems] == ["userid"]
    assert first == third == parse_event(good)


def test_one_event_of_a_batch_may_be_too_large() -> None:
    large = {**example_event(FEEDBACK), "note": "x" * 2_000}
    raw = json.dumps([example_event(FEEDBACK), large]).encode()
    small, refused = parse_batch(raw, max_bytes=100_000, max_event_bytes=1_000)
    assert isinstance(small, Event)
    assert isinstance(refused, EventTooLargeError)


@pytest.mark.parametrize("raw", [b"{}", b"[" + b"1," * 1_000 + b"1]", b"nothing", b"\xff"])
def test_what_is_no_batch_is_refused_as_a_whole(raw: bytes) -> None:
    with pytest.raises(InvalidEventError, match=r"^batch: "):
        parse_batch(raw, max_bytes=100_000)


def test_an_empty_batch_is_one() -> None:
    assert parse_batch(b"[]", max_bytes=100) == []


def test_the_batch_is_bounded_before_it_is_parsed() -> None:
    with pytest.raises(EventTooLargeError):
        parse_batch(b"[" * 1_001, max_bytes=1_000)
