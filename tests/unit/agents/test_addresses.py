"""What an answer may point to: however a text is written and cut, no image and no link leads elsewhere."""

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from workers.agents.addresses import LONGEST, REMOVED, Addresses, Hosts, TextGuard

OK = "https://ok.example/i.png"
IMAGES = Addresses(Hosts.of("ok.example, *.cdn.example"))
LINKS = Addresses(Hosts.of("ok.example"), Hosts.of("ok.example"))

PIECES = [
    *[
        "![",
        "![a]",
        "](",
        "]",
        "(",
        ")",
        "[",
        "[r]",
        "]:",
        "!",
        ">",
        "<",
        "`",
        "```",
        "\\",
        " ",
        "\n",
        "\n\n",
        "\n  \n",
    ],
    *[
        "https://evil.x/q",
        OK,
        "//evil.x",
        "&#104;ttps://evil.x",
        "https:\\/evil.x",
        "https://ok.example@evil.x/",
        "www.evil.x",
    ],
    *['<img src="https://evil.x">', "<img src=//evil.x ", "<https://evil.x>", '<a href="', "<!--", "-->", "<div>"],
    *["> ", "- ", "  ", "a", '"t"', "[r]: https://evil.x\n", "[r]:\n"],
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
MARKDOWN = MarkdownIt("commonmark", {"html": True})
RAW = re.compile(r"<a [^>]*>?")
"""Tags that the text itself has: a page that shows raw HTML is not kept from its links, and must not show it."""


def targets(text: str, pattern: str) -> set[str]:
    """The servers that a page would ask."""
    return {urlsplit(found).netloc for found in re.findall(pattern, MARKDOWN.render(text))} - {""}


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_no_image_loads_from_elsewhere_however_it_is_written(text: str) -> None:
    for addresses in (IMAGES, LINKS):
        assert targets(addresses.clean(text), r'<img[^>]*?src="?([^" >]*)') <= {"ok.example"}


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_no_link_leads_elsewhere_however_it_is_written(text: str) -> None:
    cleaned = RAW.sub("", LINKS.clean(text))
    assert targets(cleaned, r'<a href="((?:https?:)?//[^"]*)"') <= {"ok.example"}


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 7), min_size=1))
def test_a_text_comes_out_the_same_however_it_is_cut(text: str, sizes: list[int]) -> None:
    for addresses in (IMAGES, LINKS):
        guard, shown, place, turn = TextGuard(addresses), "", 0, 0
        while place < len(text):
            size = sizes[turn % len(sizes)]
            shown += guard.feed(text[place : place + size])
            place, turn = place + size, turn + 1
        assert shown + guard.finish() == addresses.clean(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"see ![a map]({OK}) here", f"see ![a map]({OK}) here"),
        ('![a](https://x.cdn.example/i.png "title")', '![a](https://x.cdn.example/i.png "title")'),
        ("![logo](/static/logo.png)", "![logo](/static/logo.png)"),
        ("see ![a map](https://evil.x/?q=secret) here", "see (image: a map) here"),
        ("![a](http://ok.example/i.png)", "(image: a)"),
        ("![a](//evil.x/i.png)", "(image: a)"),
        ("![a [b] c](https://evil.x/i.png)", r"![a [b] c]\(https://evil.x/i.png)"),
        ('<img src="https://evil.x/?q=1">', '&lt;img src="https://evil.x/?q=1">'),
        ("[1]: https://evil.x/i.png", r"[1]\: https://evil.x/i.png"),
    ],
)
def test_images_are_shown_from_the_servers_of_the_list_and_as_text_from_others(text: str, shown: str) -> None:
    assert IMAGES.clean(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Hello! [docs](https://anywhere.example/x) and https://anywhere.example, really!",
        'let v = vec![1, 2, 3]; println!("{}", a[0](x)); let m: {[key: string]: number} = {};',
        "- [ ] todo\n- [x] done\n\na < b, a <b> c, List<String>, 1 <2\n\n",
        "Emoji 👨‍👩‍👧, кириллица, 中文!\r\n\tend",
        "x" * 5000,
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert IMAGES.clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](https://ok.example/x) and https://ok.example/y.", "[a](https://ok.example/x) and https://ok.example/y."),
        ("[a](https://evil.x/x)", rf"[a]\({REMOVED})"),
        ("go to https://evil.x/x?y.", f"go to {REMOVED}."),
        ("WWW.evil.x", REMOVED),
        ("[a](javascript:alert(1))", r"[a]\(javascript:alert(1))"),
        ("[a](/here) [b](#there)", "[a](/here) [b](#there)"),
        ("how? when? wow.", "how? when? wow."),
    ],
)
def test_with_a_list_for_links_others_become_text(text: str, shown: str) -> None:
    assert LINKS.clean(text) == shown


def test_without_lists_nothing_is_held_back() -> None:
    anything = Addresses(Hosts.of("*"), Hosts.of("*"))
    assert TextGuard(anything).feed("![a](https://evil.x/") == "![a](https://evil.x/"


def test_what_is_held_back_has_a_bound() -> None:
    guard = TextGuard(IMAGES)
    shown = guard.feed("![a](https://ok.example/" + "x" * LONGEST)
    assert shown.startswith("![a]\\(https://ok.example/xxx")


def test_plain_text_is_shown_as_it_comes() -> None:
    guard = TextGuard(IMAGES)
    assert [guard.feed(piece) for piece in ("Hel", "lo ", "you!", " How")] == ["Hel", "lo ", "you", "! How"]
