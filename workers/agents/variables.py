"""Context variables that a page sends with a request (`metadata`), bounded and made clean for a model."""

import json
from collections.abc import Mapping
from typing import Any

from workers.agents.hygiene import clean, clean_all

MOST = 20
MOST_NAME = 64
MOST_BYTES = 500
"""Of one value, as JSON."""
DEEPEST = 3
RESERVED = frozenset({"double_text", "debounce"})
"""What a page says to the queue, and not to the agents."""


def for_model(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables; of those that are too many, too long or too deep, how many were left out (none is cut)."""
    named = {name: value for name, value in variables.items() if name not in RESERVED}
    fitting = [(name, value) for name, value in named.items() if _fits(name, value)][:MOST]
    shown = {clean(name): clean_all(value) for name, value in fitting}
    left_out = len(named) - len(fitting)
    return {"variables": shown, **({"left_out": left_out} if left_out else {})}


def _fits(name: str, value: Any) -> bool:
    return len(name) <= MOST_NAME and _depth(value) <= DEEPEST and len(json.dumps(value)) <= MOST_BYTES


def _depth(value: Any) -> int:
    """How many lists and objects stand inside each other; of JSON that came in, as many as its parser allows."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, Mapping | list) else 0
