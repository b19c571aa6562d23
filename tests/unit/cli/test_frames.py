import json
from collections.abc import Mapping
from typing import Any

from workers.cli.frames import FrameText, Piece


def delta(item_id: str, text: str) -> dict[str, Any]:
    update = {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": text}
    return {"type": "thread.item.updated", "item_id": item_id, "update": update}


def done(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "thread.item.done", "item": item}


def message(item_id: str, text: str) -> dict[str, Any]:
    return {"type": "assistant_message", "id": item_id, "content": [{"type": "output_text", "text": text}]}


def feed(text: FrameText, *frames: Mapping[str, Any]) -> list[Piece]:
    return [piece for frame in frames for piece in text.feed(json.dumps(frame))]


def test_the_answer_comes_word_by_word_and_only_once() -> None:
    text = FrameText()
    pieces = feed(text, delta("a", "Hello "), delta("a", "you"), done(message("a", "Hello you")))
    assert pieces == [Piece("text", "Hello "), Piece("text", "you")]
    assert text.answer == "Hello you"


def test_a_message_that_was_not_streamed_comes_whole() -> None:
    assert feed(FrameText(), done(message("a", "Hello you"))) == [Piece("text", "Hello you")]


def test_what_the_deltas_left_out_comes_at_the_end() -> None:
    assert feed(FrameText(), delta("a", "Hello "), done(message("a", "Hello you")))[-1] == Piece("text", "you")


def test_a_withdrawn_message_is_not_part_of_the_answer() -> None:
    text = FrameText()
    pieces = feed(text, delta("a", "Hal"), {"type": "thread.item.removed", "item_id": "a"}, delta("b", "Hello"))
    assert [piece.kind for piece in pieces] == ["text", "removed", "text"]
    assert text.answer == "Hello"


def test_what_happens_around_the_answer_is_told() -> None:
    frames: list[dict[str, Any]] = [
        {"type": "progress_update", "text": "Looking up order 1042"},
        {"type": "progress_update", "icon": "agent", "text": "Handing over"},
        {"type": "notice", "level": "info", "message": "Careful"},
        {"type": "client_effect", "name": "highlight", "data": {}},
        {"type": "error", "code": "custom", "message": "It failed", "allow_retry": True},
        done({"type": "widget", "id": "w", "widget": {"type": "Card"}, "copy_text": "A card"}),
        done({"type": "client_tool_call", "id": "c", "name": "get_selection"}),
        done({"type": "structured_input", "id": "s", "inputs": [{"question": "Which?"}]}),
    ]
    assert feed(FrameText(), *frames) == [
        Piece("progress", "Looking up order 1042"),
        Piece("handoff", "Handing over"),
        Piece("shown", "notice: Careful"),
        Piece("shown", "effect highlight"),
        Piece("error", "It failed"),
        Piece("shown", "widget: A card"),
        Piece("shown", "asks the page to run get_selection"),
        Piece("shown", "asks: Which?"),
    ]


def test_frames_that_show_nothing_are_silent() -> None:
    user = {"type": "user_message", "id": "u", "content": [{"type": "input_text", "text": "Hi"}]}
    frames: list[dict[str, Any]] = [
        {"type": "thread.created", "thread": {}},
        {"type": "stream_options", "stream_options": {}},
        done(user),
    ]
    assert feed(FrameText(), *frames) == []
