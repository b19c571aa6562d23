"""Messages that join a turn become part of what the model is asked, in this call and in all that follow."""

from agents.items import TResponseInputItem

from schemas.chatkit import ThreadItemDoneEvent, UserMessageItem
from workers.agents.feed import JointEnd, ToolEvent, TurnFeed
from workers.agents.history import HistoryConverter

CONVERTER = HistoryConverter()

Input = str | list[TResponseInputItem]


async def recalled(feed: TurnFeed, input_: Input) -> Input:
    """The input of the response that begins now, with what had joined it by the word of the journal."""
    if feed.joints is None or isinstance(input_, str):
        return input_
    return await _with(feed, await feed.joints.joined(feed.response), input_, replayed=True)


async def joined(feed: TurnFeed, input_: Input) -> Input:
    """The same input when the model is about to be asked, with what joins it now. `input_` is the run's own."""
    if feed.joints is None or isinstance(input_, str):
        return input_
    return await _with(feed, await feed.joints.join(feed.response), input_, replayed=False)


async def _with(
    feed: TurnFeed, messages: list[UserMessageItem], input_: list[TResponseInputItem], *, replayed: bool
) -> list[TResponseInputItem]:
    if messages:
        feed.inserted.append((len(input_), await CONVERTER.to_agent_input(list(messages))))
        for message in messages:
            feed.push(ToolEvent(ThreadItemDoneEvent(item=message), replayed=replayed))
        feed.push(JointEnd())
    asked, done = list[TResponseInputItem](), 0
    for place, items in feed.inserted:
        asked += [*input_[done:place], *items]
        done = max(done, place)
    return [*asked, *input_[done:]]
