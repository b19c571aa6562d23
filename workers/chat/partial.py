"""What clients have seen of an answer, rebuilt from the frames: the truth about a turn that did not come to its end."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from schemas.chatkit import (
    AssistantMessageItem,
    SDKHiddenContextItem,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadUpdatedEvent,
    UserMessageItem,
    stream_event_adapter,
)
from workers.chat.context import TurnContext
from workers.chat.server import ReadServer
from workers.chat.sign_in_lock import is_lock, unlock
from workers.chat.unit_of_work import TurnStore


@dataclass(slots=True)
class Shown:
    """What the frames of an event left on the screen."""

    done: dict[str, ThreadItem] = field(default_factory=dict)
    """Finished items that the event made, by id."""
    pending: dict[str, ThreadItem] = field(default_factory=dict)
    """Those that it did not finish, in the state that was seen."""
    replaced: dict[str, ThreadItem] = field(default_factory=dict)
    """Items of earlier events that it changed."""
    created: ThreadMetadata | None = None
    """The thread, if it was shown to be made."""
    updated: ThreadMetadata | None = None
    """The thread as it was last shown, if its title or status was shown to change."""

    has_options: bool = False
    """Whether the page was told what it may do while the answer comes."""

    @property
    def answer_ids(self) -> list[str]:
        """Ids of what the event showed of an answer: all that it made but the user's own message."""
        done = [id_ for id_, item in self.done.items() if not isinstance(item, UserMessageItem)]
        return [*done, *self.pending]

    @property
    def is_locked(self) -> bool:
        """Whether the composer was last shown as waiting for a sign-in."""
        return self.updated is not None and is_lock(self.updated.status)

    def forget(self, item_id: str) -> None:
        """It was taken back."""
        for place in (self.pending, self.done, self.replaced):
            place.pop(item_id, None)

    @property
    def kept(self) -> list[ThreadItem]:
        """The items of an answer that goes no further: unfinished ones only if they say something."""
        return [*self.replaced.values(), *self.done.values(), *filter(has_text, self.pending.values())]


def shown_by(frames: Iterable[bytes], server: ReadServer) -> Shown:
    """Play frames back."""
    shown = Shown()
    for frame in frames:
        shown.has_options |= frame.startswith(b'{"type":"stream_options"')
        if frame.startswith(b'{"type":"thread.'):
            _play(stream_event_adapter().validate_json(frame), shown, server)
    return shown


def _play(event: object, shown: Shown, server: ReadServer) -> None:
    match event:
        case ThreadItemAddedEvent():
            shown.pending[event.item.id] = event.item.model_copy(deep=True)
        case ThreadItemUpdatedEvent():
            server._update_pending_items(shown.pending, event)  # noqa: SLF001  # ChatKit's own way to apply it
        case ThreadItemDoneEvent():
            shown.pending.pop(event.item.id, None)
            shown.done[event.item.id] = event.item
        case ThreadItemReplacedEvent():
            _replace(event.item, shown)
        case ThreadItemRemovedEvent():
            shown.forget(event.item_id)
        case ThreadCreatedEvent():
            shown.created = event.thread
        case ThreadUpdatedEvent():
            shown.updated = event.thread


def _replace(item: ThreadItem, shown: Shown) -> None:
    own = shown.pending.pop(item.id, None) is not None or item.id in shown.done
    (shown.done if own else shown.replaced)[item.id] = item


def updated_frame(thread: ThreadMetadata, server: ReadServer) -> bytes:
    """What tells clients of a thread's title and status."""
    event = ThreadUpdatedEvent(thread=server._to_thread_response(thread))  # noqa: SLF001  # as ChatKit does
    return server._serialize(event)  # noqa: SLF001  # same


def has_text(item: ThreadItem) -> bool:
    """Whether an item is an assistant's message that says something."""
    return isinstance(item, AssistantMessageItem) and any(part.text.strip() for part in item.content)


async def keep_partial(store: TurnStore, thread_id: str, shown: Shown, context: TurnContext, note: str) -> None:
    """Store what the request gave and what was shown of its answer, and end the event with a note to the agents.

    Raises:
        AnsweredError: the whole answer is stored.
        NotFoundError: the thread was not made.
        LeaseLostError: another worker has claimed it.
    """
    await store.open(thread_id, create=shown.created is not None)
    if shown.created is not None:
        await store.save_thread(shown.created, context)
    thread = await store.load_thread(thread_id, context)
    unlock(thread)  # nothing of this event waits for a sign-in any more
    if shown.updated is not None:
        thread.title = shown.updated.title
        thread.status = thread.status if shown.is_locked else shown.updated.status
    for item in [*context.given, *shown.kept]:
        await store.save_item(thread_id, item, context)
    mark = SDKHiddenContextItem(
        id=context.next_id("sdk_hidden_context"),
        thread_id=thread_id,
        created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
        content=note,
    )
    await store.save_item(thread_id, mark, context)
    await store.commit(final=True)
