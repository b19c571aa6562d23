"""Large entries of a journal, packed: a response is repetitive JSON, and a quarter of it is left."""

import zlib

PACKED_FROM = 1024
"""Bytes from which packing pays for its CPU (some 20 us per kilobyte)."""

MARK = b"\x01"
"""Begins what is packed. JSON never begins so."""


def pack(entry: bytes) -> bytes:
    """The entry as it is kept."""
    return MARK + zlib.compress(entry, 1) if len(entry) >= PACKED_FROM else entry


def unpack(kept: bytes) -> bytes:
    """The entry as it was given."""
    return zlib.decompress(kept[1:]) if kept.startswith(MARK) else kept
