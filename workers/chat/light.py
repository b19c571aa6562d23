"""Events that need no model, a batch at a time: one transaction, one statement for all of a kind where it can be."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime

from chatkit.server import NonStreamingResult
from chatkit.store import NotFoundError as StoreNotFoundError
from sqlalchemy import Connection, select

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientEffectEvent,
    ThreadItemDoneEvent,
    frame_of,
)
from schemas.events import ACTION_SEND, ActionSend, Event
from schemas.outcome import Done, Dropped, DropReason
from workers.chat.context import TurnContext
from workers.chat.database import Database
from workers.chat.page_rows import Row, feedback_values, session_values, write_feedback, write_sessions
from workers.chat.server import ReadServer
from workers.chat.session_events import SessionEvents
from workers.chat.store import SqlStore
from workers.chat.tables import threads
from workers.errors import NotFoundError, PermanentError
from workers.lanes.records import Owner
from workers.policies.batch import LightResult
from workers.policies.delivery import Delivery
from workers.policies.session import Sessions
from workers.streams.outcomes import EffectOutcomes, reported_by

FEEDBACK = "chatkit.items.feedback"


class LightHandler:
    """Runs a batch. An event that fails does not fail the others; a database that is away fails them all.

    Args:
        database: where conversations are kept.
        session_events: runs those of sessions.
        sessions: says which were revoked while their events waited. (Of turns, a policy asks it.)
        outcomes: keeps what pages report of effects that agents wait for.
    """

    def __init__(
        self,
        database: Database,
        session_events: SessionEvents | None = None,
        sessions: Sessions | None = None,
        outcomes: EffectOutcomes | None = None,
    ) -> None:
        self._database, self._sessions, self._outcomes = database, sessions, outcomes
        self._session_events = session_events or SessionEvents(None)

    async def __call__(self, deliveries: Sequence[Delivery], /) -> list[LightResult]:
        """One result per delivery, in order. Raises DatabaseError, and StateAwayError where sessions cannot be
        asked or outcomes not be kept."""
        results: list[LightResult] = [(Done(), [])] * len(deliveries)
        revoked = await self._revoked(deliveries)
        live = [place for place, one in enumerate(deliveries) if one.event.sessionid not in revoked]
        for place in set(range(len(deliveries))).difference(live):
            results[place] = Dropped(DropReason.SESSION_REVOKED), []
        places = [(place, deliveries[place].event) for place in live]
        await self._of_sessions([(place, event) for place, event in places if event.is_session], results)
        reports = [report for _, event in places if (report := reported_by(event)) is not None]
        if reports and self._outcomes is not None:  # first: an agent waits
            await self._outcomes.put(reports)
        rated = [(place, event) for place, event in places if event.type == FEEDBACK]
        said = [session_values(event, deliveries[place].accepted_at) for place, event in places if is_of_session(event)]
        if rated or said:
            await self._database.write(lambda connection: self._batch(connection, rated, said, results))
        for place, event in places:
            if event.type != FEEDBACK and not is_of_session(event):
                results[place] = await self._alone(event)
        return results

    async def _revoked(self, deliveries: Sequence[Delivery]) -> set[str]:
        named = {one.event.sessionid for one in deliveries if one.event.sessionid is not None}
        return await self._sessions.revoked(named) if named and self._sessions is not None else set()

    async def _of_sessions(self, events: Sequence[tuple[int, Event]], results: list[LightResult]) -> None:
        """Those of sessions, all at once: no two of a batch are of one session."""
        answers = await asyncio.gather(*(self._session_events(event) for _, event in events))
        for (place, _), answer in zip(events, answers, strict=True):
            results[place] = answer

    def _batch(
        self,
        connection: Connection,
        rated: Sequence[tuple[int, Event]],
        said: Sequence[Row],
        results: list[LightResult],
    ) -> None:
        """What many users' pages send all the time, in one transaction. The last word of each session stays."""
        self._feedback(connection, rated, results)
        write_sessions(connection, self._database.insert, said)

    def _feedback(
        self, connection: Connection, events: Sequence[tuple[int, Event]], results: list[LightResult]
    ) -> None:
        """All feedback of the batch: one question for the owners, one insert."""
        if not events:
            return
        owned = _owned_threads(connection, [event for _, event in events])
        written: list[Row] = []
        for place, event in events:
            owner = Owner(event.tenant, event.userid)
            if (owner, event.thread_id) not in owned:
                results[place] = (NotFoundError(f"no thread {event.thread_id}"), [])
                continue
            try:
                written += feedback_values(owner, event.event_id, event.data["params"])
                results[place] = (Done(), [b"{}"])
            except PermanentError as error:
                results[place] = (error, [])
        write_feedback(connection, self._database.insert, written)

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
        except PermanentError as error:
            return error, []
        except (ValueError, NotImplementedError) as error:
            return PermanentError("the request does not fit the thread", kind=type(error).__name__), []
        return Done(), [result.json] if isinstance(result, NonStreamingResult) else []


async def send_action(action: ActionSend, store: SqlStore, context: TurnContext) -> list[bytes]:
    """Frames of what another service sends into a thread: an effect for its pages, or a message that is kept."""
    thread = await store.load_thread(action.thread_id, context)
    if action.effect is not None:
        return [frame_of(ClientEffectEvent(name=action.effect.name, data=action.effect.data))]
    item = AssistantMessageItem(
        id=context.next_id("message"),
        thread_id=thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
        content=[AssistantMessageContent(text=action.message or "")],
    )
    await store.save_item(thread.id, item, context)
    return [frame_of(ThreadItemDoneEvent(item=item))]


def is_of_session(event: Event) -> bool:
    """Whether it tells of a browser session, and of no thread."""
    return event.is_ui or event.is_session


def _owned_threads(connection: Connection, events: Sequence[Event]) -> set[tuple[Owner, str | None]]:
    """The threads that the events name, with whom they belong to: one question for all of them."""
    # tenants and ids each on their own: a list of pairs takes far longer to put into SQL
    tenants, ids = {event.tenant for event in events}, {event.thread_id for event in events}
    found = connection.execute(
        select(threads.c.tenant, threads.c.id, threads.c.user_id).where(
            threads.c.tenant.in_(tenants), threads.c.id.in_(ids)
        )
    )
    return {(Owner(tenant, user), thread_id) for tenant, thread_id, user in found.all()}
