"""Events that need no model, a batch at a time: one transaction, one statement for all of a kind where it can be."""

import json
from collections.abc import Sequence
from datetime import datetime

from chatkit.server import NonStreamingResult
from chatkit.store import NotFoundError as StoreNotFoundError
from sqlalchemy import Connection, select, tuple_

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientEffectEvent,
    ThreadItemDoneEvent,
)
from schemas.errors import WorkersError
from schemas.events import ACTION_SEND, SESSION_PREFIX, UI_PREFIX, ActionSend, Event
from schemas.outcome import Done, Outcome
from workers.chat import rows
from workers.chat.context import Owner, TurnContext
from workers.chat.database import Database
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore
from workers.chat.tables import feedback, sessions, threads
from workers.errors import NotFoundError, PermanentError
from workers.policies.delivery import Delivery

FEEDBACK = "chatkit.items.feedback"

LightResult = tuple[Outcome | WorkersError, list[bytes]]
"""The outcome or what failed, and the frames that are shown."""


class LightHandler:
    """Runs a batch. An event that fails does not fail the others; a database that is away fails them all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, deliveries: Sequence[Delivery]) -> list[LightResult]:
        """One result per delivery, in order. Raises DatabaseError."""
        results: list[LightResult] = [(Done(), [])] * len(deliveries)
        places = list(enumerate(delivery.event for delivery in deliveries))
        rated = [(place, event) for place, event in places if event.type == FEEDBACK]
        said = [session_values(event) for _, event in places if event.is_ui or event.is_session]
        if rated or said:
            await self._database.write(lambda connection: self._batch(connection, rated, said, results))
        for place, event in places:
            if event.type != FEEDBACK and not event.is_ui and not event.is_session:
                results[place] = await self._alone(event)
        return results

    def _batch(
        self,
        connection: Connection,
        rated: Sequence[tuple[int, Event]],
        said: Sequence[dict[str, object]],
        results: list[LightResult],
    ) -> None:
        """What many users' pages send all the time, in one transaction. The last word of each session stays."""
        self._feedback(connection, rated, results)
        rows.upsert(connection, self._database.insert, sessions, ("tenant", "id"), said, only_of="user_id")

    def _feedback(
        self, connection: Connection, events: Sequence[tuple[int, Event]], results: list[LightResult]
    ) -> None:
        """All feedback of the batch: one question for the owners, one insert."""
        if not events:
            return
        wanted = {(event.tenant, event.thread_id) for _, event in events}
        found = connection.execute(
            select(threads.c.tenant, threads.c.id, threads.c.user_id).where(
                tuple_(threads.c.tenant, threads.c.id).in_(wanted)
            )
        )
        owned = {(tenant, thread_id, user) for tenant, thread_id, user in found}
        values = []
        for place, event in events:
            if (event.tenant, event.thread_id, event.userid) not in owned:
                results[place] = (NotFoundError(f"no thread {event.thread_id}"), [])
                continue
            results[place] = (Done(), [b"{}"])
            params = event.data["params"]
            values += [
                {
                    "tenant": event.tenant,
                    "thread_id": event.thread_id,
                    "item_id": item_id,
                    "user_id": event.userid,
                    "kind": params["kind"],
                    "event_id": event.event_id,
                }
                for item_id in params["item_ids"]
            ]
        rows.upsert(connection, self._database.insert, feedback, ("tenant", "thread_id", "item_id"), values)

    async def _alone(self, event: Event) -> LightResult:
        """One event through the ChatKit server."""
        context = TurnContext(Owner(event.tenant, event.userid), event.event_id)
        store = SqlStore(self._database)
        try:
            if event.type == ACTION_SEND:
                return Done(), await send_action(ActionSend.model_validate(event.data), store, context)
            result = await ReadServer(store).process(json.dumps(event.data), context)
        except StoreNotFoundError as error:
            return NotFoundError(str(error)), []
        except (ValueError, RuntimeError, NotImplementedError) as error:
            return PermanentError("the request does not fit the thread", kind=type(error).__name__), []
        return Done(), [result.json] if isinstance(result, NonStreamingResult) else []


async def send_action(action: ActionSend, store: SqlStore, context: TurnContext) -> list[bytes]:
    """Frames of what another service sends into a thread: an effect for its pages, or a message that is kept."""
    thread = await store.load_thread(action.thread_id, context)
    if action.effect is not None:
        return [_frame(ClientEffectEvent(name=action.effect.name, data=action.effect.data))]
    item = AssistantMessageItem(
        id=context.next_id("message"),
        thread_id=thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
        content=[AssistantMessageContent(text=action.message or "")],
    )
    await store.save_item(thread.id, item, context)
    return [_frame(ThreadItemDoneEvent(item=item))]


def session_values(event: Event) -> dict[str, object]:
    """What is kept of a UI or session event: names and ids, no text of the user's."""
    name = event.type.removeprefix(UI_PREFIX)
    error = event.data.get("error")
    return {
        "tenant": event.tenant,
        "id": event.data.get("session_id") or event.userid,
        "user_id": event.userid,
        "open_thread_id": event.data.get("threadId") or event.data.get("thread_id"),
        "ready": int(event.is_ui),
        "last_event": name if event.is_ui else event.type.removeprefix(SESSION_PREFIX),
        "last_error": str(error.get("name", "Error"))[:200] if isinstance(error, dict) else None,
    }


def _frame(event: ClientEffectEvent | ThreadItemDoneEvent) -> bytes:
    return event.model_dump_json(exclude_none=True).encode()
