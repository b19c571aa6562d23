"""What the turn asks of others: an answer, and a way to show it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from chatkit.agents import AgentContext
from chatkit.types import AudioInput

from schemas.chatkit import Action, ThreadItem, ThreadMetadata, ThreadStreamEvent, WidgetItem
from schemas.events import Event
from workers.chat.context import TurnContext
from workers.lanes.records import JournalStep
from workers.policies.delivery import Delivery


class Responder(Protocol):
    """Answers a thread."""

    def respond(
        self, agent_context: AgentContext[TurnContext], items: Sequence[ThreadItem], active_agent: str | None
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Stream the answer to the last of `items` (oldest first). Failures are raised as `workers.errors`."""
        ...

    async def resume(
        self, agent_context: AgentContext[TurnContext], state: str, *, approve: bool
    ) -> AsyncIterator[ThreadStreamEvent] | None:
        """Go on with a run that waited for consent; nothing of it runs before the first event is asked for.

        None: it cannot be gone on with, or not now.
        """
        ...


class ActionHandler(Protocol):
    """Handles the widget actions of one type by code, where agents are not to be asked."""

    def __call__(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: TurnContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Stream what comes of the action: `ThreadItemReplacedEvent` changes the widget. Ids: `context.next_id`."""
        ...


ActionHandlers = Mapping[str, ActionHandler]
"""Action type -> its handler. The agents are told of all others."""

NO_ACTIONS: ActionHandlers = MappingProxyType({})


class EventHandler(Protocol):
    """Answers the events that a route sends to it, by code. It runs as agents do: fenced, stored and streamed."""

    def __call__(self, event: Event, thread: ThreadMetadata, context: TurnContext) -> AsyncIterator[ThreadStreamEvent]:
        """Stream the answer. A run that is cut off is taken back and begins anew. Ids: `context.next_id`."""
        ...


EventHandlers = Mapping[str, EventHandler]
"""Name -> handler."""

NO_HANDLERS: EventHandlers = MappingProxyType({})


class Transcriber(Protocol):
    """Turns speech into text."""

    async def __call__(self, audio: AudioInput, context: TurnContext) -> str:
        """The text for the composer. Failures are raised as `workers.errors`."""
        ...


class Frames(Protocol):
    """The frames of one turn on their way to its clients."""

    async def send(self, frame: bytes) -> None:
        """Show one frame, soon."""

    async def flush(self) -> None:
        """Return when every frame sent so far is in the stream."""

    def when_shown(self, tell: Callable[[], None]) -> None:
        """Call `tell` once every frame sent so far is in the stream."""

    async def keep(self, step: JournalStep) -> bool:
        """Return when the step is in the event's journal, too; False when that has no room for it."""


class FrameSource(Protocol):
    """Opens the frames of a delivery, and knows what earlier attempts have shown."""

    def open(self, delivery: Delivery) -> Frames: ...

    async def shown(self, delivery: Delivery) -> Sequence[bytes]:
        """The frames that earlier attempts of this event have shown."""
        ...

    async def journal(self, delivery: Delivery) -> Mapping[str, bytes]:
        """The steps that earlier attempts of this event have completed, by name."""
        ...

    async def join(self, delivery: Delivery, step: str) -> Mapping[str, bytes]:
        """Let the messages that wait to steer this turn join a step of it: all entries of that step, by name."""
        ...
