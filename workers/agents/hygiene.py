"""What a user typed, made fit for a model: nothing that is invisible, and no forged tag.

The thread keeps what was typed; only the copy that goes to a model is changed.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

SEPARATORS = re.compile("\r\n?|[\u0085\u2028\u2029]")

INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters, but for tab and line feed
    "\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"  # zero-width, and what turns the direction
    "\ufff9-\uffff\ud800-\udfff"  # annotations, non-characters, halves of surrogate pairs
    "\U000e0000-\U000e0fff"  # tag characters and their like: whole sentences that nobody sees
    "]"
)
"""The joiners U+200C and U+200D stay: Persian, Hindi and family emoji need them."""

_JOINERS = "[\u200c\u200d]*"
TAGS = ("hiddencontext", "structuredinput", "task")
"""What ChatKit puts around text that is not the user's, in messages that it sends as the user's."""

_TAG = "|".join(_JOINERS.join(tag) for tag in TAGS)
FORGED = re.compile(rf"[<\uff1c\ufe64](?=[\s/\u200c\u200d]*(?:{_TAG})(?![a-z0-9]))", re.IGNORECASE)


def clean(text: str) -> str:
    """The text composed (NFC), without invisible characters, and with the start of each forged tag made harmless."""
    visible = INVISIBLE.sub("", SEPARATORS.sub("\n", text))
    return FORGED.sub("&lt;", unicodedata.normalize("NFC", visible))


def revealed(text: str) -> str:
    """The text with everything that nobody would see in it written out, for people who decide by what they see."""
    return INVISIBLE.sub(lambda found: f"\\u{{{ord(found.group()):x}}}", SEPARATORS.sub("\n", text))


def clean_all(value: Any) -> Any:
    """A JSON value with all its texts, the keys of objects as well, made so."""
    match value:
        case str():
            return clean(value)
        case Mapping():
            return {clean(str(key)): clean_all(inner) for key, inner in value.items()}
        case list():
            return [clean_all(inner) for inner in value]
        case _:
            return value
