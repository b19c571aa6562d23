"""The official ChatKit types, imported here and nowhere else, and what the project knows of each request type."""

from functools import cache
from typing import get_args

from chatkit.actions import Action
from chatkit.types import (
    ActiveStatus,
    AssistantMessageContent,
    AssistantMessageItem,
    Attachment,
    AttachmentCreateParams,
    ChatKitReq,
    ClientEffectEvent,
    ClientToolCallItem,
    ErrorEvent,
    FeedbackKind,
    FileAttachment,
    HiddenContextItem,
    ImageAttachment,
    LockedStatus,
    NoticeEvent,
    Page,
    ProgressUpdateEvent,
    SDKHiddenContextItem,
    StructuredInputItem,
    SyncCustomActionResponse,
    Thread,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStatus,
    ThreadStreamEvent,
    ThreadUpdatedEvent,
    UserMessageItem,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
)
from pydantic import BaseModel, TypeAdapter

__all__ = [
    "READ_REQUESTS",
    "STREAMING_REQUESTS",
    "TURN_REQUESTS",
    "Action",
    "ActiveStatus",
    "AssistantMessageContent",
    "AssistantMessageItem",
    "Attachment",
    "AttachmentCreateParams",
    "ChatKitReq",
    "ClientEffectEvent",
    "ClientToolCallItem",
    "ErrorEvent",
    "FeedbackKind",
    "FileAttachment",
    "HiddenContextItem",
    "ImageAttachment",
    "LockedStatus",
    "NoticeEvent",
    "Page",
    "ProgressUpdateEvent",
    "SDKHiddenContextItem",
    "StructuredInputItem",
    "SyncCustomActionResponse",
    "Thread",
    "ThreadCreatedEvent",
    "ThreadItem",
    "ThreadItemAddedEvent",
    "ThreadItemDoneEvent",
    "ThreadItemRemovedEvent",
    "ThreadItemReplacedEvent",
    "ThreadItemUpdatedEvent",
    "ThreadMetadata",
    "ThreadStatus",
    "ThreadStreamEvent",
    "ThreadUpdatedEvent",
    "UserMessageItem",
    "UserMessageTagContent",
    "UserMessageTextContent",
    "WidgetItem",
    "request_adapter",
    "request_models",
    "request_types",
    "stream_event_adapter",
]

STREAMING_REQUESTS = frozenset(
    {
        "threads.create",
        "threads.add_user_message",
        "threads.add_client_tool_output",
        "threads.add_structured_input",
        "threads.retry_after_item",
        "threads.custom_action",
    }
)
"""Requests that are answered by a stream of frames."""

TURN_REQUESTS = STREAMING_REQUESTS | {"threads.sync_custom_action", "input.transcribe"}
"""Requests that may call a model: each runs as a Celery task of its own. The others run inside the ingest task."""

READ_REQUESTS = frozenset({"threads.get_by_id", "threads.list", "items.list"})
"""Requests that change nothing."""


@cache
def request_adapter() -> TypeAdapter[ChatKitReq]:
    """Validator of the official union of requests (built on first use: it takes tens of milliseconds)."""
    return TypeAdapter(ChatKitReq)


@cache
def stream_event_adapter() -> TypeAdapter[ThreadStreamEvent]:
    """Validator of the official union of frames."""
    return TypeAdapter(ThreadStreamEvent)


@cache
def request_models() -> dict[str, type[BaseModel]]:
    """Request type -> its official model, of the installed `openai-chatkit`."""
    union, _discriminator = get_args(ChatKitReq)
    return {model.model_fields["type"].default: model for model in get_args(union)}


@cache
def request_types() -> tuple[str, ...]:
    """Every request type of the installed `openai-chatkit`, sorted."""
    return tuple(sorted(request_models()))


def frame_of(event: ThreadStreamEvent) -> bytes:
    """The event as clients get it, one frame of a stream: JSON without nulls."""
    return event.model_dump_json(exclude_none=True).encode()
