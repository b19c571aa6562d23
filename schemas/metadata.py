"""What a request asks for beside the protocol, in the `metadata` that ChatKit lets it carry."""

from collections.abc import Mapping
from typing import Any


def asked_of(data: Mapping[str, Any], field: str) -> Any:
    """The value of one field, as it came; None where there is none."""
    metadata = data.get("metadata")
    return metadata.get(field) if isinstance(metadata, Mapping) else None
