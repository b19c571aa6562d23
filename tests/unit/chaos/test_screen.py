"""What a client has on its screen."""

import json

from tests.unit.chaos.clean_run import added, delta, done
from workers.chaos.screen import Screen, is_text

REMOVED = {"type": "thread.item.removed", "item_id": "m"}
PROGRESS = {"type": "progress_update", "text": "Looking up"}


def after(*frames: object) -> Screen:
    return Screen.after(json.dumps(frame) for frame in frames)


def test_messages_are_put_together_in_their_order() -> None:
    screen = after(added("m"), delta("m", "one "), PROGRESS, done("m", "one "), added("n"), delta("n", "two"))
    assert (screen.text, screen.torn, screen.repeated) == ("one two", [], [])


def test_what_is_removed_is_gone_and_may_come_again() -> None:
    screen = after(added("m"), delta("m", "half"), REMOVED, added("m"), delta("m", "whole"), done("m", "whole"))
    assert (screen.text, screen.torn, screen.repeated) == ("whole", [], [])


def test_a_message_that_ends_as_something_else_is_torn() -> None:
    assert after(added("m"), delta("m", "one "), done("m", "one two")).torn == ["m"]


def test_a_message_that_comes_again_is_repeated() -> None:
    assert after(added("m"), delta("m", "a"), added("m"), delta("m", "a"), done("m", "a")).repeated == ["m"]
    assert after(done("m", "a"), done("m", "a")).repeated == ["m"]


def test_only_what_adds_to_a_message_is_text() -> None:
    texts = [added("m"), delta("m", "a"), done("m", "a")]
    others = [REMOVED, PROGRESS, {"type": "thread.item.done", "item": {"type": "user_message", "id": "u"}}]
    assert [is_text(json.dumps(frame)) for frame in [*texts, *others]] == [True] * 3 + [False] * 3
