"""A thread's items as input of a model: attachments and tags as text, and what a user said made clean."""

from typing import cast

from agents.items import TResponseInputItem
from chatkit.agents import ThreadItemConverter
from openai.types.responses import ResponseInputContentParam, ResponseInputTextParam

from schemas.chatkit import (
    Attachment,
    ClientToolCallItem,
    StructuredInputItem,
    UserMessageItem,
    UserMessageTagContent,
)
from workers.agents.hygiene import clean, clean_all


class HistoryConverter(ThreadItemConverter):
    """ChatKit's converter, with what it leaves to the application."""

    async def attachment_to_message_content(self, attachment: Attachment) -> ResponseInputContentParam:
        return _text(f"[attachment: {clean(attachment.name)}, {attachment.mime_type}, id {attachment.id}]")

    async def tag_to_message_content(self, tag: UserMessageTagContent) -> ResponseInputContentParam:
        return _text(f"@{clean(tag.text)}: {clean(str(tag.data))}")

    async def user_message_to_input(
        self, item: UserMessageItem, is_last_message: bool = True
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        content = [part.model_copy(update={"text": clean(part.text)}) for part in item.content]
        quoted = clean(item.quoted_text) if item.quoted_text else item.quoted_text
        safe = item.model_copy(update={"content": content, "quoted_text": quoted})
        return await super().user_message_to_input(safe, is_last_message)

    async def structured_input_to_input(
        self, item: StructuredInputItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        safe = StructuredInputItem.model_validate(clean_all(item.model_dump(mode="json")))
        return await super().structured_input_to_input(safe)

    async def client_tool_call_to_input(
        self, item: ClientToolCallItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        return await super().client_tool_call_to_input(item.model_copy(update={"output": clean_all(item.output)}))


def _text(text: str) -> ResponseInputContentParam:
    return cast("ResponseInputContentParam", ResponseInputTextParam(type="input_text", text=text))
