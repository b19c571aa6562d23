"""What the fork server is asked to start, as one line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """A process: a function of a module that is called with arguments, in an environment of its own."""

    name: str
    call: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: str

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes | str) -> "Order":
        fields = json.loads(line)
        return cls(**{**fields, "arguments": tuple(fields["arguments"])})
