"""Puts a client secret into the one frame that hands it to a page, where the page is its owner's."""

import json
import logging
from collections.abc import Sequence
from contextlib import aclosing

from schemas.sessions import ISSUED_EFFECT
from workers.gateway.sse import Batches
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Owner
from workers.sessions.deposits import SecretDeposits
from workers.streams.records import Entry, StreamFrame

log = logging.getLogger(__name__)

MARK = b'{"type":"client_effect","name":"%s",' % ISSUED_EFFECT.encode()
"""How such a frame begins: all that the other frames are asked."""


async def with_secrets(batches: Batches, owner: Owner, deposits: SecretDeposits) -> Batches:
    """The batches of an event of this owner, who is the one that reads them."""
    async with aclosing(batches):
        async for batch in batches:
            yield await _filled(batch, owner, deposits) if any(map(_is_secret, batch)) else batch


def _is_secret(entry: Entry) -> bool:
    return isinstance(entry, StreamFrame) and entry.data.startswith(MARK)


async def _filled(batch: Sequence[Entry], owner: Owner, deposits: SecretDeposits) -> Sequence[Entry]:
    return [
        await _with_secret(entry, owner, deposits) if isinstance(entry, StreamFrame) and _is_secret(entry) else entry
        for entry in batch
    ]


async def _with_secret(frame: StreamFrame, owner: Owner, deposits: SecretDeposits) -> StreamFrame:
    """The frame with what is deposited; as it is when there is nothing (any more)."""
    effect = json.loads(frame.data)
    try:
        session = await deposits.get(owner, str(effect["data"].get("handle")))
    except STATE_ERRORS as error:
        log.warning("secret_not_read", extra={"error": type(error).__name__})
        return frame
    if session is None:
        return frame
    effect["data"] |= {"client_secret": session.client_secret, "refresh_token": session.refresh_token}
    return StreamFrame(frame.id, json.dumps(effect).encode())
