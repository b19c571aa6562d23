"""What a client has on its screen after the frames that it was given."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Screen:
    """The assistant's messages, in order; `torn` lists finished messages that are not what was streamed of them."""

    shown: dict[str, str] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    _finished: set[str] = field(default_factory=set)

    @property
    def text(self) -> str:
        return "".join(self.shown.values())

    @classmethod
    def after(cls, frames: Iterable[str]) -> "Screen":
        """Play frames."""
        screen = cls()
        screen.see(frames)
        return screen

    def see(self, frames: Iterable[str]) -> None:
        """Play more frames."""
        for frame in frames:
            self.play(json.loads(frame))

    def play(self, event: Any) -> None:
        """Play one frame."""
        match event:
            case {"type": "thread.item.added", "item": {"type": "assistant_message", "id": id_}}:
                self._open(id_)
            case {"type": "thread.item.updated", "item_id": id_, "update": {"delta": delta}}:
                self.shown[id_] = self.shown.get(id_, "") + delta
            case {"type": "thread.item.done", "item": {"type": "assistant_message", "id": id_} as item}:
                self._finish(id_, "".join(part["text"] for part in item["content"]))
            case {"type": "thread.item.removed", "item_id": id_}:
                self.shown.pop(id_, None)
                self._finished.discard(id_)

    def _open(self, id_: str) -> None:
        if id_ in self.shown:
            self.repeated.append(id_)
        self.shown[id_] = ""

    def _finish(self, id_: str, text: str) -> None:
        if id_ in self._finished:
            self.repeated.append(id_)
        if self.shown.get(id_, text) != text:
            self.torn.append(id_)
        self.shown[id_] = text
        self._finished.add(id_)


def is_text(frame: str) -> bool:
    """Whether a frame adds to an assistant's message."""
    match json.loads(frame):
        case {"type": "thread.item.added" | "thread.item.done", "item": {"type": "assistant_message"}}:
            return True
        case {"type": "thread.item.updated", "update": {"delta": _}}:
            return True
        case _:
            return False
