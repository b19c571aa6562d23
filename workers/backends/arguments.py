"""A model's arguments: read, bounded and held against the schema before anything is done with them."""

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry

MAX_BYTES = 65_536
MAX_SAID = 300


class Schema:
    """The schema of a backend's arguments. References lead nowhere but into itself."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = Draft202012Validator(schema, registry=Registry())

    def problem(self, arguments: str) -> str | None:
        """What is wrong with the arguments, in words for the model; None: they fit."""
        if len(arguments.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            return f"the arguments take more than {MAX_BYTES} bytes"
        try:
            given = parsed(arguments)
        except (ValueError, RecursionError):
            return "the arguments are no JSON object"
        if not isinstance(given, dict):
            return "the arguments are no JSON object"
        try:
            error = best_match(self._validator.iter_errors(given))
        except Exception as failure:  # noqa: BLE001  # the schema's own mistake, such as a reference to nothing
            return f"the schema of this service cannot be applied ({type(failure).__name__})"
        if error is None:
            return None
        place = ".".join(str(part) for part in error.absolute_path)
        return f"{place or 'arguments'}: {error.message}"[:MAX_SAID]


def parsed(arguments: str) -> Any:
    """The arguments as a value. Raises ValueError, RecursionError."""
    return json.loads(arguments or "{}", parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
