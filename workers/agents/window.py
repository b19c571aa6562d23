"""How much of a thread a model reads: what a budget of tokens holds. What falls out is summed up, once.

The thread keeps everything. Its metadata says up to which item a summary covers it; the summary is a hidden item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents import Model
from agents.items import TResponseInputItem
from chatkit.agents import AgentContext
from chatkit.store import NotFoundError
from pydantic_core import to_json

from schemas.chatkit import SDKHiddenContextItem, ThreadItem, UserMessageItem
from workers.agents.history import HistoryConverter
from workers.agents.summaries import HEAD, summary_of

HISTORY = HistoryConverter()

BYTES_PER_TOKEN = 4
"""The rule by which tokens are estimated: of the input's JSON, in UTF-8. A model counts less, in English."""

LONGEST_SUMMARY = 8000
"""In characters, and as many as the window has tokens: a fourth of it."""

SUMMARY_KEY = "summary"
"""Key of the thread's metadata: ids of the summary (`item`) and of the last item that it covers (`until`)."""


@dataclass(frozen=True, slots=True)
class Window:
    """The budget.

    Args:
        tokens: what the thread may take of a model's input, estimated. A single message may take more.
        compaction: whether what falls out is summed up by the model; it is left out otherwise.
    """

    tokens: int = 100_000
    compaction: bool = True

    async def input_of(
        self, context: AgentContext[Any], items: Sequence[ThreadItem], model: Model
    ) -> list[TResponseInputItem]:
        """The input of a turn that answers the last of `items` (oldest first). Raises what `summary_of` does."""
        summary, recent = await _since_summary(context, items)
        head = [summary] if summary is not None else []
        input_ = await HISTORY.to_agent_input([*head, *recent])
        if tokens_of(input_) <= self.tokens or (kept := await self._kept(recent)) == len(recent):
            return input_
        fallen, recent = recent[: len(recent) - kept], recent[len(recent) - kept :]
        if self.compaction:
            made = await self._summed_up(context, [*head, *fallen], fallen[-1].id, model)
            head = [made] if made is not None else head
        return await HISTORY.to_agent_input([*head, *recent])

    async def _kept(self, items: Sequence[ThreadItem]) -> int:
        """How many of the last items stay: with compaction half a window of them, so that the next one is far away. It
        begins with something that the user said, if it can, and the last item stays whatever it takes."""
        room, kept = self.tokens // 2 if self.compaction else self.tokens, 0
        for item in reversed(items):
            room -= tokens_of(await HISTORY.to_agent_input([item]))
            if room < 0 and kept:
                break
            kept += 1
        first, last = len(items) - kept, len(items) - 1
        said = (at for at in range(first, last) if isinstance(items[at], UserMessageItem))
        return len(items) - next(said, first)

    async def _summed_up(
        self, context: AgentContext[Any], fallen: Sequence[ThreadItem], until: str, model: Model
    ) -> SDKHiddenContextItem | None:
        """The summary of what falls out, kept in the thread with the turn's other writes."""
        text = await summary_of(await self._newest(fallen), model, context.request_context)
        if text is None:
            return None
        item = SDKHiddenContextItem(
            id=context.generate_id("sdk_hidden_context"),
            thread_id=context.thread.id,
            created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
            content=HEAD + text[: min(LONGEST_SUMMARY, self.tokens)],
        )
        await context.store.add_thread_item(context.thread.id, item, context.request_context)
        context.thread.metadata = context.thread.metadata | {SUMMARY_KEY: {"item": item.id, "until": until}}
        return item

    async def _newest(self, items: Sequence[ThreadItem]) -> list[TResponseInputItem]:
        """What of the items one call can read: the newest, and the summary before them."""
        inputs: list[list[TResponseInputItem]] = []
        room = self.tokens
        for item in reversed(items):
            inputs.append(await HISTORY.to_agent_input([item]))
            room -= tokens_of(inputs[-1])
            if room < 0:
                inputs.pop()
                break
        if len(inputs) < len(items) and is_summary(items[0]):
            inputs.append(await HISTORY.to_agent_input([items[0]]))
        return [part for input_ in reversed(inputs) for part in input_]


def tokens_of(input_: list[TResponseInputItem]) -> int:
    """About how many tokens an input has."""
    return len(to_json(input_, fallback=str)) // BYTES_PER_TOKEN


def is_summary(item: ThreadItem) -> bool:
    """Whether it is one of ours, an older one as well. Users cannot make hidden items."""
    return isinstance(item, SDKHiddenContextItem) and item.content.startswith(HEAD)


async def _since_summary(
    context: AgentContext[Any], items: Sequence[ThreadItem]
) -> tuple[ThreadItem | None, list[ThreadItem]]:
    """The last summary, and the items that it does not cover."""
    said = [item for item in items if not is_summary(item)]
    mark: dict[str, str] | None = context.thread.metadata.get(SUMMARY_KEY)
    if mark is None:
        return None, said
    summary = next((item for item in items if item.id == mark["item"]), None) or await _stored(context, mark["item"])
    if summary is None:
        return None, said
    covered = next((at + 1 for at, item in enumerate(said) if item.id == mark["until"]), 0)
    return summary, said[covered:]


async def _stored(context: AgentContext[Any], item_id: str) -> ThreadItem | None:
    try:
        return await context.store.load_item(context.thread.id, item_id, context.request_context)
    except NotFoundError:
        return None
