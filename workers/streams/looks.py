"""Looks into streams and records, for all readers of a process: while some are on their way, others gather for the next
round trip. A thousand readers that nothing happens to look five hundred times a second, over two connections.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from workers.lanes.connection import State
from workers.lanes.scripts import pipeline_of
from workers.telemetry.context import no_context

TOGETHER = 50
"""Looks of one round trip: each may bring two hundred frames."""

Row = tuple[bytes, dict[bytes, bytes]]
Add = Callable[[Any], object]
"""Puts a command on a pipeline."""


class Looks:
    """One per process. Each look raises what its round trip did: RedisError, OSError when the state is away."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: list[tuple[Add, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def entries(self, stream: str, first: str, count: int) -> list[Row]:
        """Entries of a stream from `first` on, as XRANGE has it."""
        return list(await self._ask(lambda asking: asking.xrange(stream, first, "+", count=count)))

    async def last(self, stream: str) -> list[Row]:
        """The last entry of a stream, if there is one."""
        return list(await self._ask(lambda asking: asking.xrevrange(stream, count=1)))

    async def fields(self, record: str, *names: str) -> list[bytes | None]:
        """Fields of a hash."""
        return list(await self._ask(lambda asking: asking.hmget(record, *names)))

    def close(self) -> None:
        """Look no more. To be called after the last reader has gone."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, add: Add) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((add, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="stream-looks", context=no_context())
        return await answer

    async def _run(self) -> None:
        while self._waiting:
            waiting = [one for one in self._waiting if not one[1].done()]  # the readers of others have left
            asked, self._waiting = waiting[:TOGETHER], waiting[TOGETHER:]
            asking = pipeline_of(self._state)
            for add, _ in asked:
                add(asking)
            try:
                replies = await asking.execute(raise_on_error=False)
            except Exception as error:  # noqa: BLE001  # the loop guard: no reader may wait for ever
                replies = [error] * len(asked)
            for (_, answer), reply in zip(asked, replies, strict=True):
                if answer.done():  # its reader has left
                    continue
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
