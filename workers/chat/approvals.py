"""Consent in the thread: a run that needs it is kept with the turn's last commit, and goes on when its user decides."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chatkit.agents import AgentContext
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.actions import APPROVAL_PREFIX
from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    WidgetItem,
)
from workers.chat import approval_rows
from workers.chat.approval_cards import APPROVED, REJECTED, TOO_OLD, asking_card, decided_card
from workers.chat.approval_rows import Approval
from workers.chat.context import TurnContext
from workers.chat.ports import Responder
from workers.chat.unit_of_work import TurnStore
from workers.clock import utc_now
from workers.errors import PermanentError

GONE = "This request is not there any more: it was too old, or the conversation that it belonged to is gone."
EXPIRED = "This request was not decided in time, so nothing was done. Ask me again if it is still wanted."
NOT_NOW = (
    "This cannot be carried out now: what it needs is not available, or was changed since you were asked. Nothing was "
    "done. Try again later, or ask me anew."
)


class Decision(BaseModel):
    """Payload of the action of an approval's buttons."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    approval: str = Field(min_length=1, max_length=128)
    approve: bool


@dataclass(frozen=True, slots=True)
class Approvals:
    """Asks in the thread of one turn, and goes on with what was asked there before.

    Args:
        store: of the turn.
        responder: goes on with runs.
        ttl: how long a decision may take.
        now: the time.
    """

    store: TurnStore
    responder: Responder
    ttl: timedelta
    now: Callable[[], datetime] = utc_now

    def ask(self, thread: ThreadMetadata, context: TurnContext) -> ThreadStreamEvent | None:
        """The card for what the turn's run waits with; the run is kept with the next commit. None: it waits for
        nothing."""
        asked = context.asked
        if asked is None:
            return None
        with context.id_scope("approval"):
            approval_id = APPROVAL_PREFIX + context.next_id("message").rpartition("_")[2]
        row = Approval(approval_id, asked.state, self.now(), decided_by=None, approved=None)
        self.store.with_commit(
            lambda connection, insert: approval_rows.ask(
                connection, insert, context.owner, thread.id, context.event_id, row, self.ttl
            )
        )
        card = asking_card(approval_id, thread.id, asked.calls, datetime.now())  # noqa: DTZ005  # ChatKit's times are naive and local
        return ThreadItemDoneEvent(item=card)

    async def decide(
        self, thread: ThreadMetadata, payload: Any, sender: WidgetItem | None, context: TurnContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Carry a decision out, once: one that another event has made is told, and nothing runs.

        Raises:
            PermanentError: the action's payload is not that of a decision, or it comes from another card than the one
                that asks: what its button says may be anything.
        """
        decision = _read(payload)
        if sender is None or sender.id != decision.approval:
            raise PermanentError("approval.decide: it must come from the card that asks", kind="WrongAction")
        found = await self.store.read(
            lambda connection: approval_rows.find(connection, context.owner, thread.id, decision.approval)
        )
        if found is None:
            yield _says(GONE, thread, context)
            return
        if (closed := self._closed(found, context)) is not None:
            said, mark = closed
            yield ThreadItemReplacedEvent(item=decided_card(sender, mark))
            yield _says(said, thread, context)
            return
        approve = decision.approve if found.approved is None else found.approved
        agent_context = AgentContext[TurnContext](thread=thread, store=self.store, request_context=context)
        answer = await self.responder.resume(agent_context, found.state or "", approve=approve)
        if answer is None:
            yield _says(NOT_NOW, thread, context)
            return
        yield ThreadItemReplacedEvent(item=decided_card(sender, APPROVED if approve else REJECTED))
        # Before anything runs the decision is stored, for this event alone: whatever becomes of it, another click runs
        # nothing, and this event goes on from its journal.
        self.store.with_commit(
            lambda connection, _: approval_rows.decide(
                connection, context.owner, thread.id, found.id, context.event_id, approve=approve
            )
        )
        await self.store.commit()
        async for event in answer:
            yield event
        self.store.with_commit(
            lambda connection, _: approval_rows.forget_state(connection, context.owner, thread.id, found.id)
        )

    def _closed(self, found: Approval, context: TurnContext) -> tuple[str, str] | None:
        """What is said, and how the card is marked, where there is nothing left to decide."""
        if found.is_decided_elsewhere(context.event_id):
            done = "approved" if found.approved else "rejected"
            mark = APPROVED if found.approved else REJECTED
            return f"You have {done} this before; nothing was done once more.", mark
        if found.decided_by is None and self.now() - found.asked_at > self.ttl:
            return EXPIRED, TOO_OLD
        return None


def _read(payload: Any) -> Decision:
    try:
        return Decision.model_validate(payload)
    except ValidationError:
        problem = 'approval.decide: its payload must be {"approval": id, "approve": true or false}'
        raise PermanentError(problem, kind="WrongAction") from None


def _says(text: str, thread: ThreadMetadata, context: TurnContext) -> ThreadItemDoneEvent:
    item = AssistantMessageItem(
        id=context.next_id("message"),
        thread_id=thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # same
        content=[AssistantMessageContent(text=text)],
    )
    return ThreadItemDoneEvent(item=item)
