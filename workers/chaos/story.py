"""What the users of a run write, and what the model answers: each a function of the text, so that the answer is known.

A text is `case <tag> <kind> <words>`, the answer of a case its numbered words: a lost or doubled one is seen at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from workers.chaos.records import Said
from workers.testing.provider import Asked, text_of
from workers.testing.provider_steps import Status, Step, Text, Tool
from workers.testing.provider_wire import Json

TEXT = re.compile(r"case (?P<tag>\S+) (?P<kind>[a-z]+) (?P<words>\d+)")
TRANSFER = "transfer_to_service_orchestrator_agent"
LOOK_UP = "look_up_record"
PREAMBLE = 5
"""Words that come before a tool call, in the same response."""


class Kind(StrEnum):
    """What a case is about."""

    PLAIN = "plain"
    """One response."""
    TOOL = "tool"
    """A handoff where there can be one, words with a tool call, then the rest of the words."""
    FULL = "full"
    """The same, with words in front of the handoff too. For a thread of its own."""
    FLAW = "flaw"
    """The provider refuses it for good, until it is mended."""


@dataclass(frozen=True, slots=True)
class CaseText:
    """What a user writes."""

    tag: str
    kind: Kind
    words: int

    def __str__(self) -> str:
        return f"case {self.tag} {self.kind} {self.words}"

    @classmethod
    def of(cls, text: str) -> "CaseText | None":
        found = TEXT.search(text)
        return cls(found["tag"], Kind(found["kind"]), int(found["words"])) if found else None

    @property
    def reference(self) -> str:
        """The whole answer."""
        return said(self, 0, self.words)

    @property
    def steps(self) -> int:
        """Model calls that the answer takes, in a thread of its own."""
        return 3 if self.kind in (Kind.TOOL, Kind.FULL) else 1


def said(case: CaseText, start: int, stop: int) -> str:
    """The words of an answer from one place to another."""
    return "".join(f"{case.tag}.{number} " for number in range(start, stop))


def answer(body: Json, mended: bool) -> Step:
    """What the model says to a request."""
    asked = Asked.of(body)
    case = CaseText.of(asked.text)
    if case is None:
        return Text("I know nothing of that.")
    if case.kind is Kind.FLAW and not mended:
        return Status(400, code="invalid_request_error")
    if case.kind in (Kind.TOOL, Kind.FULL):
        first = PREAMBLE if case.kind is Kind.FULL else 0
        if asked.may_call(TRANSFER):
            return Tool(TRANSFER, say=said(case, 0, first))
        if asked.may_call(LOOK_UP):
            return Tool(LOOK_UP, {"kind": "order", "key": case.tag}, say=said(case, first, first + PREAMBLE))
        return Text(said(case, first + PREAMBLE, case.words))
    return Text(case.reference)


def history_of(body: Json) -> Iterator[Said]:
    """What was said so far, as the model is given it."""
    for item in body["input"]:
        if item.get("role") in ("user", "assistant"):
            yield Said(item["role"], text_of(item))
