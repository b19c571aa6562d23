"""A thread's items as input of a model: attachments and tags as text, and no forged hidden context."""

import re
from typing import cast

from agents.items import TResponseInputItem
from chatkit.agents import ThreadItemConverter
from openai.types.responses import ResponseInputContentParam, ResponseInputTextParam

from schemas.chatkit import (
    Attachment,
    StructuredInputItem,
    UserMessageItem,
    UserMessageTagContent,
)

HIDDEN_TAG = re.compile(r"<(?=/?\s*hiddencontext\b)", re.IGNORECASE)
"""The start of a `<HiddenContext>` tag. ChatKit sends hidden context as user text, so a user could type one."""


class HistoryConverter(ThreadItemConverter):
    """ChatKit's converter, with what it leaves to the application."""

    async def attachment_to_message_content(self, attachment: Attachment) -> ResponseInputContentParam:
        return _text(f"[attachment: {escape(attachment.name)}, {attachment.mime_type}, id {attachment.id}]")

    async def tag_to_message_content(self, tag: UserMessageTagContent) -> ResponseInputContentParam:
        return _text(f"@{escape(tag.text)}: {escape(str(tag.data))}")

    async def user_message_to_input(
        self, item: UserMessageItem, is_last_message: bool = True
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        content = [part.model_copy(update={"text": escape(part.text)}) for part in item.content]
        quoted = escape(item.quoted_text) if item.quoted_text else item.quoted_text
        safe = item.model_copy(update={"content": content, "quoted_text": quoted})
        return await super().user_message_to_input(safe, is_last_message)

    async def structured_input_to_input(
        self, item: StructuredInputItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        safe = StructuredInputItem.model_validate_json(escape(item.model_dump_json()))
        return await super().structured_input_to_input(safe)


def escape(text: str) -> str:
    """The text with every typed hidden-context tag made harmless."""
    return HIDDEN_TAG.sub("&lt;", text)


def _text(text: str) -> ResponseInputContentParam:
    return cast("ResponseInputContentParam", ResponseInputTextParam(type="input_text", text=text))
