"""What a turn shows, kept to the addresses that answers may point to. The journal keeps what the model said."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

from chatkit.types import (
    Annotation,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    ThoughtTask,
    ThreadItemUpdate,
    URLSource,
    WidgetComponentUpdated,
    WidgetRootUpdated,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)
from pydantic import BaseModel

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    NoticeEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    WidgetItem,
)
from workers.agents.addresses import Addresses, TextGuard

Widget = TypeVar("Widget", bound=BaseModel)


class OutputFilter:
    """The frames of one turn. Text that may begin an address is held back until it is known where it leads."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._is_open = addresses.images.any and addresses.links.any
        self._guards: dict[tuple[str, int], TextGuard] = {}

    def __call__(self, frame: ThreadStreamEvent) -> Iterable[ThreadStreamEvent]:
        """What is shown of a frame: nothing while its text is held back, two where some was held back before it."""
        if self._is_open:
            return (frame,)
        match frame:
            case ThreadItemUpdatedEvent(update=AssistantMessageContentPartTextDelta() as update):  # nearly all of them
                return (frame,) if self._has_text(frame.item_id, update) else ()
            case ThreadItemUpdatedEvent():
                return self._updated(frame)
            case ThreadItemAddedEvent() | ThreadItemDoneEvent() | ThreadItemReplacedEvent():
                _clean_item(frame.item, self._addresses)
            case NoticeEvent():
                frame.message = self._addresses.clean(frame.message)
            case _:
                pass
        return (frame,)

    def of_all(self, frames: Iterable[ThreadStreamEvent]) -> Iterable[ThreadStreamEvent]:
        """The same of several, in order."""
        return chain.from_iterable(map(self, frames))

    def _updated(self, frame: ThreadItemUpdatedEvent) -> Iterator[ThreadStreamEvent]:
        addresses, update = self._addresses, frame.update
        match update:
            case AssistantMessageContentPartDone():
                yield from self._held_back(frame.item_id, update.content_index)
                _clean_content(update.content, addresses)
            case AssistantMessageContentPartAdded():
                _clean_content(update.content, addresses)
            case AssistantMessageContentPartAnnotationAdded() if not _is_allowed(update.annotation, addresses):
                return
            case _:
                _clean_update(update, addresses)
        yield frame

    def _has_text(self, item_id: str, update: AssistantMessageContentPartTextDelta) -> bool:
        """Leave of a delta what can be shown now; whether that is anything."""
        place = item_id, update.content_index
        guard = self._guards.get(place)
        if guard is None:
            guard = self._guards[place] = TextGuard(self._addresses)
        update.delta = guard.feed(update.delta)
        return update.delta != ""

    def _held_back(self, item_id: str, content_index: int) -> Iterator[ThreadItemUpdatedEvent]:
        """The last delta of a text, if its end was held back."""
        guard = self._guards.pop((item_id, content_index), None)
        if guard is not None and (rest := guard.finish()):
            last = AssistantMessageContentPartTextDelta(content_index=content_index, delta=rest)
            yield ThreadItemUpdatedEvent(item_id=item_id, update=last)


def _clean_update(update: ThreadItemUpdate, addresses: Addresses) -> None:
    match update:
        case WidgetRootUpdated():
            update.widget = _cleaned(update.widget, addresses)
        case WidgetComponentUpdated():
            update.component = _cleaned(update.component, addresses)
        case WorkflowTaskAdded() | WorkflowTaskUpdated():
            _clean_task(update.task, addresses)
        case _:
            pass


def _clean_item(item: ThreadItem, addresses: Addresses) -> None:
    match item:
        case AssistantMessageItem():
            for part in item.content:
                _clean_content(part, addresses)
        case WidgetItem():
            item.widget = _cleaned(item.widget, addresses)
        case WorkflowItem():
            for task in item.workflow.tasks:
                _clean_task(task, addresses)
        case _:
            pass


def _clean_content(content: AssistantMessageContent, addresses: Addresses) -> None:
    content.text = addresses.clean(content.text)
    content.annotations = [one for one in content.annotations if _is_allowed(one, addresses)]


def _clean_task(task: Any, addresses: Addresses) -> None:
    if isinstance(task, ThoughtTask):
        task.content = addresses.clean(task.content)
    sources = getattr(task, "sources", None)
    if sources:
        task.sources = [one for one in sources if not isinstance(one, URLSource) or addresses.links.allow(one.url)]


def _is_allowed(annotation: Annotation, addresses: Addresses) -> bool:
    source = annotation.source
    return not isinstance(source, URLSource) or addresses.links.allow(source.url)


def _cleaned(widget: Widget, addresses: Addresses) -> Widget:
    """A widget whose Markdown is clean, without the images that may not load."""
    tree = widget.model_dump(mode="json", exclude_none=True)
    cleaned = _cleaned_tree(tree, addresses)
    return widget if cleaned == tree else type(widget).model_validate(cleaned)


def _cleaned_tree(node: Any, addresses: Addresses) -> Any:
    match node:
        case list():
            return [_cleaned_tree(inner, addresses) for inner in node if not _is_forbidden_image(inner, addresses)]
        case dict():
            cleaned = {key: _cleaned_tree(inner, addresses) for key, inner in node.items()}
            if node.get("type") == "Markdown" and isinstance(node.get("value"), str):
                cleaned["value"] = addresses.clean(node["value"])
            return cleaned
        case _:
            return node


def _is_forbidden_image(node: Any, addresses: Addresses) -> bool:
    if not isinstance(node, dict) or node.get("type") != "Image":
        return False
    return not addresses.images.allow_target(str(node.get("src", "")))
