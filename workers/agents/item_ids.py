"""Ids of a turn's messages: the same in every attempt, whatever ids the provider gives."""

from schemas.chatkit import (
    AssistantMessageItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)
from workers.agents.feed import TurnFeed


class MessageIds:
    """Puts `<base>_<response>_<output index>` in place of the provider's item ids.

    The key is the item's place in the run, since Chat Completions models call every item `__fake_id__`. `base` is
    generated before the run starts: an id taken from a counter later would depend on whether the message or a tool
    that runs beside it came first.
    """

    def __init__(self, base: str, feed: TurnFeed) -> None:
        self._base = base
        self._feed = feed
        self._given: dict[str, list[str]] = {}

    def rewrite(self, event: ThreadStreamEvent) -> None:
        """Change the event in place; tools' own items, workflows and images have our ids already."""
        data = self._feed.data
        if data is None:
            return
        if type(event) is ThreadItemUpdatedEvent:
            if event.item_id == getattr(data, "item_id", None):
                event.item_id = self._here(data.output_index)
        elif isinstance(event, ThreadItemAddedEvent | ThreadItemDoneEvent):
            item = event.item
            if isinstance(item, AssistantMessageItem) and item.id == data.item.id:
                item.id = self._here(data.output_index)
                self._given.setdefault(data.item.id, []).append(item.id)

    def removals(self, event: ThreadItemRemovedEvent) -> list[ThreadItemRemovedEvent]:
        """A removal by the provider's id as removals of every item that was shown for it."""
        shown = dict.fromkeys(self._given.get(event.item_id, [event.item_id]))
        return [ThreadItemRemovedEvent(item_id=item_id) for item_id in shown]

    def unwritten(self) -> str:
        """The id of the one message that no model wrote."""
        return f"{self._base}_end"

    def _here(self, output_index: int) -> str:
        return f"{self._base}_{self._feed.responses}_{output_index}"
