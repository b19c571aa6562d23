"""Frames of a stream as text for a terminal: the answer word by word, and what happens around it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import from_json

Kind = Literal["text", "progress", "shown", "handoff", "removed", "error"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Something to print: a piece of the answer, or a line about what happens."""

    kind: Kind
    text: str


@dataclass(slots=True)
class FrameText:
    """Turns the frames of one event into pieces; `answer` is the text so far."""

    answer: str = ""
    _streamed: dict[str, str] = field(default_factory=dict)

    def feed(self, frame: bytes | str) -> Iterator[Piece]:
        """The pieces of one frame."""
        event: Mapping[str, Any] = from_json(frame)
        match event:
            case {"type": "thread.item.updated", "update": {"type": "assistant_message.content_part.text_delta"}}:
                yield from self._delta(event["item_id"], event["update"]["delta"])
            case {"type": "thread.item.done", "item": item}:
                yield from self._done(item)
            case {"type": "thread.item.removed", "item_id": item_id}:
                if self._streamed.pop(item_id, None) is not None:
                    self._join()
                    yield Piece("removed", "the text above is withdrawn and written again")
            case {"type": "progress_update", "text": text}:
                yield Piece("handoff" if event.get("icon") == "agent" else "progress", text)
            case {"type": "client_effect", "name": name}:
                yield Piece("shown", f"effect {name}")
            case {"type": "notice", "message": message}:
                yield Piece("shown", f"notice: {message}")
            case {"type": "error"}:
                yield Piece("error", event.get("message") or str(event.get("code", "error")))

    def _delta(self, item_id: str, delta: str) -> Iterator[Piece]:
        self._streamed[item_id] = self._streamed.get(item_id, "") + delta
        self._join()
        yield Piece("text", delta)

    def _done(self, item: Mapping[str, Any]) -> Iterator[Piece]:
        """A finished item; of a message what was not streamed."""
        match item.get("type"):
            case "assistant_message":
                text = "".join(str(part.get("text", "")) for part in item["content"])
                streamed = self._streamed.get(item["id"], "")
                self._streamed[item["id"]] = text
                self._join()
                if text.startswith(streamed) and len(text) > len(streamed):
                    yield Piece("text", text[len(streamed) :])
            case "widget":
                title = next(iter((item.get("copy_text") or "").splitlines()), item["widget"].get("type", ""))
                yield Piece("shown", f"widget: {title}")
            case "client_tool_call":
                yield Piece("shown", f"asks the page to run {item.get('name')}")
            case "structured_input":
                questions = ", ".join(str(question.get("question")) for question in item.get("inputs", []))
                yield Piece("shown", f"asks: {questions}")

    def _join(self) -> None:
        self.answer = "\n".join(self._streamed.values())
