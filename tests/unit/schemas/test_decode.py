"""JSON that is refused before anything looks into it."""

import pytest

from schemas.decode import decode_json, decode_object
from schemas.errors import InvalidEventError

BOUND = 1_000_000


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b'{"a": 1} {"b": 2}', "is not JSON: trailing characters"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": -Infinity}', "is not JSON"),
        (b'{"a": 1e999}', "holds a number that is too large"),
        (b'{"a": 1' + b"0" * 5_000 + b"}", "is not JSON: number out of range"),
        (b'{"a": "\xff"}', "is not UTF-8 (byte 7)"),
        (b'{"a": "\xed\xa0\x80"}', "is not UTF-8"),
        (b'{"a": "\\ud800"}', "is not JSON"),
        ('{"a": "\ud800"}', "is not UTF-8 (character 7 is half a surrogate pair)"),
        ("{}".encode("utf-16"), "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
        (b"[" * 100_000, "is not JSON: recursion limit exceeded"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "is not JSON: recursion limit exceeded"),
        (b'{"userid": "u1", "userid": "u2"}', "names a key twice"),
        (b'{"data": {"a": 1, "\\u0061": 2}}', "names a key twice"),
    ],
)
def test_what_json_leaves_undefined_is_refused(raw: bytes | str, message: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        decode_json(raw, max_bytes=BOUND)
    (problem,) = caught.value.problems
    assert problem.field == "event"
    assert problem.message.startswith(message)


def test_the_same_key_in_different_objects_is_fine() -> None:
    assert decode_json('{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}', max_bytes=BOUND)["b"][1] == {"a": 2}


def test_a_hundred_levels_are_fine() -> None:
    assert decode_json(b"[" * 100 + b"]" * 100, max_bytes=BOUND)


def test_an_object_that_holds_what_json_cannot_is_refused() -> None:
    circle: dict[str, object] = {}
    circle["circle"] = circle
    for value in ({"a": object()}, {"a": "\ud800"}, {"a": b"\xff"}, {"a": float("nan")}, {1: "a", "1": "b"}, circle):
        with pytest.raises(InvalidEventError) as caught:
            decode_object(value, max_bytes=BOUND)  # type: ignore[arg-type]  # what a caller without types may hand over
        assert caught.value.problems[0].field == "event"
