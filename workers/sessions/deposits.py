"""Client secrets on their way from a worker to a page: kept apart from the stream, for a minute, under a handle.

The stream, the journal and the model see the handle only; a gateway that shows the frame to its owner puts the secret
in.
"""

import json
import secrets
from datetime import timedelta
from typing import Any

from schemas.sessions import Session
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Owner

KEPT = timedelta(seconds=60)
HANDLE_BYTES = 16


class SecretDeposits:
    """All deposits of a deployment. Raises what the state's client raises."""

    def __init__(self, state: State, keys: Keys) -> None:
        self._state: Any = state
        self._keys = keys

    async def put(self, owner: Owner, session: Session) -> str:
        """Keep a session's secrets for a minute. Gives the handle."""
        handle = secrets.token_urlsafe(HANDLE_BYTES)
        kept = {"tenant": owner.tenant, "user": owner.user, "session": session.model_dump(mode="json")}
        await self._state.set(self._keys.deposit(handle), json.dumps(kept), px=KEPT)
        return handle

    async def get(self, owner: Owner, handle: str) -> Session | None:
        """The session; None: the minute is over, or it is another user's."""
        entry = await self._state.get(self._keys.deposit(handle))
        kept = json.loads(entry) if entry is not None else None
        if kept is None or (kept["tenant"], kept["user"]) != (owner.tenant, owner.user):
            return None
        return Session.model_validate(kept["session"])
