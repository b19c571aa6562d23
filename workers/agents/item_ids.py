"""Ids of a turn's messages: the same in every attempt, whatever ids the provider gives."""

from collections.abc import Iterator, Sequence

from schemas.chatkit import (
    AssistantMessageItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)
from workers.agents.feed import ModelEvent


class MessageIds:
    """Puts `<base>_<response>_<output index>` in place of the provider's item ids.

    The key is the item's place in the run, since Chat Completions models call every item `__fake_id__`. `base` is
    generated before the run starts: an id taken from a counter later would depend on whether the message or a tool
    that runs beside it came first.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._given: dict[str, list[str]] = {}

    def at(self, response: int, output_index: int) -> str:
        """The id of the message at a place of the run."""
        return f"{self._base}_{response}_{output_index}"

    def unwritten(self) -> str:
        """The id of the one message that no model wrote."""
        return f"{self._base}_end"

    def rewrite(self, event: ThreadStreamEvent, source: ModelEvent) -> None:
        """Change a frame of a model's event in place. Workflows and images have our ids already."""
        data = source.data
        if isinstance(event, ThreadItemUpdatedEvent):
            if event.item_id == getattr(data, "item_id", None):
                event.item_id = self.at(source.response, data.output_index)  # type: ignore[union-attr]  # it has both
        elif isinstance(event, ThreadItemAddedEvent | ThreadItemDoneEvent):
            item = event.item
            if isinstance(item, AssistantMessageItem):
                provider_id = item.id
                item.id = self.at(source.response, data.output_index)  # type: ignore[union-attr]  # of an output item
                self._given.setdefault(provider_id, []).append(item.id)

    def removals(self, events: Sequence[ThreadStreamEvent]) -> Iterator[ThreadStreamEvent]:
        """Removals by the provider's id as removals of every item that was shown for it."""
        for event in events:
            if isinstance(event, ThreadItemRemovedEvent):
                for item_id in dict.fromkeys(self._given.get(event.item_id, [event.item_id])):
                    yield ThreadItemRemovedEvent(item_id=item_id)
            else:
                yield event
