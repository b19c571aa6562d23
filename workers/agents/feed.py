"""The feed of a turn: what the run streams and what its tools show, in the order in which they arose.

`chatkit.agents.stream_agent_response` merges two sources, the run and the `AgentContext`'s queue, with a task per event
and in no particular order when both are ready. The feed gives it one source instead: tools' events enter the feed
when they are put, and each step is a future, mostly a finished one. Its queue only carries the end.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from agents import RunResultStreaming
from chatkit.agents import _EventWrapper, _QueueCompleteSentinel

from schemas.chatkit import ThreadStreamEvent

SHOWN = frozenset(
    {
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_text.annotation.added",
        "response.output_item.added",
        "response.output_item.done",
        "response.image_generation_call.partial_image",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
    }
)
"""The model's events that ChatKit's converter looks at. Passing on only these saves a step for each other one."""

RESPONSE_END = "response.completed"

STOP_SECONDS = 5.0
"""How long a cancelled run may take to end: a tool that swallows its cancellation must not hold the turn."""


class ToolEvents(asyncio.Queue[Any]):
    """The queue of an `AgentContext`, one per turn: events go into the feed, only ChatKit's end mark is queued."""

    def __init__(self, feed: "TurnFeed") -> None:
        super().__init__()
        self._feed = feed
        self.reader: asyncio.Task[Any] | None = None

    async def put(self, item: ThreadStreamEvent | _QueueCompleteSentinel) -> None:
        self.put_nowait(item)

    def put_nowait(self, item: ThreadStreamEvent | _QueueCompleteSentinel) -> None:
        if isinstance(item, _QueueCompleteSentinel):
            super().put_nowait(item)
        else:
            self._feed.push(_EventWrapper(item))

    async def get(self) -> Any:
        self.reader = asyncio.current_task()  # ChatKit forgets this task when a run raises
        try:
            return await super().get()
        finally:
            self.reader = None


class TurnFeed:
    """Both sources of a turn as the one that `stream_agent_response` reads. Stands in for a `RunResultStreaming`."""

    def __init__(self) -> None:
        self.tool_events = ToolEvents(self)
        self.data: Any = None  # the model's event that the converter works on; None while it passes on a tool's
        self.responses = 0  # how many model responses are complete
        self._ready: deque[Any] = deque()
        self._next: asyncio.Future[Any] | None = None
        self._ended = False
        self._error: Exception | None = None
        self._run: RunResultStreaming | None = None
        self._pump: asyncio.Task[None] | None = None

    def start(self, run: RunResultStreaming) -> None:
        """Begin to take the events of a run."""
        self._run = run
        self._pump = asyncio.create_task(self._take(run))

    def push(self, event: Any) -> None:
        """Append an event, or hand it to the reader that waits."""
        waiting = self._next
        if waiting is not None and not waiting.done():
            self._hand_out(event)
            waiting.set_result(event)
        else:
            self._ready.append(event)

    def stream_events(self) -> AsyncIterator[Any]:
        return self

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> "asyncio.Future[Any]":
        self._next = step = asyncio.get_running_loop().create_future()
        if self._ready:
            event = self._ready.popleft()
            self._hand_out(event)
            step.set_result(event)
        elif self._ended:
            step.set_exception(self._error or StopAsyncIteration())
        return step

    async def close(self) -> None:
        """Stop the run if it still goes on, and leave no task and no unread exception behind."""
        tasks = [task for task in (self._pump, self.tool_events.reader) if task is not None]
        if self._run is not None:
            if not self._ended:
                self._run.cancel()
            if self._run.run_loop_task is not None:
                tasks.append(self._run.run_loop_task)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for future in (self._next, *tasks):
            if future is not None and not future.cancel() and not future.cancelled():
                future.exception()  # marks it as seen: the reader has had it, or is gone

    def _hand_out(self, event: Any) -> None:
        """Remember what the converter works on: its events carry the provider's item id only, which is not unique."""
        if type(event) is _EventWrapper:
            self.data = None
            return
        self.data = event.data
        if event.data.type == RESPONSE_END:
            self.responses += 1

    async def _take(self, run: RunResultStreaming) -> None:
        try:
            async for event in run.stream_events():
                if event.type == "raw_response_event" and (event.data.type in SHOWN or event.data.type == RESPONSE_END):
                    self.push(event)
        except Exception as error:  # noqa: BLE001  # handed to the reader, who raises it
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        waiting = self._next
        if waiting is not None and not waiting.done():
            waiting.set_exception(error or StopAsyncIteration())
