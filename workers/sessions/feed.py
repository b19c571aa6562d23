"""Keeps a process's revocations up to date: announcements, and a look at the list every few seconds.

An announcement is at most once. One that was missed is found by the next look, so a revoked client secret is refused
within `LOOK` at the latest. While Redis is away the process goes by what it knows: that fails open, for as long as a
client secret lives, but then nothing can be put on the queue either, and workers ask Redis itself before they run an
event.
"""

import asyncio
import json
import logging
from datetime import timedelta

from workers.cancellation import raise_if_cancelled
from workers.lanes.connection import State, open_pubsub
from workers.lanes.listening import messages_of
from workers.sessions.records import Revoked
from workers.sessions.revocations import Revocations
from workers.sessions.store import SessionStore

log = logging.getLogger(__name__)

LOOK = timedelta(seconds=5)
"""Between two looks."""

PAUSE_AFTER_FAILURE = timedelta(seconds=0.5)

OVERLAP_SECONDS = 10.0
"""How far a look goes back behind the last revocation that was seen: a clock may have been set back."""

PRUNED = 100
"""Ids of each shard that a look tidies up after."""


class RevocationFeed:
    """One per gateway process."""

    def __init__(self, store: SessionStore, state: State, revocations: Revocations, *, look: timedelta = LOOK) -> None:
        self._store, self._state, self._revocations = store, state, revocations
        self._look_seconds = look.total_seconds()
        self._seen: dict[int, float] = {}
        self._pruned = dict.fromkeys(store.shards, "")

    async def run(self) -> None:
        """Listen and look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_looking(), name="revocation-looks")
            tasks.create_task(self._keep_listening(), name="revocation-listener")

    async def look(self) -> None:
        """Read what has been revoked since the last look."""
        first = self._revocations.since
        since = {shard: self._seen.get(shard, first) - OVERLAP_SECONDS for shard in self._store.shards}
        for shard, revoked in (await self._store.revoked_since(since)).items():
            self._revocations.add(revoked)
            if revoked:
                self._seen[shard] = revoked[-1].at

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                await self.look()
                self._pruned = await self._store.prune(self._pruned, PRUNED)
            except Exception as error:  # noqa: BLE001  # the loop guard: a gateway must not go deaf for good
                log.warning("revocations_not_read", extra={"error": type(error).__name__})
            raise_if_cancelled()

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  # same
                log.warning("revocations_not_heard", extra={"error": type(error).__name__})
                raise_if_cancelled()
                await asyncio.sleep(PAUSE_AFTER_FAILURE.total_seconds())

    async def _listen(self) -> None:
        async with await open_pubsub(self._state) as messages:
            await messages.subscribe(self._store.channel)
            async for message in messages_of(messages):
                if message is not None:
                    at_ms, session_ids = json.loads(message["data"])
                    self._revocations.add(Revoked(session_id, at_ms / 1000) for session_id in session_ids)
                raise_if_cancelled()
