"""What clients have seen of an answer, rebuilt from the frames: the truth about a turn that did not come to its end."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.chatkit import (
    AssistantMessageItem,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    stream_event_adapter,
)
from workers.chat.server import ReadServer


@dataclass(slots=True)
class Shown:
    """Items as the frames left them: `done` ones by id, and `pending` ones in the state that was seen."""

    done: dict[str, ThreadItem] = field(default_factory=dict)
    pending: dict[str, ThreadItem] = field(default_factory=dict)
    replaced: dict[str, ThreadItem] = field(default_factory=dict)
    """Items of earlier events that this one has changed: they are not its own to take back."""
    thread: ThreadMetadata | None = None
    """The thread, if it was shown to be made."""

    @property
    def live(self) -> list[str]:
        """Ids of the event's own items on the screen."""
        return [*self.done, *self.pending]


def shown_by(frames: Iterable[bytes], server: ReadServer) -> Shown:
    """Play frames back."""
    shown = Shown()
    for frame in frames:
        if b'"thread.item.' in frame[:32] or b'"thread.created"' in frame[:32]:
            _play(stream_event_adapter().validate_json(frame), shown, server)
    return shown


def _play(event: object, shown: Shown, server: ReadServer) -> None:
    match event:
        case ThreadItemAddedEvent():
            shown.pending[event.item.id] = event.item.model_copy(deep=True)
        case ThreadItemUpdatedEvent():
            server._update_pending_items(shown.pending, event)  # noqa: SLF001  # ChatKit's own way to apply it
        case ThreadItemReplacedEvent() if event.item.id not in shown.live:
            shown.replaced[event.item.id] = event.item
        case ThreadItemDoneEvent() | ThreadItemReplacedEvent():
            shown.pending.pop(event.item.id, None)
            shown.done[event.item.id] = event.item
        case ThreadItemRemovedEvent():
            shown.pending.pop(event.item_id, None)
            shown.done.pop(event.item_id, None)
        case ThreadCreatedEvent():
            shown.thread = event.thread


def has_text(item: ThreadItem) -> bool:
    """Whether an item is an assistant's message that says something."""
    return isinstance(item, AssistantMessageItem) and any(part.text.strip() for part in item.content)
