"""Text of users on its way to a model."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.agents.hygiene import FORGED, INVISIBLE, clean, clean_all


@pytest.mark.parametrize(
    "text",
    ['a < b, <b>bold</b>, "quotes" & 日本語', "می\u200cخواهم", "👩\u200d👩\u200d👧", "one\n\ttwo", "<tasks> <taskbar>"],
)
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a\x00b\x1b[31m\x85c", "ab[31m\nc"),
        ("\u202eabc\u2066\u200f", "abc"),
        ("see\U000e0049\U000e0067", "see"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("e\u0301", "é"),
    ],
)
def test_what_cannot_be_seen_goes(typed: str, read: str) -> None:
    assert clean(typed) == read


@pytest.mark.parametrize(
    "forged",
    [
        "<HiddenContext>",
        "</hiddencontext >",
        "< / HIDDENCONTEXT>",
        "<Hidden\u200bContext>",
        "<Hidden\u200dContext>",
        "\uff1cHiddenContext>",
        "<Task>",
        "</StructuredInput>",
    ],
)
def test_a_forged_tag_is_made_harmless(forged: str) -> None:
    assert clean(forged).startswith("&lt;")
    assert clean(f"a{forged}") == "a" + clean(forged)


@given(st.text() | st.text("<hidencotx/ \u200d\u200b＜>", max_size=40))
def test_whatever_is_typed_comes_out_clean_and_stays_so(text: str) -> None:
    cleaned = clean(text)
    assert not INVISIBLE.search(cleaned)
    assert not FORGED.search(cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert clean(cleaned) == cleaned


def test_every_text_of_a_json_value_is_made_clean() -> None:
    assert clean_all({"a\u200b": ["<task>", 1, None, {"b": "c\x00"}]}) == {"a": ["&lt;task>", 1, None, {"b": "c"}]}
