"""Server-sent events read as the standard says (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    id: str | None
    event: str
    data: str


def parse_sse(stream: bytes) -> list[ServerEvent]:
    """All complete events of a stream."""
    events: list[ServerEvent] = []
    id_, event, data = None, "message", list[str]()
    for line in re.split("\r\n|\n|\r", stream.decode())[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(ServerEvent(id_, event, "\n".join(data)))
            id_, event, data = None, "message", []
        elif name == "data":
            data.append(value)
        elif name == "id":
            id_ = value
        elif name == "event":
            event = value
    return events
