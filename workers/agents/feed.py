"""The feed of a turn: what the model streams and what the tools show, in the order in which they arose."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from agents import RunResultStreaming
from agents.items import TResponseInputItem, TResponseStreamEvent
from chatkit.agents import _QueueCompleteSentinel

from schemas.chatkit import ThreadStreamEvent
from workers.agents.ports import Joints, Journal
from workers.errors import TransientError

STOP_SECONDS = 5.0
"""How long a cancelled run may take to end: a tool that swallows its cancellation must not hold the turn."""


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """An event of a model's response: `response` counts the responses of the turn, from 0."""

    data: TResponseStreamEvent
    response: int
    step: str = ""
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ToolEvent:
    """What a tool shows through its `AgentContext`."""

    event: ThreadStreamEvent
    step: str = ""
    replayed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StepEnd:
    """A step of the turn is complete: it is to be kept in the journal once all before it has been shown."""

    step: str
    entry: bytes
    kept: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class JointEnd:
    """What has joined the turn has been shown: it is to be stored."""


Shows = ModelEvent | ToolEvent
FeedEvent = Shows | StepEnd | JointEnd


@dataclass(slots=True)
class ToolCall:
    """A tool call that is being made, and what it has shown so far."""

    step: str
    key: str
    events: list[ThreadStreamEvent] = field(default_factory=list)


CURRENT_CALL: ContextVar[ToolCall | None] = ContextVar("tool_call", default=None)
"""The call that this task makes."""


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
            self._feed.push(self._feed.shown_by_tool(item))

    async def get(self) -> Any:
        self.reader = asyncio.current_task()  # ChatKit forgets this task when a run raises
        try:
            return await super().get()
        finally:
            self.reader = None


class TurnFeed:
    """One reader, and writers on the same loop: the relayed model, the tools, and the end of the run."""

    def __init__(
        self,
        next_call: Callable[[], Awaitable[None]] | None = None,
        journal: Journal | None = None,
        joints: Joints | None = None,
    ) -> None:
        """`next_call` is awaited before each call to the model. Without a journal no step is kept; without `joints`
        nothing joins the turn."""
        self.joints = joints
        self.inserted: list[tuple[int, list[TResponseInputItem]]] = []
        """What has joined the input of the model, each with its place in the input that the run itself makes."""
        self.tool_events = ToolEvents(self)
        self.journal = journal
        self._next_call = next_call
        self.response = -1
        """Number of the response that was begun last."""
        self._replaying = False
        self.chunks = count()
        """Numbers what the models of this turn stream."""
        self._ready: deque[FeedEvent] = deque()
        self._news: asyncio.Future[None] | None = None
        self._ended = False
        self._error: Exception | None = None
        self._run: RunResultStreaming | None = None
        self._watch: asyncio.Task[None] | None = None

    def watch(self, run: RunResultStreaming) -> None:
        """End the feed when the run ends, with its error if it fails."""
        self._run = run
        self._watch = asyncio.create_task(self._until_end(run))

    def next_response(self) -> int:
        """The number of the response that begins now."""
        self.response += 1
        return self.response

    def replay(self, *, on: bool) -> None:
        """Say whether the response that begins comes from the journal."""
        self._replaying = on

    def shown_by_tool(self, event: ThreadStreamEvent) -> ToolEvent:
        """What is shown outside of a call (a handoff, say) belongs to the response that led to it."""
        call = CURRENT_CALL.get()
        if call is None:
            return ToolEvent(event, replayed=self._replaying)
        call.events.append(event)
        return ToolEvent(event, call.step)

    async def end_step(self, step: str, entry: bytes) -> None:
        """Have a step kept; returns when it is."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.push(StepEnd(step, entry, kept))
        await kept

    async def next_call(self) -> None:
        """Wait until one more call to the model may begin."""
        if self._next_call is not None:
            await self._next_call()

    def push(self, event: FeedEvent) -> None:
        """Append an event."""
        self._ready.append(event)
        self._wake()

    async def next(self) -> FeedEvent | None:
        """The next event; None when the run has ended. Raises what the run raised, after its last event."""
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._ready.popleft()

    async def close(self) -> None:
        """Stop the run if it still goes on, and leave no task and no unread exception behind."""
        if self._run is not None and not self._ended:
            self._run.cancel()
        run_task = self._run.run_loop_task if self._run is not None else None
        tasks = [task for task in (self._watch, self.tool_events.reader, run_task) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # marks it as seen: the reader has had it, or has left

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _until_end(self, run: RunResultStreaming) -> None:
        try:
            async for _ in run.stream_events():
                pass  # the relayed model has given us what is shown of it, sooner and in order with the tools
        except Exception as error:  # noqa: BLE001  # raised to the reader
            self._error = error
        except asyncio.CancelledError:
            # not by `close`, after which nobody reads: a tool or a model cancelled the task that it ran in
            self._error = TransientError("the run was cancelled from within", kind="RunCancelled")
            self._ended = True
            self._wake()
            raise
        self._ended = True
        self._wake()


CURRENT_FEED: ContextVar[TurnFeed | None] = ContextVar("turn_feed", default=None)
"""The feed of the turn that this task runs: agents and models are shared by all turns of the process."""
