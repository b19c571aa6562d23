"""What a gateway answers by itself, without the queue: reads, titles, feedback, attachments' metadata, deletion."""

import asyncio
import json
import logging
from typing import Any

from chatkit.server import NonStreamingResult
from chatkit.store import NotFoundError as StoreNotFoundError
from sqlalchemy import Connection

from workers.chat import rows
from workers.chat.context import TurnContext
from workers.chat.database import Database
from workers.chat.page_rows import feedback_values, write_feedback
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore
from workers.errors import DatabaseError, NotFoundError, PermanentError
from workers.lanes.records import Owner

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0


class Reads:
    """Answers non-streaming requests on the spot; a turn that runs in the thread is not disturbed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._server = ReadServer(SqlStore(database))

    async def answer(self, request: bytes, *, tenant: str, user: str, event_id: str) -> bytes:
        """The JSON answer of a request that was checked before.

        Raises:
            NotFoundError: no such thread, item or attachment, or not this user's.
            PermanentError: the request does not fit.
            DatabaseError: the store cannot be reached.
        """
        context = TurnContext(Owner(tenant, user), event_id)
        parsed = json.loads(request)
        try:
            if parsed["type"] == "items.feedback":
                return await self._feedback(parsed["params"], context)
            result = await self._server.process(request, context)
        except StoreNotFoundError as error:
            raise NotFoundError(str(error)) from None
        except (ValueError, NotImplementedError) as error:
            raise PermanentError("the request does not fit", kind=type(error).__name__) from None
        if not isinstance(result, NonStreamingResult):
            raise PermanentError(f"{parsed['type']} needs a worker")
        return result.json

    async def has_thread(self, thread_id: str, *, tenant: str, user: str) -> bool:
        """Whether the user has this thread. Raises DatabaseError: the store cannot be reached."""
        try:
            await self._server.store.load_thread(thread_id, TurnContext(Owner(tenant, user), ""))
        except StoreNotFoundError:
            return False
        return True

    async def check_thread(self, thread_id: str, *, tenant: str, user: str) -> None:
        """Refuse another user's thread, before an event of this user's stands in its lane.

        A thread that is not there yet may have its beginning in the queue. While the store is away nobody is refused:
        the worker asks again.

        Raises:
            NotFoundError: another user's.
        """
        owner = Owner(tenant, user)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                refused = await self._database.read(lambda connection: rows.is_anothers(connection, owner, thread_id))
        except (DatabaseError, TimeoutError) as error:
            log.info("thread_not_checked", extra={"error": type(error).__name__})
            return
        if refused:
            raise NotFoundError(f"no thread {thread_id}")

    async def _feedback(self, params: dict[str, Any], context: TurnContext) -> bytes:
        values = feedback_values(context.owner, context.event_id, params)

        def write(connection: Connection) -> None:
            rows.load_thread(connection, context.owner, params["thread_id"])
            write_feedback(connection, self._database.insert, values)

        await self._database.write(write)
        return b"{}"
