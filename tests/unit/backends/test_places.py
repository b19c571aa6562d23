"""No argument becomes more than the part of the request that it was declared to be."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.backends.http import Operation
from workers.backends.places import UnfitArgumentError, filled, header_value

TRICKS = [
    "../admin",
    "..",
    ".",
    "//evil.example",
    "@evil.example",
    "a/../../b",
    "..\\..\\b",
    "%2e%2e%2f",
    "%2F",
    "a%00b",
]
TRICKS += ["x\r\nHost: evil", "x\ny", "?admin=1", "#frag", ";v=1", "http://169.254.169.254/", "..;", "\ud800", ""]
POST = Operation("POST", "https://shop.internal:8443/v1/orders/{order}/refund?fixed=1", frozenset({"note"}))

texts = (
    st.text(max_size=60) | st.sampled_from(TRICKS) | st.builds("".join, st.lists(st.sampled_from(TRICKS), max_size=3))
)


def with_tricks(test: Any) -> Any:
    for trick in TRICKS:
        test = example(trick)(test)
    return test


@given(texts)
@with_tricks
def test_a_value_in_the_path_is_one_part_of_it_or_is_refused(value: str) -> None:
    try:
        request = POST.request({"order": value, "amount": 5}, {})
    except UnfitArgumentError:
        return
    assert (request.url.scheme, request.url.host, request.url.port) == ("https", "shop.internal", 8443)
    path, _, query = request.url.raw_path.decode("ascii").partition("?")
    match = re.fullmatch(r"/v1/orders/([A-Za-z0-9._~%-]+)/refund", path)
    assert match is not None, path
    assert unquote(match.group(1)) == value
    assert unquote(unquote(match.group(1))) == value  # a proxy that decodes once more finds the same
    assert query == "fixed=1"
    assert not re.search(r"(^|/)\.\.?(/|$)", unquote(unquote(path)))


@given(texts)
@with_tricks
def test_a_value_in_the_query_stays_one_value(value: str) -> None:
    try:
        request = POST.request({"order": "1042", "note": value}, {})
    except UnfitArgumentError:
        assert "\ud800" in value or not value.isprintable()
        return
    target = request.url.raw_path.decode("ascii")
    assert target.startswith("/v1/orders/1042/refund?fixed=1&note=")
    assert parse_qsl(urlsplit(target).query, keep_blank_values=True) == [("fixed", "1"), ("note", value)]


@given(st.dictionaries(st.sampled_from(["amount", "url", "host", "method", "headers"]), texts))
def test_what_is_neither_place_nor_query_is_a_field_of_the_body(fields: dict[str, str]) -> None:
    request = POST.request({"order": "7", **fields}, {"X-Own": "1"})
    assert request.url.raw_path == b"/v1/orders/7/refund?fixed=1"
    assert json.loads(request.content) == fields
    assert request.method == "POST"
    assert set(request.headers) == {"host", "x-own", "content-type", "content-length"}


@given(texts)
@with_tricks
def test_a_header_value_is_one_line_of_plain_characters(value: str) -> None:
    header = header_value(value)
    assert re.fullmatch(r"[!-~]*", header)
    if "\ud800" not in value:
        assert unquote(header) == value or "%" not in value


@pytest.mark.parametrize("value", [None, {}, [], ["a"], "x" * 501])
def test_what_is_no_short_scalar_fills_no_place(value: Any) -> None:
    with pytest.raises(UnfitArgumentError, match="order: it fills a place"):
        filled("/orders/{order}", {"order": value})


def test_numbers_and_truths_are_written_as_json_writes_them() -> None:
    assert filled("/a/{x}/{y}/{z}", {"x": 10, "y": 1.5, "z": True}) == "/a/10/1.5/true"


def test_without_a_body_all_else_is_the_query_and_lists_repeat_their_name() -> None:
    request = Operation("GET", "https://h/items").request({"tag": ["a", "b"], "page": 2, "none": None}, {})
    assert request.url.raw_path == b"/items?tag=a&tag=b&page=2"
    assert request.content == b""
