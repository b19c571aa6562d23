"""ChatKit's converter, driven one event at a time, so that every frame is known to come from this very event."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from agents import RawResponsesStreamEvent, RunResultStreaming
from chatkit.agents import AgentContext, _EventWrapper, stream_agent_response

from schemas.chatkit import ThreadStreamEvent
from workers.agents.feed import ModelEvent, Shows


class Conversion:
    """`stream_agent_response` of a turn, in a task of its own that waits for the next event to convert."""

    def __init__(self, context: AgentContext[Any]) -> None:
        self._context = context
        self._shown: list[ThreadStreamEvent] = []
        self._asked: asyncio.Future[Any] | None = None
        self._changed: asyncio.Future[None] | None = None
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _task: self._change())

    async def convert(self, event: Shows) -> list[ThreadStreamEvent]:
        """The frames of one event."""
        asked = await self._question()
        self._asked = None
        asked.set_result(
            RawResponsesStreamEvent(data=event.data) if isinstance(event, ModelEvent) else _EventWrapper(event.event)
        )
        await self._question()
        return self._take()

    async def finish(self, error: Exception | None = None) -> list[ThreadStreamEvent]:
        """The frames after the last event: a workflow's end and a client tool call, or what a guardrail removes."""
        asked = await self._question()
        self._asked = None
        asked.set_exception(error or StopAsyncIteration())
        await asyncio.wait([self._task])
        if self._task.exception() is not error:
            self._task.result()
        return self._take()

    async def close(self) -> None:
        """End the task; nothing of it is shown any more."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # marks it as seen
        if self._asked is not None:
            self._asked.cancel()

    async def _run(self) -> None:
        # of a run the converter uses `stream_events()` alone, which is ours
        async for event in stream_agent_response(self._context, cast("RunResultStreaming", self)):
            self._shown.append(event)

    async def _question(self) -> asyncio.Future[Any]:
        """The converter's request for the next event: it has then shown everything of those before."""
        while self._asked is None:
            if self._task.done():
                self._task.result()
                raise RuntimeError("ChatKit's converter ended before its source")
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        return self._asked

    def _change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _take(self) -> list[ThreadStreamEvent]:
        shown, self._shown = self._shown, []
        return shown

    def stream_events(self) -> AsyncIterator[Any]:
        """The source that the converter reads, in place of a run's."""
        return self

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> "asyncio.Future[Any]":
        self._asked = asyncio.get_running_loop().create_future()
        self._change()
        return self._asked
