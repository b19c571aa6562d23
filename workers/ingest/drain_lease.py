"""The right to drain the ingress stream: one worker at a time, taken over when its holder falls silent."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from workers.cancellation import raise_if_cancelled

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
HOLD = (FOLDER / "hold.lua").read_text(encoding="utf-8")
RELEASE = (FOLDER / "release.lua").read_text(encoding="utf-8")


class DrainLease:
    """A lease under a key. It saves work; order does not depend on it (see `Ingress`)."""

    def __init__(self, client: Redis, key: str, owner: str, duration: timedelta) -> None:
        self._client, self._key, self._owner = client, key, owner
        self._duration = duration

    async def hold(self) -> bool:
        """Take it or renew it; whether it is ours now."""
        milliseconds = int(self._duration / timedelta(milliseconds=1))
        return bool(await self._client.eval(HOLD, 1, self._key, self._owner, str(milliseconds)))

    async def acquire(self) -> None:
        """Wait until it is ours; asks three times per lease, with jitter."""
        third = self._duration.total_seconds() / 3
        while True:
            try:
                if await self.hold():
                    return
            except (RedisError, OSError) as error:
                log.warning("drain_lease_unknown", extra={"error": type(error).__name__})
            raise_if_cancelled()
            await asyncio.sleep(third * (0.5 + random.random()))  # noqa: S311  # jitter

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew it while the body runs; cancel the body (as `TimeoutError`) when it is another's."""
        async with asyncio.timeout(None) as scope:
            renewal = asyncio.create_task(self._renew(scope), name="drain-lease")
            try:
                yield
            finally:
                renewal.cancel()
                with suppress(asyncio.CancelledError):
                    await renewal

    async def release(self) -> None:
        """Let another worker begin at once. Failing is harmless: it expires."""
        with suppress(RedisError, OSError):
            await self._client.eval(RELEASE, 1, self._key, self._owner)

    async def _renew(self, scope: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(self._duration.total_seconds() / 3)
            try:
                if not await self.hold():
                    log.warning("drain_lease_lost", extra={"key": self._key})
                    scope.reschedule(0)
                    return
            except (RedisError, OSError) as error:
                log.warning("drain_lease_unknown", extra={"error": type(error).__name__})
            raise_if_cancelled()
