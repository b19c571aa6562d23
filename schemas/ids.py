"""Ids that are derived from what they stand for: the same thing gets the same id wherever it is made."""

import base64
import hashlib

CHARACTERS = 26
"""Of base32: 130 bits."""


def derived_id(prefix: str, seed: bytes) -> str:
    """`prefix`, an underscore, and 26 characters of base32 (lower case) of the SHA-256 of `seed`."""
    digest = hashlib.sha256(seed).digest()[:20]  # 26 characters need 17 of its bytes
    return f"{prefix}_{base64.b32encode(digest).decode().lower()[:CHARACTERS]}"
