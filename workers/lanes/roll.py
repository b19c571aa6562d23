"""The roll of live workers: each signs it every other second; whoever has not for some seconds is gone."""

import asyncio
import logging
import socket
from datetime import timedelta

from workers.lanes.connection import STATE_ERRORS, State
from workers.lanes.keys import Keys
from workers.lanes.scripts import Call, ScriptRunner, script

log = logging.getLogger(__name__)

SIGN_EVERY = timedelta(seconds=2)
GONE_AFTER = timedelta(seconds=7)


def process_name(pid: int) -> str:
    """The name of a worker on this host."""
    return f"{socket.gethostname()}:{pid}"


class Roll:
    """Who works in this deployment. `live` is what the last signature saw; the sweepers share their work by it."""

    def __init__(self, state: State, keys: Keys) -> None:
        self._state = state
        self._scripts = ScriptRunner(state)
        self._key = keys.workers
        self.live = 1

    async def run(self, name: str) -> None:
        """Sign until cancelled, then strike the name out."""
        try:
            while True:
                try:
                    await self.sign(name)
                except STATE_ERRORS as error:
                    log.warning("roll_not_signed", extra={"error": type(error).__name__})
                await asyncio.sleep(SIGN_EVERY.total_seconds())
        finally:
            await asyncio.shield(self._strike_out(name))

    async def sign(self, name: str) -> None:
        """Sign once, and count the others."""
        self.live = max(1, len(await self._read(name)))

    async def names(self) -> list[str]:
        """The workers that signed lately, sorted."""
        return sorted(await self._read(""))

    async def _read(self, name: str) -> list[str]:
        [reply] = await self._scripts.run([Call(script("roll"), self._key, [name, int(GONE_AFTER.total_seconds())])])
        return [member.decode() for member in reply]

    async def _strike_out(self, name: str) -> None:
        try:
            async with asyncio.timeout(1):
                await self._state.zrem(self._key, name)
        except STATE_ERRORS:
            log.warning("roll_not_left", extra={"worker": name})
